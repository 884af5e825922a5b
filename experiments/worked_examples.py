"""Every numeric example of the lectures, as the slide prints it and as it is. Lecture rows S01-S22.

Where the two differ after rounding as the slide does, the reason stands beside them. S23 (a printed
sample of noise), S24 (rows of a one-hot matrix) and S25 (rules of differentiation) hold no number
to compare and are tests only.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from experiments import _run
from experiments._claim import numbers
from experiments._examples import EXAMPLES
from experiments._line import Line


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    """In double precision."""


def run(config: Config) -> dict:
    result: dict[str, Any] = {}
    with jax.enable_x64(True):
        for rows, (title, compute) in EXAMPLES.items():
            print(f"\n{rows}  {title}")
            lines = compute()
            for line in lines:
                print(shown(line))
            result[rows] = [
                {"what": line.what, "slide": line.slide, "agrees": line.agrees, "note": line.note}
                | {"ours": numbers(line.ours, 10)}
                for line in lines
            ]
    every = [line for lines in result.values() for line in lines]
    printed = [line for line in every if line["agrees"] is not None]
    right = sum(line["agrees"] for line in printed)
    print(f"\n{right} of {len(printed)} printed numbers and tables are right")
    return {"examples": result, "printed": len(printed), "right": right}


def shown(line: Line) -> str:
    """What, the slide's, ours, and a word on both."""
    verdict = {None: "", True: "  as printed", False: "  NOT as printed"}[line.agrees]
    slide = "" if line.slide is None else f"slide {compact(line.slide)}   "
    note = f"  ({line.note})" if line.note else ""
    return f"  {line.what}: {slide}ours {compact(line.ours)}{verdict}{note}"


def compact(value: Any) -> str:
    array = np.asarray(value, np.float64)
    if not array.ndim:
        return f"{float(array):.8g}"
    return "[" + ", ".join(compact(part) for part in array) + "]"
