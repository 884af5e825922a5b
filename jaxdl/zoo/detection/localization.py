"""Classification with localization: the class and the box of the one object in an image.

Sermanet et al. 2013 (OverFeat, arXiv 1312.6229), section 4: a classifier and a regressor share the
features of a CNN, and both losses are added:

    L = cross_entropy(s, y) + weight sum_i smooth_l1(b_i - b*_i)

Boxes are (x0, y0, x1, y1) in units of the image's width and height, so that they lie in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import jax

from jaxdl import losses
from jaxdl.core import Module, compose
from jaxdl.nn import dense, flatten
from jaxdl.zoo.detection.targets import smooth_l1

__all__ = ["localization_loss", "localizer"]


def localizer(cnn: Module | Callable, *, num_classes: int, hidden: int = 128) -> Module:
    """Builds a network with a class head and a box regressor.

    Args:
      cnn: a `Module` from images to maps (N, P, Q, F). They are flattened, because a mean over
        positions would lose the place of the object.
      num_classes: the number of classes, without a background.
      hidden: units of a dense layer before both outputs.

    Returns:
      A `Module` from (N, H, W, C) to `(logits (N, num_classes), boxes (N, 4))`.
    """
    children = {
        "cnn": cnn,
        "flatten": flatten(),
        "hidden": dense(hidden, kernel_init="he_normal"),
        "logits": dense(num_classes),
        "box": dense(4),
    }

    def forward(call, images):
        x = jax.nn.relu(call("hidden", call("flatten", call("cnn", images))))
        return call("logits", x), jax.nn.sigmoid(call("box", x))

    return compose("localizer", children, forward, num_classes=num_classes)


def localization_loss(
    output: tuple[jax.Array, jax.Array],
    target: tuple[jax.Array, jax.Array],
    *,
    weight: float = 5.0,
) -> jax.Array:
    """Computes the sum of both losses of each image, as the `loss` of `train.fit`.

    Args:
      output: `(logits (N, K), boxes (N, 4))` of a `localizer`.
      target: `(labels (N,), boxes (N, 4))`, boxes in units of the image.
      weight: of the loss of the box.

    Returns:
      (N,) losses.

    Raises:
      ValueError: the shapes do not fit.
    """
    logits, boxes = output
    labels, true_boxes = target
    if boxes.shape != true_boxes.shape or boxes.shape[-1] != 4:
        raise ValueError(
            f"localization_loss: boxes {boxes.shape} for true boxes {true_boxes.shape}; expected "
            "(N, 4) both, in units of the image."
        )
    return losses.cross_entropy(logits, labels) + weight * smooth_l1(boxes, true_boxes)
