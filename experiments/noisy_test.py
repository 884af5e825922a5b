"""Adds noise to the test images alone and measures the accuracy. Lecture rows T05, E02.

Gaussian noise of unit deviation is added to test images in [0, 1], as in the lectures' printed
sample (row S23). The training data and their accuracy do not change; the test images have another
distribution than those. Measured: the accuracy by the deviation of the noise, and the distance by
which noise moves an image, compared with the distance between two classes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _figure, _lecture, _run, _seeds
from experiments._claim import Claim, Verdict, numbers

CLAIM = Claim(
    rows=("T05", "E02"),
    step="best",
    statement="Noise on the test images halves the accuracy, though training goes as well as "
    "before.",
    deck={"clean test images": 0.97, "noisy test images": 0.50},
    source="data/augment.py",
    minutes=10,
)
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 5
    """Networks."""


def run(config: Config) -> dict:
    seeds = 2 if config.smoke else config.seeds
    networks = _lecture.train_networks(config, activation="relu", seeds=seeds)
    test = _lecture.load_images(config.smoke).test
    noise = jax.random.normal(jax.random.key(config.seed), test.x.shape)
    # The same noise at every level: differences are due to its size alone.
    falls = [networks.accuracy(test.x + level * noise, test.y) for level in LEVELS]
    measured = {
        "clean test images": _seeds.summarize(falls[0]),
        "noisy test images": _seeds.summarize(falls[LEVELS.index(1.0)]),
        "training images": _seeds.summarize(networks.history["accuracy"][:, -1]),
    }
    for name, spread in measured.items():
        print(f"{name:18s} accuracy {_seeds.format_summary(spread)}")
    moved = float(jnp.linalg.norm(noise.reshape(len(noise), -1), axis=1).mean())
    means = np.stack([test.x[test.y == label].mean(0).ravel() for label in np.unique(test.y)])
    # The distance between class means shows how large the noise is in the space of images.
    gaps = np.linalg.norm(means[:, None] - means[None], axis=-1)
    distance = float(gaps[np.triu_indices(len(means), 1)].mean())
    pair = np.concatenate([test.x[0], np.asarray(test.x[0] + noise[0])], axis=1)[..., 0]
    result = {
        "measured": measured,
        "training": numbers(networks.history["accuracy"]),
        "falls": numbers(dict(zip(LEVELS, falls, strict=True))),
        "moved": moved,
        "classes_apart": distance,
        **_seeds.summarize_times({"networks": networks}),
        "pair": numbers(pair, 2),
    }
    _figure.save(draw(result), config, "noisy_test", "noisy_test")
    return result


def judge(result: dict) -> Verdict:
    """Requires noise to cost 0.3 of accuracy, and in full to leave 0.4 to 0.6 of it."""
    clean, noisy, seen = (spread["mean"] for spread in result["measured"].values())
    falls = clean - noisy > 0.3 and seen >= clean - 0.02
    halves = 0.4 < noisy / clean < 0.6
    return Verdict(
        "does not hold" if not falls else "holds" if halves else "holds in part",
        f"{clean:.3f} on clean and {noisy:.3f} on noisy images, {seen:.3f} on the training "
        f"images; the noise moves an image by {result['moved']:.1f}, the means of two digits are "
        f"{result['classes_apart']:.1f} apart",
        {
            "clean": clean,
            "noisy": noisy,
            "seen": seen,
            "moved": result["moved"],
            "apart": result["classes_apart"],
        },
    )


def draw(result: dict) -> Any:
    """Draws the accuracy by the deviation of the noise, and an image with noise."""
    plt = _figure.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    levels = [float(level) for level in result["falls"]]
    values = np.array(list(result["falls"].values()))
    left.errorbar(levels, values.mean(1), values.std(1), marker="o", capsize=3)
    left.axhline(CLAIM.deck["noisy test images"], color="0.5", ls=":", lw=1)
    left.set(xlabel="deviation of the noise", ylabel="test accuracy", ylim=(0, 1))
    right.imshow(result["pair"], cmap="gray_r")
    right.set(title="a test image, clean and noisy", xticks=[], yticks=[])
    return figure
