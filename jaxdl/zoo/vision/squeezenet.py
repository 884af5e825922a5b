"""SqueezeNet: AlexNet's accuracy with 50 times fewer parameters. Iandola et al. 2016.

    fire    s = relu(conv1x1(x)),   y = [relu(conv1x1(s)), relu(conv3x3(s))]

arXiv 1602.07360, table 1. The first convolution squeezes the channels, so that the 3x3 convolution
is small; [a, b] concatenates along the channels.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdl.combine import serial
from jaxdl.core import Module, compose
from jaxdl.nn import conv, dropout, global_avg_pool
from jaxdl.zoo.vision.pooling import ceil_max_pool

__all__ = ["fire", "squeezenet"]

VERSIONS = {
    # channels and window of the first convolution; the fire modules before which a pooling comes
    "1.0": (96, 7, ("fire2", "fire5", "fire9")),
    "1.1": (64, 3, ("fire2", "fire4", "fire6")),
}
FIRES = {
    # channels of the squeeze and of each expansion
    "fire2": (16, 64),
    "fire3": (16, 64),
    "fire4": (32, 128),
    "fire5": (32, 128),
    "fire6": (48, 192),
    "fire7": (48, 192),
    "fire8": (64, 256),
    "fire9": (64, 256),
}


def fire(squeezed: int, expanded: int) -> Module:
    """Builds a fire module: a 1x1 convolution, then 1x1 and 3x3 convolutions in parallel.

    Args:
      squeezed: channels of the first convolution.
      expanded: channels of each of the two others.

    Returns:
      A `Module` from (N, H, W, C) to (N, H, W, 2 expanded).
    """
    children = {
        "squeeze": conv(squeezed, 1, kernel_init="he_normal"),
        "expand1x1": conv(expanded, 1, kernel_init="he_normal"),
        "expand3x3": conv(expanded, 3, padding=1, kernel_init="he_normal"),
    }

    def forward(call, x):
        s = jax.nn.relu(call("squeeze", x))
        y = jnp.concatenate([call("expand1x1", s), call("expand3x3", s)], axis=-1)
        return jax.nn.relu(y)

    return compose("fire", children, forward, squeezed=squeezed, expanded=expanded)


def squeezenet(version: str = "1.0", *, num_classes: int = 1000) -> Module:
    """Builds SqueezeNet: 1,248,424 parameters in version 1.0, 1,235,496 in 1.1.

    Version 1.1, of the authors' repository, pools earlier and needs 2.4 times fewer operations. The
    classifier `logits` is a convolution; its ReLU makes the mean of each class non-negative.

    Args:
      version: "1.0", the paper's, or "1.1".
      num_classes: the number of classes.

    Returns:
      A `Module` from (N, H, W, 3) to logits (N, num_classes).

    Raises:
      ValueError: there is no such version.
    """
    if version not in VERSIONS:
        raise ValueError(
            f"squeezenet: version is {version!r}; expected one of {', '.join(VERSIONS)}."
        )
    features, kernel_size, pooled = VERSIONS[version]
    children: dict[str, Module | Callable] = {
        "conv1": conv(features, kernel_size, stride=2, padding="VALID", kernel_init="he_normal"),
        "relu1": jax.nn.relu,
    }
    for name, channels in FIRES.items():
        if name in pooled:
            children[f"pool{int(name[-1]) - 1}"] = ceil_max_pool(3, stride=2)
        children[name] = fire(*channels)
    return serial(
        **children,
        dropout=dropout(0.5),
        logits=conv(num_classes, 1),
        relu10=jax.nn.relu,
        mean=global_avg_pool(),
    )
