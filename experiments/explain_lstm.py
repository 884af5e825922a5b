"""Compares four explanations of an LSTM that classifies film reviews.

A bidirectional LSTM classifies sentences (see `sentiment`). Each word's attribution is computed by
layer-wise relevance propagation through the loop of the LSTM (Arras et al. 2017), by integrated
gradients, by gradient times embedding, and by removing the word. The four are compared by rank
correlation, and by the score that remains after the half of the words with the largest attributions
is removed. Lecture row Q13. Without the files, a small grammar of opinions takes their place.
"""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdl
from experiments import _figure, _run, sentiment
from jaxdl import data, interpret, nn, train

LENGTH = 24
"""Words of the sentences that are explained, at most; longer ones are left out."""


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    epochs: int = 4
    """Passes over the training folds."""
    features: int = 48
    """Units of each direction."""
    sentences: int = 200
    """Correctly classified sentences that are explained."""


def network(words: int, features: int) -> jaxdl.Module:
    """Builds an embedding, a bidirectional LSTM, the mean over time and two scores."""
    parts = dict(
        embedding=nn.embedding(words, 64),
        values=nn.dropout(0.5),
        reader=nn.bidirectional(nn.lstm(features)),
        # No bias here, because it would take a share of the relevance.
        scores=nn.dense(2, use_bias=False),
    )

    def forward(call, numbers, lengths):
        y = call("reader", call("values", call("embedding", numbers)), lengths)
        real = (jnp.arange(y.shape[1]) < lengths[:, None])[..., None]
        mean = jnp.sum(jnp.where(real, y, 0), 1) / lengths[:, None].astype(y.dtype)
        return call("scores", call("values", mean))

    return jaxdl.compose("reviewer", parts, forward)


def run(config: Config) -> dict:
    if config.smoke:
        config = dataclasses.replace(config, epochs=1, sentences=4, features=8)
    folds, source = sentiment.load_folds(sentiment.Config(seed=config.seed, smoke=config.smoke))
    test, *training = folds
    texts = [data.tokenize(text) for fold in training for text in fold[0]]
    vocabulary = data.Vocabulary(texts, min_count=2)
    labels = np.concatenate([fold[1] for fold in training])
    x = data.pad([vocabulary.encode(text)[:60] for text in texts], length=60)
    sentences = [data.tokenize(text) for text in test[0]]
    test_x = data.pad([vocabulary.encode(text)[:60] for text in sentences], length=60)
    model = network(len(vocabulary), config.features)
    state, _ = train.fit(
        model,
        (x, labels),
        loss="cross_entropy",
        optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(2e-3, weight_decay=1e-2)),
        batch_size=50,
        epochs=config.epochs,
        seed=config.seed,
        verbose=0,
    )
    guesses = np.argmax(train.predict(model, state, test_x), 1)
    print(f"{source}: accuracy {np.mean(guesses == test[1]):.4f} of {len(test[1])} sentences")
    # In shorter sentences a rank correlation means little.
    fits = np.array([4 <= len(words) <= LENGTH for words in sentences])
    chosen = np.flatnonzero(fits & ((guesses == test[1]) | config.smoke))[: config.sentences]
    rows = data.pad([vocabulary.encode(sentences[i]) for i in chosen], length=LENGTH)
    attributions = explain(model, state, rows[0], rows[1], test[1][chosen])
    agreements = rank_agreement(attributions, rows[1])
    margins = {
        name: margin_after_half(model, state, rows, test[1][chosen], values)
        for name, values in attributions.items()
    }
    for name, value in margins.items():
        print(f"{name:22s} margin left after half of the words are gone {value:.3f}")
    for pair, value in agreements.items():
        print(f"{pair:44s} rank correlation {value:.3f}")
    draw(config, [sentences[i] for i in chosen], test[1][chosen], attributions)
    return {
        "source": source,
        "accuracy": float(np.mean(guesses == test[1])),
        "sentences": len(chosen),
        "rank_correlation": agreements,
        "margin_after_half": margins,
    }


def explain(model, state, numbers, lengths, labels) -> dict[str, np.ndarray]:
    """Computes each word's attribution by every method, (N, T).

    Methods explain the margin: the score of the true class less that of the other.
    """
    numbers, lengths, labels = (jnp.asarray(a) for a in (numbers, lengths, labels))

    def margin(scores):
        true = jnp.take_along_axis(scores, labels[:, None], 1)[:, 0]
        # Of two classes, 2 s_true - (s_true + s_other) is the margin.
        return 2 * true - jnp.sum(scores, 1)

    def scores(numbers, lengths):
        return model.apply(state.params, state.model_state, numbers, lengths)[0]

    def f(numbers):
        return scores(numbers, lengths)

    whole = margin(f(numbers))
    options = {"target": margin, "layer": "embedding"}

    def without(t):
        """Returns the fall of the margin without word t; the words after it move up."""
        moved = jnp.where(jnp.arange(LENGTH) < t, numbers, jnp.roll(numbers, -1, axis=1))
        # At least one word, because the network divides by the length.
        return whole - margin(scores(moved, jnp.maximum(lengths - 1, 1)))

    removal = jax.jit(lambda: jax.lax.map(without, jnp.arange(LENGTH)).T)()
    by = {
        "LRP": lambda: interpret.lrp(f, numbers, **options),
        "integrated gradients": lambda: interpret.integrated_gradients(
            f, numbers, steps=30, batch_size=5, **options
        ),
        "gradient x embedding": lambda: interpret.input_x_gradient(f, numbers, **options),
    }
    sums = {name: np.asarray(jnp.sum(jax.jit(method)(), -1)) for name, method in by.items()}
    return sums | {"removal": np.asarray(removal)}


def rank_agreement(attributions: dict[str, np.ndarray], lengths: np.ndarray) -> dict[str, float]:
    """Returns the mean rank correlation within a sentence, for each two methods."""

    def ranks(values):
        return np.argsort(np.argsort(values)).astype(float)

    means = {}
    for first, second in itertools.combinations(attributions, 2):
        each = [
            # Without the padding, on which all methods agree.
            np.corrcoef(ranks(a[:n]), ranks(b[:n]))[0, 1]
            for a, b, n in zip(attributions[first], attributions[second], lengths, strict=True)
        ]
        means[f"{first} and {second}"] = float(np.mean(each))
    return means


def margin_after_half(model, state, rows, labels, values) -> float:
    """Returns the mean margin without the half of the words with the largest attributions."""
    kept, lengths = [], []
    for numbers, n, value in zip(*rows, values, strict=True):
        removed = set(np.argsort(-value[:n])[: n // 2].tolist())
        kept.append(np.array([numbers[i] for i in range(n) if i not in removed]))
        lengths.append(len(kept[-1]))
    scores = np.asarray(train.predict(model, state, data.pad(kept, length=LENGTH)))
    true = scores[np.arange(len(labels)), labels]
    return float(np.mean(2 * true - scores.sum(1)))


def draw(config: Config, sentences, labels, attributions) -> None:
    """Draws a few sentences, each word on the colour of its attribution, by every method."""
    pyplot = _figure.pyplot()
    few = [i for i, words in enumerate(sentences) if len(" ".join(words)) < 75][:4]
    rows = [(i, name) for i in few for name in attributions]
    figure, axis = pyplot.subplots(figsize=(12, 0.36 * len(rows) + 0.5), layout="constrained")
    for line, (i, name) in enumerate(rows):
        words = sentences[i]
        values = attributions[name][i][: len(words)]
        y = -line - 0.6 * (line // len(attributions))
        answer = ("against", "for")[labels[i]]
        _figure.words(axis, y, f"{answer}, {name}", words, values)
    axis.set(xlim=(-3, 13), ylim=(-len(rows) - 0.6 * len(few), 0.8))
    axis.set_title("red: speaks for the true answer; blue: against it", fontsize=9, color="0.4")
    axis.axis("off")
    _figure.save(figure, config, "explain_lstm", "words")
