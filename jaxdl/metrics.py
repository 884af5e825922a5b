"""Metrics per example, a confusion matrix, and means that add up exactly over batches."""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdl.core import suggest
from jaxdl.losses import reduce, squared_error

__all__ = [
    "METRICS",
    "Mean",
    "SpanScore",
    "accuracy",
    "confusion",
    "mean",
    "merge",
    "metric",
    "span_f1",
    "spans",
    "top_k",
]

Metric = Callable[[jax.Array, jax.Array], jax.Array]
"""`(output, target) -> (N, ...)`, a value for each example."""


def accuracy(output: jax.Array, target: jax.Array) -> jax.Array:
    """1 where argmax_k s_k is the class, else 0. Of equal scores the first wins.

    Args:
      output: (..., C) scores s or probabilities.
      target: (...) integer classes, or (..., C) one-hot rows or probabilities.

    Returns:
      (...) float32 in {0, 1}.

    Raises:
      ValueError: `target` fits `output` in neither way.
    """
    return (jnp.argmax(output, axis=-1) == _classes("accuracy", output, target)).astype(jnp.float32)


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
        hit = best == _classes("top_k", output, target)[..., None]
        return jnp.any(hit, axis=-1).astype(jnp.float32)

    metric.__name__ = f"top_{k}"
    return metric


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
    """A mean in the making: means of means are wrong where batches differ in size, sums are not.

    Attributes:
      sum: the sum of the values so far.
      weight: their number.
    """

    sum: jax.Array
    weight: jax.Array

    @property
    def value(self) -> jax.Array:
        """sum / weight; NaN when nothing was counted."""
        return self.sum / self.weight


def mean(values: jax.Array, where: jax.Array | None = None) -> Mean:
    """The `Mean` of one batch.

    Args:
      values: (N, ...) values per example.
      where: which to count, as for `losses.reduce`.
    """
    ones = jnp.ones_like(values)
    return Mean(reduce(values, where, "sum"), reduce(ones, where, "sum"))


def merge(a: Mean, b: Mean) -> Mean:
    """The `Mean` of two batches together, whatever their sizes."""
    return Mean(a.sum + b.sum, a.weight + b.weight)


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "mse": squared_error,
    "top_3": top_k(3),
    "top_5": top_k(5),
}
"""Metrics by name."""


def metric(spec: str | Metric) -> Metric:
    """A metric by its name in `METRICS`, or a function `(output, target) -> (N, ...)` as it is.

    Raises:
      ValueError: the name is unknown, or `spec` is neither a name nor a function.
    """
    if callable(spec):
        return spec
    if not isinstance(spec, str) or spec not in METRICS:
        raise ValueError(f"no metric {spec!r}; {suggest(str(spec), METRICS, 'metrics')}")
    return METRICS[spec]


def _classes(what: str, output: jax.Array, target: jax.Array) -> jax.Array:
    """Integer classes, from themselves or from rows over the classes."""
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
