"""Losses per example, computed from logits, and their reduction over a batch.

A loss maps (output, target) to a value for each example, (N, ...); the caller reduces the values,
`reduce(cross_entropy(logits, labels))`. `optax.losses` has more losses of this form.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from jaxdl._precision import widen
from jaxdl.core import suggest

__all__ = [
    "LOSSES",
    "ModelLoss",
    "absolute_error",
    "binary_cross_entropy",
    "cross_entropy",
    "ctc",
    "dice",
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
    """Returns the cross-entropy -sum_k p_k log softmax(s)_k of scores s and targets p.

    For a class y it is -log(e^{s_y} / sum_k e^{s_k}), with the natural logarithm. It is finite for
    all finite logits, since softmax and logarithm are computed together.

    Args:
      logits: (..., C) scores s, before any softmax.
      labels: (...) integer classes y in 0 .. C - 1, or (..., C) probabilities p, such as one-hot
        rows, depending on the rank.

    Returns:
      (...) losses >= 0, in float32, or in the dtype of the logits if that is wider. A class out of
      range gives NaN, since compiled code cannot raise.

    Raises:
      ValueError: `logits` are not floating-point, or the shape of `labels` does not fit.
    """
    logits = _scores("cross_entropy", logits)
    if _are_classes("cross_entropy", logits, labels):
        # int32 joins any float under strict promotion; -1 would index the last class.
        labels = labels.astype(jnp.int32)
        classes = jnp.where(labels < 0, logits.shape[-1], labels)
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, classes)
    return optax.losses.softmax_cross_entropy(logits, labels.astype(logits.dtype))


def hinge(scores: jax.Array, labels: jax.Array, *, margin: float = 1.0) -> jax.Array:
    """Returns the multiclass hinge loss, sum_{j != y} max(0, s_j - s_y + margin).

    Weston and Watkins 1999. `optax.losses.multiclass_hinge_loss`, by Crammer and Singer, takes the
    largest of these terms instead of their sum.

    Args:
      scores: (..., C) scores s.
      labels: (...) integer classes y in 0 .. C - 1, or (..., C) one-hot rows.
      margin: the lead of s_y at which a term is 0.

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
    # A class out of range matches no score.
    return jnp.where(jnp.any(true, axis=-1), losses, jnp.nan)


def binary_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns -y log sigma(s) - (1 - y) log(1 - sigma(s)), for one or several binary labels.

    `optax.losses.sigmoid_binary_cross_entropy` with checked shapes, in at least float32.

    Args:
      logits: (N, ..., L) scores s of L independent labels, or (N,), one for each example.
      targets: y in [0, 1], integers, bools or probabilities, in the shape of the logits; the last
        axis may be missing where L is 1.

    Returns:
      Losses >= 0 in the shape of the logits, (N, ...).

    Raises:
      ValueError: `logits` are not floating-point, or the shapes differ.
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


def dice(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the soft Dice loss of images, 1 - mean_k 2 sum p_k y_k / (sum p_k^2 + sum y_k^2).

    Milletari et al. 2016 (arXiv 1606.04797), section 3, with the softmax p of the scores and sums
    over all pixels: a class counts as much as any other, no matter how few pixels it has. The mean
    is over the classes that occur in the labels of the image.

    Args:
      logits: (N, *space, K) scores of each pixel.
      labels: (N, *space) integer classes, or (N, *space, K) probabilities y.

    Returns:
      (N,) losses in [0, 1], in float32 at least. A class out of range gives NaN.

    Raises:
      ValueError: there is no spatial axis, or as for `cross_entropy`.
    """
    logits = _scores("dice", logits)
    if logits.ndim < 3:
        raise ValueError(
            f"dice: the output has shape {logits.shape}; expected (N, *space, K), scores of each "
            "pixel of an image. To classify whole examples use cross_entropy."
        )
    axes = tuple(range(1, logits.ndim - 1))
    valid = jnp.ones(len(logits), bool)
    if _are_classes("dice", logits, labels):
        valid = jnp.all((labels >= 0) & (labels < logits.shape[-1]), axis=axes)
        y = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    else:
        y = labels.astype(logits.dtype)
    p = jax.nn.softmax(logits)
    present = jnp.any(y > 0, axis=axes)
    squares = jnp.sum(p**2 + y**2, axis=axes)
    scores = 2 * jnp.sum(p * y, axis=axes) / jnp.where(present, squares, 1)
    return jnp.where(valid, 1 - jnp.mean(scores, axis=-1, where=present), jnp.nan)


def ctc(
    logits: jax.Array,
    labels: jax.Array,
    lengths: jax.Array,
    label_lengths: jax.Array,
    *,
    blank: int = 0,
) -> jax.Array:
    """Returns the CTC loss, -log of the probability of all paths that collapse to the labels.

    Graves et al. 2006 (doi:10.1145/1143844.1143891), eq. 3. `optax.losses.ctc_loss` with lengths
    instead of masks. `decode.ctc_beam` decodes logits.

    Args:
      logits: (N, T, K) finite scores of the symbols, including the blank; T at least 1.
      labels: (N, L) integers, which must not contain the blank within `label_lengths`.
      lengths: (N,) number of frames of each row, without padding.
      label_lengths: (N,) number of labels of each row, without padding.
      blank: the index of the blank.

    Returns:
      (N,) losses >= 0, in at least float32. Labels need one frame each, and one more between equal
      neighbours. Rows with too few frames have probability 0 and a loss of about 1e5 instead of
      inf, so that gradients stay finite. Labels or lengths out of range, and blanks among the
      labels, give NaN. The values of the padding are ignored.

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
    real = jnp.arange(labels.shape[1]) < label_lengths[:, None]
    values = optax.losses.ctc_loss(
        # A NaN in the padding would reach the gradient in spite of the mask.
        jnp.where(frames[..., None], logits, 0),
        (~frames).astype(logits.dtype),
        labels,
        (~real).astype(logits.dtype),
        blank_id=blank,
    )
    symbol = (labels >= 0) & (labels < symbols) & (labels != blank)
    valid = jnp.all(symbol | ~real, axis=1) & (lengths >= 0) & (lengths <= steps)
    valid &= (label_lengths >= 0) & (label_lengths <= labels.shape[1])
    return jnp.where(valid, values, jnp.nan)


def squared_error(output: jax.Array, target: jax.Array) -> jax.Array:
    """Returns (1/F) sum_f (o_f - y_f)^2, the mean over the last axis ("mse").

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
    """Returns (1/F) sum_f |o_f - y_f|, the mean over the last axis ("mae").

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
    """Returns the Huber loss, the mean over the last axis.

    e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2), for the error e = o - y. Huber 1964
    (doi:10.1214/aoms/1177703732); `optax.losses.huber_loss` with checked shapes.

    Args:
      output, target: as for `squared_error`.
      delta: the end of the quadratic part, > 0.

    Returns:
      (N, ...) losses >= 0, in float32 at least.

    Raises:
      ValueError: as for `squared_error`.
    """
    values = optax.losses.huber_loss(_difference("huber", output, target), delta=delta)
    return values if output.ndim == 1 else jnp.mean(values, axis=-1)


def half_squared_error(output: jax.Array, target: jax.Array) -> jax.Array:
    """Returns 1/2 sum_f (o_f - y_f)^2, whose gradient is o - y.

    It is F/2 times `squared_error`, so equal steps need 2/F of the learning rate.

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
    """Reduces values to their weighted mean, sum_n w_n l_n / sum_n w_n, or weighted sum.

    A regularizer of the parameters, R(W), is added once to the reduced loss, not to each example.

    Args:
      values: (N, ...) losses or metrics per example.
      weight: w >= 0, floats or bools over the leading axes of `values`: (N,) for examples, (N, T)
        for the steps of sequences; None is 1. Values of weight 0 may be NaN.
      how: "mean" or "sum".

    Returns:
      A scalar. The mean of no values is NaN, as in `jnp.mean`.

    Raises:
      ValueError: `how` is unknown, or `weight` does not fit the leading axes.
    """
    if how not in ("mean", "sum"):
        raise ValueError(f"reduce: how is {how!r}; expected 'mean' or 'sum'.")
    if weight is None:
        return (jnp.mean if how == "mean" else jnp.sum)(values)
    weight = match_weight("reduce: weight", weight, values)
    if weight.dtype == bool:
        return (jnp.mean if how == "mean" else jnp.sum)(values, where=weight)
    # 0 * NaN is NaN, so the values of padding are replaced before the product.
    total = jnp.sum(jnp.where(weight != 0, values * weight.astype(values.dtype), 0))
    return total if how == "sum" else total / jnp.sum(weight.astype(values.dtype))


def match_weight(what: str, weight: jax.Array, values: jax.Array) -> jax.Array:
    """Broadcasts weights over leading axes to the shape of the values.

    Raises:
      ValueError: they are not numbers or bools over leading axes of the values.
    """
    weight = jnp.asarray(weight)
    # (N, 1) weights belong to values (N,), and must not broadcast to (N, N).
    while weight.ndim > values.ndim and weight.shape[-1] == 1:
        weight = weight[..., 0]
    complex = jnp.issubdtype(weight.dtype, jnp.complexfloating)
    if complex or weight.shape != values.shape[: weight.ndim]:
        raise ValueError(
            f"{what} is {weight.dtype}{list(weight.shape)} for values of shape {values.shape}; "
            "expected numbers or bools over their leading axes, one for each example or step. To "
            "weight single outputs use a loss per output, such as optax.losses.squared_error."
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
    "dice": dice,
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
"""Losses by name, including the names of Keras. Cross-entropies take logits, not probabilities."""

TASKS: dict[str, tuple[Loss, ...]] = {
    "multiclass": (
        cross_entropy,
        dice,
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
"""The losses of each task; "binary" includes multi-label targets."""


def task(loss: Loss | None) -> str | None:
    """Returns the task of a loss, or None for a function that is not in `TASKS`."""
    # functools.partial(huber, delta=2.0) has the task of huber.
    while isinstance(loss, functools.partial | ModelLoss):
        loss = loss.func if isinstance(loss, functools.partial) else loss.output_loss
    return next((name for name, known in TASKS.items() if any(loss is f for f in known)), None)


def loss(spec: str | Loss) -> Loss:
    """Returns a loss by its name in `LOSSES`; functions are returned unchanged.

    Args:
      spec: a name, or a function `(output, target) -> (N, ...)`.

    Raises:
      ValueError: the name is unknown, or `spec` is neither a name nor a function.
    """
    if callable(spec):
        return spec
    if not isinstance(spec, str) or spec not in LOSSES:
        raise ValueError(f"no loss {spec!r}; {suggest(str(spec), LOSSES, 'losses')}")
    return LOSSES[spec]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelLoss:
    """A loss that runs the model itself during training, to change its inputs or differentiate it.

    Subclasses define `compute`, which `train.fit` differentiates by the parameters. Called as a
    function of an output, it is `loss`: this is what evaluation and the checks of the data use.
    Instances with equal attributes are equal, so that `fit` compiles once for them.

    Attributes:
      loss: `(output, target) -> (N, ...)`, or a name in `LOSSES`.

    Raises:
      ValueError: `loss` is unknown.
    """

    loss: str | Loss = "cross_entropy"

    def __post_init__(self) -> None:
        loss(self.loss)

    @property
    def output_loss(self) -> Loss:
        """The loss of an output, as a function."""
        return loss(self.loss)

    def __call__(self, output: Any, target: Any) -> jax.Array:
        """Returns the losses (N, ...) of an output, without running the model."""
        return self.output_loss(output, target)

    def compute(
        self, apply: Callable[..., Any], params: Any, state: Any, x: Any, y: Any, key: jax.Array
    ) -> tuple[Any, jax.Array, Any]:
        """Returns `(output, losses, state)` of a batch.

        Args:
          apply: `(params, state, x, *, train=False, key=None) -> (output, state)`, the model in the
            precision of the step. It may be called several times.
          params: the parameters. No gradient flows through `jax.lax.stop_gradient(params)`.
          state: the model's state before the step.
          x: the input (N, ...), or a tuple of several.
          y: the target.
          key: a PRNG key.

        Returns:
          `(output, losses, state)`: the output of which metrics are computed, losses (N, ...), and
          the state after the step, which the caller keeps. An attack on the model must not change
          the state that it returns.
        """
        raise NotImplementedError


def check_array(what: str, output: jax.Array) -> None:
    """Raises if the output of a model is a tree of arrays and not one array."""
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
    """Returns whether `labels` are integer classes and not rows over the classes."""
    if scores.shape[-1] == 1:
        raise ValueError(
            f"{what}: scores of shape {scores.shape} are one class, whose loss is always 0; "
            "expected at least two. For labels 0 and 1 of one output use "
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
            "batch first. Convert class labels by jax.nn.one_hot, or drop an axis of size 1."
        )
    # In float16 the square of an error of 256 would overflow.
    output = widen(output)
    return output - target.astype(output.dtype)
