"""Measures double descent: the test error peaks where a model can just fit the data. Row E11.

Belkin et al. 2019 (doi:10.1073/pnas.1903070116): least squares on F random ReLU features of N
images, with the minimum-norm solution where there are many. The peak is where the features can just
fit every label, with weights that grow without bound. That takes a rank of N, and so slightly more
than N features, because some are 0 on every image. The rank and the norm of the weights are
measured too.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from experiments import _figure, _run, _seeds
from experiments._claim import Claim, Verdict, numbers
from jaxdl import data

CLAIM = Claim(
    rows=("E11",),
    step="best",
    statement="Beyond the size that just fits the data, larger models do better again.",
    deck={"at the peak": None, "beyond it": None},
    source="nn/dense.py",
    minutes=1,
)
SHARES = (0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 10
    """Draws of the features and of the training images."""
    rows: int = 300
    """Training images, N."""
    wrong: float = 0.1
    """Share of random training labels, which make the peak higher."""


def features(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Computes random ReLU features, (N, F)."""
    return np.maximum(x @ weights, 0).astype(np.float64) / np.sqrt(weights.shape[1])


def run(config: Config) -> dict:
    rows, seeds = (40, 2) if config.smoke else (config.rows, config.seeds)
    widths = [max(2, round(share * rows)) for share in SHARES]
    digits = data.digits()
    error, training, size, rank = np.zeros((4, seeds, len(widths)))
    for i in range(seeds):
        rng = np.random.default_rng(config.seed + i)
        drawn = rng.permutation(len(digits.train.y))[:rows]
        x, y = digits.train.x[drawn].reshape(rows, -1), digits.train.y[drawn].copy()
        wrong = rng.random(rows) < config.wrong
        y[wrong] = rng.integers(0, 10, wrong.sum())
        key = jax.random.key(config.seed + i)
        for j, width in enumerate(widths):
            weights = np.asarray(jax.random.normal(jax.random.fold_in(key, j), (64, width)))
            seen, unseen = (features(a, weights) for a in (x, digits.test.x.reshape(-1, 64)))
            # The cutoff drops features that are 0 on all images, up to rounding errors.
            solution, _, rank[i, j], _ = np.linalg.lstsq(seen, np.eye(10)[y], rcond=1e-10)
            answers = unseen @ solution
            error[i, j] = np.mean(answers.argmax(1) != digits.test.y)
            training[i, j] = np.mean((seen @ solution).argmax(1) != y)
            size[i, j] = np.linalg.norm(solution)
    peak = int(error.mean(0).argmax())
    first = int(error.mean(0)[: peak + 1].argmin())
    measured = {
        "before the peak": _seeds.summarize(error[:, first]),
        "at the peak": _seeds.summarize(error[:, peak]),
        "beyond it": _seeds.summarize(error[:, -1]),
    }
    for name, spread in measured.items():
        print(f"{name:16s} test error {_seeds.format_summary(spread)}")
    result = {
        "measured": measured,
        "shares": list(SHARES),
        "curves": numbers({"test": error, "training": training, "size of the weights": size}),
        "rank": numbers(rank.mean(0) / rows),
    }
    _figure.save(draw(result), config, "double_descent", "double_descent")
    return result


def judge(result: dict) -> Verdict:
    """Requires a peak between two lower ends, where the features begin to fit every label.

    The peak must be at 0.9 to 1.1 features per image, at least 0.2 above both ends.
    """
    shares, error, size = (
        np.array(values)
        for values in (
            result["shares"],
            np.mean(result["curves"]["test"], 0),
            np.mean(result["curves"]["size of the weights"], 0),
        )
    )
    peak = int(error.argmax())
    first, last = int(error[: peak + 1].argmin()), len(shares) - 1
    rises = error[peak] - max(error[first], error[last]) > 0.2
    near = abs(shares[peak] - 1) < 0.11
    full = full_rank(result)
    growth = size[peak] / size[last]
    return Verdict(
        "holds" if rises and near else "holds in part" if rises else "does not hold",
        f"the test error is {error[first]:.3f} with {shares[first]:g} features an image, "
        f"{error[peak]:.3f} at its peak with {shares[peak]:g} and {error[last]:.3f} with "
        f"{shares[last]:g}; the features come within 1 % of full rank at {full:g} an "
        "image and not before, because some of them are 0 on every image; the weights are "
        f"{growth:.0f} times as large at the peak as at the end",
        {
            "before": error[first],
            "before_share": shares[first],
            "peak": error[peak],
            "peak_share": shares[peak],
            "last": error[last],
            "last_share": shares[last],
            "full": full,
            "growth": growth,
        },
    )


def full_rank(result: dict) -> float:
    """Returns the fewest features per image with a rank of 99 % of the number of images."""
    return result["shares"][int(np.argmax(np.array(result["rank"]) > 0.99))]


def draw(result: dict) -> Any:
    """Draws the errors and the norm of the weights by the number of features."""
    plt = _figure.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for label, values in result["curves"].items():
        axis, values = right if label.startswith("size") else left, np.array(values)
        axis.plot(result["shares"], values.mean(0), marker=".", label=label)
        axis.fill_between(result["shares"], values.min(0), values.max(0), alpha=0.2, lw=0)
        axis.axvline(full_rank(result), color="0.5", ls=":", lw=1)
        axis.set(xscale="log", xlabel="features / training images")
        axis.legend(frameon=False)
    left.set(ylabel="error")
    right.set(yscale="log")
    return figure
