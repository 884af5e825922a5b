"""Nine layers of sigmoids do not learn what three do. Lecture rows T03, D13.

Why: the slope of a sigmoid is a quarter at most, so that the gradient that comes to the first layer
is thousands of times smaller than that of the last; it is measured, layer by layer.
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
    shallow, deep = (2, 2) if config.smoke else (config.seeds, config.deep_seeds)
    kinds: dict[str, dict[str, Any]] = {
        "9 layers, sigmoid": {"layers": 9, "seeds": deep},
        "3 layers, sigmoid": {"layers": 3, "seeds": shallow},
    }
    return compare(
        config,
        "depth_sigmoid",
        CLAIM,
        {name: _lecture.trained(config, **kind) for name, kind in kinds.items()},
        {name: _lecture.trained(config, rows=_lecture.FEW, **kind) for name, kind in kinds.items()},
    )


def judge(result: dict) -> Verdict:
    """Asks for a gap of 0.4 in accuracy, of all images and of few."""
    return judge_depth(CLAIM, result, gap=0.4, least=0.84)


def draw(result: dict) -> Any:
    """The figure, from what `run` returned."""
    return draw_depth(CLAIM, result)


# Deep against shallow, for `depth_relu` too.


def compare(
    config,
    name: str,
    claim: Claim,
    networks: Mapping[str, _seeds.Trained],
    few: Mapping[str, _seeds.Trained],
) -> dict:
    """Prints, draws and returns what became of the networks, and of their first gradients.

    Args:
      networks: two, in the order of `claim.deck`; the second should be better.
      few: the same, trained on fewer images.
    """
    accuracy = {label: found.history["eval_accuracy"] for label, found in networks.items()}
    measured = {label: _lecture.last(network) for label, network in networks.items()}
    fewer = {label: _lecture.last(network) for label, network in few.items()}
    norms = {
        label: _lecture.gradient_norms(network, "cross_entropy", config.smoke).mean(0)
        for label, network in networks.items()
    }
    ratios = {label: float(values[0] / values[-1]) for label, values in norms.items()}
    for label in measured:
        print(
            f"{label:18s} test accuracy {_seeds.said(measured[label])}, first gradient at the "
            f"input {ratios[label]:.1e} of that at the output"
        )
    landscapes = {
        label: _lecture.landscape(network, "cross_entropy", config.smoke)
        for label, network in networks.items()
    }
    result = {
        "measured": measured,
        "few": fewer,
        "input_over_output": ratios,
        "norms": numbers(norms),
        "accuracy": numbers(accuracy),
        **_seeds.times(networks),
        "landscapes": numbers(landscapes, 3),
    }
    _figure.save(draw_depth(claim, result), config, name, name)
    return result


def judge_depth(claim: Claim, result: dict, gap: float, least: float) -> Verdict:
    """Asks that the second network is `gap` ahead and reaches `least`, and for the cause of it.

    The lectures' 0.11 asks that the first learns nothing. The first gradient at the input must be
    below 1e-3 of that at the output in the first network, and above 1e-2 of it in the second.
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
    """The accuracy by epoch, the first gradients by layer, and the loss around the beginning."""
    plt = _figure.pyplot()
    figure, ((left, right), below) = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
    _figure.curves(left, result["accuracy"], claim.deck)
    left.set(ylabel="test accuracy", ylim=(0, 1))
    for label, values in result["norms"].items():
        right.semilogy(np.arange(1, len(values) + 1), values, marker="o", label=label)
    right.set(xlabel="layer, from the input", title="norm of the first gradient")
    right.legend(frameon=False)
    for axis, (label, found) in zip(below, result["landscapes"].items(), strict=True):
        _lecture.contours(axis, found, f"{label}: loss as a share of the first")
    return figure
