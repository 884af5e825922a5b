"""ResNet in ResNet (RiR): blocks with a residual and a transient stream.

Targ, Almeida and Lyman 2016, arXiv 1603.08029, eq. 1 and figure 1. With s = relu(norm(.)),

    r' = s(conv(r, W_rr) + conv(t, W_tr) + shortcut(r))
    t' = s(conv(r, W_rt) + conv(t, W_tt))

Only the residual stream r has a shortcut, so the transient stream t can discard what it read.
Without the cross convolutions W_rt and W_tr, r is a ResNet of one convolution per block and t a
plain network. With the cross convolutions alone, two blocks are one ResNet block of two
convolutions. RiR puts two such blocks into one residual block of both streams.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxdl._check import require_ints
from jaxdl.combine import serial
from jaxdl.core import Module, compose
from jaxdl.nn import batch_norm, dense, global_avg_pool
from jaxdl.zoo.vision.resnet import conv_norm

__all__ = ["generalized_residual", "resnet_in_resnet", "rir_block"]


def kernel(features: int, kernel_size: int, stride: int) -> Module | Callable:
    """Returns a convolution without bias: the sum of several is normalized."""
    return conv_norm(features, kernel_size, stride)["conv"]


def add_shortcut(y: jax.Array, skip: jax.Array) -> jax.Array:
    """Adds a shortcut to the sum of a stream's convolutions."""
    if y.shape != skip.shape:
        raise ValueError(
            f"generalized_residual: the convolutions give {y.shape}, the shortcut {skip.shape}; "
            "expected equal shapes. Pass project=True where a block changes the shape."
        )
    return y + skip


def generalized_residual(features: int, stride: int = 1, project: bool = False) -> Module:
    """Builds a generalized residual block (eq. 1).

    Args:
      features: channels of each of the two output streams.
      stride: the stride of the convolutions.
      project: whether the shortcut projects r to the output's shape by a 1x1 convolution.

    Returns:
      A `Module` from streams (r, t), each (N, H, W, C), to streams of (N, H / stride, W / stride,
      features).

    Raises:
      ValueError: at init, the block changes the shape and `project` is false.
    """
    names = ("residual", "residual_to_transient", "transient_to_residual", "transient")
    children = {name: kernel(features, 3, stride) for name in names}
    children |= {f"{stream}_norm": batch_norm(momentum=0.9) for stream in ("residual", "transient")}
    if project:
        children["shortcut"] = kernel(features, 1, stride)

    def forward(call, r, t):
        skip = call("shortcut", r) if project else r
        new_r = add_shortcut(call("residual", r) + call("transient_to_residual", t), skip)
        new_t = call("residual_to_transient", r) + call("transient", t)
        return (
            jax.nn.relu(call("residual_norm", new_r)),
            jax.nn.relu(call("transient_norm", new_t)),
        )

    return compose("generalized_residual", children, forward, features=features, stride=stride)


def rir_block(features: int, stride: int = 1, project: bool = False) -> Module:
    """Builds an RiR block: two generalized residual blocks within a residual block.

    Args:
      features, stride, project: as for `generalized_residual`; the outer shortcut of each stream
        projects, too.

    Returns:
      A `Module` of streams, as `generalized_residual`.
    """
    children: dict[str, Module | Callable] = {
        "block1": generalized_residual(features, stride, project),
        "block2": generalized_residual(features),
    }
    if project:
        for stream in ("residual", "transient"):
            children[f"{stream}_shortcut"] = kernel(features, 1, stride)

    def forward(call, r, t):
        new_r, new_t = call("block2", *call("block1", r, t))
        if project:
            r, t = call("residual_shortcut", r), call("transient_shortcut", t)
        return add_shortcut(new_r, r), add_shortcut(new_t, t)

    return compose("rir_block", children, forward, features=features, stride=stride)


def resnet_in_resnet(
    widths: Sequence[int] = (48, 96, 192),
    depths: Sequence[int] = (2, 3, 3),
    *,
    num_classes: int = 10,
    block: Callable[[int, int, bool], Module] = rir_block,
) -> Module:
    """Builds ResNet in ResNet for 32x32 images: by default 18 layers, 9,539,050 parameters.

    A first convolution makes both streams; the logits are of the means of both.

    Args:
      widths: channels of each stream in each stage; each stage after the first halves the map.
      depths: the number of blocks in each stage.
      num_classes: the number of classes.
      block: `rir_block`, or `generalized_residual` for the paper's "ResNet Init" form.

    Returns:
      A `Module` from (N, H, W, C) to logits (N, num_classes).

    Raises:
      ValueError: `widths` and `depths` differ in length.
    """
    if len(widths) != len(depths):
        raise ValueError(
            f"resnet_in_resnet: {len(widths)} widths and {len(depths)} depths; expected one of "
            "each for every stage."
        )
    require_ints("resnet_in_resnet", 1, **{f"depths[{i}]": n for i, n in enumerate(depths)})
    children: dict[str, Module] = {"stem": serial(**conv_norm(2 * widths[0], 3), relu=jax.nn.relu)}
    names = []
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for i in range(depth):
            first = stage > 0 and i == 0
            names.append(f"layer{stage + 1}_{i}")
            children[names[-1]] = block(width, 2 if first else 1, first)
    children |= {"mean": global_avg_pool(), "logits": dense(num_classes)}

    def forward(call, x):
        streams = jnp.split(call("stem", x), 2, axis=-1)
        for name in names:
            streams = call(name, *streams)
        return call("logits", call("mean", jnp.concatenate(streams, axis=-1)))

    return compose("resnet_in_resnet", children, forward, widths=tuple(widths))
