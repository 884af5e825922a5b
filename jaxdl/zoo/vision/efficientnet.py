"""EfficientNet B0 to B7: width, depth and resolution scaled together. Tan and Le 2019.

    block    1x1 expansion, depthwise k x k, squeeze-and-excitation, 1x1 projection; x + block(x)
             where input and output have the same shape

arXiv 1905.11946. Architecture search produced B0 (table 1); B1 to B7 scale its channels and its
layers. Inverted residual blocks: Sandler et al. 2018 (arXiv 1801.04381); squeeze-and-excitation:
Hu et al. 2018 (arXiv 1709.01507).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax

from jaxdl.combine import serial
from jaxdl.core import Module
from jaxdl.nn import batch_norm, dense, dropout, global_avg_pool
from jaxdl.zoo.vision import mobilenet
from jaxdl.zoo.vision.mobilenet import conv_norm, inverted_residuals, round_channels
from jaxdl.zoo.vision.senet import squeeze_excite

__all__ = ["efficientnet", "image_size", "inverted_residual"]

STAGES = (
    # expansion, window, stride, channels, layers
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
SCALES = {
    # factors of the channels and of the layers, image side in pixels, dropout of the last layer,
    # eps of the normalizations: torchvision's B5 to B7 have TensorFlow's
    "b0": (1.0, 1.0, 224, 0.2, 1e-5),
    "b1": (1.0, 1.1, 240, 0.2, 1e-5),
    "b2": (1.1, 1.2, 260, 0.3, 1e-5),
    "b3": (1.2, 1.4, 300, 0.3, 1e-5),
    "b4": (1.4, 1.8, 380, 0.4, 1e-5),
    "b5": (1.6, 2.2, 456, 0.4, 1e-3),
    "b6": (1.8, 2.6, 528, 0.5, 1e-3),
    "b7": (2.0, 3.1, 600, 0.5, 1e-3),
}
"""The authors' published values, rounded from 1.1^phi, 1.2^phi and 224 x 1.15^phi (eq. 3)."""


def inverted_residual(
    channels: int,
    features: int,
    *,
    expansion: int,
    kernel_size: int,
    stride: int,
    eps: float = 1e-5,
) -> Module:
    """Builds MobileNetV2's block with SiLU, and a gate before the projection.

    Args:
      channels, features: channels of the input and of the output.
      expansion: factor by which the first convolution widens the input.
      kernel_size, stride: window and stride of the depthwise convolution.
      eps: see `nn.batch_norm`.

    Returns:
      A `Module` from (N, H, W, channels) to (N, H / stride, W / stride, features).
    """
    gate = squeeze_excite(channels * expansion, max(1, channels // 4), activation=jax.nn.silu)
    return mobilenet.inverted_residual(
        channels,
        features,
        expansion=expansion,
        kernel_size=kernel_size,
        stride=stride,
        activation=jax.nn.silu,
        gate=gate,
        norm=functools.partial(batch_norm, eps=eps),
    )


def efficientnet(size: str = "b0", *, num_classes: int = 1000) -> Module:
    """Builds EfficientNet: 5,288,548 parameters for B0, 66,347,960 for B7.

    The blocks of stage 2 in table 1 are called `stage1_0`, ..., as in torchvision.

    Stochastic depth, which the paper uses in training, is not part of the model.

    Args:
      size: "b0" to "b7".
      num_classes: the number of classes.

    Returns:
      A `Module` from (N, H, W, 3) to logits (N, num_classes); see `image_size` for H and W.

    Raises:
      ValueError: there is no such size.
    """
    width, depth, _, rate, eps = _scales("efficientnet", size)
    norm = functools.partial(batch_norm, eps=eps)
    block = functools.partial(inverted_residual, eps=eps)
    first, last = round_channels(32 * width), 4 * round_channels(STAGES[-1][3] * width)
    layers: dict[str, Module | Callable] = {}
    layers["conv1"], layers["norm1"] = conv_norm(first, 3, 2, norm=norm)
    layers["silu1"] = jax.nn.silu
    layers |= inverted_residuals(STAGES, block, width=width, depth=depth)
    layers["conv2"], layers["norm2"] = conv_norm(last, 1, norm=norm)
    layers["silu2"] = jax.nn.silu
    return serial(
        **layers, mean=global_avg_pool(), dropout=dropout(rate), logits=dense(num_classes)
    )


def image_size(size: str = "b0") -> int:
    """Returns the side of the images that a network was scaled for, in pixels: 224 to 600.

    Args:
      size: "b0" to "b7".

    Raises:
      ValueError: there is no such size.
    """
    return _scales("image_size", size)[2]


def _scales(what: str, size: str) -> tuple[float, float, int, float, float]:
    if size not in SCALES:
        raise ValueError(f"{what}: size is {size!r}; expected one of {', '.join(SCALES)}.")
    return SCALES[size]
