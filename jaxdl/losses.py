"""Losses per example, in logits, and their one reduction; the rest are in `optax.losses`.

A loss maps (output, target) to a value for each example, (N, ...): the reduction over the batch is
the caller's, `reduce(cross_entropy(logits, labels))`. Lecture rows C02-C08.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from jaxdl._precision import widen
from jaxdl.core import suggest

__all__ = [
    "LOSSES",
    "cross_entropy",
    "ctc",
    "half_squared_error",
    "hinge",
    "loss",
    "reduce",
    "squared_error",
]

Loss = Callable[[jax.Array, jax.Array], jax.Array]
"""`(output, target) -> (N, ...)`, a value for each example."""


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """l = -sum_k p_k log softmax(s)_k; for a class y, l = -log(e^{s_y} / sum_k e^{s_k}).

    Natural logarithm; finite for any finite logits, since softmax is never formed. Lecture rows
    C02, C06 (one deck prints -sum_k y_k ln y_k: the hat over the second y is lost).

    Args:
      logits: (..., C) scores s, before any softmax.
      labels: (...) integer classes y in 0 .. C - 1, or (..., C) probabilities p, such as one-hot
        rows. The rank decides which.

    Returns:
      (...) losses >= 0, in float32, or in the logits' dtype if that is wider. A class out of range
      gives NaN, as compiled code cannot raise.

    Raises:
      ValueError: `logits` are no floating-point scores, or `labels` fit them in neither way.
    """
    logits = _scores("cross_entropy", logits)
    if _are_classes("cross_entropy", logits, labels):
        classes = jnp.where(labels < 0, logits.shape[-1], labels)  # -1 would be the last class
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, classes)
    return optax.losses.softmax_cross_entropy(logits, labels.astype(logits.dtype))


def hinge(scores: jax.Array, labels: jax.Array, *, margin: float = 1.0) -> jax.Array:
    """l = sum_{j != y} max(0, s_j - s_y + margin), the multiclass hinge of the SVM.

    Weston and Watkins 1999; lecture row C03. `optax.losses.multiclass_hinge_loss` is Crammer and
    Singer's: the largest of these terms in place of their sum.

    Args:
      scores: (..., C) scores s.
      labels: (...) integer classes y in 0 .. C - 1, or (..., C) one-hot rows.
      margin: how far s_y must lead to cost nothing.

    Returns:
      (...) losses >= 0, in float32 at least. A class out of range gives NaN.

    Raises:
      ValueError: as for `cross_entropy`.
    """
    scores = _scores("hinge", scores)
    if not _are_classes("hinge", scores, labels):
        labels = jnp.argmax(labels, axis=-1)
    true = jnp.arange(scores.shape[-1]) == labels[..., None]
    score = jnp.sum(jnp.where(true, scores, 0), axis=-1, keepdims=True)
    losses = jnp.sum(jnp.where(true, 0, jax.nn.relu(scores - score + margin)), axis=-1)
    return jnp.where(jnp.any(true, axis=-1), losses, jnp.nan)


def ctc(
    logits: jax.Array,
    labels: jax.Array,
    lengths: jax.Array,
    label_lengths: jax.Array,
    *,
    blank: int = 0,
) -> jax.Array:
    """l = -log of the probability of all paths that collapse to the labels.

    Graves et al. 2006 (doi:10.1145/1143844.1143891), eq. 3, by `optax.losses.ctc_loss`, which takes
    masks where this takes lengths. Lecture row K05; `decode.ctc_beam` turns logits into labels.

    Args:
      logits: (N, T, K) finite scores of the symbols, the blank among them; T at least 1.
      labels: (N, L) integers, none of them the blank before label_lengths.
      lengths: (N,) frames of each row before its padding.
      label_lengths: (N,) labels of each row before its padding.
      blank: the blank's number.

    Returns:
      (N,) losses >= 0, in float32 at least. Labels that need more frames than there are, one for
      each and one between equal neighbours, have probability 0 and a loss of about 1e5, not inf, so
      that gradients stay finite. A label or a length out of range gives NaN, a blank among the
      labels too. What stands in the padding does not matter.

    Raises:
      ValueError: the shapes do not fit, the labels are no integers, or `blank` is not in
        0 .. K - 1.
    """
    logits = _scores("ctc", logits)
    shapes = {labels.shape[:1], lengths.shape, label_lengths.shape}
    if logits.ndim != 3 or labels.ndim != 2 or shapes != {logits.shape[:1]} or not logits.shape[1]:
        raise ValueError(
            f"ctc: logits {logits.shape}, labels {labels.shape}, lengths {lengths.shape}, label "
            f"lengths {label_lengths.shape}; expected (N, T, K), (N, L), (N,) and (N,), T above 0."
        )
    steps, symbols = logits.shape[1:]
    if not jnp.issubdtype(labels.dtype, jnp.integer) or not 0 <= blank < symbols:
        raise ValueError(
            f"ctc: labels are {labels.dtype} and the blank is {blank}; expected integers and a "
            f"blank in 0 .. {symbols - 1}."
        )
    frames = jnp.arange(steps) < lengths[:, None]
    spelt = jnp.arange(labels.shape[1]) < label_lengths[:, None]
    values = optax.losses.ctc_loss(
        jnp.where(frames[..., None], logits, 0),
        (~frames).astype(logits.dtype),
        labels,
        (~spelt).astype(logits.dtype),
        blank_id=blank,
    )
    symbol = (labels >= 0) & (labels < symbols) & (labels != blank)
    valid = jnp.all(symbol | ~spelt, axis=1) & (lengths >= 0) & (lengths <= steps)
    valid &= (label_lengths >= 0) & (label_lengths <= labels.shape[1])
    return jnp.where(valid, values, jnp.nan)


def squared_error(output: jax.Array, target: jax.Array) -> jax.Array:
    """l = (1/F) sum_f (o_f - y_f)^2, the mean over the last axis ("mse"). Lecture row C05.

    Args:
      output: (N, ..., F) predictions o, or (N,), one number for each example.
      target: the same shape: targets y, such as one-hot rows for classes.

    Returns:
      (N, ...) losses >= 0, in float32 at least.

    Raises:
      ValueError: the shapes differ, or `output` is not floating-point.
    """
    squares = _difference("squared_error", output, target) ** 2
    return squares if output.ndim == 1 else jnp.mean(squares, axis=-1)


def half_squared_error(output: jax.Array, target: jax.Array) -> jax.Array:
    """l = 1/2 sum_f (o_f - y_f)^2, whose gradient is o - y. Lecture rows C05, S04.

    It is F/2 times `squared_error`, so that the same step needs 2/F of the learning rate.

    Args:
      output, target: as for `squared_error`.

    Returns:
      (N, ...) losses >= 0, in float32 at least.

    Raises:
      ValueError: as for `squared_error`.
    """
    squares = _difference("half_squared_error", output, target) ** 2
    return squares / 2 if output.ndim == 1 else jnp.sum(squares, axis=-1) / 2


def reduce(
    values: jax.Array, where: jax.Array | None = None, how: Literal["mean", "sum"] = "mean"
) -> jax.Array:
    """L = sum_n m_n l_n, or that over sum_n m_n. Lecture rows C04, C06, C07.

    What belongs to the parameters, a regulariser R(W), is added once to the reduced loss and not
    to each example's.

    Args:
      values: (N, ...) losses or metrics per example.
      where: m, a mask of bools over the leading axes of `values`: (N,) leaves whole examples out,
        (N, T) steps of sequences. A value left out may be NaN.
      how: "mean" over what is left in, the deck's 1/N sum; or "sum".

    Returns:
      A scalar. The mean of nothing is NaN, as `jnp.mean`'s.

    Raises:
      ValueError: `how` is another word; `where` is no bool array over leading axes.
    """
    if how not in ("mean", "sum"):
        raise ValueError(f"reduce: how is {how!r}; expected 'mean' or 'sum'.")
    if where is not None:
        if where.dtype != bool or where.shape != values.shape[: where.ndim]:
            raise ValueError(
                f"reduce: where is {where.dtype}{list(where.shape)} for values of shape "
                f"{values.shape}; expected bools over their leading axes."
            )
        where = where.reshape(where.shape + (1,) * (values.ndim - where.ndim))
    return (jnp.mean if how == "mean" else jnp.sum)(values, where=where)


LOSSES: dict[str, Loss] = {
    "categorical_crossentropy": cross_entropy,
    "cross_entropy": cross_entropy,
    "half_squared_error": half_squared_error,
    "hinge": hinge,
    "mean_squared_error": squared_error,
    "mse": squared_error,
    "sparse_categorical_crossentropy": cross_entropy,
    "squared_error": squared_error,
}
"""Losses by name, Keras's names among them. Cross-entropies take logits: no softmax at the end."""


def loss(spec: str | Loss) -> Loss:
    """A loss by its name in `LOSSES`, or a function `(output, target) -> (N, ...)` as it is.

    Lecture row V02.

    Raises:
      ValueError: the name is unknown, or `spec` is neither a name nor a function.
    """
    if callable(spec):
        return spec
    if not isinstance(spec, str) or spec not in LOSSES:
        raise ValueError(f"no loss {spec!r}; {suggest(str(spec), LOSSES, 'losses')}")
    return LOSSES[spec]


def _scores(what: str, scores: jax.Array) -> jax.Array:
    if not jnp.issubdtype(scores.dtype, jnp.floating) or scores.ndim == 0:
        raise ValueError(
            f"{what}: the output is {scores.dtype}{list(scores.shape)}; expected floating-point "
            "scores (..., C), one for each class."
        )
    return widen(scores)


def _are_classes(what: str, scores: jax.Array, labels: jax.Array) -> bool:
    """Whether `labels` are classes, one axis less than `scores`, and not rows over the classes."""
    if labels.shape == scores.shape:
        return False
    if labels.shape == scores.shape[:-1] and jnp.issubdtype(labels.dtype, jnp.integer):
        return True
    raise ValueError(
        f"{what}: labels are {labels.dtype}{list(labels.shape)} for scores of shape "
        f"{scores.shape}; expected integer classes {scores.shape[:-1]} or rows {scores.shape}."
    )


def _difference(what: str, output: jax.Array, target: jax.Array) -> jax.Array:
    floating = jnp.issubdtype(output.dtype, jnp.floating)
    if not floating or output.shape != target.shape or output.ndim == 0:
        raise ValueError(
            f"{what}: output is {output.dtype}{list(output.shape)} and target {target.dtype}"
            f"{list(target.shape)}; expected a floating-point output and a target of its shape, "
            "batch first: make rows of class labels by jax.nn.one_hot, or drop an axis of 1."
        )
    output = widen(output)
    return output - target.astype(output.dtype)
