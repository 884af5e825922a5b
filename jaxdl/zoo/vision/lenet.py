"""LeNet-5 as published, and the form that today's tutorials call LeNet.

LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning applied to document recognition",
Proceedings of the IEEE 86(11), doi:10.1109/5.726791, section II B and figure 2.

    squash        f(a) = 1.7159 tanh(2 a / 3)
    C1, C3, C5    f(conv5x5(x) + b), and each map of C3 reads 3, 4 or 6 maps of S2 (table I)
    S2, S4        f(w (sum of 2x2 inputs) + b), one w and one b for each map
    F6            f(W x + b), 84 units
    output        y_i = sum_j (x_j - c_ij)^2, with fixed codes c_ij of -1 and 1
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.combine import serial
from jaxdl.core import Module
from jaxdl.nn import conv, dense, flatten, functional, max_pool

__all__ = ["lenet", "lenet5", "radial_basis", "squash", "subsampling"]

# Table I: the maps of S2 that each of the 16 maps of C3 reads.
TABLE = "012 123 234 345 045 015 0123 1234 2345 0345 0145 0125 0134 1245 0235 012345"
CONNECTIONS = [tuple(map(int, maps)) for maps in TABLE.split()]


def squash(x: jax.Array) -> jax.Array:
    """Returns `1.7159 tanh(2 x / 3)`, which maps 1 to 1 and -1 to -1 (appendix A)."""
    return 1.7159 * jnp.tanh(2 / 3 * x)


def uniform(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Draws weights from -2.4 / n .. 2.4 / n for units of n inputs (appendix A)."""
    bound = 2.4 / np.prod(shape[:-1])
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def subsampling() -> Module:
    """Creates a layer w_c (sum of 2x2 inputs) + b_c: an average pooling with trainable scale.

    Parameters: `scale` (C,), initially 1/4, and `bias` (C,).

    Returns:
      A `Module` from (N, H, W, C) to (N, H / 2, W / 2, C).
    """

    def init(key, x):
        channels = jnp.zeros(x.shape[-1:], x.dtype)
        return {"scale": channels + 0.25, "bias": channels}, {}

    def apply(params, state, x, **_):
        # The trainable weight multiplies the sum of four inputs, not their mean (section II B).
        sums = 4 * functional.avg_pool(x, 2)
        return params["scale"] * sums + params["bias"], state

    return Module(init, apply, "subsampling")


def partial_convolution() -> Module:
    """Creates C3: a 5x5 convolution from 6 to 16 maps with the 60 connections of table I."""
    sources = np.array([source for maps in CONNECTIONS for source in maps])
    targets = np.array([target for target, maps in enumerate(CONNECTIONS) for _ in maps])

    def init(key, x):
        if x.shape[-1] != 6:
            raise ValueError(f"lenet5: C3 reads {x.shape[-1]} maps; expected the 6 maps of S2.")
        # Units of C3 have 75, 100 or 150 inputs, hence different initial ranges (appendix A).
        inputs = np.array([25 * len(maps) for maps in CONNECTIONS])[targets]
        unit = jax.random.uniform(key, (5, 5, len(sources)), x.dtype, -1, 1)
        bias = jnp.zeros(len(CONNECTIONS), x.dtype)
        return {"kernel": unit * jnp.asarray(2.4 / inputs, x.dtype), "bias": bias}, {}

    def apply(params, state, x, **_):
        # Only the 60 windows that exist are parameters; the others stay 0 in training.
        kernel = jnp.zeros((5, 5, 6, len(CONNECTIONS)), x.dtype)
        kernel = kernel.at[:, :, sources, targets].set(params["kernel"])
        return functional.conv(x, kernel, params["bias"], padding="VALID"), state

    return Module(init, apply, "partial_convolution")


def radial_basis(num_classes: int, codes: Any = None) -> Module:
    """Creates the output layer: logits -sum_j (x_j - c_ij)^2 with fixed codes c.

    The paper's codes are bitmaps of 7x12 pixels that show the characters. The codes are state, so
    no optimizer changes them. With `losses.cross_entropy` the logits give the paper's criterion
    (eq. 9) without its constant j.

    Args:
      num_classes: the number of classes.
      codes: (num_classes, D) numbers -1 and 1; None draws them at random.

    Returns:
      A `Module` from (N, D) to logits (N, num_classes).

    Raises:
      ValueError: at init, `codes` has another shape.
    """

    def init(key, x):
        shape = (num_classes, x.shape[-1])
        if codes is None:
            return {}, {"codes": jax.random.rademacher(key, shape, x.dtype)}
        if np.shape(codes) != shape:
            raise ValueError(
                f"radial_basis: codes have shape {np.shape(codes)}; expected {shape}, one row of "
                "-1 and 1 for each class."
            )
        return {}, {"codes": jnp.asarray(codes, x.dtype)}

    def apply(params, state, x, **_):
        # Differences, because |x|^2 - 2 x c + |c|^2 cancels close to a code.
        return -jnp.square(x[:, None] - state["codes"]).sum(-1), state

    return Module(init, apply, "radial_basis", {"num_classes": num_classes})


def lenet5(*, num_classes: int = 10, codes: Any = None) -> Module:
    """Builds LeNet-5 as published in 1998: 60,000 trainable parameters.

    They are 156 in C1, 12 in S2, 1,516 in C3, 32 in S4, 48,120 in C5 and 10,164 in F6.

    Args:
      num_classes: the number of classes.
      codes: as for `radial_basis`, (num_classes, 84).

    Returns:
      A `Module` from (N, 32, 32, 1) to logits (N, num_classes). The paper scales pixels to -0.1 for
      white and 1.175 for black.
    """

    def window(features):
        return conv(features, 5, padding="VALID", kernel_init=uniform)

    return serial(
        c1=window(6),
        c1_squash=squash,
        s2=subsampling(),
        s2_squash=squash,
        c3=partial_convolution(),
        c3_squash=squash,
        s4=subsampling(),
        s4_squash=squash,
        c5=window(120),
        c5_squash=squash,
        flatten=flatten(),
        f6=dense(84, kernel_init=uniform),
        f6_squash=squash,
        logits=radial_basis(num_classes, codes),
    )


def lenet(*, num_classes: int = 10) -> Module:
    """Builds the modern LeNet, with ReLU, max pooling and a dense output: 61,706 parameters.

    This is what tutorials of deep-learning libraries call LeNet. Its second convolution reads all
    maps. For the network of the paper use `lenet5`.

    Args:
      num_classes: the number of classes.

    Returns:
      A `Module` from (N, 28, 28, 1) to logits (N, num_classes).
    """
    return serial(
        conv1=conv(6, 5, padding=2),
        relu1=jax.nn.relu,
        pool1=max_pool(2),
        conv2=conv(16, 5, padding="VALID"),
        relu2=jax.nn.relu,
        pool2=max_pool(2),
        flatten=flatten(),
        dense1=dense(120),
        relu3=jax.nn.relu,
        dense2=dense(84),
        relu4=jax.nn.relu,
        logits=dense(num_classes),
    )
