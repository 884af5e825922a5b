"""Residual networks for ImageNet. He et al. 2016, arXiv 1512.03385.

    basic block     y = relu(x + F(x)),   F = norm conv3x3 relu norm conv3x3
    bottleneck      y = relu(x + F(x)),   F = norm conv1x1 relu norm conv3x3 relu norm conv1x1

A block that halves the map and widens the channels projects x by a 1x1 convolution.
`zoo.vision.cifar_resnet` has the networks for CIFAR, without projections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax

from jaxdl.combine import serial
from jaxdl.core import Module, compose
from jaxdl.nn import batch_norm, conv, dense, global_avg_pool, max_pool

__all__ = [
    "basic_block",
    "bottleneck",
    "resnet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
]

Block = Callable[[int, int, bool], Module]


def conv_norm(
    features: int, kernel_size: int, stride: int = 1, number: int | str = "", dilation: int = 1
) -> dict[str, Module | Callable]:
    """Returns a convolution without bias and its batch normalization, padded as in PyTorch.

    Args:
      features, kernel_size, stride, dilation: see `nn.conv`.
      number: ends the names of both, `conv1` and `norm1`.
    """
    kernel = conv(
        features,
        kernel_size,
        stride=stride,
        # Not SAME, which pads even sizes by one cell more at their end at stride 2.
        padding=dilation * (kernel_size // 2),
        dilation=dilation,
        # The mean that the normalization subtracts would cancel a bias.
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
        # With a ReLU at its end, F could only increase x (arXiv 1603.05027, section 4.1).
        return call("relu", y + (x if shortcut is None else call("shortcut", x)))

    return compose(kind, {**layers, **rest}, forward)


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


def bottleneck(features: int, stride: int, project: bool, dilation: int = 1) -> Module:
    """Builds a bottleneck block: 1x1, 3x3 and 1x1 convolutions with a shortcut. Figure 5, right.

    Args:
      features: channels of the 3x3 convolution; the output has 4 features channels.
      stride: stride of the 3x3 convolution, as in torchvision; the paper strides the first 1x1.
      project: as for `basic_block`.
      dilation: dilation of the 3x3 convolution, for networks that label pixels.

    Returns:
      A `Module` from (N, H, W, C) to (N, H / stride, W / stride, 4 features).
    """
    wide = 4 * features
    first, second = conv_norm(features, 1, 1, 1), conv_norm(features, 3, stride, 2, dilation)
    last = {"relu2": jax.nn.relu, **conv_norm(wide, 1, 1, 3)}
    layers = {**first, "relu1": jax.nn.relu, **second, **last}
    return residual_block("bottleneck", layers, projection(wide, stride) if project else None)


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
        # Bottlenecks widen the 64 channels of the stem to 256, so their first block projects.
        **blocks(block, depths, 64, project_first=block is bottleneck),
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
