"""Residual networks, and the plain ones of equal depth. He et al. 2016, arXiv 1512.03385.

    basic block     y = relu(x + F(x)),   F = norm conv3x3 relu norm conv3x3
    bottleneck      y = relu(x + F(x)),   F = norm conv1x1 relu norm conv3x3 relu norm conv1x1
    plain block     y = relu(F(x))

Where a block halves the map and has more channels, x is projected by a 1x1 convolution, or, in the
networks for CIFAR, taken at every other cell with channels of zeros (section 4.2, option A), so
that a plain and a residual network have the same parameters. Lecture rows G04, G05.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxdl.combine import residual, serial
from jaxdl.core import Module
from jaxdl.nn import batch_norm, conv, dense, global_avg_pool, max_pool

__all__ = [
    "basic_block",
    "bottleneck",
    "cifar_resnet",
    "plain_block",
    "resnet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
]

Block = Callable[[int, int, bool], Module]


def convolved(features: int, kernel_size: int, stride: int = 1) -> dict[str, Module]:
    """A convolution without bias and its normalization; the padding is that of PyTorch."""
    padding = kernel_size // 2
    kernel = conv(
        features,
        kernel_size,
        stride=stride,
        padding=padding,
        use_bias=False,
        kernel_init="he_normal",
    )
    return {"conv": kernel, "norm": batch_norm(momentum=0.9)}


def layers(*parts: dict[str, Module]) -> Module:
    """Convolutions, with an activation between them and none after the last."""
    named: dict[str, Module | Callable] = {}
    for i, part in enumerate(parts):
        if i:
            named[f"relu_{i - 1}"] = jax.nn.relu
        named |= {f"{name}_{i}": layer for name, layer in part.items()}
    return serial(**named)


def two_convolutions(features: int, stride: int) -> Module:
    return layers(convolved(features, 3, stride), convolved(features, 3))


def projection(features: int, stride: int) -> Module:
    """A 1x1 convolution to the block's shape: option B of section 3.3."""
    return serial(**convolved(features, 1, stride))


def padded(features: int, stride: int) -> Callable[[jax.Array], jax.Array]:
    """Every `stride`-th cell, with channels of zeros on both sides: option A of section 3.3."""

    def pad_channels(x):
        missing = features - x.shape[-1]
        edges = [(0, 0)] * (x.ndim - 1) + [(missing // 2, missing - missing // 2)]
        return jnp.pad(x[:, ::stride, ::stride], edges)

    return pad_channels


def basic_block(features: int, stride: int, project: bool) -> Module:
    """Two 3x3 convolutions, and x around them. Figure 5, left.

    Args:
      features: channels of its output.
      stride: of the first convolution.
      project: whether x changes its shape, and is projected to the output's.

    Returns:
      A `Module` from (N, H, W, C) to (N, H / stride, W / stride, features).
    """
    shortcut = projection(features, stride) if project else None
    return serial(sum=residual(two_convolutions(features, stride), shortcut), relu=jax.nn.relu)


def padded_block(features: int, stride: int, project: bool) -> Module:
    """`basic_block` with a shortcut that has no parameters."""
    shortcut = padded(features, stride) if project else None
    return serial(sum=residual(two_convolutions(features, stride), shortcut), relu=jax.nn.relu)


def plain_block(features: int, stride: int, project: bool) -> Module:
    """`basic_block` without the way around: y = relu(F(x))."""
    del project
    return serial(layers=two_convolutions(features, stride), relu=jax.nn.relu)


def bottleneck(features: int, stride: int, project: bool) -> Module:
    """1x1, 3x3 and 1x1 convolutions, and x around them. Figure 5, right.

    Args:
      features: channels inside; the output has four times as many.
      stride: of the 3x3 convolution, as is usual today; the paper has it in the first.
      project: as for `basic_block`.

    Returns:
      A `Module` from (N, H, W, C) to (N, H / stride, W / stride, 4 features).
    """
    wide = 4 * features
    block = layers(convolved(features, 1), convolved(features, 3, stride), convolved(wide, 1))
    shortcut = projection(wide, stride) if project else None
    return serial(sum=residual(block, shortcut), relu=jax.nn.relu)


def blocks(block: Block, depths: Sequence[int], features: int, project_first: bool) -> dict:
    """Stages of blocks; each stage after the first halves the map and doubles the channels."""
    made = {}
    for stage, depth in enumerate(depths):
        for i in range(depth):
            project = i == 0 and (stage > 0 or project_first)
            stride = 2 if stage > 0 and i == 0 else 1
            made[f"block_{len(made)}"] = block(features * 2**stage, stride, project)
    return made


def resnet(block: Block, depths: Sequence[int], *, classes: int = 1000) -> Module:
    """The network for ImageNet: table 1 of the paper.

    Args:
      block: `basic_block` or `bottleneck`.
      depths: the number of blocks in each of the four stages.
      classes: the number of classes.

    Returns:
      A `Module` from (N, H, W, C) to logits (N, classes).
    """
    return serial(
        **convolved(64, 7, 2),
        relu=jax.nn.relu,
        pool=max_pool(3, stride=2, padding=1),
        **blocks(block, depths, 64, project_first=block is bottleneck),
        mean=global_avg_pool(),
        logits=dense(classes),
    )


def cifar_resnet(depth: int, *, classes: int = 10, plain: bool = False) -> Module:
    """The network for images of 32x32, of 6n + 2 layers: section 4.2 of the paper. Row G05.

    Args:
      depth: its layers with weights: 20, 32, 44, 56, 110, ...
      classes: the number of classes.
      plain: leave the ways around the blocks out; the parameters stay as they are.

    Returns:
      A `Module` from (N, H, W, C) to logits (N, classes).

    Raises:
      ValueError: the depth is not 6n + 2.
    """
    n, rest = divmod(depth - 2, 6)
    if rest or n < 1:
        raise ValueError(
            f"cifar_resnet: depth is {depth}; expected 6n + 2: 8, 14, 20, 32, 44, 56, 110, ..."
        )
    return serial(
        **convolved(16, 3),
        relu=jax.nn.relu,
        **blocks(plain_block if plain else padded_block, (n, n, n), 16, project_first=False),
        mean=global_avg_pool(),
        logits=dense(classes),
    )


def resnet18(*, classes: int = 1000) -> Module:
    """`resnet` of 2, 2, 2 and 2 basic blocks: 11,689,512 parameters."""
    return resnet(basic_block, (2, 2, 2, 2), classes=classes)


def resnet34(*, classes: int = 1000) -> Module:
    """`resnet` of 3, 4, 6 and 3 basic blocks: 21,797,672 parameters."""
    return resnet(basic_block, (3, 4, 6, 3), classes=classes)


def resnet50(*, classes: int = 1000) -> Module:
    """`resnet` of 3, 4, 6 and 3 bottlenecks: 25,557,032 parameters."""
    return resnet(bottleneck, (3, 4, 6, 3), classes=classes)


def resnet101(*, classes: int = 1000) -> Module:
    """`resnet` of 3, 4, 23 and 3 bottlenecks: 44,549,160 parameters."""
    return resnet(bottleneck, (3, 4, 23, 3), classes=classes)


def resnet152(*, classes: int = 1000) -> Module:
    """`resnet` of 3, 8, 36 and 3 bottlenecks: 60,192,808 parameters."""
    return resnet(bottleneck, (3, 8, 36, 3), classes=classes)
