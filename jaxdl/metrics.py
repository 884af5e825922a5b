"""Metrics per example, metrics of a whole data set, and means that add up exactly over batches."""

from __future__ import annotations

import collections
import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl._optional import extra
from jaxdl._precision import widen
from jaxdl.core import suggest
from jaxdl.losses import (
    absolute_error,
    check_array,
    match_labels,
    match_weight,
    reduce,
    squared_error,
)

__all__ = [
    "BINARY_METRICS",
    "METRICS",
    "Collection",
    "DatasetMetric",
    "Mean",
    "SpanScore",
    "accuracy",
    "auc",
    "average_precision",
    "binary_accuracy",
    "binary_brier",
    "brier",
    "confusion",
    "ece",
    "f1",
    "mean",
    "merge",
    "metric",
    "precision",
    "r2",
    "recall",
    "rmse",
    "span_f1",
    "spans",
    "top_k",
]

Metric = Callable[[jax.Array, jax.Array], jax.Array]
"""`(output, target) -> (N, ...)`, a value for each example."""
Task = Literal["multiclass", "binary"]
"""Scores (..., C) of exclusive classes, or scores (..., L) of independent labels, 0 or 1 each."""


def accuracy(output: jax.Array, target: jax.Array) -> jax.Array:
    """1 where argmax_k s_k is the class, else 0. Of equal scores the first wins.

    Args:
      output: (..., C) scores s or probabilities of at least two classes.
      target: (...) integer classes, or (..., C) one-hot rows or probabilities.

    Returns:
      (...) float32 in {0, 1}; NaN for a class out of range or scores that are NaN.

    Raises:
      ValueError: `target` fits `output` in neither way, or there is one class.
    """
    classes = _classes("accuracy", output, target)
    return _known(jnp.argmax(output, axis=-1) == classes, classes, output)


def binary_accuracy(output: jax.Array, target: jax.Array) -> jax.Array:
    """1 where a label is on and its logit above 0, or off and not above 0; else 0.

    Args:
      output: (N, ..., L) logits of independent labels, or (N,); for probabilities p take
        `binary_accuracy(p - 0.5, target)`.
      target: 0 or 1, bools or probabilities in the shape of the logits; the last axis may be
        missing where L is 1.

    Returns:
      float32 in {0, 1}, in the shape of the logits; NaN for a logit that is NaN.

    Raises:
      ValueError: the shapes differ.
    """
    target = match_labels("binary_accuracy", output, target)
    right = (output > 0) == (_numbers(target) > 0.5)
    return jnp.where(jnp.isnan(output), jnp.nan, right.astype(jnp.float32))


def top_k(k: int) -> Metric:
    """The metric that is 1 where the class is among the k highest scores, else 0.

    Args:
      k: from 1, which is `accuracy`, to the number of classes.

    Returns:
      A metric like `accuracy`.

    Raises:
      ValueError: k is no positive integer; in the metric, there are fewer than k classes.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"top_k: k is {k!r}; expected an integer of at least 1.")

    def metric(output, target):
        if k > output.shape[-1]:
            raise ValueError(
                f"top_k: k is {k} for {output.shape[-1]} classes; expected at most as many."
            )
        _, best = jax.lax.top_k(output, k)
        classes = _classes("top_k", output, target)
        return _known(jnp.any(best == classes[..., None], axis=-1), classes, output)

    metric.__name__ = f"top{k}"
    return metric


def brier(output: jax.Array, target: jax.Array) -> jax.Array:
    """sum_k (p_k - y_k)^2 with p the softmax of the scores, halved for two classes.

    Brier 1950 (doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2). Halved, the score of two
    classes is that of one logit, (p - y)^2.

    Args:
      output, target: as for `accuracy`.

    Returns:
      (...) float32 in [0, 2], or in [0, 1] for two classes.

    Raises:
      ValueError: as for `accuracy`.
    """
    classes = _classes("brier", output, target)
    if target.shape != output.shape:
        target = jax.nn.one_hot(classes, output.shape[-1])
    squares = jnp.sum((jax.nn.softmax(widen(output)) - target) ** 2, axis=-1)
    return _known(squares / (2 if output.shape[-1] == 2 else 1), classes, output)


def binary_brier(output: jax.Array, target: jax.Array) -> jax.Array:
    """(p - y)^2 with p the sigmoid of the logit; see `brier`.

    Args:
      output, target: as for `binary_accuracy`.

    Returns:
      float32 in [0, 1], in the shape of the logits.

    Raises:
      ValueError: the shapes differ.
    """
    target = match_labels("brier", output, target)
    return (jax.nn.sigmoid(widen(output)) - _numbers(target)) ** 2


def confusion(
    output: jax.Array, target: jax.Array, classes: int, *, where: jax.Array | None = None
) -> jax.Array:
    """M[i, j], the number of examples of class i that were taken for class j.

    The matrices of batches add up to that of the data, and trace(M) / sum(M) is the accuracy.

    Args:
      output: (N, C) scores, or (N,) integer decisions.
      target: (N,) integer classes, or (N, C) one-hot rows.
      classes: C, the matrix's size.
      where: (N,) bools, true at the examples to count.

    Returns:
      (C, C) int32. Examples whose class or decision is not in 0 .. C - 1 are not counted.

    Raises:
      ValueError: the shapes do not fit.
    """
    scored = jnp.issubdtype(output.dtype, jnp.floating)
    if output.shape[1:] != ((classes,) if scored else ()):
        raise ValueError(
            f"confusion: output is {output.dtype}{list(output.shape)} for {classes} classes; "
            f"expected scores (N, {classes}) or integer decisions (N,)."
        )
    decision = jnp.argmax(output, axis=-1) if scored else output
    true = target
    if target.shape != decision.shape or not jnp.issubdtype(target.dtype, jnp.integer):
        true = _classes("confusion", jax.nn.one_hot(decision, classes), target)
    count = jnp.ones_like(decision, bool) if where is None else where
    count &= (true >= 0) & (decision >= 0)  # a negative index would count from the end
    matrix = jnp.zeros((classes, classes), jnp.int32)
    return matrix.at[true, decision].add(count.astype(jnp.int32), mode="drop")


class Mean(NamedTuple):
    """A weighted sum and its weight: those of batches add up to the exact mean over the data.

    Attributes:
      sum: sum_n w_n v_n so far.
      weight: sum_n w_n; without weights, the number of values.
    """

    sum: jax.Array
    weight: jax.Array

    @property
    def value(self) -> jax.Array:
        """sum / weight; NaN where the weight is 0."""
        return self.sum / self.weight


def mean(values: jax.Array, weight: jax.Array | None = None) -> Mean:
    """Returns the `Mean` of one batch.

    Args:
      values: (N, ...) of a metric or a loss.
      weight: as for `losses.reduce`.
    """
    ones = jnp.ones_like(values)
    return Mean(reduce(values, weight, "sum"), reduce(ones, weight, "sum"))


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["values", "weight"],
    meta_fields=["compute", "labels"],
)
@dataclasses.dataclass(frozen=True)
class Collection:
    """What a `DatasetMetric` reads of some batches.

    Attributes:
      values: arrays with a common leading axis M over examples.
      weight: (M,) weights, or (M, L) of L labels each; an example of weight 0 is left out.
      compute: the metric's own.
      labels: 1 if the last axis of `weight` is over labels, else 0.
    """

    values: tuple[jax.Array, ...]
    weight: jax.Array
    compute: Callable[..., float]
    labels: int = 0

    @property
    def value(self) -> float:
        """The metric of these examples; NaN if there are none, or a value is not finite.

        Raises:
          ValueError: `compute` fails, or returns no number.
        """
        weight = np.asarray(self.weight, np.float64)
        axes = weight.ndim - self.labels
        weight = weight.reshape(-1, *weight.shape[axes:])
        used = weight.reshape(len(weight), -1).any(axis=1)
        values = [np.asarray(v).reshape(len(weight), *v.shape[axes:])[used] for v in self.values]
        weight = weight[used]
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
    """A metric that is no mean over examples, such as the area under a curve.

    `train.fit` and `train.evaluate` collect what it reads over the data set, and compute it once,
    on the host. The functions of `sklearn.metrics` fit as `compute`:
    `metrics={"kappa": DatasetMetric(cohen_kappa_score, select=...)}`.

    Attributes:
      compute: `(*values, sample_weight=w) -> number` of NumPy arrays with a leading axis over the
        examples; `sample_weight` (M,) is passed only where weights differ from 1.
      select: `(output, target) -> (value, ...)`, traced: the arrays that `compute` takes. The
        default takes `(target, output)`.
      name: in the history, where the metrics are given in a sequence.
    """

    compute: Callable[..., float]
    select: Callable[[Any, Any], Any] = lambda output, target: (target, output)
    name: str = ""

    def collect(self, output: Any, target: Any, weight: jax.Array | None = None) -> Collection:
        """Returns what the metric reads of a batch.

        The examples are the leading axes of the output, all but its last: (N,), or (N, T) for the
        steps of sequences; with weights in the output's shape, each label has its own.

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
    """Returns the `Mean` or the `Collection` of two batches together, whatever their sizes."""
    if isinstance(a, Mean):
        return Mean(a.sum + b.sum, a.weight + b.weight)
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), a, b)


def auc(task: Task = "multiclass") -> DatasetMetric:
    """Area under the ROC curve: the share of (positive, negative) pairs in the right order.

    `sklearn.metrics.roc_auc_score`; ties count one half. For two classes class 1 is positive; for
    more, or for several labels, the mean over those that have both kinds of examples, each against
    the rest, with log odds as scores.

    Args:
      task: "multiclass" for scores of exclusive classes; "binary" for logits of labels.

    Returns:
      A metric in [0, 1], NaN where every class lacks positives or negatives.
    """
    compute = functools.partial(_ranked, "roc_auc_score")
    return DatasetMetric(compute, _select(task, _log_odds), "auc")


def average_precision(task: Task = "multiclass") -> DatasetMetric:
    """Area under the precision-recall curve by `sklearn.metrics.average_precision_score`.

    Args:
      task: as for `auc`, also for the mean over classes or labels.

    Returns:
      A metric in [0, 1], NaN where every class lacks positives or negatives.
    """
    score = functools.partial(_ranked, "average_precision_score")
    return DatasetMetric(score, _select(task, _log_odds), "average_precision")


def f1(task: Task = "multiclass", average: str = "macro") -> DatasetMetric:
    """2 P R / (P + R) of precision P and recall R, by `sklearn.metrics.f1_score`.

    Args:
      task: "multiclass" decides by the largest score; "binary" takes labels with a logit above 0.
      average: over more than two classes, or several labels: "macro", "micro", "weighted". For two
        classes class 1 is positive.

    Returns:
      A metric in [0, 1]; 0 / 0 is 0.

    Raises:
      ValueError: `average` is another word.
    """
    return _decided("f1_score", task, average)


def precision(task: Task = "multiclass", average: str = "macro") -> DatasetMetric:
    """True among all decided positives, by `sklearn.metrics.precision_score`; see `f1`."""
    return _decided("precision_score", task, average)


def recall(task: Task = "multiclass", average: str = "macro") -> DatasetMetric:
    """Positives that are decided so, by `sklearn.metrics.recall_score`; see `f1`."""
    return _decided("recall_score", task, average)


def ece(task: Task = "multiclass", bins: int = 15) -> DatasetMetric:
    """Expected calibration error: sum_b (n_b / n) |accuracy_b - confidence_b|.

    Guo et al. 2017 (arXiv 1706.04599), eq. 3: the confidence is the probability of the decision,
    in bins of equal width.

    Args:
      task: "multiclass" for scores of exclusive classes; "binary" for logits of labels, each of
        which is a decision.
      bins: the number of bins, at least 1.

    Returns:
      A metric in [0, 1].

    Raises:
      ValueError: `bins` is no positive integer.
    """
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise ValueError(f"ece: bins is {bins!r}; expected an integer of at least 1.")

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
        np.add.at(gaps, places, weight * (right - confidence))
        return np.abs(gaps).sum() / weight.sum()

    return DatasetMetric(compute, read, "ece")


def rmse() -> DatasetMetric:
    """sqrt of the mean squared error over the data set and all outputs, in float64."""

    def compute(errors, sample_weight=None):
        return np.sqrt(np.average(np.asarray(errors, np.float64), weights=sample_weight))

    return DatasetMetric(compute, lambda output, target: squared_error(output, target), "rmse")


def r2() -> DatasetMetric:
    """1 - sum (o - y)^2 / sum (y - mean y)^2 by `sklearn.metrics.r2_score`, the mean over outputs.

    NaN for fewer than two examples.
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


def _known(values: jax.Array, classes: jax.Array, output: jax.Array) -> jax.Array:
    """Values of examples in float32; NaN where the class is out of range or a score NaN."""
    known = (classes >= 0) & (classes < output.shape[-1]) & ~jnp.isnan(output).any(axis=-1)
    return jnp.where(known, values.astype(jnp.float32), jnp.nan)


def _numbers(target: jax.Array) -> jax.Array:
    return (
        widen(target) if jnp.issubdtype(target.dtype, jnp.floating) else target.astype(jnp.float32)
    )


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
            target = _numbers(match_labels("metric", output, target))
            return jnp.where(jnp.isnan(output), jnp.nan, target), output
        labels = _classes("metric", output, target)
        return _known(labels, labels, output), read(output)  # NaN makes the metric NaN

    return select


def _log_odds(scores: jax.Array) -> jax.Array:
    """log p_k / (1 - p_k) of each class, which does not saturate; of class 1 alone where C is 2."""
    scores = widen(scores)
    if scores.shape[-1] == 2:
        return scores[..., 1] - scores[..., 0]
    # 1 - p_k cancels only for the largest score: there, the others are summed by themselves.
    largest = jax.nn.one_hot(jnp.argmax(scores, axis=-1), scores.shape[-1], dtype=bool)
    others = jax.nn.logsumexp(scores, axis=-1, where=~largest, keepdims=True)
    log_p = jax.nn.log_softmax(scores)
    return jnp.where(largest, scores - others, log_p - jnp.log1p(-jnp.exp(log_p)))


def _columns(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels as 0 or 1 for each column of scores."""
    if scores.ndim == labels.ndim + 1:
        return labels[..., None] == np.arange(scores.shape[-1]), scores
    labels, scores = (a.reshape(len(a), -1) for a in (labels, scores))
    return labels > 0.5, scores


def _by_label(
    labels: np.ndarray, scores: np.ndarray, weight: np.ndarray | None
) -> list[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]:
    """For each label its examples of weight above 0: labels, scores and `sample_weight`."""
    columns = []
    for k in range(scores.shape[1]):
        if weight is None:
            columns.append((labels[:, k], scores[:, k], {}))
            continue
        own = weight if weight.ndim == 1 else weight.reshape(len(weight), -1)[:, k]
        used = own > 0
        columns.append((labels[used, k], scores[used, k], {"sample_weight": own[used]}))
    return columns


def _ranked(
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


def _decided(name: str, task: str, average: str) -> DatasetMetric:
    if average not in ("macro", "micro", "weighted"):
        raise ValueError(
            f"{name}: average is {average!r}; expected 'macro', 'micro' or 'weighted'."
        )

    def compute(labels, decisions, sample_weight=None):
        with extra("metrics", "jaxdl.metrics"):
            import sklearn.metrics

        score = functools.partial(getattr(sklearn.metrics, name), zero_division=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes that are neither present nor decided
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


METRICS: dict[str, Metric | DatasetMetric] = {
    "accuracy": accuracy,
    "auc": auc(),
    "average_precision": average_precision(),
    "binary_accuracy": binary_accuracy,
    "brier": brier,
    "ece": ece(),
    "f1": f1(),
    "mae": absolute_error,
    "mse": squared_error,
    "precision": precision(),
    "r2": r2(),
    "recall": recall(),
    "rmse": rmse(),
    "top3": top_k(3),
    "top5": top_k(5),
}
"""Metrics by name, for exclusive classes where the task matters."""

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
"""Metrics by name that differ for logits of labels, 0 or 1 each."""


def metric(spec: str | Metric | DatasetMetric, task: str | None = None) -> Metric | DatasetMetric:
    """Returns a metric by its name, or one that is no name as it is.

    Args:
      spec: a name in `METRICS`, a function `(output, target) -> (N, ...)` or a `DatasetMetric`.
      task: "binary" takes the name from `BINARY_METRICS` first.

    Raises:
      ValueError: the name is unknown, or `spec` is neither a name nor a function.
    """
    if callable(spec):
        return spec
    known: Mapping[str, Any] = METRICS | (BINARY_METRICS if task == "binary" else {})
    if not isinstance(spec, str) or spec not in known:
        raise ValueError(f"no metric {spec!r}; {suggest(str(spec), METRICS, 'metrics')}")
    return known[spec]


def _classes(what: str, output: jax.Array, target: jax.Array) -> jax.Array:
    """Integer classes, from themselves or from rows over the classes."""
    check_array(what, output)
    if output.shape[-1] == 1:
        raise ValueError(
            f"{what}: the output has shape {output.shape}, one class; expected at least two. For a "
            "logit of labels 0 and 1 take loss='binary_cross_entropy' or metrics.binary_accuracy."
        )
    if target.shape == output.shape:
        return jnp.argmax(target, axis=-1)
    if target.shape == output.shape[:-1] and jnp.issubdtype(target.dtype, jnp.integer):
        return target
    raise ValueError(
        f"{what}: target is {target.dtype}{list(target.shape)} for an output of shape "
        f"{output.shape}; expected integer classes {output.shape[:-1]} or rows {output.shape}."
    )


class SpanScore(NamedTuple):
    """How well spans were found.

    Attributes:
      precision, recall, f1: in [0, 1]; 0 where they would be 0 / 0.
      support: the number of true spans.
      by_kind: the same for each kind of span, whose own `by_kind` is empty.
    """

    precision: float
    recall: float
    f1: float
    support: int
    by_kind: dict[str, SpanScore]


def spans(labels: Sequence[str]) -> set[tuple[str, int, int]]:
    """The spans of IOB labels: `(kind, first, last + 1)`.

    The rules of the CoNLL-2000 scorer (Tjong Kim Sang and Buchholz 2000): B-x begins a span, and
    I-x goes on with one of kind x, or begins one after O or after another kind.

    Args:
      labels: such as O, B-artist, I-artist.

    Returns:
      The set of spans.

    Raises:
      ValueError: a label is none of O, B-x and I-x.
    """
    found, begin, kind = set(), 0, ""
    for i, label in enumerate([*labels, "O"]):
        prefix, _, name = label.partition("-")
        if label != "O" and (prefix not in ("B", "I") or not name):
            raise ValueError(f"spans: label {label!r}; expected O, or B- or I- and a kind.")
        if kind and (prefix != "I" or name != kind):
            found.add((kind, begin, i))
            kind = ""
        if name and not kind:
            begin, kind = i, name
    return found


def span_f1(output: Sequence[Sequence[str]], target: Sequence[Sequence[str]]) -> SpanScore:
    """Precision, recall and F1 of whole spans: right if kind, first and last all are.

    Args:
      output, target: for each sequence its IOB labels; see `spans`.

    Returns:
      A `SpanScore` over all sequences, and by kind.

    Raises:
      ValueError: the two differ in number of rows or of labels; a label is no IOB label.
    """
    if len(output) != len(target):
        raise ValueError(f"span_f1: {len(output)} rows of output for {len(target)} of target.")
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for i, (guess, true) in enumerate(zip(output, target, strict=True)):
        if len(guess) != len(true):
            raise ValueError(f"span_f1: row {i} has {len(guess)} labels for {len(true)} of target.")
        found, wanted = spans(guess), spans(true)
        for name, group in (("found", found), ("wanted", wanted), ("right", found & wanted)):
            for kind, _, _ in group:
                counts[kind][name] += 1
    total = sum(counts.values(), collections.Counter())
    return _score(total, {kind: _score(count, {}) for kind, count in sorted(counts.items())})


def _score(count: collections.Counter[str], by_kind: dict[str, SpanScore]) -> SpanScore:
    right, found, wanted = count["right"], count["found"], count["wanted"]
    share = lambda whole: right / whole if whole else 0.0  # noqa: E731
    f1 = 2 * right / (found + wanted) if right else 0.0
    return SpanScore(share(found), share(wanted), f1, wanted, by_kind)
