"""Densely connected networks. Huang et al. 2017, arXiv 1608.06993.

    dense layer    x_l = [x_{l-1}, H(x_{l-1})]    H = norm relu conv1x1 norm relu conv3x3
    transition     norm relu conv1x1 avgpool2     halves channels, height and width

[a, b] concatenates along the channels. H adds k channels, the growth rate, so that layer l of a
block with k_0 input channels reads k_0 + k (l - 1) channels (eq. 2). These are the networks of
table 1: DenseNet-BC, with 1x1 convolutions to 4k channels and a compression of 0.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxdl._check import require_ints
from jaxdl.combine import serial
from jaxdl.core import Module, compose
from jaxdl.nn import avg_pool, batch_norm, conv, dense, global_avg_pool, max_pool

__all__ = [
    "dense_layer",
    "densenet",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "transition",
]

BOTTLENECK = 4
"""Channels of the 1x1 convolution, in units of the growth rate (section 3)."""


def norm_relu_conv(features: int, kernel_size: int, number: int) -> dict[str, Module | Callable]:
    """Returns batch normalization, ReLU and a convolution without bias, in this order."""
    kernel = conv(
        features,
        kernel_size,
        padding=kernel_size // 2,
        use_bias=False,
        kernel_init="he_normal",
    )
    return {
        f"norm{number}": batch_norm(momentum=0.9),
        f"relu{number}": jax.nn.relu,
        f"conv{number}": kernel,
    }


def dense_layer(growth_rate: int) -> Module:
    """Builds a dense layer: appends `growth_rate` new channels to its input. Equation 2.

    Args:
      growth_rate: k, the number of new channels.

    Returns:
      A `Module` from (N, H, W, C) to (N, H, W, C + k). The first C channels are the input.
    """
    # Pre-activation order of He et al. 2016, arXiv 1603.05027, as in section 3 of the paper.
    children = norm_relu_conv(BOTTLENECK * growth_rate, 1, 1) | norm_relu_conv(growth_rate, 3, 2)

    def forward(call, x):
        y = x
        for name in children:
            y = call(name, y)
        # x comes first, as in torchvision; the weights of later layers depend on this order.
        return jnp.concatenate([x, y], axis=-1)

    return compose("dense_layer", children, forward, growth_rate=growth_rate)


def transition(features: int) -> Module:
    """Builds the transition between two blocks: a 1x1 convolution and an average pooling.

    Args:
      features: channels of the output.

    Returns:
      A `Module` from (N, H, W, C) to (N, H / 2, W / 2, features).
    """
    return serial(**norm_relu_conv(features, 1, 1), pool=avg_pool(2))


def densenet(
    depths: Sequence[int], *, growth_rate: int = 32, stem: int = 64, num_classes: int = 1000
) -> Module:
    """Builds a DenseNet for ImageNet (table 1 of the paper).

    Layers are called `denseblock1_layer1`, ..., and transitions `transition1`, ....

    Args:
      depths: the number of dense layers in each block.
      growth_rate: k, the channels that each layer adds.
      stem: channels of the first convolution, 2k in the paper.
      num_classes: the number of classes.

    Returns:
      A `Module` from (N, H, W, 3) to logits (N, num_classes).

    Raises:
      ValueError: a depth, the growth rate, `stem` or `num_classes` is not a positive integer.
    """
    require_ints("densenet", 1, growth_rate=growth_rate, stem=stem, num_classes=num_classes)
    require_ints("densenet", 1, **{f"depths[{i}]": depth for i, depth in enumerate(depths)})
    # Padding 3 as in PyTorch: SAME pads even sizes by 2 before and 3 after at stride 2.
    options = {"stride": 2, "padding": 3, "use_bias": False, "kernel_init": "he_normal"}
    children: dict[str, Module | Callable] = {
        "conv1": conv(stem, 7, **options),
        "norm1": batch_norm(momentum=0.9),
        "relu1": jax.nn.relu,
        "pool1": max_pool(3, stride=2, padding=1),
    }
    channels = stem
    for block, depth in enumerate(depths, start=1):
        if block > 1:
            channels //= 2
            children[f"transition{block - 1}"] = transition(channels)
        for layer in range(1, depth + 1):
            children[f"denseblock{block}_layer{layer}"] = dense_layer(growth_rate)
        channels += depth * growth_rate
    return serial(
        **children,
        # Dense layers end in a convolution, so the last block still needs a norm and a ReLU.
        norm2=batch_norm(momentum=0.9),
        relu2=jax.nn.relu,
        mean=global_avg_pool(),
        logits=dense(num_classes),
    )


def densenet121(*, num_classes: int = 1000) -> Module:
    """Builds `densenet` with 6, 12, 24 and 16 layers: 7,978,856 parameters."""
    return densenet((6, 12, 24, 16), num_classes=num_classes)


def densenet161(*, num_classes: int = 1000) -> Module:
    """Builds `densenet` with 6, 12, 36 and 24 layers of growth rate 48: 28,681,000 parameters."""
    return densenet((6, 12, 36, 24), growth_rate=48, stem=96, num_classes=num_classes)


def densenet169(*, num_classes: int = 1000) -> Module:
    """Builds `densenet` with 6, 12, 32 and 32 layers: 14,149,480 parameters."""
    return densenet((6, 12, 32, 32), num_classes=num_classes)


def densenet201(*, num_classes: int = 1000) -> Module:
    """Builds `densenet` with 6, 12, 48 and 32 layers: 20,013,928 parameters."""
    return densenet((6, 12, 48, 32), num_classes=num_classes)
