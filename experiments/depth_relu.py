"""Compares nine layers of ReLUs with nine layers of sigmoids. Lecture rows T04, D13.

An active ReLU has a slope of 1, so that the gradient at the first layer is about as large as that
at the last.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from experiments import _lecture, _run, depth_sigmoid
from experiments._claim import Claim, Verdict

CLAIM = Claim(
    rows=("T04", "D13"),
    step="set",
    statement="ReLU in the place of the sigmoid trains nine layers.",
    deck={"9 layers, sigmoid": 0.11, "9 layers, ReLU": 0.96},
    source="nn/activation.py",
    minutes=36,
)


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 3
    """Networks of each kind."""


def run(config: Config) -> dict:
    seeds = 2 if config.smoke else config.seeds
    kinds: dict[str, dict[str, Any]] = {
        "9 layers, sigmoid": {"layers": 9, "seeds": seeds},
        "9 layers, ReLU": {"layers": 9, "activation": "relu", "seeds": seeds},
    }
    return depth_sigmoid.compare(
        config,
        "depth_relu",
        CLAIM,
        {name: _lecture.train_networks(config, **kind) for name, kind in kinds.items()},
        {
            name: _lecture.train_networks(config, rows=_lecture.FEW, **kind)
            for name, kind in kinds.items()
        },
    )


def judge(result: dict) -> Verdict:
    """Requires a gap of 0.6 in accuracy, with all training images and with few."""
    return depth_sigmoid.judge_depth(CLAIM, result, gap=0.6, least=0.94)


def draw(result: dict) -> Any:
    """Draws the accuracies, the gradient norms and the loss landscapes."""
    return depth_sigmoid.draw_depth(CLAIM, result)
