"""Compares nine layers of sigmoids with three. Lecture rows T03, D13.

The slope of a sigmoid is at most a quarter, so that the gradient at the first of nine layers is
thousands of times smaller than at the last. It is measured layer by layer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments import _figure, _lecture, _run, _seeds
from experiments._claim import Claim, Verdict, numbers

CLAIM = Claim(
    rows=("T03", "D13"),
    step="set",
    statement="With sigmoids, nine layers learn nothing where three learn well.",
    deck={"9 layers, sigmoid": 0.11, "3 layers, sigmoid": 0.84},
    source="nn/activation.py",
    minutes=25,
)


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 5
    """Networks of three layers."""
    deep_seeds: int = 3
    """Networks of nine layers."""


def run(config: Config) -> dict:
    # Fewer seeds of nine layers, which take longer to train.
    shallow, deep = (2, 2) if config.smoke else (config.seeds, config.deep_seeds)
    kinds: dict[str, dict[str, Any]] = {
        "9 layers, sigmoid": {"layers": 9, "seeds": deep},
        "3 layers, sigmoid": {"layers": 3, "seeds": shallow},
    }
    return compare(
        config,
        "depth_sigmoid",
        CLAIM,
        {name: _lecture.train_networks(config, **kind) for name, kind in kinds.items()},
        {
            name: _lecture.train_networks(config, rows=_lecture.FEW, **kind)
            for name, kind in kinds.items()
        },
    )


def judge(result: dict) -> Verdict:
    """Requires a gap of 0.4 in accuracy, with all training images and with few."""
    return judge_depth(CLAIM, result, gap=0.4, least=0.84)


def draw(result: dict) -> Any:
    """Draws the accuracies, the gradient norms and the loss landscapes."""
    return draw_depth(CLAIM, result)


# The comparison of two depths or activations, which `depth_relu` uses too.


def compare(
    config,
    name: str,
    claim: Claim,
    networks: Mapping[str, _seeds.Networks],
    few: Mapping[str, _seeds.Networks],
) -> dict:
    """Compares the accuracies, the gradients before training and the loss landscapes.

    Args:
      config: the experiment's options.
      name: the experiment.
      claim: its claim.
      networks: two kinds, in the order of `claim.deck`; the second should be better.
      few: the same kinds, trained on fewer images.
    """
    accuracy = {label: trained.history["eval_accuracy"] for label, trained in networks.items()}
    measured = {label: _lecture.summarize_accuracy(network) for label, network in networks.items()}
    fewer = {label: _lecture.summarize_accuracy(network) for label, network in few.items()}
    norms = {
        label: _lecture.gradient_norms(network, "cross_entropy", config.smoke).mean(0)
        for label, network in networks.items()
    }
    # The gradient at the input over that at the output: below 1 it vanishes.
    ratios = {label: float(values[0] / values[-1]) for label, values in norms.items()}
    for label in measured:
        print(
            f"{label:18s} test accuracy {_seeds.format_summary(measured[label])}, first gradient "
            f"at the input {ratios[label]:.1e} of that at the output"
        )
    landscapes = {
        label: _lecture.loss_landscape(network, "cross_entropy", config.smoke)
        for label, network in networks.items()
    }
    result = {
        "measured": measured,
        "few": fewer,
        "input_over_output": ratios,
        "norms": numbers(norms),
        "accuracy": numbers(accuracy),
        **_seeds.summarize_times(networks),
        "landscapes": numbers(landscapes, 3),
    }
    _figure.save(draw_depth(claim, result), config, name, name)
    return result


def judge_depth(claim: Claim, result: dict, gap: float, least: float) -> Verdict:
    """Requires the second kind to be ahead by `gap` and to reach `least`, for the stated reason.

    The lectures' 0.11 means that the first kind learns nothing. Before training, the gradient at
    the input must be below 1e-3 of that at the output in the first kind, above 1e-2 in the second.
    """
    worse, better = claim.deck
    few = result["few"]
    low, high, few_low, few_high = (
        spread[label]["mean"] for spread in (result["measured"], few) for label in claim.deck
    )
    small, large = (result["input_over_output"][label] for label in claim.deck)
    ahead = high - low > gap and few_high - few_low > gap and high >= least
    explained = low < 0.15 and small < 1e-3 and large > 1e-2
    return Verdict(
        "does not hold" if not ahead else "holds" if explained else "holds in part",
        f"{better} reaches {high:.3f} and {worse} {low:.3f}; with {_lecture.FEW:,} training "
        f"images {few_high:.3f} and {few_low:.3f}; the first gradient at the input is {large:.1e} "
        f"and {small:.1e} of that at the output",
        {
            "high": high,
            "low": low,
            "few": _lecture.FEW,
            "few_high": few_high,
            "few_low": few_low,
            "large": large,
            "small": small,
        },
    )


def draw_depth(claim: Claim, result: dict) -> Any:
    """Draws the accuracy by epoch, and before training the gradients and the loss landscape."""
    plt = _figure.pyplot()
    figure, ((left, right), below) = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
    _figure.curves(left, result["accuracy"], claim.deck)
    left.set(ylabel="test accuracy", ylim=(0, 1))
    for label, values in result["norms"].items():
        right.semilogy(np.arange(1, len(values) + 1), values, marker="o", label=label)
    right.set(xlabel="layer, from the input", title="norm of the first gradient")
    right.legend(frameon=False)
    for axis, (label, landscape) in zip(below, result["landscapes"].items(), strict=True):
        _lecture.draw_contours(axis, landscape, f"{label}: loss as a share of the first")
    return figure
