"""Residual and plain networks for CIFAR. He et al. 2016, arXiv 1512.03385, section 4.2.

    residual block  y = relu(x + F(x)),   F = norm conv3x3 relu norm conv3x3
    plain block     y = relu(F(x))

A block that halves the map subsamples x and pads its channels with zeros (option A), so that plain
and residual networks have the same parameters.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdl._check import require_ints
from jaxdl.combine import residual, serial
from jaxdl.core import Module
from jaxdl.nn import dense, global_avg_pool
from jaxdl.zoo.vision.resnet import blocks, conv_norm

__all__ = ["cifar_resnet"]


def zero_padding_shortcut(features: int, stride: int) -> Callable[[jax.Array], jax.Array]:
    """Returns a function that subsamples x and pads channels with zeros: option A, section 3.3."""

    def pad_channels(x):
        missing = features - x.shape[-1]
        # The paper leaves the side open; PyTorch implementations for CIFAR pad both sides.
        edges = [(0, 0)] * (x.ndim - 1) + [(missing // 2, missing - missing // 2)]
        return jnp.pad(x[:, ::stride, ::stride], edges)

    return pad_channels


def two_convolutions(features: int, stride: int) -> Module:
    """Returns the residual function F of the networks for CIFAR."""
    first, second = conv_norm(features, 3, stride, "_0"), conv_norm(features, 3, 1, "_1")
    return serial(**first, relu_0=jax.nn.relu, **second)


def padded_block(features: int, stride: int, project: bool) -> Module:
    """Builds a residual block whose shortcut has no parameters."""
    shortcut = zero_padding_shortcut(features, stride) if project else None
    return serial(sum=residual(two_convolutions(features, stride), shortcut), relu=jax.nn.relu)


def plain_block(features: int, stride: int, project: bool) -> Module:
    """Builds a block without shortcut: y = relu(F(x))."""
    # Only a shortcut could project; `blocks` passes this argument to every block.
    del project
    return serial(layers=two_convolutions(features, stride), relu=jax.nn.relu)


def cifar_resnet(
    depth: int, *, num_classes: int = 10, plain: bool = False, width: int = 16
) -> Module:
    """Builds a ResNet of 6n + 2 layers for 32x32 images (section 4.2 of the paper).

    Args:
      depth: layers with weights, 6n + 2: 20, 32, 44, 56, 110, ...
      num_classes: the number of classes.
      plain: leave out the shortcuts; the parameters are the same.
      width: channels of the first of the three stages; they double with each stage.

    Returns:
      A `Module` from (N, H, W, C) to logits (N, num_classes).

    Raises:
      ValueError: the depth is not 6n + 2, or the width is below 1.
    """
    (width,) = require_ints("cifar_resnet", 1, width=width)
    n, rest = divmod(depth - 2, 6)
    if rest or n < 1:
        raise ValueError(
            f"cifar_resnet: depth is {depth}; expected 6n + 2: 8, 14, 20, 32, 44, 56, 110, ..."
        )
    stages = blocks(plain_block if plain else padded_block, (n, n, n), width, project_first=False)
    return serial(
        **conv_norm(width, 3),
        relu=jax.nn.relu,
        **{f"block_{i}": block for i, block in enumerate(stages.values())},
        mean=global_avg_pool(),
        logits=dense(num_classes),
    )
