"""FCN-32s, 16s and 8s over VGG-16. Long, Shelhamer and Darrell 2015, arXiv 1411.4038.

The dense layers of VGG-16 become convolutions, and their scores are upsampled to the size of the
image by transposed convolutions, which begin as bilinear interpolation (section 3.3):

    FCN-32s   y = up32(s5)
    FCN-16s   y = up16(up2(s5) + s4)
    FCN-8s    y = up8(up2(up2(s5) + s4) + s3)

s5 are the scores of the last layer, s4 and s3 those of a 1x1 convolution of `pool4` and `pool3`.

Geometry. The first convolution pads by 100, so that the 7x7 window of `fc6` fits into every image.
Unit j of `pool4` is centred on pixel 16 j - 91.5, unit i of s5 on pixel 32 i + 12.5. The crops of
5, 9, 19, 27 and 31 align the maps exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax

from jaxdl._check import require_ints
from jaxdl.core import Module, compose
from jaxdl.nn import conv, conv_transpose, dropout, max_pool
from jaxdl.zoo.vision.vgg import CHANNELS

__all__ = ["fcn8s", "fcn16s", "fcn32s"]

DEPTHS = (2, 2, 3, 3, 3)
FIRST_PADDING = 100

Layers = dict[str, Module | Callable]


def encoder(channels: Sequence[int], hidden: int) -> Layers:
    """Returns VGG-16 up to its classifier, with `fc6` and `fc7` as convolutions."""
    layers: Layers = {}
    for stage, (features, depth) in enumerate(zip(channels, DEPTHS, strict=True), start=1):
        for i in range(1, depth + 1):
            padding = 1 if layers else FIRST_PADDING
            layers[f"conv{stage}_{i}"] = conv(features, padding=padding, kernel_init="he_normal")
            layers[f"relu{stage}_{i}"] = jax.nn.relu
        # A last row or column of one cell makes a separate window, as in Caffe.
        layers[f"pool{stage}"] = max_pool(2, padding="SAME")
    for name, window in (("6", 7), ("7", 1)):
        layers[f"fc{name}"] = conv(hidden, window, padding=0, kernel_init="he_normal")
        layers[f"relu{name}"] = jax.nn.relu
        layers[f"dropout{name}"] = dropout(0.5)
    return layers


def score(num_classes: int) -> Module:
    """Returns a 1x1 convolution to scores, which begins at zero (sections 4.1 and 4.2)."""
    return conv(num_classes, 1, kernel_init="zeros")


def upsample(num_classes: int, factor: int) -> Module:
    """Returns a transposed convolution that begins as bilinear upsampling by a factor."""
    return conv_transpose(
        num_classes,
        2 * factor,
        stride=factor,
        padding=0,
        flip=True,
        use_bias=False,
        kernel_init="bilinear",
    )


def crop(y: jax.Array, offset: int, like: jax.Array) -> jax.Array:
    """Cuts a window of the height and width of `like` out of y, from `offset` on."""
    height, width = like.shape[1:3]
    return y[:, offset : offset + height, offset : offset + width]


def fcn(
    stride: int, num_classes: int, channels: Sequence[int] = CHANNELS, hidden: int = 4096
) -> Module:
    """Builds an FCN whose last upsampling is by `stride`.

    Args:
      stride: 32, 16 or 8.
      num_classes: K, the number of classes, including the background.
      channels: channels of the five stages of VGG-16.
      hidden: channels of `fc6` and `fc7`.

    Returns:
      A `Module` from (N, H, W, C), of any height and width, to logits (N, H, W, K).

    Raises:
      ValueError: a number is no positive integer.
    """
    require_ints(f"fcn{stride}s", 1, num_classes=num_classes, hidden=hidden)
    layers = encoder(channels, hidden)
    skips = {32: (), 16: ("pool4",), 8: ("pool4", "pool3")}[stride]
    crops = dict(zip(skips, (5, 9), strict=False))
    head: Layers = {"score_fr": score(num_classes)}
    for skip in skips:
        head[f"up_{skip}"] = upsample(num_classes, 2)
        head[f"score_{skip}"] = score(num_classes)
    head["up_image"] = upsample(num_classes, stride)

    def forward(call, x):
        y, pools = x, {}
        for name in layers:
            y = call(name, y)
            if name in skips:
                pools[name] = y
        y = call("score_fr", y)
        for skip in skips:
            y = call(f"up_{skip}", y)
            y = y + crop(call(f"score_{skip}", pools[skip]), crops[skip], y)
        return crop(call("up_image", y), {32: 19, 16: 27, 8: 31}[stride], x)

    return compose(f"fcn{stride}s", layers | head, forward)


def fcn32s(*, num_classes: int = 21) -> Module:
    """Builds `fcn` without skips: 136,152,917 parameters for 21 classes."""
    return fcn(32, num_classes)


def fcn16s(*, num_classes: int = 21) -> Module:
    """Builds `fcn` with a skip from `pool4`: 134,815,994 parameters for 21 classes."""
    return fcn(16, num_classes)


def fcn8s(*, num_classes: int = 21) -> Module:
    """Builds `fcn` with skips from `pool4` and `pool3`: 134,489,759 parameters for 21 classes."""
    return fcn(8, num_classes)
