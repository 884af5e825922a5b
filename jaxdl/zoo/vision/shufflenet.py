"""ShuffleNetV2: split, convolve one half, and shuffle the channels. Ma et al. 2018.

    unit           x = [a, b],   y = shuffle([a, F(b)])     F = conv1x1 depthwise3x3 conv1x1
    downsampling   y = shuffle([G(x), F(x)])                G = depthwise3x3 conv1x1, stride 2

arXiv 1807.11164, figure 3c and 3d. Batch normalization follows each convolution and ReLU each 1x1
convolution. `shuffle` interleaves the two halves of the channels, so that the next split mixes
them; [a, b] concatenates along the channels.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdl.combine import serial
from jaxdl.core import Module, compose
from jaxdl.nn import dense, global_avg_pool, max_pool
from jaxdl.zoo.vision.mobilenet import conv_norm

__all__ = ["shuffle", "shuffle_unit", "shufflenet_v2"]

UNITS = {"stage2": 4, "stage3": 8, "stage4": 4}
CHANNELS = {
    # width: channels of stage 2, of the last convolution (table 5)
    0.5: (48, 1024),
    1.0: (116, 1024),
    1.5: (176, 1024),
    2.0: (244, 2048),
}


def shuffle(x: jax.Array, groups: int = 2) -> jax.Array:
    """Interleaves groups of channels: channel c of group g moves to position c groups + g.

    Args:
      x: (..., C).
      groups: the number of groups, which divides C.

    Raises:
      ValueError: the groups do not divide the channels.
    """
    if x.shape[-1] % groups:
        raise ValueError(
            f"shuffle: {x.shape[-1]} channels; expected a multiple of the {groups} groups."
        )
    # The order of torchvision, on which published weights depend.
    split = x.reshape(*x.shape[:-1], groups, -1)
    return jnp.swapaxes(split, -1, -2).reshape(x.shape)


def shuffle_unit(channels: int, features: int, stride: int) -> Module:
    """Builds a unit of ShuffleNetV2. Figure 3c for stride 1 and 3d for stride 2.

    Args:
      channels, features: channels of the input and of the output; equal at stride 1.
      stride: stride of the depthwise convolutions, 1 or 2.

    Returns:
      A `Module` from (N, H, W, channels) to (N, H / stride, W / stride, features).
    """
    half = features // 2
    children = {}
    if stride > 1:
        children["branch1"] = convolutions(
            (conv_norm(channels, 3, stride, groups=channels), False),
            (conv_norm(half, 1), True),
        )
    children["branch2"] = convolutions(
        (conv_norm(half, 1), True),
        (conv_norm(half, 3, stride, groups=half), False),
        (conv_norm(half, 1), True),
    )

    def forward(call, x):
        if stride > 1:
            # No split here: both branches read all channels, which widens the map (figure 3d).
            halves = [call("branch1", x), call("branch2", x)]
        else:
            kept, convolved = jnp.split(x, 2, axis=-1)
            halves = [kept, call("branch2", convolved)]
        return shuffle(jnp.concatenate(halves, axis=-1))

    return compose("shuffle_unit", children, forward, stride=stride)


def convolutions(*parts: tuple[list[Module], bool]) -> Module:
    """Chains normalized convolutions, each with a ReLU after it or without."""
    children: dict[str, Module | Callable] = {}
    for i, ((kernel, norm), rectified) in enumerate(parts, start=1):
        children |= {f"conv{i}": kernel, f"norm{i}": norm}
        children |= {f"relu{i}": jax.nn.relu} if rectified else {}
    return serial(**children)


def shufflenet_v2(width: float = 1.0, *, num_classes: int = 1000) -> Module:
    """Builds ShuffleNetV2: 2,278,604 parameters at width 1.

    Widths 0.5, 1.5 and 2 have 1,366,792, 3,503,624 and 7,393,996 parameters. Units are called
    `stage2_0`, ..., as in table 5.

    Args:
      width: 0.5, 1, 1.5 or 2.
      num_classes: the number of classes.

    Returns:
      A `Module` from (N, H, W, 3) to logits (N, num_classes).

    Raises:
      ValueError: there is no such width.
    """
    if width not in CHANNELS:
        raise ValueError(
            f"shufflenet_v2: width is {width!r}; expected one of {', '.join(map(str, CHANNELS))}."
        )
    features, last = CHANNELS[width]
    children: dict[str, Module | Callable] = {}
    children["conv1"], children["norm1"] = conv_norm(24, 3, 2)
    children |= {"relu1": jax.nn.relu, "pool1": max_pool(3, stride=2, padding=1)}
    channels = 24
    for stage, count in UNITS.items():
        for i in range(count):
            children[f"{stage}_{i}"] = shuffle_unit(channels, features, stride=1 if i else 2)
            channels = features
        features *= 2
    children["conv5"], children["norm5"] = conv_norm(last, 1)
    return serial(**children, relu5=jax.nn.relu, mean=global_avg_pool(), logits=dense(num_classes))
