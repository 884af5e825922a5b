"""Trains taggers for slot filling, on travel requests and on SNIPS.

In the lectures' travel requests, from a grammar, a city is the destination after "arrive" and the
place of departure after "leave": a network with one word as its input is right half of the time, a
recurrent one nearly always. On SNIPS, if its files are present, a bidirectional LSTM over word and
letter-trigram embeddings, trained from scratch, predicts the slots and the intent. Lecture rows
K01, K09.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdl
from experiments import _figure, _run
from jaxdl import data, losses, metrics, nn, train, tree

TRIGRAMS, HASHED = 10, 4096
REQUESTS = ("arrive Taipei on November 2nd", "leave Taipei on November 2nd")


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    requests: int = 2_000
    """Travel requests for training, and for testing."""
    epochs: int = 14
    """Passes over SNIPS."""
    features: int = 128
    """Units of each direction of the tagger for SNIPS."""


def run(config: Config) -> dict:
    if config.smoke:
        config = dataclasses.replace(config, requests=200, epochs=1, features=16)
    results = {"travel": train_on_travel(config)}
    try:
        snips = data.snips()
    except ValueError as missing:
        print(f"without SNIPS: {missing}")
    else:
        results["snips"] = train_on_snips(config, snips)
    return results


def train_on_travel(config: Config) -> dict:
    """Measures the accuracy on cities, whose slots only the word before determines."""
    keys = jax.random.split(jax.random.key(config.seed), 2)
    training, test = (data.toy.travel.requests(key, config.requests) for key in keys)
    vocabulary = data.Vocabulary([words for words, _ in training])
    arrays = [encode_requests(rows, vocabulary) for rows in (training, test)]
    cells: dict[str, Any] = {"feed-forward": None, "Elman": nn.elman(32), "LSTM": nn.lstm(32)}
    shown, _ = data.pad([vocabulary.encode(text.split()) for text in REQUESTS], length=24)
    results, shares = {}, {}
    for name, cell in cells.items():
        hidden = nn.serial(nn.dense(32), jnp.tanh) if cell is None else cell
        model = jaxdl.serial(nn.embedding(len(vocabulary), 16), hidden, nn.dense(4))
        state, _ = train.fit(
            model,
            arrays[0],
            loss=request_loss,
            optimizer=optax.adam(0.01),
            batch_size=50,
            epochs=2 if config.smoke else 8,
            metrics=(),
            seed=config.seed,
            execution=train.Execution(check=False),  # -1 is the padding's slot
            verbose=0,
        )
        words, slots = arrays[1]
        guesses = np.argmax(train.predict(model, state, words), axis=-1)
        city = (slots == 1) | (slots == 2)
        results[name] = {
            "city_accuracy": float(np.mean(guesses[city] == slots[city])),
            "accuracy": float(np.mean(guesses[slots >= 0] == slots[slots >= 0])),
        }
        shares[name] = jax.nn.softmax(train.predict(model, state, shown))
        print(
            f"travel requests, {name:12s} right on {results[name]['city_accuracy']:.4f} of cities",
            flush=True,
        )
    draw_requests(config, shares)
    return results


def draw_requests(config: Config, shares: dict[str, jax.Array]) -> None:
    """Draws each word's slot probabilities, by network and request. Lecture row K09."""
    pyplot = _figure.pyplot()
    figure, axes = pyplot.subplots(2, len(shares), figsize=(10, 4.2), layout="constrained")
    for column, (name, share) in zip(axes.T, shares.items(), strict=True):
        column[0].set_title(name)
        for axis, text, rows in zip(column, REQUESTS, share, strict=True):
            words, slots = text.split(), data.toy.travel.SLOTS
            image = axis.imshow(rows[: len(words)].T, vmin=0, vmax=1, cmap="Blues")
            axis.set_xticks(range(len(words)), words, rotation=30, ha="right")
            axis.set_yticks(range(len(slots)), slots)
    figure.colorbar(image, ax=axes, label="probability of the slot", shrink=0.7)
    _figure.save(figure, config, "slot_filling", "requests")


def encode_requests(rows, vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Returns words and slots as numbers, (N, 24) each; the padding's slot is -1."""
    words, _ = data.pad([vocabulary.encode(words) for words, _ in rows], length=24)
    # -1 and not 0, which is the slot "other".
    slots, _ = data.pad([np.array(slots, np.int32) for _, slots in rows], length=24, value=-1)
    return words, slots


def request_loss(logits: jax.Array, slots: jax.Array) -> jax.Array:
    """Returns the mean cross-entropy of a request's words, without padding."""
    values = losses.cross_entropy(logits, jnp.maximum(slots, 0))
    return jnp.mean(values, axis=1, where=slots >= 0)


def tagger(words: int, slots: int, intents: int, features: int) -> jaxdl.Module:
    """Builds word and trigram embeddings and two bidirectional LSTMs, with two outputs.

    The outputs are the scores of each word's slot and of the intent.
    """
    parts = dict(
        words=nn.embedding(words, 100),
        trigrams=nn.embedding(HASHED, 50),
        dropout=nn.dropout(0.5),
        reader=nn.stacked_rnn(
            nn.bidirectional(nn.lstm(features)), nn.bidirectional(nn.lstm(features)), dropout=0.5
        ),
        slots=nn.dense(slots),
        intents=nn.dense(intents),
    )

    def forward(call, words, trigrams, lengths):
        letters = call("trigrams", trigrams)
        real = (trigrams > 0)[..., None]
        letters = jnp.sum(jnp.where(real, letters, 0), 2) / jnp.maximum(jnp.sum(real, 2), 1).astype(
            letters.dtype
        )
        x = call("dropout", jnp.concatenate([call("words", words), letters], axis=-1))
        y = call("dropout", call("reader", x, lengths))
        step = (jnp.arange(y.shape[1]) < lengths[:, None])[..., None]
        # -1 for padding: the outputs of an LSTM are above it, unless dropout scales them.
        most = jnp.max(jnp.where(step, y, -1), axis=1)
        return call("slots", y), call("intents", most)

    return jaxdl.compose("tagger", parts, forward)


def tagger_loss(output, target) -> jax.Array:
    slots, intents = output
    return request_loss(slots, target[0]) + 0.5 * losses.cross_entropy(intents, target[1])


def train_on_snips(config: Config, snips: dict[str, data.Utterances]) -> dict:
    """Trains on SNIPS; measures the F1 of whole slots by the CoNLL rules, and the intents."""
    if config.smoke:
        few = {part: [rows[:200] for rows in snips[part]] for part in snips}
        snips = {part: data.Utterances(*rows) for part, rows in few.items()}  # pyright: ignore
    training = snips["train"]
    vocabulary = data.Vocabulary(training.words, min_count=2)
    slot_names = sorted({slot for row in training.slots for slot in row})
    intent_names = sorted(set(training.intents))
    longest = max(len(row) for part in snips.values() for row in part.words)
    x, y = encode_utterances(training, vocabulary, slot_names, intent_names, longest)
    model = tagger(len(vocabulary), len(slot_names), len(intent_names), config.features)
    start = time.perf_counter()
    steps = config.epochs * -(-len(training.words) // 32)
    state, _ = train.fit(
        model,
        (x, y),
        loss=tagger_loss,
        optimizer=optax.chain(
            optax.clip_by_global_norm(5.0), optax.adam(optax.cosine_decay_schedule(2e-3, steps))
        ),
        batch_size=32,
        epochs=config.epochs,
        metrics=(),
        seed=config.seed,
        execution=train.Execution(check=False),
    )
    seconds = time.perf_counter() - start
    measured = {}
    for part in ("valid", "test"):
        x, y = encode_utterances(snips[part], vocabulary, slot_names, intent_names, longest)
        slots, intents = train.predict(model, state, x)
        guesses = [
            [slot_names[i] for i in row[: len(words)]]
            for row, words in zip(np.argmax(slots, -1), snips[part].words, strict=True)
        ]
        f1 = metrics.span_f1(guesses, snips[part].slots)
        right = float(np.mean(np.argmax(intents, -1) == y[1]))
        measured[part] = {"slot_f1": f1.f1, "intent_accuracy": right}
        print(f"SNIPS {part:5s}  slot F1 {f1.f1:.4f}  intent accuracy {right:.4f}", flush=True)
        if part == "test":
            draw_slots(config, f1)
    return measured | {
        "parameters": tree.count(state.params),
        "training_seconds": round(seconds, 1),
    }


def encode_utterances(part: data.Utterances, vocabulary, slot_names, intent_names, longest):
    """Returns the arrays `((words, trigrams, lengths), (slots, intents))`."""
    words, lengths = data.pad([vocabulary.encode(row) for row in part.words], length=longest)
    trigrams = np.zeros((*words.shape, TRIGRAMS), np.int32)
    for i, row in enumerate(part.words):
        for j, word in enumerate(row):
            # Trigrams give words that are not in the vocabulary a representation (Huang et al.
            # 2013).
            numbers = data.letter_trigrams(word, boundaries=True)[:TRIGRAMS]
            # Row 0 of the embedding is padding.
            trigrams[i, j, : len(numbers)] = 1 + numbers % (HASHED - 1)
    number = {name: i for i, name in enumerate(slot_names)}
    rows = [np.array([number.get(slot, -1) for slot in row], np.int32) for row in part.slots]
    slots, _ = data.pad(rows, length=longest, value=-1)
    intents = np.array([intent_names.index(name) for name in part.intents], np.int32)
    return (words, trigrams, lengths), (slots, intents)


def draw_slots(config: Config, score: metrics.SpanScore) -> None:
    """Draws the F1 of the most frequent slots."""
    rows = sorted(score.by_kind.items(), key=lambda item: -item[1].support)[:20]
    pyplot = _figure.pyplot()
    figure, axis = pyplot.subplots(figsize=(6, 5), layout="constrained")
    names = [f"{kind} ({score.support})" for kind, score in rows][::-1]
    axis.barh(names, [score.f1 for _, score in rows][::-1], color="tab:blue")
    axis.set(xlabel="F1 on the test part (number of slots in brackets)", xlim=(0, 1))
    axis.margins(y=0.01)
    _figure.save(figure, config, "slot_filling", "slots")
