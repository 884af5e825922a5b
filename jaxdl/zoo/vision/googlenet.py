"""GoogLeNet: several convolutions side by side. Szegedy et al. 2015, arXiv 1409.4842, table 1.

    inception    1x1  |  1x1 3x3  |  1x1 5x5  |  pool 3x3, 1x1        channels joined

The 1x1 convolutions before the large ones make their input narrow. Lecture row G03.
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
"""The channels of each module: 1x1; 3x3 reduced, 3x3; 5x5 reduced, 5x5; after the pooling."""


def activated(features: int, kernel_size: int, stride: int = 1) -> list[Any]:
    padding = kernel_size // 2
    kernel = conv(features, kernel_size, stride=stride, padding=padding, kernel_init="he_normal")
    return [kernel, jax.nn.relu]


def inception(
    one: int, three_reduced: int, three: int, five_reduced: int, five: int, pooled: int
) -> Module:
    """Four branches of one input, joined by their channels. Figure 2b.

    Args:
      one: channels of the 1x1 branch.
      three_reduced, three: of the 1x1 before the 3x3 convolution, and of that.
      five_reduced, five: of the 1x1 before the 5x5 convolution, and of that.
      pooled: of the 1x1 after the pooling.

    Returns:
      A `Module` from (N, H, W, C) to (N, H, W, one + three + five + pooled).
    """
    branches = {
        "one": serial(*activated(one, 1)),
        "three": serial(*activated(three_reduced, 1), *activated(three, 3)),
        "five": serial(*activated(five_reduced, 1), *activated(five, 5)),
        "pool": serial(max_pool(3, stride=1, padding=1), *activated(pooled, 1)),
    }

    def forward(call, x):
        return jnp.concatenate([call(name, x) for name in branches], axis=-1)

    return compose("inception", branches, forward)


def googlenet(*, classes: int = 1000) -> Module:
    """22 layers with weights: 6,998,552 parameters, without the heads that help to train it.

    Args:
      classes: the number of classes.

    Returns:
      A `Module` from (N, 224, 224, 3) to logits (N, classes).
    """
    pool = max_pool(3, stride=2, padding=1)
    stages: list[Any] = [
        *activated(64, 7, stride=2),
        pool,
        local_response_normalization,
        *activated(64, 1),
        *activated(192, 3),
        local_response_normalization,
        pool,
    ]
    for name, channels in TABLE.items():
        stages += [pool] if name in ("4a", "5a") else []
        stages += [inception(*channels)]
    return serial(*stages, global_avg_pool(), dropout(0.4), dense(classes))


def googlenet_with_heads(*, classes: int = 1000) -> Module:
    """GoogLeNet with its two auxiliary heads, on modules 4a and 4d: 13,378,280 parameters.

    The heads serve training alone: the paper adds 0.3 times their losses to that of the main output
    (section 5). Parameters without the entries `head_4a` and `head_4d` are those of `googlenet`.

    Args:
      classes: the number of classes.

    Returns:
      A `Module` from (N, 224, 224, 3) to logits `(main, head_4a, head_4d)`, each (N, classes).
    """
    main = googlenet(classes=classes)
    modules = {f"inception_{i}": f"head_{name}" for i, name in enumerate(TABLE)}
    heads = {
        name: serial(
            avg_pool(5, stride=3),
            *activated(128, 1),
            flatten(),
            dense(1024),
            jax.nn.relu,
            dropout(0.7),
            dense(classes),
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
