"""Region proposal network. Ren et al. 2015, arXiv 1506.01497, section 3.1.

At each position of each map a 3x3 convolution and two 1x1 convolutions compute, for each of A
anchors, the logit of being an object and the deltas t from the anchor to the object:

    h = relu(conv3x3(P_k)),   logits = conv1x1(h),   deltas = conv1x1(h)
    L = (1 / S) sum_i BCE(logit_i, p_i) + (1 / S) sum_i p_i smooth_l1(t_i - t*_i)

over S sampled anchors, p_i = 1 for an object. The maps of a pyramid share all parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxdl.core import Module, compose
from jaxdl.nn import conv
from jaxdl.zoo.detection.boxes import batched_nms, clip, decode, encode
from jaxdl.zoo.detection.targets import Matches, smooth_l1

__all__ = ["propose", "rpn_head", "rpn_losses"]


def rpn_head(features: int = 256, num_anchors: int = 3) -> Module:
    """Builds the head of a region proposal network.

    Args:
      features: channels of the maps and of the 3x3 convolution.
      num_anchors: A, the anchors of a position.

    Returns:
      A `Module` from maps (N, H_k, W_k, features), as separate inputs, to `(logits, deltas)` of all
      B anchors in the order of `anchors`: (N, B) and (N, B, 4).
    """
    # Standard deviation 0.01 as in section 3.1.3.
    small = jax.nn.initializers.normal(0.01)
    children = {
        "conv": conv(features, 3, kernel_init=small),
        "logits": conv(num_anchors, 1, kernel_init=small),
        "deltas": conv(4 * num_anchors, 1, kernel_init=small),
    }

    def forward(call, *maps):
        logits, deltas = [], []
        for x in maps:
            hidden = jax.nn.relu(call("conv", x))
            logits.append(call("logits", hidden).reshape(len(x), -1))
            deltas.append(call("deltas", hidden).reshape(len(x), -1, 4))
        return jnp.concatenate(logits, axis=1), jnp.concatenate(deltas, axis=1)

    return compose("rpn_head", children, forward, features=features, num_anchors=num_anchors)


def propose(
    logits: jax.Array,
    deltas: jax.Array,
    anchors: Sequence[np.ndarray],
    image_shape: tuple[int, int],
    *,
    before: int = 1000,
    after: int = 1000,
    threshold: float = 0.7,
    smallest: float = 1e-3,
) -> tuple[jax.Array, jax.Array]:
    """Selects the proposals of one image. No gradient flows through them.

    Args:
      logits: (B,) of all anchors.
      deltas: (B, 4).
      anchors: of each map, as from `anchors.anchors`.
      image_shape: height and width.
      before: how many boxes of each map, those with the largest logits, enter suppression.
      after: the number of proposals of the image.
      threshold: the largest IoU of two proposals of a map.
      smallest: the shortest side of a proposal, in pixels.

    Returns:
      `(boxes (after, 4), valid (after,))`, by descending logit; a row that is not valid is 0.
    """
    # Approximate joint training ignores derivatives by the boxes (section 3.2).
    logits, deltas = lax.stop_gradient((logits, deltas))
    chosen, groups, start = [], [], 0
    for level, boxes in enumerate(anchors):
        best = lax.top_k(logits[start : start + len(boxes)], min(before, len(boxes)))[1]
        chosen.append(start + best)
        groups.append(np.full(best.shape, level, np.int32))
        start += len(boxes)
    chosen = jnp.concatenate(chosen)
    boxes = decode(deltas[chosen], jnp.asarray(np.concatenate(anchors), deltas.dtype)[chosen])
    boxes = clip(boxes, *image_shape)
    large = jnp.all(boxes[:, 2:] - boxes[:, :2] >= smallest, axis=-1)
    # Shapes are fixed, so small boxes are excluded by their score instead of removed.
    scores = jnp.where(large, logits[chosen], -jnp.inf)
    groups = jnp.asarray(np.concatenate(groups))
    indices, valid = batched_nms(boxes, scores, groups, threshold=threshold, count=after)
    return jnp.where(valid[:, None], boxes[indices], 0), valid


def rpn_losses(
    logits: jax.Array,
    deltas: jax.Array,
    anchors: jax.Array,
    matches: Matches,
    boxes: jax.Array,
    indices: jax.Array,
    valid: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Computes both losses of a region proposal network for one image.

    Args:
      logits: (B,), deltas: (B, 4), anchors: (B, 4), matches: of the anchors.
      boxes: (M, 4) true boxes.
      indices, valid: (S,) sampled anchors.

    Returns:
      Two scalars: the loss of the objectness and that of the boxes.
    """
    positive = matches.positive[indices] & valid
    # One divisor for both losses, as in torchvision; the paper has two and lambda = 10.
    total = jnp.maximum(valid.sum(), 1).astype(logits.dtype)
    objectness = optax.losses.sigmoid_binary_cross_entropy(
        logits[indices], positive.astype(logits.dtype)
    )
    target = encode(boxes[matches.index[indices]], anchors[indices])
    # Boxes of the padding have targets that are not finite.
    target = jnp.where(positive[:, None], target, 0)
    distance = jnp.where(positive, smooth_l1(deltas[indices], target), 0)
    return jnp.where(valid, objectness, 0).sum() / total, distance.sum() / total
