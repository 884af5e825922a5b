"""AlexNet with the two columns of the paper: Krizhevsky, Sutskever and Hinton 2012, figure 2.

"ImageNet Classification with Deep Convolutional Neural Networks", NeurIPS 2012. The columns
exchange features in the third convolution and in the dense layers; the other convolutions after the
first have two groups.
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
    """Divides by the size of neighbouring channels: b_c = a_c / (k + alpha sum_j a_j^2)^beta.

    j runs over `size` channels around c (section 3.3 of the paper).

    Args:
      x: (N, *space, C).
      size: the number of channels in the sum, n in the paper.
      k, alpha, beta: constants, by default those of the paper; PyTorch divides alpha by n.

    Returns:
      An array like x.
    """
    window = (1,) * (x.ndim - 1) + (size,)
    pads = [(0, 0)] * (x.ndim - 1) + [(size // 2, size - 1 - size // 2)]
    squares = lax.reduce_window(jnp.square(x), 0.0, lax.add, window, (1,) * x.ndim, pads)
    return x * (k + alpha * squares) ** -beta


def alexnet(*, num_classes: int = 1000) -> Module:
    """Builds AlexNet: five convolutions and three dense layers, 60,965,224 parameters.

    The paper rounds to 60 million parameters and 650,000 units (659,272 here). A forward pass takes
    724,406,816 multiplications.

    Args:
      num_classes: the number of classes.

    Returns:
      A `Module` from (N, 227, 227, 3) to logits (N, num_classes). The paper gives 224
      pixels, which the first convolution (11x11, stride 4, no padding) does not divide evenly.
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
        dense(num_classes),
    )
