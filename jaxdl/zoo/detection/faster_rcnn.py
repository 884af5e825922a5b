"""Faster R-CNN on a feature pyramid. Ren et al. 2015, arXiv 1506.01497; Lin et al. 2017.

    images -> pyramid -> region proposal network -> proposals -> RoI align -> box head -> detections

Both stages are trained together on the sum of four losses: objectness and boxes of the proposal
network, classes and boxes of the head ("approximate joint training", section 3.2). All shapes are
fixed: proposals, sampled regions and detections are padded and have a mask.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.core import Module, compose
from jaxdl.zoo.detection.anchors import RATIOS, anchors
from jaxdl.zoo.detection.backbone import resnet_backbone
from jaxdl.zoo.detection.fpn import feature_pyramid_network
from jaxdl.zoo.detection.head import box_head, detect, multi_task_loss
from jaxdl.zoo.detection.roi import pyramid_roi_align
from jaxdl.zoo.detection.rpn import propose, rpn_head, rpn_losses
from jaxdl.zoo.detection.targets import match, sampler

__all__ = ["faster_rcnn", "faster_rcnn_resnet50_fpn", "total_loss"]


def faster_rcnn(
    pyramid: Module,
    *,
    num_classes: int,
    sizes: Sequence[Sequence[float]],
    ratios: Sequence[float] = RATIOS,
    roi_levels: int | None = None,
    features: int = 256,
    hidden: int = 1024,
    canonical_size: float = 224,
    proposals: int = 1000,
    proposals_per_level: int = 1000,
    sampled_anchors: int = 256,
    sampled_rois: int = 512,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    detections: int = 100,
) -> Module:
    """Builds a Faster R-CNN.

    Args:
      pyramid: a `Module` from images to a tuple of maps with `features` channels, finest first,
        such as those of `zoo.detection.fpn`.
      num_classes: K, including the background, class 0.
      sizes: for each map the sizes of its anchors, in pixels.
      ratios: aspect ratios h / w of the anchors.
      roi_levels: how many maps, the finest ones, the head uses; None for all.
      features: channels of the maps.
      hidden: units of the head's two layers.
      canonical_size: see `pyramid_roi_align`.
      proposals: proposals of an image.
      proposals_per_level: boxes of each map that enter the suppression.
      sampled_anchors: anchors of an image in the losses of the proposal network, half of them
        positive at most.
      sampled_rois: regions of an image in the losses of the head, a quarter positive at most.
      score_threshold, nms_threshold, detections: see `head.detect`.

    Returns:
      A `Module` with two signatures:

      - `images` (N, H, W, C) -> `Detections`.
      - `images, boxes (N, M, 4), labels (N, M)` -> a dict of losses (N,): "objectness",
        "proposal_box", "class" and "box". Labels are 1 .. K - 1; rows with label 0 are padding.

    Raises:
      ValueError: when it runs, `sizes` does not fit the maps, boxes and labels do not fit, or the
        images are no multiple of the strides of the maps that the head uses.
    """
    children = {
        "backbone": pyramid,
        "rpn": rpn_head(features, len(ratios) * len(sizes[0])),
        "anchor_sampler": sampler(sampled_anchors, 0.5),
        "roi_sampler": sampler(sampled_rois, 0.25),
        "head": box_head(num_classes, hidden=hidden),
    }

    nms = dict(score_threshold=score_threshold, nms_threshold=nms_threshold, count=detections)

    def run_head(call, maps, rois, image_shape):
        """Returns logits (N, R, K) and deltas (N, R, K, 4)."""
        scales = [x.shape[1] / image_shape[0] for x in maps[:roi_levels]]
        align = functools.partial(
            pyramid_roi_align, scales=scales, size=7, canonical_size=canonical_size
        )
        regions = jax.vmap(align)(maps[:roi_levels], rois)
        outputs = call("head", regions.reshape(-1, *regions.shape[2:]))
        return [part.reshape(*rois.shape[:2], *part.shape[1:]) for part in outputs]

    def forward(call, images, *truth):
        image_shape = images.shape[1:3]
        maps = call("backbone", images)
        _check_strides(image_shape, [x.shape[1:3] for x in maps[:roi_levels]])
        levels = anchors([x.shape[1:3] for x in maps], image_shape, sizes, ratios)
        logits, deltas = call("rpn", *maps)
        options = dict(anchors=levels, image_shape=image_shape)
        options |= dict(before=proposals_per_level, after=proposals)
        rois, valid = jax.vmap(functools.partial(propose, **options))(logits, deltas)
        if not truth:
            outputs = run_head(call, maps, rois, image_shape)
            decide = functools.partial(detect, image_shape=image_shape, **nms)
            return jax.vmap(decide)(*outputs, rois, valid)

        boxes, labels = _check_truth(images, *truth)
        reference = jnp.asarray(np.concatenate(levels), images.dtype)
        find = functools.partial(match, low=0.3, high=0.7, best=True)
        matches = jax.vmap(find, (None, 0, 0))(reference, boxes, labels)
        sampled = call("anchor_sampler", matches.positive, matches.negative)
        in_axes = (0, 0, None, 0, 0, 0, 0)
        objectness, proposal_box = jax.vmap(rpn_losses, in_axes)(
            logits, deltas, reference, matches, boxes, *sampled
        )

        # True boxes are proposals, too, so that the head has positive examples from the beginning.
        rois = jnp.concatenate([rois, boxes], axis=1)
        valid = jnp.concatenate([valid, labels > 0], axis=1)
        matches = jax.vmap(functools.partial(match, low=0.5, high=0.5))(rois, boxes, labels)
        indices, valid = call("roi_sampler", matches.positive & valid, matches.negative & valid)
        take = jax.vmap(lambda rows, indices: rows[indices])
        rois, index = take(rois, indices), take(matches.index, indices)
        classes = jnp.where(take(matches.positive, indices), take(labels, index), 0)
        logits, deltas = run_head(call, maps, rois, image_shape)
        class_loss, box_loss = jax.vmap(multi_task_loss)(
            logits, deltas, rois, classes, take(boxes, index), valid
        )
        losses = (objectness, proposal_box, class_loss, box_loss)
        return dict(zip(("objectness", "proposal_box", "class", "box"), losses, strict=True))

    samplers = ("anchor_sampler", "roi_sampler")
    return compose("faster_rcnn", children, forward, optional=samplers, num_classes=num_classes)


def total_loss(output: dict[str, jax.Array], target: object) -> jax.Array:
    """Returns the sum (N,) of the losses of `faster_rcnn`, as the `loss` of `train.fit`.

    Args:
      output: the losses.
      target: not used, because the boxes and labels are inputs of the model.
    """
    del target
    return sum(output.values(), start=jnp.zeros(()))


def _check_strides(image_shape, map_shapes):
    """Raises unless every map has one stride, on which the places of regions depend."""
    for shape in map_shapes:
        strides = {pixels / cells for pixels, cells in zip(image_shape, shape, strict=True)}
        if len(strides) > 1 or min(strides) % 1:
            raise ValueError(
                f"faster_rcnn: images are {image_shape} and a map is {shape}; expected a map of "
                "one stride. Pad the images to a multiple of it, such as 32 for a ResNet."
            )


def _check_truth(images, *truth):
    shapes = [part.shape for part in truth]
    n = len(images)
    fits = len(truth) == 2 and truth[0].ndim == 3 and shapes[0] == (n, *shapes[1][1:], 4)
    if not fits or not jnp.issubdtype(truth[1].dtype, jnp.integer):
        raise ValueError(
            f"faster_rcnn: after {n} images got arrays {shapes}; expected boxes ({n}, M, 4) and "
            f"integer labels ({n}, M), 0 for padding, or neither of them to detect objects."
        )
    return truth


def faster_rcnn_resnet50_fpn(
    *,
    num_classes: int = 91,
    proposals: int = 1000,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    detections: int = 100,
) -> Module:
    """Builds `faster_rcnn` on a ResNet-50 with FPN: 41,808,406 parameters.

    As in torchvision with trainable batch normalization. Images are expected as it passes them to
    the backbone: resized, normalized by ImageNet's mean and standard deviation, and padded to
    multiples of 32.

    Args:
      num_classes: K, including the background; 91 for COCO.
      proposals, score_threshold, nms_threshold, detections: see `faster_rcnn`.

    Returns:
      A `Module`, see `faster_rcnn`.
    """
    return faster_rcnn(
        feature_pyramid_network(resnet_backbone(), 4, extra_level=True),
        num_classes=num_classes,
        sizes=[(32,), (64,), (128,), (256,), (512,)],
        roi_levels=4,
        proposals=proposals,
        score_threshold=score_threshold,
        nms_threshold=nms_threshold,
        detections=detections,
    )
