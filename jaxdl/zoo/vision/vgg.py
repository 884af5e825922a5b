"""VGG: stacks of 3x3 convolutions. Simonyan and Zisserman 2015, arXiv 1409.1556, table 1.

Two 3x3 convolutions have a receptive field of 5x5 and three of 7x7, with fewer weights than one
large kernel and a ReLU after each (section 2.3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax

from jaxdl.combine import serial
from jaxdl.core import Module
from jaxdl.nn import batch_norm, conv, dense, dropout, flatten, max_pool

__all__ = ["vgg", "vgg11", "vgg13", "vgg16", "vgg19"]

CHANNELS = (64, 128, 256, 512, 512)


def vgg(depths: Sequence[int], *, num_classes: int = 1000, norm: bool = False) -> Module:
    """Builds VGG: five stages of convolutions and a max pooling, then three dense layers.

    Args:
      depths: the number of convolutions in each stage.
      num_classes: the number of classes.
      norm: batch normalization after every convolution, as in torchvision's `vgg16_bn`; the paper
        predates it.

    Returns:
      A `Module` from (N, 224, 224, 3) to logits (N, num_classes). Convolutions are called as in
      the paper's successors: `conv5_3` is the third of stage 5.
    """
    layers: dict[str, Module | Callable] = {}
    for stage, (channels, count) in enumerate(zip(CHANNELS, depths, strict=True), 1):
        for i in range(1, count + 1):
            layers[f"conv{stage}_{i}"] = conv(channels, kernel_init="he_normal")
            if norm:
                layers[f"norm{stage}_{i}"] = batch_norm(momentum=0.9)
            layers[f"relu{stage}_{i}"] = jax.nn.relu
        layers[f"pool{stage}"] = max_pool(2)
    layers["flatten"] = flatten()
    for i in (1, 2):
        layers |= {f"dense{i}": dense(4096), f"relu{i}": jax.nn.relu, f"dropout{i}": dropout(0.5)}
    return serial(**layers, logits=dense(num_classes))


def vgg11(*, num_classes: int = 1000, norm: bool = False) -> Module:
    """Builds `vgg` with 8 convolutions: 132,863,336 parameters without normalization."""
    return vgg((1, 1, 2, 2, 2), num_classes=num_classes, norm=norm)


def vgg13(*, num_classes: int = 1000, norm: bool = False) -> Module:
    """Builds `vgg` with 10 convolutions: 133,047,848 parameters without normalization."""
    return vgg((2, 2, 2, 2, 2), num_classes=num_classes, norm=norm)


def vgg16(*, num_classes: int = 1000, norm: bool = False) -> Module:
    """Builds `vgg` with 13 convolutions: 138,357,544 parameters without normalization."""
    return vgg((2, 2, 3, 3, 3), num_classes=num_classes, norm=norm)


def vgg19(*, num_classes: int = 1000, norm: bool = False) -> Module:
    """Builds `vgg` with 16 convolutions: 143,667,240 parameters without normalization."""
    return vgg((2, 2, 4, 4, 4), num_classes=num_classes, norm=norm)
