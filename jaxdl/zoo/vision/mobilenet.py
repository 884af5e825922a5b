"""MobileNetV2: inverted residuals with linear bottlenecks. Sandler et al. 2018, arXiv 1801.04381.

    block    y = project(relu6(depthwise(relu6(expand(x)))))     and x + y where the shapes agree

`expand` is a 1x1 convolution to t times the channels, `depthwise` a 3x3 convolution with one filter
for each channel, and `project` a 1x1 convolution without nonlinearity after it (table 1); batch
normalization follows each. A depthwise and a 1x1 convolution need 8 to 9 times fewer operations
than one 3x3 convolution (section 3.1).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxdl._check import require_number
from jaxdl.combine import serial
from jaxdl.core import Module, compose
from jaxdl.nn import batch_norm, conv, dense, dropout, global_avg_pool
from jaxdl.nn._window import Padding

__all__ = ["inverted_residual", "inverted_residuals", "mobilenet_v2"]

STAGES = (
    # expansion t, window, stride s of the first block, channels c, blocks n: table 2
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 3, 2, 32, 3),
    (6, 3, 2, 64, 4),
    (6, 3, 1, 96, 3),
    (6, 3, 2, 160, 3),
    (6, 3, 1, 320, 1),
)


pytorch_norm = functools.partial(batch_norm, momentum=0.9)


def conv_norm(
    features: int,
    kernel_size: int,
    stride: int = 1,
    *,
    groups: int = 1,
    padding: Padding | None = None,
    norm: Callable[[], Module] = pytorch_norm,
) -> list[Module]:
    """Returns a convolution without bias and its batch normalization.

    Args:
      features, kernel_size, stride, groups: see `nn.conv`.
      padding: see `nn.conv`; None for half the window on each side.
      norm: creates the normalization.
    """
    padding = kernel_size // 2 if padding is None else padding
    options: dict[str, Any] = {"stride": stride, "groups": groups, "padding": padding}
    return [conv(features, kernel_size, use_bias=False, kernel_init="he_normal", **options), norm()]


def inverted_residual(
    channels: int,
    features: int,
    *,
    expansion: int,
    kernel_size: int,
    stride: int,
    padding: Padding | None = None,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu6,
    gate: Module | None = None,
    norm: Callable[[], Module] = pytorch_norm,
) -> Module:
    """Builds an inverted residual block: expand, filter each channel, project. Figure 3b.

    Args:
      channels, features: channels of the input and of the output.
      expansion: factor by which `expand` widens the input; there is no `expand` if it is 1.
      kernel_size, stride, padding: of the depthwise convolution, with padding as in `conv_norm`.
      activation: after `expand` and `depthwise`.
      gate: a layer before `project`, such as squeeze-and-excitation.
      norm: creates the normalizations.

    Returns:
      A `Module` from (N, H, W, channels) to (N, H / stride, W / stride, features).
    """
    wide = channels * expansion
    children: dict[str, Module | Callable] = {}
    if expansion > 1:
        children["expand"], children["norm1"] = conv_norm(wide, 1, norm=norm)
        children["activation1"] = activation
    filters = conv_norm(wide, kernel_size, stride, groups=wide, padding=padding, norm=norm)
    children["depthwise"], children["norm2"] = filters
    children["activation2"] = activation
    if gate is not None:
        children["gate"] = gate
    children["project"], children["norm3"] = conv_norm(features, 1, norm=norm)

    def forward(call, x):
        y = x
        for name in children:
            y = call(name, y)
        return x + y if stride == 1 and channels == features else y

    return compose("inverted_residual", children, forward, expansion=expansion, stride=stride)


def round_channels(channels: float) -> int:
    """Rounds to a multiple of 8, but not below nine tenths of `channels`."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


def inverted_residuals(
    stages: Sequence[tuple[int, int, int, int, int]],
    block: Callable[..., Module],
    *,
    width: float = 1.0,
    depth: float = 1.0,
) -> dict[str, Module]:
    """Returns the blocks of all stages by name: `stage1_0`, `stage2_0`, `stage2_1`, ....

    Args:
      stages: rows like those of `STAGES`; the input has 32 channels.
      block: creates a block, with the arguments of `inverted_residual` without defaults.
      width, depth: factors of the channels and of the number of blocks of each stage.
    """
    blocks, channels = {}, round_channels(32 * width)
    for stage, (expansion, kernel_size, stride, base, count) in enumerate(stages, start=1):
        features = round_channels(base * width)
        for i in range(math.ceil(count * depth)):
            blocks[f"stage{stage}_{i}"] = block(
                channels,
                features,
                expansion=expansion,
                kernel_size=kernel_size,
                stride=1 if i else stride,
            )
            channels = features
    return blocks


def mobilenet_v2(width: float = 1.0, *, num_classes: int = 1000) -> Module:
    """Builds MobileNetV2: 3,504,872 parameters at width 1.

    Blocks are called `block1` to `block17`.

    Args:
      width: factor of all channels; the paper has 0.35 to 1.4 (section 6.1).
      num_classes: the number of classes.

    Returns:
      A `Module` from (N, H, W, 3) to logits (N, num_classes).

    Raises:
      ValueError: the width is not a positive number.
    """
    width = require_number("mobilenet_v2", "a number above 0", lambda w: w > 0, width=width)
    children: dict[str, Module | Callable] = {}
    children["conv1"], children["norm1"] = conv_norm(round_channels(32 * width), 3, 2)
    children["relu1"] = jax.nn.relu6
    blocks = inverted_residuals(STAGES, inverted_residual, width=width).values()
    children |= {f"block{i}": block for i, block in enumerate(blocks, start=1)}
    # The paper widens the last convolution, but does not narrow it below 1280 channels.
    children["conv2"], children["norm2"] = conv_norm(round_channels(1280 * max(1.0, width)), 1)
    return serial(
        **children,
        relu2=jax.nn.relu6,
        mean=global_avg_pool(),
        dropout=dropout(0.2),
        logits=dense(num_classes),
    )
