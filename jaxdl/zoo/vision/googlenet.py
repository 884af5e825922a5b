"""GoogLeNet (Inception v1): parallel convolutions. Szegedy et al. 2015, arXiv 1409.4842, table 1.

    inception    1x1  |  1x1 3x3  |  1x1 5x5  |  pool 3x3, 1x1        concatenated along channels

The 1x1 convolutions reduce the channels before the larger kernels. torchvision's network, which has
published weights, normalizes every convolution in place of biases and local response
normalization, has 3x3 kernels in the third branch, and pools with sizes rounded up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.combine import serial
from jaxdl.core import Module, compose
from jaxdl.nn import avg_pool, batch_norm, conv, dense, dropout, flatten, global_avg_pool, max_pool
from jaxdl.zoo.vision.alexnet import local_response_normalization
from jaxdl.zoo.vision.pooling import adaptive_avg_pool, ceil_max_pool

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


HEADS = {"inception4a": "head_4a", "inception4d": "head_4d"}
"""The auxiliary heads by the module that they read."""

VARIANTS = ("paper", "torchvision")


def conv_relu(
    number: int | str, features: int, kernel_size: int, stride: int = 1, *, norm: bool = False
) -> dict[str, Module | Callable]:
    """Returns a convolution, its ReLU, and with `norm` batch normalization in place of a bias."""
    kernel = conv(
        features,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        use_bias=not norm,
        kernel_init="he_normal",
    )
    # torchvision kept TensorFlow's eps.
    middle = {f"norm{number}": batch_norm(momentum=0.9, eps=1e-3)} if norm else {}
    return {f"conv{number}": kernel, **middle, f"relu{number}": jax.nn.relu}


def inception(
    one: int,
    three_reduced: int,
    three: int,
    five_reduced: int,
    five: int,
    pooled: int,
    *,
    variant: str = "paper",
) -> Module:
    """Builds an inception module: four branches concatenated along the channels. Figure 2b.

    Args:
      one: channels of the 1x1 branch.
      three_reduced, three: channels of the 1x1 reduction and of the 3x3 convolution after it.
      five_reduced, five: channels of the 1x1 reduction and of the 5x5 convolution after it.
      pooled: channels of the 1x1 projection after the pooling.
      variant: "paper" or "torchvision".

    Returns:
      A `Module` from (N, H, W, C) to (N, H, W, one + three + five + pooled). Its children are
      `branch1x1`, `branch3x3`, `branch5x5` and `branch_pool`.

    Raises:
      ValueError: there is no such variant.
    """
    norm = _is_torchvision("inception", variant)
    pool = {"pool": max_pool(3, stride=1, padding=1)}
    parts = {
        "branch1x1": conv_relu(1, one, 1, norm=norm),
        "branch3x3": conv_relu(1, three_reduced, 1, norm=norm) | conv_relu(2, three, 3, norm=norm),
        # torchvision's 3x3 is a bug that its weights need: github.com/pytorch/vision/issues/906
        "branch5x5": conv_relu(1, five_reduced, 1, norm=norm)
        | conv_relu(2, five, 3 if norm else 5, norm=norm),
        "branch_pool": pool | conv_relu(1, pooled, 1, norm=norm),
    }
    branches = {name: serial(**layers) for name, layers in parts.items()}

    def forward(call, x):
        return jnp.concatenate([call(name, x) for name in branches], axis=-1)

    return compose("inception", branches, forward)


def googlenet(*, num_classes: int = 1000, variant: str = "paper") -> Module:
    """Builds GoogLeNet: 22 layers with weights and no auxiliary heads, 6,998,552 parameters.

    Args:
      num_classes: the number of classes.
      variant: "paper", or "torchvision" with batch normalization, 6,624,904 parameters.

    Returns:
      A `Module` from (N, 224, 224, 3) to logits (N, num_classes).

    Raises:
      ValueError: there is no such variant.
    """
    norm = _is_torchvision("googlenet", variant)
    # Both give the sizes of table 1: 112, 56, 28, 14 and 7.
    pool = ceil_max_pool(3, stride=2) if norm else max_pool(3, stride=2, padding=1)
    children: dict[str, Any] = {
        **conv_relu(1, 64, 7, stride=2, norm=norm),
        "pool1": pool,
        **({} if norm else {"lrn1": local_response_normalization}),
        **conv_relu(2, 64, 1, norm=norm),
        **conv_relu(3, 192, 3, norm=norm),
        **({} if norm else {"lrn2": local_response_normalization}),
        "pool2": pool,
    }
    for name, channels in TABLE.items():
        if name == "4a":
            children["pool3"] = pool
        if name == "5a":
            children["pool4"] = ceil_max_pool(2, stride=2) if norm else pool
        children[f"inception{name}"] = inception(*channels, variant=variant)
    # Table 1 has 40 %, torchvision 20 %.
    rate = 0.2 if norm else 0.4
    return serial(
        **children, mean=global_avg_pool(), dropout=dropout(rate), logits=dense(num_classes)
    )


def googlenet_with_heads(*, num_classes: int = 1000, variant: str = "paper") -> Module:
    """Builds GoogLeNet with auxiliary heads on modules 4a and 4d: 13,378,280 parameters.

    The heads are used in training only: the paper adds 0.3 times their losses to the loss of the
    main output (section 5). Without the entries `head_4a` and `head_4d`, the parameters fit
    `googlenet`.

    Args:
      num_classes: the number of classes.
      variant: "paper", or "torchvision", 13,004,888 parameters.

    Returns:
      A `Module` from (N, 224, 224, 3) to logits `(main, head_4a, head_4d)`, each (N, num_classes).

    Raises:
      ValueError: there is no such variant.
    """
    norm = _is_torchvision("googlenet_with_heads", variant)
    main = googlenet(num_classes=num_classes, variant=variant)
    heads = {
        name: serial(
            pool=adaptive_avg_pool(4) if norm else avg_pool(5, stride=3),
            **conv_relu(1, 128, 1, norm=norm),
            flatten=flatten(),
            dense1=dense(1024),
            relu2=jax.nn.relu,
            dropout=dropout(0.7),
            logits=dense(num_classes),
        )
        for name in HEADS.values()
    }

    def forward(call, x):
        logits = []
        for name in main.children:
            x = call(name, x)
            if name in HEADS:
                logits.append(call(HEADS[name], x))
        return (x, *logits)

    return compose("googlenet_with_heads", {**main.children, **heads}, forward)


def _is_torchvision(caller: str, variant: str) -> bool:
    if variant not in VARIANTS:
        raise ValueError(
            f"{caller}: variant is {variant!r}; expected one of {', '.join(VARIANTS)}."
        )
    return variant == "torchvision"
