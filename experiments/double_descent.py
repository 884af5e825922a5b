"""The test error falls, rises to a peak, and falls again: double descent. Lecture row E11.

Belkin et al. 2019 (doi:10.1073/pnas.1903070116): least squares on F random ReLU features of N
images, the shortest solution where there are many. The peak is where F reaches N: there the
features can just fit every label, with weights that grow without bound; they are measured too.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from experiments import _figure, _run, _seeds
from experiments._claim import Claim, metrics, numbers
from jaxdl import data

CLAIM = Claim(
    rows=("E11",),
    step="best",
    english="Beyond the size that just fits the data, larger models do better again.",
    chinese="模型大到刚好能拟合数据时测试误差最高，再大反而又降下来。",
    deck={"at the peak": None, "beyond it": None},
    words={
        "before the peak": "峰值之前",
        "at the peak": "峰值处",
        "beyond it": "峰值之后",
    },
    source="nn/dense.py",
    minutes=1,
)
SHARES = (0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 10
    """Draws of the features and of the training images."""
    rows: int = 300
    """Training images, N."""
    wrong: float = 0.1
    """Share of the training labels drawn by lot, which makes the peak plain."""


def features(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Random ReLU features, (N, F)."""
    return np.maximum(x @ weights, 0).astype(np.float64) / np.sqrt(weights.shape[1])


def run(config: Config) -> dict:
    rows, seeds = (40, 2) if config.smoke else (config.rows, config.seeds)
    widths = [max(2, round(share * rows)) for share in SHARES]
    digits = data.digits()
    error, size = np.zeros((2, seeds, len(widths)))
    training = np.zeros((seeds, len(widths)))
    for i in range(seeds):
        rng = np.random.default_rng(config.seed + i)
        drawn = rng.permutation(len(digits.train.y))[:rows]
        x, y = digits.train.x[drawn].reshape(rows, -1), digits.train.y[drawn].copy()
        lot = rng.random(rows) < config.wrong
        y[lot] = rng.integers(0, 10, lot.sum())
        key = jax.random.key(config.seed + i)
        for j, width in enumerate(widths):
            weights = np.asarray(jax.random.normal(jax.random.fold_in(key, j), (64, width)))
            seen, unseen = (features(a, weights) for a in (x, digits.test.x.reshape(-1, 64)))
            solution = np.linalg.lstsq(seen, np.eye(10)[y], rcond=1e-10)[0]
            answers = unseen @ solution
            error[i, j] = np.mean(answers.argmax(1) != digits.test.y)
            training[i, j] = np.mean((seen @ solution).argmax(1) != y)
            size[i, j] = np.linalg.norm(solution)
    peak = SHARES.index(1.0)
    first = int(error.mean(0)[:peak].argmin())
    found = {
        "before the peak": _seeds.spread(error[:, first]),
        "at the peak": _seeds.spread(error[:, peak]),
        "beyond it": _seeds.spread(error[:, -1]),
    }
    for name in found:
        print(f"{name:16s} test error {_seeds.said(found[name])}")
    growth = size[:, peak].mean() / size[:, -1].mean()
    before, top, after = (found[name]["mean"] for name in found)
    result = metrics(
        found,
        holds=top > before and top > after,
        said=(
            f"test error {before:.3f} with {SHARES[first]:g} features an image, {top:.3f} with "
            f"one, {after:.3f} with {SHARES[-1]:g}; the weights are {growth:.0f} times as large at "
            "the peak as at the end"
        ),
        chinese=(
            f"测试误差先为 {before:.3f}，特征数等于图像数时升到 {top:.3f}，之后降到 {after:.3f}；"
            f"峰值处权重是最后的 {growth:.0f} 倍"
        ),
        shares=list(SHARES),
        curves=numbers({"test": error, "training": training, "size of the weights": size}),
    )
    _figure.save(draw(result), config, "double_descent", "double_descent")
    return result


def draw(result: dict) -> Any:
    """The errors and the weights by the number of features."""
    plt = _figure.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for label, values in result["curves"].items():
        axis, values = right if label.startswith("size") else left, np.array(values)
        axis.plot(result["shares"], values.mean(0), marker=".", label=label)
        axis.fill_between(result["shares"], values.min(0), values.max(0), alpha=0.2, lw=0)
        axis.axvline(1, color="0.5", ls=":", lw=1)
        axis.set(xscale="log", xlabel="features / training images")
        axis.legend(frameon=False)
    left.set(ylabel="error")
    right.set(yscale="log")
    return figure
