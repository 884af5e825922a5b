"""Deep against shallow, as `depth_sigmoid` and `depth_relu` compare them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments import _figure, _lecture, _seeds
from experiments._claim import Claim, metrics, numbers


def compared(
    config,
    name: str,
    claim: Claim,
    networks: Mapping[str, _seeds.Trained],
    few: Mapping[str, _seeds.Trained],
    gap: float,
) -> dict:
    """Prints, draws and returns what became of the networks, and of their first gradients.

    Args:
      networks: two, in the order of `claim.deck`; the second should be `gap` better.
      few: the same, trained on fewer images.
    """
    accuracy = {label: found.history["eval_accuracy"] for label, found in networks.items()}
    found = {label: _lecture.last(network) for label, network in networks.items()}
    fewer = {label: _lecture.last(network) for label, network in few.items()}
    norms = {
        label: _lecture.gradient_norms(network, "cross_entropy", config.smoke).mean(0)
        for label, network in networks.items()
    }
    ratios = {label: float(values[0] / values[-1]) for label, values in norms.items()}
    for label in found:
        print(
            f"{label:18s} test accuracy {_seeds.said(found[label])}, first gradient at the input "
            f"{ratios[label]:.1e} of that at the output"
        )
    landscapes = {
        label: _lecture.landscape(network, "cross_entropy", config.smoke)
        for label, network in networks.items()
    }
    (worse, low), (better, high) = ((label, spread["mean"]) for label, spread in found.items())
    result = metrics(
        found,
        holds=high - low > gap,
        said=(
            f"{better} reaches {high:.3f} and {worse} {low:.3f}; with {_lecture.FEW:,} training "
            f"images {fewer[better]['mean']:.3f} and {fewer[worse]['mean']:.3f}; the first "
            f"gradient at the input is {ratios[better]:.1e} and {ratios[worse]:.1e} of that at the "
            "output"
        ),
        chinese=(
            f"{claim.words[better]} 达到 {high:.3f}，{claim.words[worse]} {low:.3f}；第一层的梯度"
            f"分别是最后一层的 {ratios[better]:.1e} 和 {ratios[worse]:.1e}"
        ),
        few=fewer,
        input_over_output=ratios,
        norms=numbers(norms),
        accuracy=numbers(accuracy),
        **_seeds.times(networks),
        landscapes=numbers(landscapes, 3),
    )
    _figure.save(draw(claim, result), config, name, name)
    return result


def draw(claim: Claim, result: dict) -> Any:
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
