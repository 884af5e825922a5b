"""VGG: many convolutions of three by three. Simonyan and Zisserman 2015, arXiv 1409.1556, table 1.

Two of them see five by five cells and three see seven by seven, with fewer weights and an
activation between. Lecture rows G02, F15.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from jaxdl.combine import serial
from jaxdl.core import Module
from jaxdl.nn import batch_norm, conv, dense, dropout, flatten, max_pool

__all__ = ["vgg", "vgg11", "vgg13", "vgg16", "vgg19"]

CHANNELS = (64, 128, 256, 512, 512)


def vgg(depths: Sequence[int], *, classes: int = 1000, norm: bool = False) -> Module:
    """Five stages, each of some convolutions and a pooling, and three dense layers.

    Args:
      depths: the convolutions of each stage.
      classes: the number of classes.
      norm: batch normalization after every convolution, which the paper did not have yet.

    Returns:
      A `Module` from (N, 224, 224, 3) to logits (N, classes).
    """
    layers: list[Any] = []
    for channels, count in zip(CHANNELS, depths, strict=True):
        for _ in range(count):
            layers += [conv(channels, kernel_init="he_normal")]
            layers += [batch_norm(momentum=0.9)] if norm else []
            layers += [jax.nn.relu]
        layers += [max_pool(2)]
    layers += [flatten()]
    for _ in range(2):
        layers += [dense(4096), jax.nn.relu, dropout(0.5)]
    return serial(*layers, dense(classes))


def vgg11(*, classes: int = 1000, norm: bool = False) -> Module:
    """`vgg` of 8 convolutions: 132,863,336 parameters without norms."""
    return vgg((1, 1, 2, 2, 2), classes=classes, norm=norm)


def vgg13(*, classes: int = 1000, norm: bool = False) -> Module:
    """`vgg` of 10 convolutions: 133,047,848 parameters without norms."""
    return vgg((2, 2, 2, 2, 2), classes=classes, norm=norm)


def vgg16(*, classes: int = 1000, norm: bool = False) -> Module:
    """`vgg` of 13 convolutions: 138,357,544 parameters without norms."""
    return vgg((2, 2, 3, 3, 3), classes=classes, norm=norm)


def vgg19(*, classes: int = 1000, norm: bool = False) -> Module:
    """`vgg` of 16 convolutions: 143,667,240 parameters without norms."""
    return vgg((2, 2, 4, 4, 4), classes=classes, norm=norm)
