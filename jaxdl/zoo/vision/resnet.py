"""Residual networks and plain networks of the same depth. He et al. 2016, arXiv 1512.03385.

    basic block     y = relu(x + F(x)),   F = norm conv3x3 relu norm conv3x3
    bottleneck      y = relu(x + F(x)),   F = norm conv1x1 relu norm conv3x3 relu norm conv1x1
    plain block     y = relu(F(x))

A block that halves the map and widens the channels projects x by a 1x1 convolution. The networks
for CIFAR subsample x and pad its channels with zeros instead (section 4.2, option A), so that plain
and residual networks have the same parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxdl.combine import residual, serial
from jaxdl.core import Module, compose
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


def conv_norm(
    features: int, kernel_size: int, stride: int = 1, number: int | str = ""
) -> dict[str, Module]:
    """Returns a convolution without bias and its batch normalization, padded as in PyTorch.

    Args:
      features, kernel_size, stride: see `nn.conv`.
      number: ends the names of both, `conv1` and `norm1`.
    """
    kernel = conv(
        features,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        use_bias=False,
        kernel_init="he_normal",
    )
    return {f"conv{number}": kernel, f"norm{number}": batch_norm(momentum=0.9)}


def projection(features: int, stride: int) -> Module:
    """Returns a 1x1 convolution to the block's output shape: option B of section 3.3."""
    return serial(**conv_norm(features, 1, stride))


def residual_block(
    kind: str, layers: Mapping[str, Module | Callable], shortcut: Module | None = None
) -> Module:
    """Builds y = relu(x + F(x)), where F is a chain of layers.

    Args:
      kind: the name of the block.
      layers: the layers of F by name.
      shortcut: a projection of x to the shape of F(x), or None.
    """
    rest = {"relu": jax.nn.relu} | ({} if shortcut is None else {"shortcut": shortcut})

    def forward(call, x):
        y = x
        for name in layers:
            y = call(name, y)
        return call("relu", y + (x if shortcut is None else call("shortcut", x)))

    return compose(kind, {**layers, **rest}, forward)


def zero_padding_shortcut(features: int, stride: int) -> Callable[[jax.Array], jax.Array]:
    """Returns a function that subsamples x and pads channels with zeros: option A, section 3.3."""

    def pad_channels(x):
        missing = features - x.shape[-1]
        edges = [(0, 0)] * (x.ndim - 1) + [(missing // 2, missing - missing // 2)]
        return jnp.pad(x[:, ::stride, ::stride], edges)

    return pad_channels


def basic_block(features: int, stride: int, project: bool) -> Module:
    """Builds a basic block: two 3x3 convolutions with a shortcut. Figure 5, left.

    Args:
      features: channels of the output.
      stride: stride of the first convolution.
      project: whether the shortcut projects x to the output's shape.

    Returns:
      A `Module` from (N, H, W, C) to (N, H / stride, W / stride, features).
    """
    first, second = conv_norm(features, 3, stride, 1), conv_norm(features, 3, 1, 2)
    layers = {**first, "relu1": jax.nn.relu, **second}
    return residual_block("basic_block", layers, projection(features, stride) if project else None)


def bottleneck(features: int, stride: int, project: bool) -> Module:
    """Builds a bottleneck block: 1x1, 3x3 and 1x1 convolutions with a shortcut. Figure 5, right.

    Args:
      features: channels of the 3x3 convolution; the output has 4 features channels.
      stride: stride of the 3x3 convolution, as in torchvision; the paper strides the first 1x1.
      project: as for `basic_block`.

    Returns:
      A `Module` from (N, H, W, C) to (N, H / stride, W / stride, 4 features).
    """
    wide = 4 * features
    first, second = conv_norm(features, 1, 1, 1), conv_norm(features, 3, stride, 2)
    last = {"relu2": jax.nn.relu, **conv_norm(wide, 1, 1, 3)}
    layers = {**first, "relu1": jax.nn.relu, **second, **last}
    return residual_block("bottleneck", layers, projection(wide, stride) if project else None)


def two_convolutions(features: int, stride: int) -> Module:
    """Returns the residual function F of the networks for CIFAR."""
    first, second = conv_norm(features, 3, stride, "_0"), conv_norm(features, 3, 1, "_1")
    return serial(**first, relu_0=jax.nn.relu, **second)


def padded_block(features: int, stride: int, project: bool) -> Module:
    """Builds a `basic_block` whose shortcut has no parameters."""
    shortcut = zero_padding_shortcut(features, stride) if project else None
    return serial(sum=residual(two_convolutions(features, stride), shortcut), relu=jax.nn.relu)


def plain_block(features: int, stride: int, project: bool) -> Module:
    """Builds a `basic_block` without shortcut: y = relu(F(x))."""
    del project
    return serial(layers=two_convolutions(features, stride), relu=jax.nn.relu)


def blocks(
    block: Block, depths: Sequence[int], features: int, project_first: bool
) -> dict[str, Module]:
    """Returns stages of blocks; each after the first halves the map and doubles the channels.

    Their names are those of PyTorch's networks: `layer3_1` is the second block of the third stage.
    """
    children = {}
    for stage, depth in enumerate(depths):
        for i in range(depth):
            project = i == 0 and (stage > 0 or project_first)
            stride = 2 if stage > 0 and i == 0 else 1
            children[f"layer{stage + 1}_{i}"] = block(features * 2**stage, stride, project)
    return children


def resnet(block: Block, depths: Sequence[int], *, num_classes: int = 1000) -> Module:
    """Builds a ResNet for ImageNet (table 1 of the paper).

    Args:
      block: `basic_block` or `bottleneck`.
      depths: the number of blocks in each of the four stages.
      num_classes: the number of classes.

    Returns:
      A `Module` from (N, H, W, C) to logits (N, num_classes).
    """
    return serial(
        **conv_norm(64, 7, 2, 1),
        relu=jax.nn.relu,
        pool=max_pool(3, stride=2, padding=1),
        **blocks(block, depths, 64, project_first=block is bottleneck),
        mean=global_avg_pool(),
        logits=dense(num_classes),
    )


def cifar_resnet(depth: int, *, num_classes: int = 10, plain: bool = False) -> Module:
    """Builds a ResNet of 6n + 2 layers for 32x32 images (section 4.2 of the paper).

    Args:
      depth: layers with weights, 6n + 2: 20, 32, 44, 56, 110, ...
      num_classes: the number of classes.
      plain: leave out the shortcuts; the parameters are the same.

    Returns:
      A `Module` from (N, H, W, C) to logits (N, num_classes).

    Raises:
      ValueError: the depth is not 6n + 2.
    """
    n, rest = divmod(depth - 2, 6)
    if rest or n < 1:
        raise ValueError(
            f"cifar_resnet: depth is {depth}; expected 6n + 2: 8, 14, 20, 32, 44, 56, 110, ..."
        )
    stages = blocks(plain_block if plain else padded_block, (n, n, n), 16, project_first=False)
    return serial(
        **conv_norm(16, 3),
        relu=jax.nn.relu,
        **{f"block_{i}": block for i, block in enumerate(stages.values())},
        mean=global_avg_pool(),
        logits=dense(num_classes),
    )


def resnet18(*, num_classes: int = 1000) -> Module:
    """Builds `resnet` with 2, 2, 2 and 2 basic blocks: 11,689,512 parameters."""
    return resnet(basic_block, (2, 2, 2, 2), num_classes=num_classes)


def resnet34(*, num_classes: int = 1000) -> Module:
    """Builds `resnet` with 3, 4, 6 and 3 basic blocks: 21,797,672 parameters."""
    return resnet(basic_block, (3, 4, 6, 3), num_classes=num_classes)


def resnet50(*, num_classes: int = 1000) -> Module:
    """Builds `resnet` with 3, 4, 6 and 3 bottlenecks: 25,557,032 parameters."""
    return resnet(bottleneck, (3, 4, 6, 3), num_classes=num_classes)


def resnet101(*, num_classes: int = 1000) -> Module:
    """Builds `resnet` with 3, 4, 23 and 3 bottlenecks: 44,549,160 parameters."""
    return resnet(bottleneck, (3, 4, 23, 3), num_classes=num_classes)


def resnet152(*, num_classes: int = 1000) -> Module:
    """Builds `resnet` with 3, 8, 36 and 3 bottlenecks: 60,192,808 parameters."""
    return resnet(bottleneck, (3, 8, 36, 3), num_classes=num_classes)
