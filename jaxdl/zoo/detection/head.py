"""Head of Fast R-CNN, with its loss and its decisions. Girshick 2015, arXiv 1504.08083.

A region's features pass two dense layers and give class scores s and, for each class, box deltas t.
With true class u (0 is the background) and true deltas v, the multi-task loss of a region is

    L = cross_entropy(s, u) + [u >= 1] smooth_l1(t^u - v)
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdl import losses
from jaxdl.core import Module, compose
from jaxdl.nn import dense, flatten
from jaxdl.zoo.detection.boxes import batched_nms, clip, decode, encode
from jaxdl.zoo.detection.targets import smooth_l1

__all__ = ["Detections", "box_head", "detect", "multi_task_loss"]

WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Factors of the deltas, which bring their standard deviations to about 1."""


class Detections(NamedTuple):
    """Detected objects by descending score, padded to a fixed number D.

    Attributes:
      boxes: (N, D, 4) in pixels; 0 where not valid.
      scores: (N, D) probabilities; 0 where not valid.
      labels: (N, D) int32 classes from 1 on; 0 where not valid.
      valid: (N, D) bools.
    """

    boxes: jax.Array
    scores: jax.Array
    labels: jax.Array
    valid: jax.Array


def box_head(num_classes: int, *, hidden: int = 1024) -> Module:
    """Builds two dense layers and the outputs for the class and the box.

    Args:
      num_classes: K, including the background, class 0.
      hidden: units of both layers.

    Returns:
      A `Module` from features (R, P, P, C) to `(logits (R, K), deltas (R, K, 4))`.
    """
    children = {
        "flatten": flatten(),
        "fc6": dense(hidden, kernel_init="he_normal"),
        "fc7": dense(hidden, kernel_init="he_normal"),
        # Standard deviations 0.01 and 0.001 as in section 2.3.
        "logits": dense(num_classes, kernel_init=jax.nn.initializers.normal(0.01)),
        "deltas": dense(4 * num_classes, kernel_init=jax.nn.initializers.normal(0.001)),
    }

    def forward(call, features):
        x = jax.nn.relu(call("fc6", call("flatten", features)))
        x = jax.nn.relu(call("fc7", x))
        return call("logits", x), call("deltas", x).reshape(len(x), num_classes, 4)

    return compose("box_head", children, forward, num_classes=num_classes, hidden=hidden)


def multi_task_loss(
    logits: jax.Array,
    deltas: jax.Array,
    rois: jax.Array,
    labels: jax.Array,
    boxes: jax.Array,
    valid: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Computes both parts of the loss of the regions of one image, averaged over the valid ones.

    Args:
      logits: (R, K), deltas: (R, K, 4), rois: (R, 4).
      labels: (R,) true classes u, 0 for the background.
      boxes: (R, 4) the true box of each region.
      valid: (R,) which rows are regions; others are padding.

    Returns:
      Two scalars: the loss of the class and that of the box.
    """
    total = jnp.maximum(valid.sum(), 1).astype(logits.dtype)
    classes = jnp.where(valid, losses.cross_entropy(logits, labels), 0)
    own = jnp.take_along_axis(deltas, labels[:, None, None], axis=1)[:, 0]
    positive = valid & (labels > 0)
    # Regions and boxes of the padding have targets that are not finite.
    target = jnp.where(positive[:, None], encode(boxes, rois, WEIGHTS), 0)
    distance = jnp.where(positive, smooth_l1(own, target), 0)
    return classes.sum() / total, distance.sum() / total


def detect(
    logits: jax.Array,
    deltas: jax.Array,
    rois: jax.Array,
    valid: jax.Array,
    image_shape: tuple[int, int],
    *,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    count: int = 100,
    smallest: float = 1e-2,
) -> Detections:
    """Converts the outputs of one image's regions to detections.

    Args:
      logits: (R, K), deltas: (R, K, 4), rois: (R, 4), valid: (R,).
      image_shape: height and width.
      score_threshold: the probability that a detection must exceed.
      nms_threshold: the largest IoU of two detections of a class.
      count: D, the number of detections.
      smallest: the shortest side of a detection, in pixels.

    Returns:
      `Detections` without the axis N.
    """
    # Every class of a region is a candidate, not only the best one, as in torchvision.
    probabilities = jax.nn.softmax(logits)[:, 1:]
    boxes = clip(decode(deltas[:, 1:], rois[:, None], WEIGHTS), *image_shape)
    large = jnp.all(boxes[..., 2:] - boxes[..., :2] >= smallest, axis=-1)
    # Written so that a NaN is kept, and not dropped like a low probability.
    dropped = (probabilities <= score_threshold) | ~large | ~valid[:, None]
    scores = jnp.where(dropped, -jnp.inf, probabilities).reshape(-1)
    classes = jnp.broadcast_to(jnp.arange(1, logits.shape[1]), probabilities.shape).reshape(-1)
    boxes = boxes.reshape(-1, 4)
    indices, kept = batched_nms(boxes, scores, classes, threshold=nms_threshold, count=count)
    return Detections(
        jnp.where(kept[:, None], boxes[indices], 0),
        jnp.where(kept, scores[indices], 0),
        jnp.where(kept, classes[indices], 0),
        kept,
    )
