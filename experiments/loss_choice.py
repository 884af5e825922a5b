"""Compares squared error with cross-entropy for a softmax classifier. Lecture rows T01, C10.

The same network is trained from the same initial values with either loss. Where a prediction is
wrong with high confidence, the gradient of cross-entropy is 1 and that of squared error vanishes,
so that gradient descent makes no progress. Both gradients are measured, along a line of growing
wrong scores and in the networks.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _figure, _lecture, _run, _seeds
from experiments._claim import Claim, Verdict, numbers
from jaxdl import losses

CLAIM = Claim(
    rows=("T01", "C10"),
    step="goodness",
    statement="With a softmax output, cross-entropy trains a network that squared error does not.",
    deck={"squared error": 0.11, "cross-entropy": 0.84},
    source="losses.py",
    minutes=18,
)


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 5
    """Networks of each kind."""


def run(config: Config) -> dict:
    seeds = 2 if config.smoke else config.seeds
    networks = {
        # The same seeds for both losses: equal initial values and the same order of the data.
        "squared error": _lecture.train_networks(config, loss="squared_error", seeds=seeds),
        "cross-entropy": _lecture.train_networks(config, loss="cross_entropy", seeds=seeds),
    }
    accuracy = {name: trained.history["eval_accuracy"] for name, trained in networks.items()}
    measured = {name: _lecture.summarize_accuracy(trained) for name, trained in networks.items()}
    kinds = {"squared error": "squared_error", "cross-entropy": "cross_entropy"}
    few = {
        name: _lecture.summarize_accuracy(
            _lecture.train_networks(config, loss=kind, seeds=seeds, rows=_lecture.FEW)
        )
        for name, kind in kinds.items()
    }
    first = {
        name: float(_lecture.gradient_norms(networks[name], kind, config.smoke).mean(0).sum())
        for name, kind in kinds.items()
    }
    scores, slopes = slopes_by_score()
    # Both landscapes share their plane, so that they can be compared.
    ahead = jax.tree.map(lambda a: a[0], networks["cross-entropy"].params)
    landscapes = {
        name: _lecture.loss_landscape(networks[name], kind, config.smoke, toward=ahead)
        for name, kind in kinds.items()
    }
    for name, spread in measured.items():
        accuracy_text = _seeds.format_summary(spread)
        print(f"{name:14s} test accuracy {accuracy_text}, first slope {first[name]:.4f}")
    result = {
        "measured": measured,
        "few": few,
        "first_gradient": first,
        **_seeds.summarize_times(networks),
        "landscapes": numbers(landscapes, 3),
        "accuracy": numbers(accuracy),
        "sure": numbers(scores),
        "slopes": numbers(slopes),
    }
    _figure.save(draw(result), config, "loss_choice", "loss_choice")
    return result


def judge(result: dict) -> Verdict:
    """Requires cross-entropy to be ahead, and squared error to learn nothing (the deck's 0.11).

    Cross-entropy must be ahead by 0.1 with all training images and by 0.4 with few, and reach 0.8.
    """
    low, high = (result["measured"][name]["mean"] for name in CLAIM.deck)
    few_low, few_high = (result["few"][name]["mean"] for name in CLAIM.deck)
    ahead = high - low > 0.1 and few_high - few_low > 0.4 and few_high >= 0.8
    curve = np.mean(result["accuracy"]["squared error"], 0)
    rising = np.diff(curve)[-1:].sum()
    nothing = low < 0.15
    return Verdict(
        "holds" if ahead and nothing else "holds in part" if ahead else "does not hold",
        f"cross-entropy reaches {high:.3f} and squared error {low:.3f}, which is "
        f"{'not ' if nothing else ''}more than the lectures' 0.11 and in the last epoch rises by "
        f"{rising:.3f}; with {_lecture.FEW:,} training images it is {few_high:.3f} and "
        f"{few_low:.3f}, so squared error {'trains' if few_low > 0.5 else 'hardly trains'} there",
        {
            "high": high,
            "low": low,
            "rising": rising,
            "few": _lecture.FEW,
            "few_high": few_high,
            "few_low": few_low,
            "trains": few_low > 0.5,
        },
    )


def slopes_by_score() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns scores of a wrong class and the norm of each loss's gradient by the scores."""
    sure = np.linspace(0, 15, 61)
    scores = jnp.zeros((len(sure), 10)).at[:, 1].set(jnp.asarray(sure, jnp.float32))
    labels = jnp.zeros(len(sure), jnp.int32)

    def slope(loss):
        gradient = jax.grad(lambda s: loss(s, labels).sum())(scores)
        return np.asarray(jnp.linalg.norm(gradient, axis=-1))

    return sure, {
        "squared error": slope(_lecture.squared_error),
        "cross-entropy": slope(losses.cross_entropy),
    }


def draw(result: dict) -> Any:
    """Draws the accuracy by epoch, the gradients of the two losses, and the loss landscapes."""
    plt = _figure.pyplot()
    figure, ((left, right), below) = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
    _figure.curves(left, result["accuracy"], CLAIM.deck)
    left.set(ylabel="test accuracy", ylim=(0, 1), title="784-500-500-10, sigmoid")
    for name, values in result["slopes"].items():
        right.semilogy(result["sure"], values, label=name)
    right.set(xlabel="score of a wrong class", title="slope of the loss by the scores")
    right.legend(frameon=False)
    for axis, (name, landscape) in zip(below, result["landscapes"].items(), strict=True):
        _lecture.draw_contours(axis, landscape, f"{name}, as a share of the first")
    return figure
