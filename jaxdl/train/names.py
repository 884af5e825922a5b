"""Metrics as `fit` takes them: names and functions, resolved by the loss. Lecture row V02."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from jaxdl import losses, metrics

Metrics = Sequence[str | Callable] | Mapping[str, str | Callable]
Measures = tuple[tuple[str, str | Callable], ...]
"""Metrics with their names in the history; hashable, so that programs can be cached by them."""

RESERVED = ("loss", "seconds", "compile_seconds", "skipped")
FACTORIES = (
    metrics.auc,
    metrics.average_precision,
    metrics.ece,
    metrics.f1,
    metrics.precision,
    metrics.r2,
    metrics.recall,
    metrics.rmse,
    metrics.top_k,
)
BINARY_NAMES = tuple(metrics.BINARY_METRICS)
CLASS_NAMES = (*BINARY_NAMES, "top3", "top5")


def measures(given: Metrics | None) -> Measures | None:
    """Returns the metrics by name, or None for those that `resolve` chooses.

    Raises:
      ValueError: a metric is unknown, or has the name of the loss.
    """
    if given is None:
        return None
    if isinstance(given, str) or callable(given):
        raise ValueError(
            f"metrics is {given!r}; expected a sequence or a dict: write metrics=[{given!r}]."
        )
    if not isinstance(given, Mapping):
        names = [_name(value) for value in given]
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            raise ValueError(
                f"metrics has {names.count(double)} named {double!r}; expected a name for each: "
                f"write a dict, metrics={{'a': ..., 'b': ...}}."
            )
        given = dict(zip(names, given, strict=True))
    for name, value in given.items():
        if name in RESERVED or name.startswith("eval_"):
            raise ValueError(f"metrics has one named {name!r}, which the history uses; rename it.")
        if value in FACTORIES:
            raise ValueError(f"metrics holds {name} itself; expected it called: metrics.{name}().")
        metrics.metric(value)
    return tuple(given.items())


def resolve(
    measures: Measures | None, loss: Callable | None, output: Any, y: Any
) -> tuple[tuple[str, Callable], ...]:
    """Returns the functions of the metrics, those for labels 0 and 1 where the loss is of these.

    None chooses the accuracy for a loss of classes or of labels, and for integer labels of several
    classes with a loss that is not known; nothing for a regression.
    """
    task = losses.task(loss)
    shape = getattr(output, "shape", None)
    single = shape is not None and (len(shape) == 1 or shape[-1] == 1)
    if measures is None:
        classes = hasattr(y, "dtype") and jnp.issubdtype(y.dtype, jnp.integer)
        classes = classes and shape is not None and not single and y.shape == shape[:-1]
        chosen = task in ("multiclass", "binary") or (task is None and classes)
        measures = (("accuracy", "accuracy"),) if chosen else ()
    for _, value in measures:
        if task == "regression" and single and value in CLASS_NAMES:
            raise ValueError(
                f"metric {value!r} is one of classes, and the loss one of a regression; expected "
                "such as 'mae', 'rmse' or 'r2', or the loss 'binary_cross_entropy'."
            )
        if task == "binary" and value in ("top3", "top5"):
            raise ValueError(
                f"metric {value!r} is one of exclusive classes, and the loss one of independent "
                "labels; expected such as 'accuracy', 'f1' or 'auc'."
            )
    if task is None and single:
        task = "binary"
    return tuple((name, metrics.metric(value, task)) for name, value in measures)


def _name(given: str | Callable) -> str:
    if isinstance(given, str):
        return given
    if isinstance(given, metrics.DatasetMetric) and given.name:
        return given.name
    while isinstance(given, functools.partial | metrics.DatasetMetric):
        given = given.func if isinstance(given, functools.partial) else given.compute
    return getattr(given, "__name__", type(given).__name__).strip("<>")
