"""AlexNet, as it was: two columns on two machines. Krizhevsky et al. 2012, "ImageNet Classification
with Deep Convolutional Neural Networks", figure 2.

The columns meet in the third convolution and in the dense layers alone, which today is written as
two groups in the others. Lecture rows G01, T09.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.combine import serial
from jaxdl.core import Module
from jaxdl.nn import conv, dense, dropout, flatten, max_pool

__all__ = ["alexnet", "local_response_normalization"]


def local_response_normalization(
    x: jax.Array, *, size: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75
) -> jax.Array:
    """b_c = a_c / (k + alpha sum_j a_j^2)^beta, over the `size` channels j around c. Section 3.3.

    Args:
      x: (N, *space, C).
      size: n of the paper, how many channels.
      k, alpha, beta: the paper's own; PyTorch divides alpha by n.

    Returns:
      An array like x.
    """
    window = (1,) * (x.ndim - 1) + (size,)
    pads = [(0, 0)] * (x.ndim - 1) + [(size // 2, size - 1 - size // 2)]
    squares = lax.reduce_window(jnp.square(x), 0.0, lax.add, window, (1,) * x.ndim, pads)
    return x * (k + alpha * squares) ** -beta


def alexnet(*, classes: int = 1000) -> Module:
    """Five convolutions and three dense layers: 60,965,224 parameters, 659,272 units.

    The lectures say 60,000,000 and 650,000, as the paper does. Of the 630,000,000 connections that
    they say there are 724,406,816, one for each product.

    Args:
      classes: the number of classes.

    Returns:
      A `Module` from (N, 227, 227, 3) to logits (N, classes); the paper says 224, which leaves the
      first layer half a cell over.
    """
    pool = max_pool(3, stride=2)
    return serial(
        conv(96, 11, stride=4, padding="VALID"),
        jax.nn.relu,
        local_response_normalization,
        pool,
        conv(256, 5, padding=2, groups=2),
        jax.nn.relu,
        local_response_normalization,
        pool,
        conv(384, 3, padding=1),
        jax.nn.relu,
        conv(384, 3, padding=1, groups=2),
        jax.nn.relu,
        conv(256, 3, padding=1, groups=2),
        jax.nn.relu,
        pool,
        flatten(),
        dropout(0.5),
        dense(4096),
        jax.nn.relu,
        dropout(0.5),
        dense(4096),
        jax.nn.relu,
        dense(classes),
    )
