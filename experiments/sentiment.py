"""Trains a GRU to classify film reviews and explains its decisions by words.

A bidirectional GRU over word embeddings, trained from scratch, classifies sentences of film reviews
(Pang and Lee 2005). Nine of ten fixed folds train and the tenth tests. Each word's importance is
measured in two ways: the fall of the score without the word, and gradient times embedding. Lecture
rows K04, Q13. Without the files, a small grammar of opinions takes their place.
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
from jaxdl import data, nn, train, tree


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    epochs: int = 6
    """Passes over the training folds."""
    features: int = 64
    """Units of each direction."""
    fold: int = 0
    """The fold that tests, 0 to 9."""


def network(words: int, features: int) -> jaxdl.Module:
    """Builds an embedding, two dropouts, a bidirectional GRU and the maximum over time."""
    parts = dict(
        embedding=nn.embedding(words, 100),
        # One mask for all values of a word: whole words are dropped.
        words=nn.dropout(0.2, shared_axes=(2,)),
        values=nn.dropout(0.5),
        reader=nn.bidirectional(nn.gru(features)),
        scores=nn.dense(2),
    )

    def forward(call, numbers, lengths):
        x = call("values", call("words", call("embedding", numbers)))
        y = call("reader", x, lengths)
        real = (jnp.arange(y.shape[1]) < lengths[:, None])[..., None]
        # The outputs of a GRU are above -1, so that padding is never the maximum.
        return call("scores", call("values", jnp.max(jnp.where(real, y, -1), axis=1)))

    return jaxdl.compose("sentiment", parts, forward)


def run(config: Config) -> dict:
    folds, source = load_folds(config)
    test = folds[config.fold]
    training = [fold for i, fold in enumerate(folds) if i != config.fold]
    texts = [data.tokenize(text) for fold in training for text in fold[0]]
    labels = np.concatenate([fold[1] for fold in training])
    # Words that occur once become the unknown symbol, whose row is trained by them.
    vocabulary = data.Vocabulary(texts, min_count=2)
    x = data.pad([vocabulary.encode(text)[:60] for text in texts], length=60)
    sentences = [data.tokenize(text) for text in test[0]]
    test_x = data.pad([vocabulary.encode(text)[:60] for text in sentences], length=60)
    model = network(len(vocabulary), config.features)
    start = time.perf_counter()
    state, history = train.fit(
        model,
        (x, labels),
        loss="cross_entropy",
        optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(2e-3, weight_decay=1e-2)),
        batch_size=50,
        epochs=1 if config.smoke else config.epochs,
        eval_data=(test_x, test[1]),
        seed=config.seed,
    )
    seconds = time.perf_counter() - start
    accuracy = history["eval_accuracy"][-1]
    print(f"{source}, fold {config.fold}: accuracy {accuracy:.4f} of {len(test[1])} sentences")
    explained = explain(model, state, vocabulary, sentences, test[1])
    draw(config, explained)
    return {
        "source": source,
        "accuracy": accuracy,
        "sentences": len(test[1]),
        "by_epoch": history["eval_accuracy"],
        "parameters": tree.count(state.params),
        "training_seconds": round(seconds, 1),
        "agreement_of_removal_and_gradient": float(np.mean([e["correlation"] for e in explained])),
    }


def load_folds(config: Config):
    """Returns ten folds of sentences and labels, and the name of the data."""
    try:
        folds, name = data.movie_reviews(), "film reviews"
    except ValueError as missing:
        print(f"made-up opinions: {missing}")
        folds, name = make_up_folds(config.seed), "made-up opinions"
    if config.smoke:
        folds = [(texts[:30], labels[:30]) for texts, labels in folds]
    return folds, name


def make_up_folds(seed: int) -> list[tuple[list[str], np.ndarray]]:
    """Makes ten folds of a grammar of opinions, in which "not" negates the next word."""
    rng = np.random.default_rng(seed)
    things = ("the film", "this story", "her acting", "the music", "the ending")
    words = (("dull", "awful", "poor", "boring"), ("great", "lovely", "fine", "moving"))
    folds = []
    for _ in range(10):
        texts, labels = [], []
        for _ in range(60):
            label, negated = int(rng.integers(2)), bool(rng.integers(2))
            word = rng.choice(words[label != negated])
            texts.append(f"{rng.choice(things)} is {'not ' * negated}{word}")
            labels.append(label)
        folds.append((texts, np.array(labels, np.int32)))
    return folds


def explain(model, state, vocabulary, sentences, labels) -> list[dict]:
    """Computes word importances of some correctly classified sentences of medium length."""
    params = state.params
    table = params["embedding"]["embedding"]

    def margin(numbers, lengths, label):
        """Returns the score of the true class less that of the other."""
        scores = model.apply(params, state.model_state, numbers, lengths)[0]
        return scores[:, label] - scores[:, 1 - label]

    def margin_of_embeddings(embedded, numbers, lengths, label):
        def replace(path, value):
            return embedded if path == "embedding" else value

        scores = model.apply(params, state.model_state, numbers, lengths, tap=replace)[0]
        return (scores[:, label] - scores[:, 1 - label])[0]

    slope = jax.jit(jax.grad(margin_of_embeddings), static_argnums=3)
    margin = jax.jit(margin, static_argnums=2)
    chosen = []
    for words, label in zip(sentences, labels.tolist(), strict=True):
        if not 4 <= len(words) <= 16 or len(chosen) == 6:
            continue
        numbers = vocabulary.encode(words)
        rows = [numbers, *(np.delete(numbers, i) for i in range(len(numbers)))]
        # One shape for all sentences, so that they share a compiled program.
        rows += [numbers] * (17 - len(rows))
        padded, lengths = data.pad(rows, length=16)
        scores = np.asarray(margin(padded, lengths, label))
        if scores[0] <= 0:
            continue
        removal = scores[0] - scores[1 : 1 + len(words)]
        embedded = table[padded[:1]]
        product = slope(embedded, padded[:1], lengths[:1], label) * embedded
        gradient = np.asarray(jnp.sum(product, -1))[0, : len(words)]
        correlation = np.corrcoef(removal, gradient)[0, 1]
        chosen.append(
            {
                "words": words,
                "label": label,
                "removal": removal,
                "gradient": gradient,
                "correlation": 0.0 if np.isnan(correlation) else correlation,
            }
        )
    return chosen


def draw(config: Config, explained: list[dict]) -> None:
    """Draws the sentences, each word on the colour of its importance."""
    pyplot = _figure.pyplot()
    rows = 2 * len(explained)
    figure, axis = pyplot.subplots(figsize=(10, 0.45 * rows + 0.5), layout="constrained")
    for row, entry in enumerate(explained):
        for line, kind in enumerate(("removal", "gradient")):
            label = f"{('against', 'for')[entry['label']]}, {kind}"
            _figure.words(axis, -2 * row - 0.8 * line, label, entry["words"], entry[kind])
    axis.set(xlim=(-3, 16), ylim=(0.8 - rows, 0.8))
    axis.set_title("red: speaks for the true answer; blue: against it", fontsize=9, color="0.4")
    axis.axis("off")
    _figure.save(figure, config, "sentiment", "words")
