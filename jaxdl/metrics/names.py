"""Metrics by name, and the choice of metrics for the task of a loss."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from jaxdl.core import suggest
from jaxdl.losses import (
    absolute_error,
    squared_error,
)
from jaxdl.losses import task as task_of
from jaxdl.metrics.dataset import (
    DatasetMetric,
    auc,
    average_precision,
    ece,
    f1,
    precision,
    r2,
    recall,
    rmse,
)
from jaxdl.metrics.examples import (
    Metric,
    accuracy,
    binary_accuracy,
    binary_brier,
    brier,
    top_k,
)
from jaxdl.metrics.segmentation import miou

Metrics = Sequence[str | Callable] | Mapping[str, str | Callable]
"""Metrics as `fit` takes them: names and functions, in a sequence or a dict by name."""
NamedMetrics = tuple[tuple[str, str | Callable], ...]
"""Metrics with their names in the history; hashable, so that it can be the key of a cache."""
METRICS: dict[str, Metric | DatasetMetric] = {
    "accuracy": accuracy,
    "auc": auc(),
    "average_precision": average_precision(),
    "binary_accuracy": binary_accuracy,
    "brier": brier,
    "ece": ece(),
    "f1": f1(),
    "mae": absolute_error,
    "miou": miou(),
    "mse": squared_error,
    "precision": precision(),
    "r2": r2(),
    "recall": recall(),
    "rmse": rmse(),
    "top3": top_k(3),
    "top5": top_k(5),
}
"""Metrics by name, for exclusive classes where the task makes a difference."""
BINARY_METRICS: dict[str, Metric | DatasetMetric] = {
    "accuracy": binary_accuracy,
    "auc": auc("binary"),
    "average_precision": average_precision("binary"),
    "brier": binary_brier,
    "ece": ece("binary"),
    "f1": f1("binary"),
    "precision": precision("binary"),
    "recall": recall("binary"),
}
"""Metrics by name for logits of labels 0 and 1, where these differ from `METRICS`."""


def metric(spec: str | Metric | DatasetMetric, task: str | None = None) -> Metric | DatasetMetric:
    """Returns a metric by its name; functions and `DatasetMetric`s are returned unchanged.

    Args:
      spec: a name in `METRICS`, a function `(output, target) -> (N, ...)` or a `DatasetMetric`.
      task: "binary" looks the name up in `BINARY_METRICS` first.

    Raises:
      ValueError: the name is unknown, or `spec` is neither a name nor a function.
    """
    if callable(spec):
        return spec
    known: Mapping[str, Any] = METRICS | (BINARY_METRICS if task == "binary" else {})
    if not isinstance(spec, str) or spec not in known:
        raise ValueError(f"no metric {spec!r}; {suggest(str(spec), METRICS, 'metrics')}")
    return known[spec]


RESERVED = ("loss", "seconds", "compile_seconds", "skipped")
FACTORIES = (
    auc,
    average_precision,
    ece,
    f1,
    miou,
    precision,
    r2,
    recall,
    rmse,
    top_k,
)
CLASS_METRICS = (*BINARY_METRICS, "miou", "top3", "top5")


def name_metrics(metrics: Metrics | None) -> NamedMetrics | None:
    """Returns metrics with their names, or None where `resolve_metrics` chooses them.

    Raises:
      ValueError: a metric is unknown, or has the name of the loss.
    """
    if metrics is None:
        return None
    if isinstance(metrics, str) or callable(metrics):
        raise ValueError(
            f"metrics is {metrics!r}; expected a sequence or a dict: write metrics=[{metrics!r}]."
        )
    if not isinstance(metrics, Mapping):
        # A sequence is named by its functions, as in Keras.
        names = [_name(value) for value in metrics]
        # The second would overwrite the first in the history.
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            raise ValueError(
                f"metrics has {names.count(double)} named {double!r}; expected a name for each: "
                f"write a dict, metrics={{'a': ..., 'b': ...}}."
            )
        metrics = dict(zip(names, metrics, strict=True))
    for name, value in metrics.items():
        if name in RESERVED or name.startswith("eval_"):
            raise ValueError(f"metrics has one named {name!r}, which the history uses; rename it.")
        if value in FACTORIES:
            raise ValueError(
                f"metrics contains the factory {name}; expected its result: metrics.{name}()."
            )
        metric(value)
    return tuple(metrics.items())


def resolve_metrics(
    named: NamedMetrics | None, loss: Callable | None, output: Any, y: Any
) -> tuple[tuple[str, Callable], ...]:
    """Returns the functions of the metrics for the task of the loss, with their names.

    None chooses the accuracy for a classification loss, and for integer labels of several classes
    with an unknown loss; it chooses nothing for a regression.
    """
    task = task_of(loss)
    shape = getattr(output, "shape", None)
    single = shape is not None and (len(shape) == 1 or shape[-1] == 1)
    if named is None:
        classes = hasattr(y, "dtype") and jnp.issubdtype(y.dtype, jnp.integer)
        # An unknown loss with integer targets of one axis less than the output is a classification.
        classes = classes and shape is not None and not single and y.shape == shape[:-1]
        chosen = task in ("multiclass", "binary") or (task is None and classes)
        named = (("accuracy", "accuracy"),) if chosen else ()
    for _, value in named:
        if task == "regression" and single and value in CLASS_METRICS:
            raise ValueError(
                f"metric {value!r} is for classification, and the loss for regression; expected a "
                "metric such as 'mae', 'rmse' or 'r2', or the loss 'binary_cross_entropy'."
            )
        if task == "binary" and value in ("miou", "top3", "top5"):
            raise ValueError(
                f"metric {value!r} is for exclusive classes, and the loss for independent labels; "
                "expected a metric such as 'accuracy', 'f1' or 'auc'."
            )
    if task is None and single:
        task = "binary"
    return tuple((name, metric(value, task)) for name, value in named)


def _name(value: str | Callable) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, DatasetMetric) and value.name:
        return value.name
    while isinstance(value, functools.partial | DatasetMetric):
        value = value.func if isinstance(value, functools.partial) else value.compute
    return getattr(value, "__name__", type(value).__name__).strip("<>")
