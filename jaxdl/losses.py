"""Losses per example, in logits, and their one reduction; others are in `optax.losses`.

A loss maps (output, target) to a value for each example, (N, ...): the reduction over the batch is
the caller's, `reduce(cross_entropy(logits, labels))`. Lecture rows C02-C08.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from jaxdl._precision import widen
from jaxdl.core import suggest

__all__ = [
    "LOSSES",
    "absolute_error",
    "binary_cross_entropy",
    "cross_entropy",
    "ctc",
    "half_squared_error",
    "hinge",
    "huber",
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
        # int32 joins any float under strict promotion; -1 would index the last class.
        labels = labels.astype(jnp.int32)
        classes = jnp.where(labels < 0, logits.shape[-1], labels)
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


def binary_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """l = -y log sigma(s) - (1 - y) log(1 - sigma(s)): binary and multi-label classification.

    `optax.losses.sigmoid_binary_cross_entropy` with checked shapes, in float32 at least.

    Args:
      logits: (N, ..., L) scores s of L independent labels, or (N,), one for each example.
      targets: y in [0, 1], integers, bools or probabilities, in the shape of the logits; the last
        axis may be missing where L is 1.

    Returns:
      Losses >= 0 in the shape of the logits, (N, ...).

    Raises:
      ValueError: `logits` are no floating-point scores, or the shapes differ.
    """
    logits = _scores("binary_cross_entropy", logits)
    targets = match_labels("binary_cross_entropy", logits, targets)
    return optax.losses.sigmoid_binary_cross_entropy(logits, targets.astype(logits.dtype))


def match_labels(what: str, scores: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns binary targets in the shape of the scores, with the last axis of 1 restored."""
    if scores.shape == (*targets.shape, 1):
        targets = targets[..., None]
    if targets.shape != scores.shape:
        raise ValueError(
            f"{what}: targets are {targets.dtype}{list(targets.shape)} for scores of shape "
            f"{scores.shape}; expected that shape, with 0 or 1 for each score."
        )
    return targets


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


def absolute_error(output: jax.Array, target: jax.Array) -> jax.Array:
    """l = (1/F) sum_f |o_f - y_f|, the mean over the last axis ("mae").

    Args:
      output, target: as for `squared_error`.

    Returns:
      (N, ...) losses >= 0, in float32 at least.

    Raises:
      ValueError: as for `squared_error`.
    """
    distances = jnp.abs(_difference("absolute_error", output, target))
    return distances if output.ndim == 1 else jnp.mean(distances, axis=-1)


def huber(output: jax.Array, target: jax.Array, *, delta: float = 1.0) -> jax.Array:
    """The mean over the last axis of e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2).

    Huber 1964 (doi:10.1214/aoms/1177703732); `optax.losses.huber_loss` with checked shapes.

    Args:
      output, target: as for `squared_error`; e = o - y.
      delta: where the quadratic part ends, > 0.

    Returns:
      (N, ...) losses >= 0, in float32 at least.

    Raises:
      ValueError: as for `squared_error`.
    """
    values = optax.losses.huber_loss(_difference("huber", output, target), delta=delta)
    return values if output.ndim == 1 else jnp.mean(values, axis=-1)


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
    values: jax.Array, weight: jax.Array | None = None, how: Literal["mean", "sum"] = "mean"
) -> jax.Array:
    """L = sum_n w_n l_n / sum_n w_n, or the sum alone. Lecture rows C04, C06, C07.

    What belongs to the parameters, a regularizer R(W), is added once to the reduced loss and not
    to each example's.

    Args:
      values: (N, ...) losses or metrics per example.
      weight: w >= 0, floats or bools over the leading axes of `values`: (N,) weighs examples,
        (N, T) the steps of sequences; None is 1. A value of weight 0 may be NaN.
      how: "mean" over the weights, the deck's 1/N sum; or "sum".

    Returns:
      A scalar. The mean of nothing is NaN, as `jnp.mean`'s.

    Raises:
      ValueError: `how` is another word; `weight` does not fit the leading axes.
    """
    if how not in ("mean", "sum"):
        raise ValueError(f"reduce: how is {how!r}; expected 'mean' or 'sum'.")
    if weight is None:
        return (jnp.mean if how == "mean" else jnp.sum)(values)
    weight = match_weight("reduce: weight", weight, values)
    if weight.dtype == bool:
        return (jnp.mean if how == "mean" else jnp.sum)(values, where=weight)
    total = jnp.sum(jnp.where(weight != 0, values * weight.astype(values.dtype), 0))
    return total if how == "sum" else total / jnp.sum(weight.astype(values.dtype))


def match_weight(what: str, weight: jax.Array, values: jax.Array) -> jax.Array:
    """Returns weights over leading axes in the shape of the values.

    Raises:
      ValueError: they are no numbers or bools over leading axes of the values.
    """
    weight = jnp.asarray(weight)
    while weight.ndim > values.ndim and weight.shape[-1] == 1:
        weight = weight[..., 0]
    complex = jnp.issubdtype(weight.dtype, jnp.complexfloating)
    if complex or weight.shape != values.shape[: weight.ndim]:
        raise ValueError(
            f"{what} is {weight.dtype}{list(weight.shape)} for values of shape {values.shape}; "
            "expected numbers or bools over their leading axes, one for each example or step. For "
            "weights of single outputs take a loss that keeps these, such as "
            "optax.losses.squared_error."
        )
    if weight.dtype != bool and not jnp.issubdtype(weight.dtype, jnp.floating):
        weight = weight.astype(jnp.float32)
    return jnp.broadcast_to(
        weight.reshape(weight.shape + (1,) * (values.ndim - weight.ndim)), values.shape
    )


LOSSES: dict[str, Loss] = {
    "bce": binary_cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "binary_crossentropy": binary_cross_entropy,
    "categorical_crossentropy": cross_entropy,
    "cross_entropy": cross_entropy,
    "half_squared_error": half_squared_error,
    "hinge": hinge,
    "huber": huber,
    "mae": absolute_error,
    "mean_absolute_error": absolute_error,
    "mean_squared_error": squared_error,
    "mse": squared_error,
    "sparse_categorical_crossentropy": cross_entropy,
    "squared_error": squared_error,
}
"""Losses by name, Keras's names among them. Cross-entropies take logits: no softmax at the end."""

TASKS: dict[str, tuple[Loss, ...]] = {
    "multiclass": (
        cross_entropy,
        hinge,
        optax.losses.multiclass_hinge_loss,
        optax.losses.poly_loss_cross_entropy,
        optax.losses.softmax_cross_entropy,
        optax.losses.softmax_cross_entropy_with_integer_labels,
    ),
    "binary": (
        binary_cross_entropy,
        optax.losses.sigmoid_binary_cross_entropy,
        optax.losses.sigmoid_focal_loss,
    ),
    "regression": (
        absolute_error,
        half_squared_error,
        huber,
        squared_error,
        optax.losses.cosine_distance,
        optax.losses.huber_loss,
        optax.losses.l2_loss,
        optax.losses.log_cosh,
        optax.losses.squared_error,
    ),
}
"""What the target of a loss is, by the loss; "binary" stands for multi-label targets, too."""


def task(loss: Loss | None) -> str | None:
    """The key of `TASKS` that a loss belongs to, or None for a function that is not listed."""
    while isinstance(loss, functools.partial):
        loss = loss.func
    return next((name for name, known in TASKS.items() if any(loss is f for f in known)), None)


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


def check_array(what: str, output: jax.Array) -> None:
    """Raises if a model's output is no array but a tree of them."""
    if not hasattr(output, "dtype"):
        raise ValueError(
            f"{what}: the output is a {type(output).__name__}; expected one array: for several "
            "outputs write the function, (outputs, targets) -> (N, ...)."
        )


def _scores(what: str, scores: jax.Array) -> jax.Array:
    check_array(what, scores)
    if not jnp.issubdtype(scores.dtype, jnp.floating) or scores.ndim == 0:
        raise ValueError(
            f"{what}: the output is {scores.dtype}{list(scores.shape)}; expected floating-point "
            "scores (..., C), one for each class."
        )
    return widen(scores)


def _are_classes(what: str, scores: jax.Array, labels: jax.Array) -> bool:
    """Whether `labels` are classes, one axis less than `scores`, and not rows over the classes."""
    if scores.shape[-1] == 1:
        raise ValueError(
            f"{what}: scores of shape {scores.shape} are one class, whose loss is always 0; "
            "expected at least two. For labels 0 and 1 of one output take "
            "loss='binary_cross_entropy', for -1 and 1 optax.losses.hinge_loss."
        )
    if labels.shape == scores.shape:
        return False
    if labels.shape == scores.shape[:-1] and jnp.issubdtype(labels.dtype, jnp.integer):
        return True
    raise ValueError(
        f"{what}: labels are {labels.dtype}{list(labels.shape)} for scores of shape "
        f"{scores.shape}; expected integer classes {scores.shape[:-1]} or rows {scores.shape}."
    )


def _difference(what: str, output: jax.Array, target: jax.Array) -> jax.Array:
    check_array(what, output)
    floating = jnp.issubdtype(output.dtype, jnp.floating)
    if not floating or output.shape != target.shape or output.ndim == 0:
        raise ValueError(
            f"{what}: output is {output.dtype}{list(output.shape)} and target {target.dtype}"
            f"{list(target.shape)}; expected a floating-point output and a target of its shape, "
            "batch first: make rows of class labels by jax.nn.one_hot, or drop an axis of 1."
        )
    output = widen(output)
    return output - target.astype(output.dtype)
