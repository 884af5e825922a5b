"""Metrics as `fit` takes them: by name, or as they are. Lecture row V02."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdl import metrics

Metrics = Sequence[str | Callable] | Mapping[str, str | Callable]
Measures = tuple[tuple[str, Callable], ...]
"""Metrics by name; hashable, so that programs can be kept by them."""


def measures(given: Metrics | None, y: Any = None) -> Measures:
    """Metrics from names, functions, or a dict of either by name.

    None takes the accuracy where the targets y are class labels, and nothing elsewhere.
    """
    if given is None:
        labels = hasattr(y, "dtype") and np.issubdtype(y.dtype, np.integer)
        given = ["accuracy"] if labels else []
    if isinstance(given, str) or callable(given):
        raise ValueError(
            f"metrics is {given!r}; expected a sequence or a dict: write metrics=[{given!r}]."
        )
    if not isinstance(given, Mapping):
        given = {_name(value): value for value in given}
    if "loss" in given:
        raise ValueError("metrics has one named 'loss', which is the loss's own; rename it.")
    return tuple((name, metrics.metric(value)) for name, value in given.items())


def _name(given: str | Callable) -> str:
    if isinstance(given, str):
        return given
    while isinstance(given, functools.partial):
        given = given.func
    return getattr(given, "__name__", type(given).__name__).strip("<>")
