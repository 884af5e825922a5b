"""GoogLeNet (Inception v1): parallel convolutions. Szegedy et al. 2015, arXiv 1409.4842, table 1.

    inception    1x1  |  1x1 3x3  |  1x1 5x5  |  pool 3x3, 1x1        concatenated along channels

The 1x1 convolutions reduce the channels before the larger kernels.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.combine import serial
from jaxdl.core import Module, compose
from jaxdl.nn import avg_pool, conv, dense, dropout, flatten, global_avg_pool, max_pool
from jaxdl.zoo.vision.alexnet import local_response_normalization

__all__ = ["googlenet", "googlenet_with_heads", "inception"]

TABLE: dict[str, tuple[int, int, int, int, int, int]] = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Channels of each module: 1x1; 3x3 reduction, 3x3; 5x5 reduction, 5x5; pool projection."""


def conv_relu(features: int, kernel_size: int, stride: int = 1) -> list[Any]:
    """Returns a convolution that keeps the size at stride 1, and its ReLU."""
    padding = kernel_size // 2
    kernel = conv(features, kernel_size, stride=stride, padding=padding, kernel_init="he_normal")
    return [kernel, jax.nn.relu]


def inception(
    one: int, three_reduced: int, three: int, five_reduced: int, five: int, pooled: int
) -> Module:
    """Builds an inception module: four branches concatenated along the channels. Figure 2b.

    Args:
      one: channels of the 1x1 branch.
      three_reduced, three: channels of the 1x1 reduction and of the 3x3 convolution after it.
      five_reduced, five: channels of the 1x1 reduction and of the 5x5 convolution after it.
      pooled: channels of the 1x1 projection after the pooling.

    Returns:
      A `Module` from (N, H, W, C) to (N, H, W, one + three + five + pooled).
    """
    branches = {
        "one": serial(*conv_relu(one, 1)),
        "three": serial(*conv_relu(three_reduced, 1), *conv_relu(three, 3)),
        "five": serial(*conv_relu(five_reduced, 1), *conv_relu(five, 5)),
        "pool": serial(max_pool(3, stride=1, padding=1), *conv_relu(pooled, 1)),
    }

    def forward(call, x):
        return jnp.concatenate([call(name, x) for name in branches], axis=-1)

    return compose("inception", branches, forward)


def googlenet(*, num_classes: int = 1000) -> Module:
    """Builds GoogLeNet: 22 layers with weights, 6,998,552 parameters, no auxiliary heads.

    Args:
      num_classes: the number of classes.

    Returns:
      A `Module` from (N, 224, 224, 3) to logits (N, num_classes).
    """
    pool = max_pool(3, stride=2, padding=1)
    stages: list[Any] = [
        *conv_relu(64, 7, stride=2),
        pool,
        local_response_normalization,
        *conv_relu(64, 1),
        *conv_relu(192, 3),
        local_response_normalization,
        pool,
    ]
    for name, channels in TABLE.items():
        stages += [pool] if name in ("4a", "5a") else []
        stages += [inception(*channels)]
    return serial(*stages, global_avg_pool(), dropout(0.4), dense(num_classes))


def googlenet_with_heads(*, num_classes: int = 1000) -> Module:
    """Builds GoogLeNet with auxiliary heads on modules 4a and 4d: 13,378,280 parameters.

    The heads are used in training only: the paper adds 0.3 times their losses to the loss of the
    main output (section 5). Without the entries `head_4a` and `head_4d`, the parameters fit
    `googlenet`.

    Args:
      num_classes: the number of classes.

    Returns:
      A `Module` from (N, 224, 224, 3) to logits `(main, head_4a, head_4d)`, each (N, num_classes).
    """
    main = googlenet(num_classes=num_classes)
    modules = {f"inception_{i}": f"head_{name}" for i, name in enumerate(TABLE)}
    heads = {
        name: serial(
            avg_pool(5, stride=3),
            *conv_relu(128, 1),
            flatten(),
            dense(1024),
            jax.nn.relu,
            dropout(0.7),
            dense(num_classes),
        )
        for name in ("head_4a", "head_4d")
    }

    def forward(call, x):
        logits = []
        for name in main.children:
            x = call(name, x)
            if modules.get(name) in heads:
                logits.append(call(modules[name], x))
        return (x, *logits)

    return compose("googlenet_with_heads", {**main.children, **heads}, forward)
