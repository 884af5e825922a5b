"""Compares one classifier of scarce classes with basic classifiers of parts. Lecture row A15.

The lectures' classes are girls and boys with long and short hair; there are few long-haired boys.
Ours are digits with thin and with bold strokes; there are few bold fours. One network predicts the
twenty classes. Two basic classifiers predict the digit and the stroke, which both have enough
examples, and together the class. They are also tested with shared layers: one trunk is half of the
work, but its features of strokes can then be used to rule out bold fours.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdl
from experiments import _figure, _lecture, _run, _seeds
from experiments._claim import Claim, Verdict, numbers
from jaxdl import losses, nn

CLAIM = Claim(
    rows=("A15",),
    step="set",
    statement="Basic classifiers with examples enough make up a class of which there are few.",
    deck={"one of twenty": None, "basic classifiers": None, "with a shared trunk": None},
    source="losses.py",
    minutes=4,
)
SCARCE = 4
EXAMPLES = (0, 2, 5, 10, 50)


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 5
    """Networks of each kind."""
    rows: int = 2000
    """Training images."""
    epochs: int = 10
    """Epochs."""


def widen_strokes(x: np.ndarray) -> np.ndarray:
    """Widens the strokes of images by a pixel on every side."""
    return np.asarray(nn.functional.max_pool(jnp.asarray(x), 3, stride=1, padding=1))


def make_pictures(split: Any, rows: int, examples: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Makes every other image bold and removes all but a few of the bold fours.

    Args:
      split: images and labels.
      rows: the number of images.
      examples: bold fours that remain; None for all.

    Returns:
      Images, and labels (N, 2) of digit and stroke, 1 for bold.
    """
    x, digit = np.array(split.x[:rows]), split.y[:rows]
    # Every other image, so that digit and stroke are independent.
    stroke = np.arange(len(digit)) % 2
    x[stroke == 1] = widen_strokes(x[stroke == 1])
    keep = np.ones(len(digit), bool)
    if examples is not None:
        keep[np.flatnonzero((digit == SCARCE) & (stroke == 1))[examples:]] = False
    return x[keep], np.stack([digit, stroke], 1)[keep].astype(np.int32)


def network(outputs: int, channels: int) -> jaxdl.Module:
    parts = [
        part for n in (channels, 2 * channels) for part in (nn.conv(n), jax.nn.relu, nn.max_pool(2))
    ]
    return jaxdl.serial(
        *parts, nn.flatten(), nn.dense(4 * channels), jax.nn.relu, nn.dense(outputs)
    )


def digit_and_stroke_loss(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Adds the cross-entropies of the digit, ten scores, and of the stroke, two scores."""
    digit = losses.cross_entropy(scores[:, :10], labels[:, 0])
    return digit + losses.cross_entropy(scores[:, 10:], labels[:, 1])


def class_loss(scores: jax.Array, labels: jax.Array) -> jax.Array:
    return losses.cross_entropy(scores, labels[:, 0] + 10 * labels[:, 1])


def run(config: Config) -> dict:
    seeds, rows, epochs, channels = config.seeds, config.rows, config.epochs, 16
    if config.smoke:
        seeds, rows, epochs, channels = 2, 200, 1, 2
    dataset = _lecture.load_images(config.smoke)
    x, labels = make_pictures(dataset.test, len(dataset.test.y), None)
    rare = (labels[:, 0] == SCARCE) & (labels[:, 1] == 1)
    whole, parts = network(20, channels), network(12, channels)
    apart = {"digit": (network(10, channels), 0), "stroke": (network(2, channels), 1)}
    many, curves, every = {}, {name: [] for name in CLAIM.deck}, {}
    for examples in EXAMPLES:
        seen = make_pictures(dataset.train, rows, examples)

        def fit(model, loss, data=seen):
            return _seeds.train_networks(
                config,
                model,
                data,
                loss=loss,
                seeds=seeds,
                optimizer=optax.adam(1e-3),
                batch_size=50,
                epochs=epochs,
            )

        many |= {
            f"one of twenty, {examples}": fit(whole, class_loss),
            f"with a shared trunk, {examples}": fit(parts, digit_and_stroke_loss),
        }
        scores = many[f"with a shared trunk, {examples}"].predict(x)
        answers = {
            "one of twenty": many[f"one of twenty, {examples}"].predict(x).argmax(-1),
            "with a shared trunk": scores[..., :10].argmax(-1) + 10 * scores[..., 10:].argmax(-1),
        }
        alone = {}
        for name, (model, column) in apart.items():
            # Each basic classifier learns alone, from its own column of the labels.
            data = seen[0], np.ascontiguousarray(seen[1][:, column])
            many[f"{name}, {examples}"] = fit(model, "cross_entropy", data)
            alone[name] = many[f"{name}, {examples}"].predict(x).argmax(-1)
        answers["basic classifiers"] = alone["digit"] + 10 * alone["stroke"]
        right = {n: a == labels[:, 0] + 10 * labels[:, 1] for n, a in answers.items()}
        for name in CLAIM.deck:
            curves[name].append(right[name][:, rare].mean(1))
        every[examples] = {n: float(r[:, ~rare].mean()) for n, r in right.items()}
        print(
            f"{examples:3d} examples:",
            ", ".join(f"{name} {curves[name][-1].mean():.3f}" for name in CLAIM.deck),
            flush=True,
        )
    few = EXAMPLES.index(10)
    result = {
        "measured": {name: _seeds.summarize(values[few]) for name, values in curves.items()},
        "examples": list(EXAMPLES),
        "curves": numbers(curves),
        "others": every,
        "pictures": numbers(np.concatenate([*x[:8, ..., 0]], 1), 2),
        **_seeds.summarize_times(many),
    }
    _figure.save(draw(result), config, "modular", "modular")
    return result


def judge(result: dict) -> Verdict:
    """Requires basic classifiers to be ahead by 0.1 for every number of examples.

    So must those with shared layers, as the lectures draw them; the accuracy of the other classes
    may fall by 0.02 at most.
    """
    means = {name: np.mean(values, 1) for name, values in result["curves"].items()}
    few = result["examples"].index(10)
    one, basic, shared = (means[name] for name in CLAIM.deck)
    ahead = [bool(np.all(of - one > 0.1)) for of in (basic, shared)]
    others = [result["others"]["10"][name] for name in CLAIM.deck]
    ahead.append(min(others[1:]) > others[0] - 0.02)
    return Verdict(
        "holds" if all(ahead) else "holds in part" if ahead[0] else "does not hold",
        f"with 10 bold fours among the training images, one network of twenty classes knows "
        f"{one[few]:.2f} of those in the test, two basic classifiers {basic[few]:.2f}, two that "
        f"share their layers {shared[few]:.2f}; without any, {one[0]:.2f}, {basic[0]:.2f} and "
        f"{shared[0]:.2f}; of all other classes " + ", ".join(f"{of:.2f}" for of in others),
        {
            "some": [values[few] for values in (one, basic, shared)],
            "none": [values[0] for values in (one, basic, shared)],
        },
    )


def draw(result: dict) -> Any:
    """Draws the accuracy on the scarce class by its number of examples, and example images."""
    plt = _figure.pyplot()
    figure, (left, right) = plt.subplots(
        2, 1, figsize=(7, 5), layout="constrained", height_ratios=(3, 1)
    )
    places = np.arange(len(result["examples"]))
    for name, values in result["curves"].items():
        means, deviations = np.mean(values, 1), np.std(values, 1)
        left.errorbar(places, means, deviations, marker="o", capsize=3, label=name)
    left.set(xticks=places, xticklabels=result["examples"], ylim=(-0.02, 1.02))
    left.set(xlabel="bold fours among the training images", ylabel="accuracy on bold fours")
    left.legend(frameon=False)
    right.imshow(result["pictures"], cmap="gray_r")
    right.set(xticks=[], yticks=[])
    return figure
