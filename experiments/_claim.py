"""What a lecture claims, and what an experiment finds of it: the form that the report reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

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


def metrics(
    found: Mapping[str, Mapping[str, float]],
    *,
    holds: bool,
    said: str,
    chinese: str,
    **more: Any,
) -> dict[str, Any]:
    """What `run` returns: the numbers by the deck's names, and whether the claim holds.

    Args:
      found: by what they measure, `spread`s over the seeds.
      holds: whether the effect is there, by the bound that the experiment states.
      said, chinese: the finding in a sentence, with its numbers.
      **more: whatever explains it, and what the module's `draw(metrics)` needs for its figure.
    """
    return {"found": dict(found), "holds": bool(holds), "said": said, "chinese": chinese} | more


def numbers(values: Any, digits: int = 4) -> Any:
    """Arrays as lists of so many significant digits, in dicts too: a result is a file to read."""
    if isinstance(values, Mapping):
        return {str(key): numbers(value, digits) for key, value in values.items()}
    array = np.asarray(values, np.float64)
    if array.ndim:
        return [numbers(value, digits) for value in array]
    return float(f"{float(array):.{digits}g}")
