"""Compares features made by hand with features learned end to end. Lecture rows A16, A17.

Four classifiers of MNIST learn from the same training images: a linear one on the pixels, on
histograms of oriented gradients (HOG), and on a bag of visual words (SIFT-like descriptors,
clustered by k-means); and a small convolutional network that learns its features and its classifier
together. In the first three, no stage is adapted to the next.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax

import jaxdl
from experiments import _figure, _lecture, _run, _seeds
from experiments._claim import Claim, Verdict, numbers
from jaxdl import nn, train
from jaxdl.zoo.classic.bag_of_words import bag, codebook
from jaxdl.zoo.classic.oriented_gradients import cell_histograms, hog

CLAIM = Claim(
    rows=("A16", "A17"),
    step="set",
    statement="Features learned end to end classify better than features made by hand.",
    deck={"pixels": None, "bag of words": None, "HOG": None, "end to end": None},
    source="zoo/classic/bag_of_words.py",
    minutes=2,
)
WORDS = 200


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 5
    """Codebooks, and networks of each kind."""
    epochs: int = 10
    """Epochs of every classifier."""


def convolutional() -> jaxdl.Module:
    """Builds two convolutions with pooling and one dense layer."""
    return jaxdl.serial(
        nn.conv(8, 5),
        jax.nn.relu,
        nn.max_pool(2),
        nn.conv(16, 5),
        jax.nn.relu,
        nn.max_pool(2),
        nn.flatten(),
        nn.dense(10),
    )


def run(config: Config) -> dict:
    seeds = 2 if config.smoke else config.seeds
    dataset = _lecture.load_images(config.smoke)
    # With all images the differences between the kinds would be smaller, see `FEW`.
    images, labels = (part[: _lecture.FEW] for part in dataset.train)
    test = dataset.test
    linear, optimizer = jaxdl.serial(nn.flatten(), nn.dense(10)), optax.adam(1e-3)
    own = range(config.seed, config.seed + seeds)

    def fit(model: jaxdl.Module, describe: Callable, own: Sequence[int]) -> np.ndarray:
        """Returns the (seeds, epochs) test accuracy."""
        x, t = describe_in_chunks(describe, images), describe_in_chunks(describe, test.x)
        scale = np.sqrt((x**2).mean())  # so that all features can share one learning rate
        _, history = train.train_many(
            model,
            (x / scale, labels),
            seeds=own,
            epochs=1 if config.smoke else config.epochs,
            eval_data=(t / scale, test.y),
            loss="cross_entropy",
            optimizer=optimizer,
            batch_size=100,
            metrics=["accuracy"],
            verbose=0,
        )
        return history["eval_accuracy"]

    def bags() -> np.ndarray:
        return np.concatenate(
            [fit(linear, describe_by_words(jax.random.key(i), images), [i]) for i in own]
        )

    kinds = {
        "pixels": lambda: fit(linear, lambda x: x, own),
        "bag of words": bags,
        "HOG": lambda: fit(linear, hog, own),
        "end to end": lambda: fit(convolutional(), lambda x: x, own),
    }
    accuracy, measured = {}, {}
    for name, measure in kinds.items():
        accuracy[name] = measure()
        measured[name] = _seeds.summarize(accuracy[name][:, -1])
        print(f"{name:12s} test accuracy {_seeds.format_summary(measured[name])}", flush=True)
    result = {"measured": measured, "images": len(labels), "accuracy": numbers(accuracy)}
    _figure.save(draw(result), config, "hand_made", "hand_made")
    return result


def describe_by_words(key: jax.Array, x: Any) -> Callable:
    """Learns a codebook of SIFT-like words; returns a function from images to their bags.

    A word covers 4 x 4 cells of 2 x 2 pixels with 8 directions; there is one every 4 pixels.
    """

    def cells(x: Any) -> jax.Array:
        return cell_histograms(x, 2, 8, signed=True)

    size = min(4, x.shape[1] // 2 - 1)
    book = codebook(key, cells(x[:1000]), WORDS, size=size, stride=2 if x.shape[1] > 8 else 1)
    return lambda x: bag(book, cells(x))


def describe_in_chunks(describe: Callable, x: np.ndarray) -> np.ndarray:
    """Describes images in chunks of 1,000, because the words of all do not fit in memory."""
    describe = jax.jit(describe)
    return np.concatenate([describe(x[i : i + 1000]) for i in range(0, len(x), 1000)])


def judge(result: dict) -> Verdict:
    """Requires learned features to be better than both kinds made by hand, for every seed.

    Every seed of the network must be above every seed of the other kind. For one of the two kinds
    it is a part of the claim.
    """
    accuracy = {name: np.asarray(values)[:, -1] for name, values in result["accuracy"].items()}
    made = ("bag of words", "HOG")
    ahead = [accuracy["end to end"].min() > accuracy[name].max() for name in made]
    pixels, bags, hogs, learned = (result["measured"][name]["mean"] for name in CLAIM.deck)
    return Verdict(
        "holds" if all(ahead) else "holds in part" if any(ahead) else "does not hold",
        f"with {result['images']:,} training images the convolutional network reaches "
        f"{learned:.3f}, a linear classifier {hogs:.3f} on HOG, {bags:.3f} on a bag of visual "
        f"words and {pixels:.3f} on the pixels; all seeds of the network are above all seeds of "
        f"{sum(ahead)} of the 2 kinds of features made by hand",
        {
            "images": result["images"],
            "learned": learned,
            "hogs": hogs,
            "bags": bags,
            "pixels": pixels,
            "ahead": sum(ahead),
        },
    )


def draw(result: dict) -> Any:
    """Draws the accuracy by epoch, and the final error of each seed."""
    plt = _figure.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    _figure.curves(left, result["accuracy"], {})
    low = min(np.min(values) for values in result["accuracy"].values())
    left.set(ylabel="test accuracy", ylim=(low - 0.01, 1))
    for i, values in enumerate(result["accuracy"].values()):
        errors = 1 - np.asarray(values)[:, -1]
        right.scatter(np.full(len(errors), i), errors, alpha=0.6, color=f"C{i}")
    names = [name.replace(" of ", " of\n") for name in result["accuracy"]]
    right.set(xticks=range(len(names)), xticklabels=names, title="test error, a point a seed")
    right.set(ylim=(0, None))
    return figure
