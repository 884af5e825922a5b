"""Metrics of each example, and their means over batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdl._check import require_ints
from jaxdl._precision import widen
from jaxdl.losses import (
    check_array,
    match_labels,
    reduce,
)

Metric = Callable[[jax.Array, jax.Array], jax.Array]
"""`(output, target) -> (N, ...)`, a value for each example."""


def accuracy(output: jax.Array, target: jax.Array) -> jax.Array:
    """Returns 1 where argmax_k s_k is the class, else 0; ties go to the first class.

    Args:
      output: (..., C) scores s or probabilities of at least two classes.
      target: (...) integer classes, or (..., C) one-hot rows or probabilities.

    Returns:
      (...) float32 in {0, 1}; NaN for a class out of range or scores that are NaN.

    Raises:
      ValueError: the shape of `target` does not fit, or there is one class.
    """
    classes = read_classes("accuracy", output, target)
    return mask_unknown(jnp.argmax(output, axis=-1) == classes, classes, output)


def binary_accuracy(output: jax.Array, target: jax.Array) -> jax.Array:
    """Returns 1 where the sign of the logit matches the label, else 0.

    Args:
      output: (N, ..., L) logits of independent labels, or (N,); for probabilities p use
        `binary_accuracy(p - 0.5, target)`.
      target: 0 or 1, bools or probabilities in the shape of the logits; the last axis may be
        missing where L is 1.

    Returns:
      float32 in {0, 1}, in the shape of the logits; NaN for a logit that is NaN.

    Raises:
      ValueError: the shapes differ.
    """
    target = match_labels("binary_accuracy", output, target)
    right = (output > 0) == (as_float(target) > 0.5)
    # NaN > 0 is False, which would count as the decision 0.
    return jnp.where(jnp.isnan(output), jnp.nan, right.astype(jnp.float32))


def top_k(k: int) -> Metric:
    """Returns a metric that is 1 where the class is among the k highest scores, else 0.

    Args:
      k: from 1, which is `accuracy`, to the number of classes.

    Returns:
      A metric like `accuracy`.

    Raises:
      ValueError: k is no positive integer; in the metric, there are fewer than k classes.
    """
    require_ints("top_k", 1, k=k)

    def metric(output, target):
        if k > output.shape[-1]:
            raise ValueError(
                f"top_k: k is {k} for {output.shape[-1]} classes; expected at most that number."
            )
        _, best = jax.lax.top_k(output, k)
        classes = read_classes("top_k", output, target)
        return mask_unknown(jnp.any(best == classes[..., None], axis=-1), classes, output)

    metric.__name__ = f"top{k}"
    return metric


def brier(output: jax.Array, target: jax.Array) -> jax.Array:
    """Returns the Brier score, sum_k (p_k - y_k)^2 with p the softmax of the scores.

    Brier 1950 (doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2). For two classes it is halved,
    which equals the score of one logit, (p - y)^2.

    Args:
      output, target: as for `accuracy`.

    Returns:
      (...) float32 in [0, 2], or in [0, 1] for two classes.

    Raises:
      ValueError: as for `accuracy`.
    """
    classes = read_classes("brier", output, target)
    if target.shape != output.shape:
        target = jax.nn.one_hot(classes, output.shape[-1])
    squares = jnp.sum((jax.nn.softmax(widen(output)) - target) ** 2, axis=-1)
    return mask_unknown(squares / (2 if output.shape[-1] == 2 else 1), classes, output)


def binary_brier(output: jax.Array, target: jax.Array) -> jax.Array:
    """Returns the Brier score of labels, (p - y)^2 with p the sigmoid of the logit.

    Args:
      output, target: as for `binary_accuracy`.

    Returns:
      float32 in [0, 1], in the shape of the logits.

    Raises:
      ValueError: the shapes differ.
    """
    target = match_labels("brier", output, target)
    return (jax.nn.sigmoid(widen(output)) - as_float(target)) ** 2


def confusion(
    output: jax.Array, target: jax.Array, classes: int, *, where: jax.Array | None = None
) -> jax.Array:
    """Returns the confusion matrix: M[i, j] examples of class i were classified as j.

    The matrices of batches add up to the matrix of the data; trace(M) / sum(M) is the accuracy.

    Args:
      output: (N, C) scores, or (N,) integer decisions.
      target: (N,) integer classes, or (N, C) one-hot rows.
      classes: C.
      where: (N,) bools, true at the examples to count.

    Returns:
      (C, C) int32. Examples with a class or a decision outside 0 .. C - 1 are not counted.

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
        true = read_classes("confusion", jax.nn.one_hot(decision, classes), target)
    count = jnp.ones_like(decision, bool) if where is None else where
    count &= (true >= 0) & (decision >= 0)  # a negative index would count from the end
    matrix = jnp.zeros((classes, classes), jnp.int32)
    return matrix.at[true, decision].add(count.astype(jnp.int32), mode="drop")


class Average(NamedTuple):
    """A weighted mean as a sum and a count, which add up over batches to the exact mean.

    Attributes:
      total: sum_n w_n v_n.
      count: sum_n w_n; without weights, the number of values.
    """

    total: jax.Array
    count: jax.Array

    @property
    def value(self) -> jax.Array:
        """total / count; NaN where the count is 0."""
        return self.total / self.count


def mean(values: jax.Array, weight: jax.Array | None = None) -> Average:
    """Returns the `Average` of one batch.

    Args:
      values: (N, ...) of a metric or a loss.
      weight: as for `losses.reduce`.
    """
    ones = jnp.ones_like(values)
    return Average(reduce(values, weight, "sum"), reduce(ones, weight, "sum"))


def mask_unknown(values: jax.Array, classes: jax.Array, output: jax.Array) -> jax.Array:
    """Casts values to float32, with NaN where the class is out of range or a score is NaN."""
    # argmax returns the index of a NaN, which would count as a decision.
    known = (classes >= 0) & (classes < output.shape[-1]) & ~jnp.isnan(output).any(axis=-1)
    return jnp.where(known, values.astype(jnp.float32), jnp.nan)


def as_float(target: jax.Array) -> jax.Array:
    return (
        widen(target) if jnp.issubdtype(target.dtype, jnp.floating) else target.astype(jnp.float32)
    )


def read_classes(what: str, output: jax.Array, target: jax.Array) -> jax.Array:
    """Returns integer classes, from integers or from rows over the classes."""
    check_array(what, output)
    if output.shape[-1] == 1:
        raise ValueError(
            f"{what}: the output has shape {output.shape}, one class; expected at least two. For a "
            "logit of labels 0 and 1 use loss='binary_cross_entropy' or metrics.binary_accuracy."
        )
    if target.shape == output.shape:
        return jnp.argmax(target, axis=-1)
    if target.shape == output.shape[:-1] and jnp.issubdtype(target.dtype, jnp.integer):
        return target
    raise ValueError(
        f"{what}: target is {target.dtype}{list(target.shape)} for an output of shape "
        f"{output.shape}; expected integer classes {output.shape[:-1]} or rows {output.shape}."
    )
