"""Trains a GRU by CTC to recognize strings of spoken digits without alignments.

Single recordings are concatenated to strings of one to five digits, with silences between. A
bidirectional GRU over log-mel features is trained by connectionist temporal classification on
recordings 5 and later. The digit error rate, edits over spoken digits, is measured on strings of
recordings 0 to 4 of the same speakers. Lecture rows K05, K06. Without the recordings, tones take
the digits' place.
"""

from __future__ import annotations

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdl
from experiments import _figure, _run
from jaxdl import data, decode, losses, nn, train, tree

BLANK, STACKED = 10, 3


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    strings: int = 4_000
    """Training strings."""
    epochs: int = 12
    """Epochs."""
    features: int = 96
    """Units of each direction of each layer."""


def network(features: int) -> jaxdl.Module:
    """Builds two bidirectional layers over the frames, and scores of ten digits and the blank."""
    parts = dict(
        reader=nn.stacked_rnn(
            nn.bidirectional(nn.gru(features)), nn.bidirectional(nn.gru(features)), dropout=0.3
        ),
        scores=nn.dense(11),
    )

    def forward(call, frames, lengths):
        return call("scores", call("reader", frames, lengths)), lengths

    return jaxdl.compose("speech", parts, forward)


def loss(output, target):
    logits, lengths = output
    return losses.ctc(logits, target[0], lengths, target[1], blank=BLANK)


def run(config: Config) -> dict:
    if config.smoke:
        config = dataclasses.replace(config, strings=64, epochs=1, features=16)
    recordings, source = load_recordings()
    keys = jax.random.split(jax.random.key(config.seed), 2)
    drawn = data.digit_strings(keys[0], recordings["train"], config.strings, augment=True)
    # Recordings 0 to 4 of each digit and speaker are not among the training recordings.
    tested = data.digit_strings(keys[1], recordings["test"], max(16, config.strings // 10))
    rows = [stack_frames(sound) for sound in drawn[0]]
    # Of the training strings alone: nothing of the test may enter its own features.
    mean, std = (f(np.concatenate(rows), axis=0) for f in (np.mean, np.std))
    x, y = encode(rows, drawn[1], mean, std)
    test_x, _ = encode([stack_frames(sound) for sound in tested[0]], tested[1], mean, std)
    model = network(config.features)
    start = time.perf_counter()
    steps = config.epochs * (len(rows) // 32)
    state, history = train.fit(
        model,
        (x, y),
        loss=loss,
        optimizer=optax.chain(
            optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(3e-3, steps))
        ),
        batch_size=32,
        epochs=config.epochs,
        metrics=(),
        seed=config.seed,
    )
    seconds = time.perf_counter() - start
    run = jax.jit(lambda x: model.apply(state.params, state.model_state, *x)[0][0])
    logits = run(tuple(map(jnp.asarray, test_x)))
    lengths = jnp.asarray(test_x[1])
    greedy = decode.ctc_greedy(logits, lengths, blank=BLANK)
    beam = decode.ctc_beam(logits, lengths, width=8, blank=BLANK)
    rates = {
        "greedy": count_errors(greedy.tokens, greedy.lengths, tested[1]),
        "beam of 8": count_errors(beam.tokens[:, 0], beam.lengths[:, 0], tested[1]),
    }
    for name, (errors, spoken) in rates.items():
        print(f"{name:9s} digit error rate {errors / spoken:.4f}  ({errors} of {spoken} digits)")
    draw(config, test_x, logits, tested[1], mean, std)
    return {
        "source": source,
        "digit_error_rate": {name: errors / spoken for name, (errors, spoken) in rates.items()},
        "digits": rates["greedy"][1],
        "training_loss": history["loss"],
        "parameters": tree.count(state.params),
        "training_seconds": round(seconds, 1),
    }


def stack_frames(sound: np.ndarray) -> np.ndarray:
    """Computes log-mel features, with three frames of 10 ms in each row."""
    mel = data.log_mel(sound, 8000, bands=26)
    mel = mel[: len(mel) - len(mel) % STACKED]
    return mel.reshape(-1, STACKED * mel.shape[1])


def encode(rows, digits, mean, std):
    x, lengths = data.pad([(row - mean) / std for row in rows])
    labels, counts = data.pad(digits, length=5)
    return (x.astype(np.float32), lengths), (labels, counts)


def count_errors(tokens, lengths, truth) -> tuple[int, int]:
    """Returns the number of edits and the number of spoken digits."""
    pairs = zip(np.asarray(tokens), np.asarray(lengths), truth, strict=True)
    edits = sum(edit_distance(row[:length].tolist(), true.tolist()) for row, length, true in pairs)
    return edits, sum(map(len, truth))


def edit_distance(a: list, b: list) -> int:
    """Counts the insertions, deletions and substitutions from a to b (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def load_recordings():
    """Returns the recordings, or tones without their files, and the name of the data."""
    try:
        return data.spoken_digits(), "free spoken digits"
    except ValueError as missing:
        print(f"tones instead of speech: {missing}")
    rng = np.random.default_rng(0)
    seconds = np.arange(2400) / 8000
    made = {}
    for part in ("train", "test"):
        digits = np.repeat(np.arange(10), 5).astype(np.int32)
        sounds = [
            0.3 * np.sin(2 * np.pi * (300 + 150 * digit) * rng.uniform(0.98, 1.02) * seconds)
            for digit in digits
        ]
        names = ["tone"] * len(digits)
        made[part] = data.Recordings([s.astype(np.float32) for s in sounds], digits, names)
    return made, "tones"


def draw(config, x, logits, truth, mean, std) -> None:
    """Draws a string's spectrogram and the network's probabilities at each frame."""
    pyplot = _figure.pyplot()
    row = int(np.argmax([len(digits) for digits in truth]))
    length = int(x[1][row])
    mel = (x[0][row, :length] * std + mean).reshape(length * STACKED, -1)
    figure, (above, below) = pyplot.subplots(2, 1, figsize=(8, 4.6), layout="constrained")
    end = length * STACKED / 100
    above.imshow(
        mel.T, origin="lower", aspect="auto", extent=(0, end, 0, mel.shape[1]), cmap="magma"
    )
    above.set(ylabel="mel band", title="spoken: " + " ".join(map(str, truth[row])))
    p = np.asarray(jax.nn.softmax(logits[row, :length]))
    seconds = (np.arange(length) + 0.5) * STACKED / 100
    below.plot(seconds, p[:, BLANK], color="0.75", label="blank")
    for digit in range(10):
        if p[:, digit].max() > 0.2:
            below.plot(seconds, p[:, digit], label=str(digit))
    below.set(xlabel="seconds", ylabel="probability", xlim=(0, end), ylim=(0, 1.05))
    below.legend(ncols=6, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.3))
    _figure.save(figure, config, "spoken_digits", "spikes")
