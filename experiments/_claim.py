"""What a lecture claims and what an experiment measures: the form that the report reads.

An experiment that tries a claim is a module with four names: `CLAIM`; `run(config)`, which returns
numbers alone, under "measured" one `spread` over the seeds for each quantity of the claim;
`judge(metrics)`, which makes a `Verdict` of these numbers; and `draw(metrics)`, the figure. The
verdict is not stored: it is what the numbers say whenever the report is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np


class Claim(NamedTuple):
    """A claim of the lectures, beside the experiment that tries it.

    Attributes:
      rows: the lecture rows, the first one the claim's.
      step: which of the three steps of row A18 it is about: "set", "goodness" or "best".
      english, chinese: the claim in a plain sentence.
      deck: the lectures' own numbers by what they measure; None where there is only a picture.
      words: what is measured, in Chinese.
      source: the function that it is about, a file below `jaxdl`.
      minutes: about how long it takes on two cores.
    """

    rows: tuple[str, ...]
    step: str
    english: str
    chinese: str
    deck: Mapping[str, float | None]
    words: Mapping[str, str]
    source: str
    minutes: float


class Verdict(NamedTuple):
    """What the stored numbers say of a claim.

    Attributes:
      outcome: "holds"; "holds in part", where a part of the claim, or the lectures' number, is
        missed; or "does not hold".
      english, chinese: the reason in a sentence with its numbers, without a full stop.
    """

    outcome: Literal["holds", "holds in part", "does not hold"]
    english: str
    chinese: str


def numbers(values: Any, digits: int = 4) -> Any:
    """Arrays as lists of so many significant digits, in dicts too: a result is a file to read."""
    if isinstance(values, Mapping):
        return {str(key): numbers(value, digits) for key, value in values.items()}
    array = np.asarray(values, np.float64)
    if array.ndim:
        return [numbers(value, digits) for value in array]
    return float(f"{float(array):.{digits}g}")
