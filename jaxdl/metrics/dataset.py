"""Metrics of a whole data set, such as the area under a curve."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl._check import require_ints
from jaxdl._optional import extra
from jaxdl._precision import widen
from jaxdl.losses import (
    check_array,
    match_labels,
    match_weight,
    squared_error,
)
from jaxdl.metrics.examples import (
    Average,
    accuracy,
    as_float,
    binary_accuracy,
    mask_unknown,
    read_classes,
)

Task = Literal["multiclass", "binary"]
"""Scores (..., C) of exclusive classes, or (..., L) of independent labels that are 0 or 1."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["values", "weight"],
    meta_fields=["compute", "labels"],
)
@dataclasses.dataclass(frozen=True)
class Collection:
    """The arrays that a `DatasetMetric` needs of one or more batches.

    Attributes:
      values: arrays with a common leading axis M over examples.
      weight: (M,) weights, or (M, L) for L labels each; examples of weight 0 are ignored.
      compute: as for `DatasetMetric`.
      labels: 1 if the last axis of `weight` is over labels, else 0.
    """

    values: tuple[jax.Array, ...]
    weight: jax.Array
    compute: Callable[..., float]
    labels: int = 0

    @property
    def value(self) -> float:
        """The metric of these examples; NaN if there are none or a value is not finite.

        Raises:
          ValueError: `compute` fails, or returns no number.
        """
        weight = np.asarray(self.weight, np.float64)
        axes = weight.ndim - self.labels
        weight = weight.reshape(-1, *weight.shape[axes:])
        used = weight.reshape(len(weight), -1).any(axis=1)
        values = [np.asarray(v).reshape(len(weight), *v.shape[axes:])[used] for v in self.values]
        weight = weight[used]
        # scikit-learn raises for NaN; a history entry must stay a number.
        if not len(weight) or not all(np.isfinite(v.astype(np.float64)).all() for v in values):
            return float("nan")
        weights = {} if (weight == 1).all() else {"sample_weight": weight}
        try:
            return float(self.compute(*values, **weights))
        except Exception as error:
            shapes = [f"{v.dtype}{list(v.shape)}" for v in values]
            raise ValueError(
                f"DatasetMetric: compute raises {error!r} for arrays {', '.join(shapes)}"
                f"{' and sample_weight' if weights else ''}; expected a number."
            ) from error


@dataclasses.dataclass(frozen=True, eq=False)
class DatasetMetric:
    """A metric that is not a mean over examples, such as the area under a curve.

    `train.fit` and `train.evaluate` collect its arrays over the data set and compute it once, on
    the host. `compute` can be a function of `sklearn.metrics`:
    `metrics={"kappa": DatasetMetric(cohen_kappa_score, select=...)}`.

    Attributes:
      compute: `(*values, sample_weight=w) -> number` of NumPy arrays with a leading axis over the
        examples; `sample_weight` (M,) is passed only if weights differ from 1.
      select: `(output, target) -> (value, ...)`, traced: the arrays that `compute` takes. The
        default takes `(target, output)`.
      name: in the history, where the metrics are given in a sequence.
    """

    compute: Callable[..., float]
    select: Callable[[Any, Any], Any] = lambda output, target: (target, output)
    name: str = ""

    def collect(self, output: Any, target: Any, weight: jax.Array | None = None) -> Collection:
        """Returns the arrays that the metric needs of a batch.

        The examples are all axes of the output but the last: (N,), or (N, T) for the steps of
        sequences. Weights in the shape of the output weight each label.

        Raises:
          ValueError: `select` returns arrays without these axes, or `weight` does not fit them.
        """
        values = self.select(output, target)
        values = tuple(values) if isinstance(values, tuple | list) else (values,)
        shape = getattr(output, "shape", values[0].shape[:2])
        axes = shape if len(shape) == 1 else shape[:-1]
        if any(value.shape[: len(axes)] != axes for value in values):
            raise ValueError(
                f"DatasetMetric: select returns arrays of shapes {[v.shape for v in values]}; "
                f"expected {axes} as leading axes, one entry for each example."
            )
        labels = int(weight is not None and len(axes) < weight.ndim and weight.shape == shape)
        ones = jnp.ones(shape if labels else axes, jnp.float32)
        if weight is not None:
            ones = match_weight(f"{self.name or 'DatasetMetric'}: weight", weight, ones)
        return Collection(values, ones.astype(jnp.float32), self.compute, labels)

    def __call__(self, output: Any, target: Any, weight: jax.Array | None = None) -> float:
        """Computes the metric of whole arrays."""
        return self.collect(output, target, weight).value


def merge(a: Any, b: Any) -> Any:
    """Merges two `Average`s, or two `Collection`s, of batches of any sizes."""
    if isinstance(a, Average):
        return Average(a.total + b.total, a.count + b.count)
    # Metrics of a data set need all examples: their batches cannot be summed.
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), a, b)


def auc(task: Task = "multiclass") -> DatasetMetric:
    """Returns the area under the ROC curve, `sklearn.metrics.roc_auc_score`.

    It is the share of (positive, negative) pairs in the correct order; ties count one half. For two
    classes class 1 is positive. For more classes or several labels it is the mean over those that
    have positives and negatives, each against the rest, with log odds as scores.

    Args:
      task: "multiclass" for scores of exclusive classes; "binary" for logits of labels.

    Returns:
      A metric in [0, 1]; NaN if no class has both positives and negatives.
    """
    compute = functools.partial(_rank_metric, "roc_auc_score")
    return DatasetMetric(compute, _select(task, _log_odds), "auc")


def average_precision(task: Task = "multiclass") -> DatasetMetric:
    """Returns the area under the precision-recall curve, `average_precision_score`.

    Args:
      task: as for `auc`, which also explains the mean over classes or labels.

    Returns:
      A metric in [0, 1]; NaN if no class has both positives and negatives.
    """
    score = functools.partial(_rank_metric, "average_precision_score")
    return DatasetMetric(score, _select(task, _log_odds), "average_precision")


def f1(task: Task = "multiclass", average: str = "macro") -> DatasetMetric:
    """Returns F1, 2 P R / (P + R) of precision P and recall R, `sklearn.metrics.f1_score`.

    Args:
      task: "multiclass" predicts the class with the largest score; "binary" predicts labels with a
        logit above 0.
      average: "macro", "micro" or "weighted", over more than two classes or several labels. For
        two classes class 1 is positive.

    Returns:
      A metric in [0, 1]; 0 / 0 is 0.

    Raises:
      ValueError: `average` is unknown.
    """
    return _decision_metric("f1_score", task, average)


def precision(task: Task = "multiclass", average: str = "macro") -> DatasetMetric:
    """Returns the share of correct positive predictions, `precision_score`; see `f1`."""
    return _decision_metric("precision_score", task, average)


def recall(task: Task = "multiclass", average: str = "macro") -> DatasetMetric:
    """Returns the share of positives that are predicted, `recall_score`; see `f1`."""
    return _decision_metric("recall_score", task, average)


def ece(task: Task = "multiclass", bins: int = 15) -> DatasetMetric:
    """Returns the expected calibration error, sum_b (n_b / n) |accuracy_b - confidence_b|.

    Guo et al. 2017 (arXiv 1706.04599), eq. 3: the confidence is the probability of the predicted
    class, in bins b of equal width.

    Args:
      task: "multiclass" for scores of exclusive classes; "binary" for logits of labels, each a
        prediction of its own.
      bins: the number of bins, at least 1.

    Returns:
      A metric in [0, 1].

    Raises:
      ValueError: `bins` is no positive integer.
    """
    require_ints("ece", 1, bins=bins)

    def read(output, target):
        if _task("ece", task) == "binary":
            logits, target = widen(output), match_labels("ece", output, target)
            return binary_accuracy(logits, target), jax.nn.sigmoid(jnp.abs(logits))
        return accuracy(output, target), jnp.max(jax.nn.softmax(widen(output)), axis=-1)

    def compute(right, confidence, sample_weight=None):
        right, confidence = (np.asarray(a, np.float64) for a in (right, confidence))
        weight = np.ones(len(right)) if sample_weight is None else sample_weight
        weight = np.broadcast_to(
            weight.reshape(*weight.shape, *[1] * (right.ndim - weight.ndim)), right.shape
        )
        places = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
        gaps = np.zeros(bins)
        # `gaps[places] += ...` would add only once for repeated places.
        np.add.at(gaps, places, weight * (right - confidence))
        return np.abs(gaps).sum() / weight.sum()

    return DatasetMetric(compute, read, "ece")


def rmse() -> DatasetMetric:
    """Returns the root mean squared error over the data set and all outputs, in float64."""

    def compute(errors, sample_weight=None):
        return np.sqrt(np.average(np.asarray(errors, np.float64), weights=sample_weight))

    return DatasetMetric(compute, lambda output, target: squared_error(output, target), "rmse")


def r2() -> DatasetMetric:
    """Returns R^2, 1 - sum (o - y)^2 / sum (y - mean y)^2, the mean over the outputs.

    By `sklearn.metrics.r2_score`; NaN for fewer than two examples.
    """

    def compute(target, output, **weights):
        with extra("metrics", "jaxdl.metrics"):
            import sklearn.metrics

        if len(target) < 2:
            return float("nan")
        columns = (np.asarray(a, np.float64).reshape(len(a), -1) for a in (target, output))
        return sklearn.metrics.r2_score(*columns, **weights)

    def read(output, target):
        squared_error(output, target)  # checks the shapes
        return target, output

    return DatasetMetric(compute, read, "r2")


def _task(what: str, task: str) -> str:
    if task not in ("multiclass", "binary"):
        raise ValueError(f"{what}: task is {task!r}; expected 'multiclass' or 'binary'.")
    return task


def _select(task: str, read: Callable[[jax.Array], jax.Array]) -> Callable:
    """Returns `(output, target) -> (labels, read(scores))`; two classes become one column."""
    _task("metric", task)

    def select(output, target):
        check_array("metric", output)
        if task == "binary":
            target = as_float(match_labels("metric", output, target))
            return jnp.where(jnp.isnan(output), jnp.nan, target), output
        labels = read_classes("metric", output, target)
        return mask_unknown(labels, labels, output), read(output)  # NaN makes the metric NaN

    return select


def _log_odds(scores: jax.Array) -> jax.Array:
    """Returns log p_k / (1 - p_k) of each class, or of class 1 alone where C is 2.

    Unlike probabilities, log odds do not saturate, which would create ties.
    """
    scores = widen(scores)
    if scores.shape[-1] == 2:
        return scores[..., 1] - scores[..., 0]
    # 1 - p_k cancels only for the largest score, for which the other scores are summed instead.
    largest = jax.nn.one_hot(jnp.argmax(scores, axis=-1), scores.shape[-1], dtype=bool)
    others = jax.nn.logsumexp(scores, axis=-1, where=~largest, keepdims=True)
    log_p = jax.nn.log_softmax(scores)
    return jnp.where(largest, scores - others, log_p - jnp.log1p(-jnp.exp(log_p)))


def _columns(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels as 0 or 1 for each column of scores."""
    if scores.ndim == labels.ndim + 1:
        return labels[..., None] == np.arange(scores.shape[-1]), scores
    labels, scores = (a.reshape(len(a), -1) for a in (labels, scores))
    return labels > 0.5, scores


def _by_label(
    labels: np.ndarray, scores: np.ndarray, weight: np.ndarray | None
) -> list[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]:
    """Returns labels, scores and `sample_weight` of each label, for weights above 0."""
    columns = []
    for k in range(scores.shape[1]):
        if weight is None:
            columns.append((labels[:, k], scores[:, k], {}))
            continue
        own = weight if weight.ndim == 1 else weight.reshape(len(weight), -1)[:, k]
        used = own > 0
        columns.append((labels[used, k], scores[used, k], {"sample_weight": own[used]}))
    return columns


def _rank_metric(
    name: str, labels: np.ndarray, scores: np.ndarray, sample_weight: np.ndarray | None = None
) -> float:
    with extra("metrics", "jaxdl.metrics"):
        import sklearn.metrics

    compute = getattr(sklearn.metrics, name)
    values = [
        compute(y, s, **weights)
        for y, s, weights in _by_label(*_columns(labels, scores), sample_weight)
        if 0 < y.sum() < len(y)
    ]
    return float(np.mean(values)) if values else float("nan")


def _decision_metric(name: str, task: str, average: str) -> DatasetMetric:
    if average not in ("macro", "micro", "weighted"):
        raise ValueError(
            f"{name}: average is {average!r}; expected 'macro', 'micro' or 'weighted'."
        )

    def compute(labels, decisions, sample_weight=None):
        with extra("metrics", "jaxdl.metrics"):
            import sklearn.metrics

        score = functools.partial(getattr(sklearn.metrics, name), zero_division=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about classes that are neither present nor predicted
            if decisions.dtype != bool:
                return score(labels, decisions, average=average, sample_weight=sample_weight)
            columns = _by_label(*_columns(labels, decisions), sample_weight)
            if average == "micro":
                y, d, w = zip(*columns, strict=True)
                w = {key: np.concatenate([part[key] for part in w]) for key in w[0]}
                return score(np.concatenate(y), np.concatenate(d), **w)
            support = [np.sum(y * w.get("sample_weight", 1)) for y, _, w in columns]
            weights = support if average == "weighted" and any(support) else None
            return np.average([score(y, d, **w) for y, d, w in columns], weights=weights)

    def decide(scores):
        decisions = jnp.argmax(scores, axis=-1)
        return decisions > 0 if scores.shape[-1] == 2 else decisions

    select = _select(task, decide)
    short = name.removesuffix("_score")
    if task == "binary":
        return DatasetMetric(compute, lambda o, y: (select(o, y)[0], o > 0), short)
    return DatasetMetric(compute, select, short)
