"""EfficientNet B0 to B7: width, depth and resolution scaled together. Tan and Le 2019.

    block    1x1 expansion, depthwise k x k, squeeze-and-excitation, 1x1 projection; x + block(x)
             where input and output have the same shape

arXiv 1905.11946. Architecture search produced B0 (table 1); B1 to B7 scale its channels and its
layers. Squeeze-and-excitation: Hu et al. 2018 (arXiv 1709.01507).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.combine import serial
from jaxdl.core import Module, compose
from jaxdl.nn import batch_norm, conv, dense, dropout, global_avg_pool

__all__ = ["efficientnet", "image_size", "inverted_residual", "squeeze_excite"]

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


def squeeze_excite(channels: int, reduced: int) -> Module:
    """Scales each channel by a gate: y = x sigmoid(W2 silu(W1 mean(x))). Hu et al. 2018, eq. 2-4.

    Args:
      channels: C, the channels of x.
      reduced: units between W1 and W2; Hu et al. use C / 16.

    Returns:
      A `Module` from (N, H, W, C) to the same.
    """
    children = {"reduce": dense(reduced), "expand": dense(channels)}

    def forward(call, x):
        squeezed = jax.nn.silu(call("reduce", jnp.mean(x, (1, 2))))
        return x * jax.nn.sigmoid(call("expand", squeezed))[:, None, None]

    return compose("squeeze_excite", children, forward)


def conv_norm(
    names: tuple[str, str],
    features: int,
    kernel_size: int,
    stride: int = 1,
    groups: int = 1,
    eps: float = 1e-5,
) -> dict[str, Module | Callable]:
    """Returns a convolution without bias and its batch normalization by name."""
    options: dict[str, Any] = {"stride": stride, "groups": groups, "use_bias": False}
    kernel = conv(
        features, kernel_size, padding=kernel_size // 2, kernel_init="he_normal", **options
    )
    return {names[0]: kernel, names[1]: batch_norm(eps=eps)}


def inverted_residual(
    channels: int,
    features: int,
    *,
    expansion: int,
    kernel_size: int,
    stride: int,
    eps: float = 1e-5,
) -> Module:
    """Builds the inverted residual block: expand, filter, project. Sandler et al. 2018.

    arXiv 1801.04381, figure 3b, with squeeze-and-excitation before the projection.

    Args:
      channels, features: channels of the input and of the output.
      expansion: factor by which the first convolution widens the input.
      kernel_size, stride: window and stride of the depthwise convolution.
      eps: see `nn.batch_norm`.

    Returns:
      A `Module` from (N, H, W, channels) to (N, H / stride, W / stride, features).
    """
    wide = channels * expansion
    layers: dict[str, Module | Callable] = {}
    if expansion > 1:
        layers |= conv_norm(("expand", "norm1"), wide, 1, eps=eps) | {"silu1": jax.nn.silu}
    layers |= conv_norm(("depthwise", "norm2"), wide, kernel_size, stride, wide, eps)
    layers |= {"silu2": jax.nn.silu, "gate": squeeze_excite(wide, max(1, channels // 4))}
    layers |= conv_norm(("project", "norm3"), features, 1, eps=eps)

    def forward(call, x):
        y = x
        for name in layers:
            y = call(name, y)
        return x + y if stride == 1 and channels == features else y

    return compose("inverted_residual", layers, forward)


def round_channels(channels: float) -> int:
    """Rounds to a multiple of 8, but not below nine tenths of `channels`."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


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
    channels = round_channels(32 * width)
    layers = conv_norm(("conv1", "norm1"), channels, 3, 2, eps=eps) | {"silu1": jax.nn.silu}
    for stage, (expansion, kernel_size, stride, base, count) in enumerate(STAGES, 1):
        features = round_channels(base * width)
        for i in range(math.ceil(count * depth)):
            layers[f"stage{stage}_{i}"] = inverted_residual(
                channels,
                features,
                expansion=expansion,
                kernel_size=kernel_size,
                stride=1 if i else stride,
                eps=eps,
            )
            channels = features
    layers |= conv_norm(("conv2", "norm2"), 4 * channels, 1, eps=eps) | {"silu2": jax.nn.silu}
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
