"""U-Net: a contracting and an expanding path. Ronneberger, Fischer and Brox 2015, arXiv 1505.04597.

    down    d_0 = block_0(x),              d_i = block_i(pool(d_{i-1}))
    up      u_n = d_n,                     u_i = block'_i([d_i, upsample(u_{i+1})])
    output  s = conv1x1(u_0)

A block is two 3x3 convolutions with ReLUs. The network of the paper has valid convolutions: d_i is
cropped at its edges before it is concatenated, and 572 pixels become 388 (figure 1). The padded
form keeps the size and normalizes each convolution over the batch.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl._check import require_ints
from jaxdl.combine import serial
from jaxdl.core import Module, compose
from jaxdl.nn import batch_norm, conv, conv_transpose, dropout, max_pool

__all__ = ["padded_unet", "unet"]


def block(middle: int, features: int, padded: bool, rate: float = 0.0) -> Module:
    """Returns two 3x3 convolutions with ReLUs, and dropout after them if the rate is above 0."""
    layers: dict[str, Module | Callable] = {}
    for i, width in enumerate((middle, features), start=1):
        padding = "SAME" if padded else "VALID"
        layers[f"conv{i}"] = conv(
            width, padding=padding, use_bias=not padded, kernel_init="he_normal"
        )
        layers |= {f"norm{i}": batch_norm(momentum=0.9)} if padded else {}
        layers[f"relu{i}"] = jax.nn.relu
    return serial(**layers, **({"dropout": dropout(rate)} if rate else {}))


def double_bilinear(x: jax.Array) -> jax.Array:
    """Doubles height and width by bilinear interpolation that keeps the corners in place."""

    def matrix(n):
        position = np.linspace(0, n - 1, 2 * n)[:, None]
        return np.maximum(0, 1 - np.abs(position - np.arange(n))).astype(x.dtype)

    return jnp.einsum("ih,jw,nhwc->nijc", matrix(x.shape[1]), matrix(x.shape[2]), x)


def crop_to(x: jax.Array, like: jax.Array) -> jax.Array:
    """Cuts the centre of the height and width of `like` out of x."""
    top, left = ((x.shape[axis] - like.shape[axis]) // 2 for axis in (1, 2))
    return x[:, top : top + like.shape[1], left : left + like.shape[2]]


def pad_to(x: jax.Array, like: jax.Array) -> jax.Array:
    """Pads x with zeros to the height and width of `like`, an odd one after."""
    missing = [like.shape[axis] - x.shape[axis] for axis in (1, 2)]
    edges = [(rest // 2, rest - rest // 2) for rest in missing]
    return jnp.pad(x, ((0, 0), *edges, (0, 0)))


def _build(
    kind: str,
    num_classes: int,
    width: int,
    depth: int,
    padded: bool,
    bilinear: bool = False,
    rate: float = 0.0,
) -> Module:
    require_ints(kind, 1, num_classes=num_classes, width=width, depth=depth)
    children: dict[str, Module | Callable] = {}
    # The bilinear form halves the channels in the blocks, because interpolation keeps them.
    widths = [width * 2**level for level in range(depth + 1)]
    for level, features in enumerate(widths):
        if level:
            children[f"pool{level}"] = max_pool(2)
        features = features // 2 if bilinear and level == depth else features
        children[f"down{level}"] = block(features, features, padded, rate * (level >= depth - 1))
    for level in reversed(range(depth)):
        children[f"upsample{level}"] = (
            double_bilinear
            if bilinear
            else conv_transpose(
                widths[level],
                2,
                stride=2,
                padding=0,
                flip=True,
                kernel_init="he_normal",
            )
        )
        features = widths[level] // 2 if bilinear and level else widths[level]
        children[f"up{level}"] = block(widths[level], features, padded)
    children["logits"] = conv(num_classes, 1)

    def forward(call, x):
        if not padded:
            _check_valid(kind, x.shape[1:3], depth)
        elif min(x.shape[1:3]) < 2**depth:
            raise ValueError(
                f"{kind}: {depth} poolings of images {x.shape[1:3]}; expected at least "
                f"{2**depth} pixels a side. Use larger images or a smaller depth."
            )
        skips, y = [], call("down0", x)
        for level in range(1, depth + 1):
            skips.append(y)
            y = call(f"down{level}", call(f"pool{level}", y))
        for level in reversed(range(depth)):
            y, skip = call(f"upsample{level}", y), skips[level]
            y, skip = (pad_to(y, skip), skip) if padded else (y, crop_to(skip, y))
            y = call(f"up{level}", jnp.concatenate([skip, y], axis=-1))
        return call("logits", y)

    return compose(kind, children, forward, num_classes=num_classes, width=width, depth=depth)


def _check_valid(kind: str, sizes: tuple[int, ...], depth: int) -> None:
    """Raises unless every pooling halves an even size and every block has an output."""
    step, margin = 2**depth, 12 * 2**depth - 8
    # The last block of the contracting path has b pixels a side where the image has
    # step (b + 8) - 4, so n + 4 is divisible by the step, and n exceeds the margin.
    smallest = ((margin + 4) // step + 1) * step - 4
    for size in sizes:
        if size < smallest or (size + 4) % step:
            nearest = max(smallest, round((size + 4) / step) * step - 4)
            raise ValueError(
                f"{kind}: images have {sizes} pixels; expected {smallest}, {smallest + step}, "
                f"{smallest + 2 * step}, ... a side for a depth of {depth}. Pad or crop {size} to "
                f"{nearest}."
            )


def unet(
    *, num_classes: int = 2, width: int = 64, depth: int = 4, dropout_rate: float = 0.5
) -> Module:
    """Builds the U-Net of the paper, with valid convolutions: 31,030,658 parameters.

    Crop the labels by half of the margin: for a depth of 4, `labels[:, 92:-92, 92:-92]`. To label
    a whole image, extend it by the margin with `jnp.pad(mode="reflect")` (figure 2).

    Args:
      num_classes: K, the number of classes.
      width: channels of the first block; they double with each level below.
      depth: the number of poolings.
      dropout_rate: of the last two blocks of the contracting path (section 3.1).

    Returns:
      A `Module` from (N, H, W, C) to logits (N, H - m, W - m, K) with the margin
      m = 12 2^depth - 8: from 572 to 388 for a depth of 4. 31,030,658 parameters are for one input
      channel and two classes.

    Raises:
      ValueError: a number is no positive integer; when the model runs, height or width is too small
        or a pooling would drop a row.
    """
    return _build("unet", num_classes, width, depth, padded=False, rate=dropout_rate)


def padded_unet(
    *, num_classes: int = 2, width: int = 64, depth: int = 4, bilinear: bool = False
) -> Module:
    """Builds a U-Net that keeps the size, with batch normalization: 31,037,698 parameters.

    Args:
      num_classes: K, the number of classes.
      width: channels of the first block; they double with each level below.
      depth: the number of poolings.
      bilinear: upsample by bilinear interpolation instead of transposed convolutions, with half of
        the channels at the bottom: 17,263,042 parameters.

    Returns:
      A `Module` from (N, H, W, C) to logits (N, H, W, K), for any H and W from 2^depth on. The
      numbers of parameters are for three input channels and two classes.

    Raises:
      ValueError: a number is no positive integer; when the model runs, height or width is below
        2^depth.
    """
    return _build("padded_unet", num_classes, width, depth, padded=True, bilinear=bilinear)
