"""Nine layers of sigmoids do not learn what three do. Lecture rows T03, D13.

Why: the slope of a sigmoid is a quarter at most, so that the gradient that comes to the first layer
is thousands of times smaller than that of the last; it is measured, layer by layer.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from experiments import _depth, _lecture, _run
from experiments._claim import Claim, Verdict

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
    return _depth.compared(
        config,
        "depth_sigmoid",
        CLAIM,
        {name: _lecture.trained(config, **kind) for name, kind in kinds.items()},
        {name: _lecture.trained(config, rows=_lecture.FEW, **kind) for name, kind in kinds.items()},
    )


def judge(result: dict) -> Verdict:
    """Asks for a gap of 0.4 in accuracy, of all images and of few."""
    return _depth.judge(CLAIM, result, gap=0.4, least=0.84)


def draw(result: dict) -> Any:
    """The figure, from what `run` returned."""
    return _depth.draw(CLAIM, result)
