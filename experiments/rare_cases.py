"""Tests networks on rare classes and on rotated images. Lecture row X07.

The lectures call deep learning perceptual, not cognitive: it learns statistics between input and
output. Rare cases: the training set has a long tail, 140 images of the most frequent digit and 3 of
the rarest; the rare digits differ by seed. Extreme cases: a network trained on all upright digits
classifies rotated ones. People recognize both.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdl
from experiments import _figure, _run, _seeds
from experiments._claim import Claim, Verdict, numbers
from jaxdl import data, nn, train
from jaxdl.data import augment

CLAIM = Claim(
    rows=("X07",),
    step="best",
    statement="Deep learning is perceptual, not cognitive: it errs in rare or extreme cases.",
    deck={},
    source="train/fit.py",
    minutes=1,
)
COUNTS = tuple(int(n) for n in np.round(140 * 0.02 ** (np.arange(10) / 9)))
"""Training images by rank: 140 of the most frequent digit, 3 of the rarest."""
ANGLES = (0, 15, 30, 45, 60, 90)
ENDS = 3
"""The three most frequent and the three rarest digits are compared."""


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 5
    """Networks of each kind; with five, every second digit is the rarest once."""


def network() -> jaxdl.Module:
    layers = [
        part for _ in range(2) for part in (nn.dense(128, kernel_init="he_normal"), jax.nn.relu)
    ]
    return jaxdl.serial(nn.flatten(), *layers, nn.dense(10))


def rank_classes(seed: int) -> np.ndarray:
    """Returns the digits from the most frequent to the rarest, (10,), by the seed."""
    # 3 and 10 have no common factor, so that each order contains every digit once.
    return (np.arange(10) * 3 + 2 * seed) % 10


def select_long_tail(labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Returns the rows of the first `COUNTS[r]` examples of each class `order[r]`."""
    return np.concatenate(
        [
            np.flatnonzero(labels == label)[:count]
            for label, count in zip(order, COUNTS, strict=True)
        ]
    )


def accuracy_by_class(answers: np.ndarray, labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Returns the share of right answers for each class of `order`, (10,)."""
    return np.array([(answers[labels == label] == label).mean() for label in order])


def run(config: Config) -> dict:
    seeds = range(config.seed, config.seed + (2 if config.smoke else config.seeds))
    epochs = 2 if config.smoke else 60
    train_split, test = data.digits()[:2]
    model = network()

    def fit(rows, seed):
        return train.train_many(
            model,
            (train_split.x[rows], train_split.y[rows]),
            # One run a call, because every seed has other rows.
            seeds=[seed],
            loss="cross_entropy",
            optimizer=optax.sgd(0.1),
            batch_size=32,
            epochs=epochs,
            verbose=0,
        )[0].params

    @jax.jit
    def probabilities(params, x):
        return jax.nn.softmax(model.apply(jax.tree.map(lambda a: a[0], params), {}, x)[0])

    tail, full, turned, sure = [], [], [], []
    for seed in seeds:
        order = rank_classes(seed)
        long = fit(select_long_tail(train_split.y, order), seed)
        whole = fit(np.arange(len(train_split.y)), seed)
        for params, values in ((long, tail), (whole, full)):
            answers = np.asarray(probabilities(params, test.x)).argmax(-1)
            values.append(accuracy_by_class(answers, test.y, order))
        shares = [
            np.asarray(probabilities(whole, augment.rotate_by(jnp.asarray(test.x), float(angle))))
            for angle in ANGLES
        ]
        wrong = [share.argmax(-1) != test.y for share in shares]
        # Of the network that has seen all images: the angle alone is new to it.
        turned.append([1 - mask.mean() for mask in wrong])
        sure.append([share.max(-1)[mask].mean() for share, mask in zip(shares, wrong, strict=True)])
    tail, full, turned = np.array(tail), np.array(full), np.array(turned)
    measured = {
        "frequent digits": _seeds.summarize(tail[:, :ENDS].mean(1)),
        "rare digits": _seeds.summarize(tail[:, -ENDS:].mean(1)),
        "rare digits, all images": _seeds.summarize(full[:, -ENDS:].mean(1)),
        "upright": _seeds.summarize(turned[:, 0]),
        "turned by 60 degrees": _seeds.summarize(turned[:, ANGLES.index(60)]),
    }
    for name, values in measured.items():
        print(f"{name:24s} test accuracy {_seeds.format_summary(values)}")
    result = {
        "measured": measured,
        "counts": list(COUNTS),
        "tail": numbers(tail),
        "full": numbers(full),
        "angles": list(ANGLES),
        "turned": numbers(turned),
        "probability_of_wrong": numbers(np.array(sure)),
        "pictures": numbers(pictures(test.x), 2),
    }
    _figure.save(draw(result), config, "rare_cases", "rare_cases")
    return result


def pictures(x: Any) -> np.ndarray:
    """Returns a test image at each angle, side by side, (8, 8 * angles)."""
    images = [augment.rotate_by(jnp.asarray(x[2:3]), float(angle))[0, ..., 0] for angle in ANGLES]
    return np.concatenate(images, 1)


def judge(result: dict) -> Verdict:
    """Requires a lower accuracy on rare digits, and on rotated ones.

    Rare digits must be 0.15 below frequent ones and below the same digits with all their images on
    average, and below them for every seed. At 60 degrees at most half of the accuracy may remain.
    """
    tail, full, turned, sure = (
        np.array(result[name]) for name in ("tail", "full", "turned", "probability_of_wrong")
    )
    often, seldom, enough = tail[:, :ENDS].mean(1), tail[:, -ENDS:].mean(1), full[:, -ENDS:].mean(1)
    rare = all(
        bool(np.all(seldom < other)) and other.mean() - seldom.mean() > 0.15
        for other in (often, enough)
    )
    place = result["angles"].index(60)
    extreme = turned[:, place].mean() < turned[:, 0].mean() / 2
    counts = result["counts"]
    return Verdict(
        "holds" if rare and extreme else "holds in part" if rare or extreme else "does not hold",
        f"digits of {counts[0]} to {counts[ENDS - 1]} training images are read with an accuracy of "
        f"{often.mean():.3f}, those of {counts[-ENDS]} to {counts[-1]} with {seldom.mean():.3f}, "
        f"and the same with all their images with {enough.mean():.3f}; upright digits with "
        f"{turned[:, 0].mean():.3f} and turned by 60 degrees with {turned[:, place].mean():.3f}, "
        f"where a wrong answer has a probability of {sure[:, place].mean():.2f} on average",
        {
            "counts": counts,
            "often": often.mean(),
            "seldom": seldom.mean(),
            "enough": enough.mean(),
            "upright": turned[:, 0].mean(),
            "turned": turned[:, place].mean(),
            "sure": sure[:, place].mean(),
        },
    )


def draw(result: dict) -> Any:
    """Draws the accuracy by the number of training images and by the angle, and a rotated digit."""
    plt = _figure.pyplot()
    figure = plt.figure(figsize=(9, 4.5), layout="constrained")
    (left, right), (below,) = (
        part.subplots(1, columns, squeeze=False)[0]
        for part, columns in zip(figure.subfigures(2, 1, height_ratios=(3, 1)), (2, 1), strict=True)
    )
    for name, label in (("tail", "long tail"), ("full", "all images")):
        values = np.array(result[name])
        left.errorbar(
            result["counts"], values.mean(0), values.std(0), marker="o", capsize=3, label=label
        )
    left.set(xscale="log", ylim=(0, 1.05), ylabel="test accuracy")
    left.set(xlabel="training images of the digit in the long tail")
    left.legend(frameon=False)
    turned, sure = np.array(result["turned"]), np.array(result["probability_of_wrong"])
    right.errorbar(
        result["angles"], turned.mean(0), turned.std(0), marker="o", capsize=3, label="accuracy"
    )
    right.plot(result["angles"], sure.mean(0), "s--", label="probability of a wrong answer")
    right.set(ylim=(0, 1.05), xlabel="rotation of the test images, degrees")
    right.legend(frameon=False, loc="center right", fontsize=8)
    below.imshow(result["pictures"], cmap="gray_r", vmin=0, vmax=1)
    width = len(result["pictures"])
    places = [width * (i + 0.5) - 0.5 for i in range(len(result["angles"]))]
    below.set(xticks=places, xticklabels=result["angles"], yticks=[])
    return figure
