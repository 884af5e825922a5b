"""Translates numbers and dates from English to Chinese with and without attention.

An encoder-decoder of GRUs is trained with additive attention, with dot-product attention, and
without attention, on English phrases and their Chinese translations. It is measured by exact
matches on numbers and dates that are not in the training set. Lecture rows K07, L01.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import _figure, _run
from jaxdl import data, decode, losses, train, tree
from jaxdl.zoo.sequence.encoder_decoder import EncoderDecoder, encoder_decoder

START, STOP = "<s>", "</s>"
# Names of the characters for machines whose fonts have no Chinese.
PINYIN = dict(
    zip("零一二两三四五六七八九十百千万年月日", (
        *("ling yi er liang san si wu liu qi ba jiu shi bai qian wan nian yue ri".split()),
    ), strict=True)
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    pairs: int = 20_000
    """Training phrases."""
    epochs: int = 8
    """Epochs."""
    features: int = 128
    """Width of the networks."""


def run(config: Config) -> dict:
    if config.smoke:
        config = dataclasses.replace(config, pairs=256, epochs=1, features=16)
    training = data.toy.numerals.pairs(jax.random.key(config.seed), config.pairs)
    # Numbers and dates of the test are excluded from training by `held_out`.
    test = data.toy.numerals.pairs(
        jax.random.key(config.seed + 1), config.pairs // 10, held_out=True
    )
    source = data.Vocabulary([words for words, _ in training])
    target = data.Vocabulary([[START, STOP, *"".join(text for _, text in training)]])
    arrays = encode(training, source, target)
    results, models = {}, {}
    for name in ("additive", "dot", None):
        start = time.perf_counter()
        model = encoder_decoder(
            len(source), len(target), config.features, attention=name, dropout=0.1
        )
        steps = config.epochs * (len(training) // 128)
        rate = optax.cosine_decay_schedule(3e-3, steps)
        state, history = train.fit(
            model,
            arrays,
            loss=target_loss,
            optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate)),
            batch_size=128,
            epochs=config.epochs,
            metrics=(),
            seed=config.seed,
        )
        matches = match_exactly(model, state.params, test, source, target)
        label = name or "none"
        results[label] = {
            "exact_match": float(np.mean(matches)),
            "of": len(matches),
            "training_loss": history["loss"][-1],
            "parameters": tree.count(state.params),
            "training_seconds": round(time.perf_counter() - start, 1),
        }
        print(
            f"attention {label:9s} exact match {np.mean(matches):.4f} of {len(matches)}", flush=True
        )
        models[label] = (model, state.params)
    shown = [pair for pair in test if len(pair[0]) > 5][:2] or test[:2]
    model, params = models["additive"]
    draw(config, model, params, shown, source, target)
    return results


def encode(pairs, source, target, longest: int = 16):
    """Returns arrays `((source, lengths, before), after)`; `before` is `after` delayed by one."""
    words, lengths = data.pad([source.encode(words) for words, _ in pairs], length=longest)
    # The stop symbol is a target too, or decoding would never end.
    after, _ = data.pad([target.encode([*text, STOP]) for _, text in pairs], length=longest)
    before = np.concatenate([np.full((len(pairs), 1), target.encode([START])), after[:, :-1]], 1)
    return (words, lengths, before.astype(np.int32)), after


def target_loss(logits: jax.Array, after: jax.Array) -> jax.Array:
    """Returns the mean cross-entropy of a target's characters, without padding."""
    real = after > 0
    return jnp.mean(losses.cross_entropy(logits, after), axis=1, where=real)


def match_exactly(model: EncoderDecoder, params, pairs, source, target) -> np.ndarray:
    """Translates greedily and compares with the targets, (N,) of bool."""
    (words, lengths, _), _ = encode(pairs, source, target)
    first, stop = (int(target.encode([symbol])[0]) for symbol in (START, STOP))

    @jax.jit
    def translate(words, lengths):
        carry = model.initial_carry(params, words, lengths)
        begin = jnp.full(len(words), first, jnp.int32)

        def step(carry, tokens):
            return model.step(params, carry, tokens)

        return decode.greedy(step, carry, begin, length=16, stop=stop)

    decoded = translate(jnp.asarray(words), jnp.asarray(lengths))
    texts = [
        "".join(target.decode(row[:length]))
        for row, length in zip(np.asarray(decoded.tokens), np.asarray(decoded.lengths), strict=True)
    ]
    return np.array([text == true for text, (_, true) in zip(texts, pairs, strict=True)])


def draw(config, model: EncoderDecoder, params, pairs, source, target) -> None:
    """Draws the attention weights of some phrases, a row for each output character."""
    pyplot = _figure.pyplot()
    names = labels()
    figure, axes = pyplot.subplots(
        1, len(pairs), figsize=(5.2 * len(pairs), 4.6), layout="constrained"
    )
    for axis, (words, text) in zip(axes, pairs, strict=True):
        (numbers, lengths, before), _ = encode([(words, text)], source, target)
        carry = model.initial_carry(params, jnp.asarray(numbers), jnp.asarray(lengths))
        rows = []
        for token in before[0, : len(text)]:
            tokens = jnp.array([token], jnp.int32)
            carry, _, weights = model.step_with_attention(params, carry, tokens)
            rows.append(np.asarray(weights[0, : len(words)]))
        axis.imshow(np.stack(rows), cmap="Blues", vmin=0, vmax=1)
        axis.set_xticks(range(len(words)), words, rotation=60, ha="right")
        axis.set_yticks(range(len(text)), [names.get(c, c) for c in text])
        axis.tick_params(length=0)
        axis.set(xlabel="read", ylabel="written")
    _figure.save(figure, config, "translate", "alignment")


def labels() -> Mapping[str, str]:
    """Returns the names of characters in the figure: pinyin, or none with a Chinese font.

    Such a font is selected if matplotlib has one.
    """
    from matplotlib import font_manager, rcParams

    known = {font.name for font in font_manager.fontManager.ttflist}
    for name in (
        "Noto Sans CJK SC",
        "WenQuanYi Zen Hei",
        "PingFang SC",
        "Microsoft YaHei",
        "SimHei",
    ):
        if name in known:
            rcParams["font.family"] = [name, "DejaVu Sans"]
            return {}
    return PINYIN
