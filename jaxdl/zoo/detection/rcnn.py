"""R-CNN and Fast R-CNN, with proposals from outside. Girshick et al. 2014; Girshick 2015.

    R-CNN       y_r = head(cnn(warp(image, box_r)))            one run of the CNN for each box
    Fast R-CNN  y_r = head(pool(cnn(image), box_r))            one run for the image

arXiv 1311.2524 and 1504.08083. Both classify each box and regress its position. Here both use the
same head and loss; R-CNN was trained in stages, with support vector machines as classifiers.
`zoo.detection.proposals` makes boxes from an image.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from jaxdl import tap
from jaxdl._check import require_ints
from jaxdl.core import Module, Tree, compose
from jaxdl.zoo.detection.head import box_head, multi_task_loss
from jaxdl.zoo.detection.roi import roi_align, roi_pool
from jaxdl.zoo.detection.targets import match

__all__ = ["count_cnn_runs", "fast_rcnn", "rcnn", "region_loss", "warp"]


def warp(image: jax.Array, boxes: jax.Array, size: int) -> jax.Array:
    """Resizes boxes of an image to squares, whatever their aspect ratio. R-CNN, section 2.1.

    Args:
      image: (H, W, C).
      boxes: (R, 4).
      size: height and width of the results.

    Returns:
      (R, size, size, C), bilinear.
    """
    return roi_align(image, boxes, size=size, sampling_ratio=1)


def rcnn(cnn: Module, *, num_classes: int, size: int = 224, hidden: int = 1024) -> Module:
    """Builds R-CNN: the CNN runs on each proposal.

    Args:
      cnn: a `Module` from images (N, size, size, C) to maps (N, P, Q, F).
      num_classes: K, including the background, class 0.
      size: height and width of the warped proposals.
      hidden: units of the head's two layers.

    Returns:
      A `Module` from images (N, H, W, C) and proposals (N, R, 4) to `(logits (N, R, K), deltas
      (N, R, K, 4))`.

    Raises:
      ValueError: `size` is below 1; when it runs, images and proposals do not fit.
    """
    (size,) = require_ints("rcnn", 1, size=size)

    def forward(call, images, proposals):
        _check("rcnn", images, proposals)
        crops = jax.vmap(functools.partial(warp, size=size))(images, proposals)
        return _per_image(call("head", call("cnn", _flat(crops))), proposals)

    children = {"cnn": cnn, "head": box_head(num_classes, hidden=hidden)}
    return compose("rcnn", children, forward, num_classes=num_classes, size=size)


def fast_rcnn(
    cnn: Module, *, num_classes: int, stride: int, size: int = 7, hidden: int = 1024
) -> Module:
    """Builds Fast R-CNN: the CNN runs once on the image, and proposals share its map.

    Args:
      cnn: a `Module` from images (N, H, W, C) to maps (N, H / stride, W / stride, F).
      num_classes: K, including the background, class 0.
      stride: of the map.
      size: P, the bins of `roi_pool` along each axis.
      hidden: units of the head's two layers.

    Returns:
      A `Module` as of `rcnn`.

    Raises:
      ValueError: `size` or `stride` is below 1; when it runs, images and proposals do not fit.
    """
    size, stride = require_ints("fast_rcnn", 1, size=size, stride=stride)

    def forward(call, images, proposals):
        _check("fast_rcnn", images, proposals)
        pool = functools.partial(roi_pool, size=size, scale=1 / stride)
        regions = jax.vmap(pool)(call("cnn", images), proposals)
        return _per_image(call("head", _flat(regions)), proposals)

    children = {"cnn": cnn, "head": box_head(num_classes, hidden=hidden)}
    return compose("fast_rcnn", children, forward, num_classes=num_classes, stride=stride)


def region_loss(
    output: tuple[jax.Array, jax.Array], target: tuple[jax.Array, jax.Array, jax.Array]
) -> jax.Array:
    """Computes the multi-task loss of each image, as the `loss` of `train.fit`.

    A proposal belongs to the true box with the largest IoU if that is 0.5 or more, and else to the
    background.

    Args:
      output: logits and deltas of `rcnn` or `fast_rcnn`.
      target: the proposals (N, R, 4), the true boxes (N, M, 4) and their labels (N, M), 0 for
        padding. Proposals without area are padding.

    Returns:
      (N,) losses.
    """

    def one(logits, deltas, proposals, boxes, labels):
        # Fast R-CNN takes the background from IoU 0.1 to 0.5 (section 2.3); here 0 to 0.5.
        matches = match(proposals, boxes, labels, low=0.5, high=0.5)
        classes = jnp.where(matches.positive, labels[matches.index], 0)
        valid = jnp.all(proposals[:, 2:] > proposals[:, :2], axis=-1)
        return sum(
            multi_task_loss(logits, deltas, proposals, classes, boxes[matches.index], valid),
            start=jnp.zeros((), logits.dtype),
        )

    return jax.vmap(one)(*output, *target)


def count_cnn_runs(
    model: Module, params: Tree, state: Tree, images: jax.Array, proposals: jax.Array
) -> int:
    """Counts the images that pass through the CNN of `rcnn` or `fast_rcnn`, without running it.

    Args:
      model, params, state: the model.
      images, proposals: its inputs.
    """
    capture = functools.partial(tap.capture, model, paths={"cnn"})
    _, values = jax.eval_shape(capture, params, state, images, proposals)
    return values["cnn"].shape[0]


def _flat(x: jax.Array) -> jax.Array:
    return x.reshape(-1, *x.shape[2:])


def _per_image(outputs, proposals):
    return tuple(part.reshape(*proposals.shape[:2], *part.shape[1:]) for part in outputs)


def _check(what: str, images: jax.Array, proposals: jax.Array) -> None:
    if images.ndim != 4 or proposals.ndim != 3 or proposals.shape[::2] != (len(images), 4):
        raise ValueError(
            f"{what}: images {images.shape} and proposals {proposals.shape}; expected (N, H, W, C) "
            "and (N, R, 4)."
        )
