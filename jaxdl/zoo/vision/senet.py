"""Squeeze-and-excitation networks: channels weighted by the image. Hu et al. 2018.

    gate     g = sigmoid(W2 relu(W1 mean(u) + b1) + b2)     mean over height and width, r = 16
    block    y = relu(x + g F(x)),   F = norm conv1x1 relu norm conv3x3 relu norm conv1x1

arXiv 1709.01507, equations 2 to 4. The blocks are those of ResNet (arXiv 1512.03385) and ResNeXt
(arXiv 1611.05431), laid out as in the authors' Caffe models: SE-ResNet has its stride in the first
1x1 convolution, and the pooling after the stem rounds its size up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxdl.combine import serial
from jaxdl.core import Module, compose
from jaxdl.nn import dense, dropout, global_avg_pool
from jaxdl.zoo.vision.mobilenet import conv_norm
from jaxdl.zoo.vision.pooling import ceil_max_pool

__all__ = [
    "se_block",
    "se_resnet",
    "se_resnet50",
    "se_resnet101",
    "se_resnet152",
    "se_resnext50",
    "senet154",
    "squeeze_excite",
]


BLOCKS = {
    # channels of the three convolutions in units of the stage's; strided convolution; groups;
    # window of a projection that halves the map
    "resnet": ((1, 1, 4), 0, 1, 1),
    "resnext": ((2, 2, 4), 1, 32, 1),
    "senet154": ((2, 4, 4), 1, 64, 3),
}


def squeeze_excite(
    channels: int, reduced: int, *, activation: Callable[[jax.Array], jax.Array] = jax.nn.relu
) -> Module:
    """Creates a layer that scales each channel by a gate in (0, 1). Equations 2 to 4.

    Args:
      channels: C, the channels of the input.
      reduced: units of the hidden layer; Hu et al. use C / 16.
      activation: of the hidden layer.

    Returns:
      A `Module` from (N, H, W, C) to the same.
    """
    children = {"reduce": dense(reduced), "expand": dense(channels)}

    def forward(call, x):
        hidden = activation(call("reduce", jnp.mean(x, (1, 2))))
        return x * jax.nn.sigmoid(call("expand", hidden))[:, None, None]

    return compose("squeeze_excite", children, forward)


def se_block(kind: str, features: int, *, stride: int, project: bool) -> Module:
    """Builds a bottleneck block with a gate before the sum. Figure 3.

    Args:
      kind: "resnet", "resnext" or "senet154".
      features: channels of the stage; the output has 4 features channels.
      stride: 1, or 2 to halve the map.
      project: whether the shortcut is a convolution.

    Returns:
      A `Module` from (N, H, W, C) to (N, H / stride, W / stride, 4 features).

    Raises:
      ValueError: there is no such kind.
    """
    if kind not in BLOCKS:
        raise ValueError(f"se_block: kind is {kind!r}; expected one of {', '.join(BLOCKS)}.")
    widths, strided, groups, window = BLOCKS[kind]
    children: dict[str, Module | Callable] = {}
    for i, (width, kernel_size) in enumerate(zip(widths, (1, 3, 1), strict=True)):
        kernel, norm = conv_norm(
            width * features,
            kernel_size,
            stride=stride if i == strided else 1,
            groups=groups if kernel_size > 1 else 1,
        )
        children |= {f"conv{i + 1}": kernel, f"norm{i + 1}": norm}
        children |= {f"relu{i + 1}": jax.nn.relu} if i < 2 else {}
    wide = 4 * features
    children["gate"] = squeeze_excite(wide, wide // 16)
    shortcut = {}
    if project:
        kernel, norm = conv_norm(wide, window if stride > 1 else 1, stride)
        shortcut = {"shortcut": serial(conv=kernel, norm=norm)}

    def forward(call, x):
        y = x
        for name in children:
            y = call(name, y)
        return jax.nn.relu(y + (call("shortcut", x) if project else x))

    return compose("se_block", children | shortcut, forward, stride=stride)


def se_resnet(kind: str, depths: Sequence[int], *, num_classes: int = 1000) -> Module:
    """Builds a residual network with gates for ImageNet (table 1).

    Blocks are called `layer1_0`, `layer1_1`, ..., in stages 1 to 4.

    Args:
      kind: of the blocks, see `se_block`. "senet154" has three 3x3 convolutions in place of the
        first 7x7 and dropout before the classifier.
      depths: the number of blocks in each stage.
      num_classes: the number of classes.

    Returns:
      A `Module` from (N, H, W, 3) to logits (N, num_classes).

    Raises:
      ValueError: there is no such kind.
    """
    stem = ((64, 3, 2), (64, 3, 1), (128, 3, 1)) if kind == "senet154" else ((64, 7, 2),)
    children: dict[str, Module | Callable] = {}
    for i, (features, kernel_size, stride) in enumerate(stem, start=1):
        children[f"conv{i}"], children[f"norm{i}"] = conv_norm(features, kernel_size, stride)
        children[f"relu{i}"] = jax.nn.relu
    children["pool"] = ceil_max_pool(3, stride=2)
    for stage, depth in enumerate(depths):
        for i in range(depth):
            children[f"layer{stage + 1}_{i}"] = se_block(
                kind,
                64 * 2**stage,
                stride=2 if stage > 0 and i == 0 else 1,
                project=i == 0,
            )
    children["mean"] = global_avg_pool()
    children |= {"dropout": dropout(0.2)} if kind == "senet154" else {}
    return serial(**children, logits=dense(num_classes))


def se_resnet50(*, num_classes: int = 1000) -> Module:
    """Builds `se_resnet` with 3, 4, 6 and 3 blocks: 28,088,024 parameters."""
    return se_resnet("resnet", (3, 4, 6, 3), num_classes=num_classes)


def se_resnet101(*, num_classes: int = 1000) -> Module:
    """Builds `se_resnet` with 3, 4, 23 and 3 blocks: 49,326,872 parameters."""
    return se_resnet("resnet", (3, 4, 23, 3), num_classes=num_classes)


def se_resnet152(*, num_classes: int = 1000) -> Module:
    """Builds `se_resnet` with 3, 8, 36 and 3 blocks: 66,821,848 parameters."""
    return se_resnet("resnet", (3, 8, 36, 3), num_classes=num_classes)


def se_resnext50(*, num_classes: int = 1000) -> Module:
    """Builds `se_resnet` with 3, 4, 6 and 3 grouped blocks (32x4d): 27,559,896 parameters."""
    return se_resnet("resnext", (3, 4, 6, 3), num_classes=num_classes)


def senet154(*, num_classes: int = 1000) -> Module:
    """Builds `se_resnet` with 3, 8, 36 and 3 blocks of 64 groups: 115,088,984 parameters."""
    return se_resnet("senet154", (3, 8, 36, 3), num_classes=num_classes)
