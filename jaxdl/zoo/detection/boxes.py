"""Boxes: areas, intersection over union, regression targets and non-maximum suppression.

A box is (x0, y0, x1, y1) in pixels, with x to the right, y down and x0 <= x1. Coordinates are
those of the edges, so that an image of width W extends from x = 0 to x = W.

    IoU(a, b) = |a and b| / |a or b|
    t = (w_x (x - x_r) / w_r, w_y (y - y_r) / h_r, w_w log(w / w_r), w_h log(h / h_r))

t is the target of a box with centre (x, y), width w and height h relative to a reference box r,
which is an anchor or a proposal (Girshick et al. 2014, arXiv 1311.2524, appendix C). The factors
w_x, ... are 10, 10, 5, 5 in the head of Faster R-CNN and 1 in its proposal network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdl._check import require_ints, require_number

__all__ = ["areas", "batched_nms", "clip", "decode", "encode", "iou", "nms"]

MAX_LOG_SCALE = math.log(1000 / 16)
"""The largest log(w / w_r) that `decode` accepts, against overflow early in training."""


def areas(boxes: jax.Array) -> jax.Array:
    """Returns the areas of boxes.

    Args:
      boxes: (..., 4).

    Returns:
      (...) areas; 0 for an inverted box.
    """
    _check_boxes("areas", boxes)
    return jnp.prod(jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0), axis=-1)


def iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Computes the intersection over union of all pairs of boxes.

    Args:
      a: (..., M, 4) boxes.
      b: (..., K, 4) boxes.

    Returns:
      (..., M, K) values in [0, 1]; 0 for two boxes without area.

    Raises:
      ValueError: an array is not floating-point of shape (..., 4).
    """
    _check_boxes("iou", a)
    _check_boxes("iou", b)
    a, b = a[..., :, None, :], b[..., None, :, :]
    low, high = jnp.maximum(a[..., :2], b[..., :2]), jnp.minimum(a[..., 2:], b[..., 2:])
    common = jnp.prod(jnp.maximum(high - low, 0), axis=-1)
    union = areas(a) + areas(b) - common
    # 0 / 0 would be NaN, also in the gradient.
    return common / jnp.where(union > 0, union, 1)


def clip(boxes: jax.Array, height: int, width: int) -> jax.Array:
    """Moves the edges of boxes that are outside of an image to its border.

    Args:
      boxes: (..., 4).
      height, width: of the image.

    Returns:
      (..., 4).
    """
    _check_boxes("clip", boxes)
    return jnp.clip(boxes, 0, np.array([width, height, width, height], boxes.dtype))


def encode(
    boxes: jax.Array, reference: jax.Array, weights: Sequence[float] = (1, 1, 1, 1)
) -> jax.Array:
    """Computes the regression targets t of boxes; see the module's equation.

    Args:
      boxes: (..., 4) boxes.
      reference: (..., 4) anchors or proposals.
      weights: the four factors.

    Returns:
      (..., 4). A box or reference without area has targets that are not finite.

    Raises:
      ValueError: an array is not floating-point of shape (..., 4).
    """
    _check_boxes("encode", boxes)
    _check_boxes("encode", reference)
    centre, size = _centres(boxes)
    reference_centre, reference_size = _centres(reference)
    shift = (centre - reference_centre) / reference_size
    parts = jnp.concatenate([shift, jnp.log(size / reference_size)], axis=-1)
    return parts * np.array(weights, parts.dtype)


def decode(
    deltas: jax.Array, reference: jax.Array, weights: Sequence[float] = (1, 1, 1, 1)
) -> jax.Array:
    """Computes boxes from regression outputs: the inverse of `encode`.

    Args:
      deltas: (..., 4) outputs t. Scales are limited to w / w_r <= 1000 / 16.
      reference: (..., 4) anchors or proposals.
      weights: the four factors of `encode`.

    Returns:
      (..., 4) boxes, which may extend beyond the image.

    Raises:
      ValueError: an array is not floating-point of shape (..., 4).
    """
    _check_boxes("decode", deltas)
    _check_boxes("decode", reference)
    reference_centre, reference_size = _centres(reference)
    deltas = deltas / np.array(weights, deltas.dtype)
    centre = deltas[..., :2] * reference_size + reference_centre
    size = jnp.exp(jnp.minimum(deltas[..., 2:], MAX_LOG_SCALE)) * reference_size
    return jnp.concatenate([centre - size / 2, centre + size / 2], axis=-1)


def nms(
    boxes: jax.Array, scores: jax.Array, *, threshold: float, count: int
) -> tuple[jax.Array, jax.Array]:
    """Selects boxes by greedy non-maximum suppression: `batched_nms` of one class."""
    classes = jnp.zeros(scores.shape, jnp.int32)
    return batched_nms(boxes, scores, classes, threshold=threshold, count=count)


def batched_nms(
    boxes: jax.Array, scores: jax.Array, classes: jax.Array, *, threshold: float, count: int
) -> tuple[jax.Array, jax.Array]:
    """Selects boxes by greedy non-maximum suppression within each class.

    The box with the highest score is selected and removes all boxes of its class whose IoU with it
    exceeds the threshold, until no box is left or `count` are selected. Shapes are fixed, so that
    the function can be compiled and vmapped.

    Args:
      boxes: (M, 4) boxes.
      scores: (M,) scores; a box with score -inf is never selected.
      classes: (M,) integers.
      threshold: the largest IoU of two selected boxes of a class, in [0, 1].
      count: the number of outputs.

    Returns:
      `(indices (count,), valid (count,))`, by descending score. Where fewer boxes remain, `valid`
      is False and the index 0.

    Raises:
      ValueError: shapes do not fit, `count` is below 1 or the threshold is not in [0, 1].
    """
    _check_boxes("nms", boxes)
    (count,) = require_ints("nms", 1, count=count)
    threshold = require_number(
        "nms", "a number in [0, 1]", lambda t: 0 <= t <= 1, threshold=threshold
    )
    if boxes.ndim != 2 or not boxes.shape[:1] == scores.shape == classes.shape or not len(boxes):
        raise ValueError(
            f"nms: boxes {boxes.shape}, scores {scores.shape}, classes {classes.shape}; expected "
            "(M, 4), (M,) and (M,) with M above 0. Use jax.vmap for several images."
        )

    boxes, scores, classes = map(jnp.asarray, (boxes, scores, classes))

    # One pass over all boxes for each output: M x M overlaps would not fit into memory.
    def select(remaining, _):
        best = jnp.argmax(remaining)
        valid = remaining[best] != -jnp.inf  # a NaN stays visible in the result
        overlap = iou(boxes[best][None], boxes)[0]
        removed = (overlap > threshold) & (classes == classes[best])
        # At threshold 1 or without area, the IoU with itself does not remove a box.
        removed = removed.at[best].set(True)
        return jnp.where(removed, -jnp.inf, remaining), (jnp.where(valid, best, 0), valid)

    return lax.scan(select, scores, length=count)[1]


def _centres(boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the centres and the sizes of boxes, (..., 2) each, as (x, y) and (w, h)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]


def _check_boxes(what: str, boxes: jax.Array) -> None:
    if boxes.shape[-1:] != (4,) or not jnp.issubdtype(boxes.dtype, jnp.floating):
        raise ValueError(
            f"{what}: boxes are {boxes.dtype}{list(boxes.shape)}; expected floats (..., 4): "
            "x0, y0, x1, y1 in pixels."
        )
