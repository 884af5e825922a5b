"""AlexNet: five convolutions and three dense layers. Krizhevsky, Sutskever and Hinton 2012.

"ImageNet Classification with Deep Convolutional Neural Networks", NeurIPS 2012, figure 2. The paper
has two columns of channels, one on each GPU. They exchange features in the third convolution and in
the dense layers; the other convolutions after the first have two groups. Krizhevsky 2014 (arXiv
1404.5997) has one column with fewer channels, as torchvision does.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.combine import serial
from jaxdl.core import Module
from jaxdl.nn import conv, dense, dropout, flatten, max_pool
from jaxdl.zoo.vision.pooling import adaptive_avg_pool

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


VARIANTS = {
    # channels of the convolutions, padding of the first, groups of the 2nd, 4th and 5th
    "paper": ((96, 256, 384, 384, 256), 0, 2),
    "torchvision": ((64, 192, 384, 256, 256), 2, 1),
}


def alexnet(*, num_classes: int = 1000, variant: str = "paper") -> Module:
    """Builds AlexNet, 60,965,224 parameters with two columns and 61,100,840 with one.

    The paper rounds to 60 million parameters and 650,000 units (659,272 here). A forward pass takes
    724,406,816 multiplications, with one column 714,188,480.

    Args:
      num_classes: the number of classes.
      variant: "paper" for two columns with local response normalization, or "torchvision" for one
        without.

    Returns:
      A `Module` to logits (N, num_classes) from (N, 227, 227, 3), or for "torchvision" from
      (N, 224, 224, 3) and other sizes. The paper gives 224 pixels, which its first convolution
      (11x11, stride 4, no padding) does not divide evenly.

    Raises:
      ValueError: there is no such variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"alexnet: variant is {variant!r}; expected one of {', '.join(VARIANTS)}.")
    (first, second, third, fourth, fifth), padding, groups = VARIANTS[variant]
    norms = variant == "paper"
    pool = max_pool(3, stride=2)
    return serial(
        conv1=conv(first, 11, stride=4, padding=padding),
        relu1=jax.nn.relu,
        **({"lrn1": local_response_normalization} if norms else {}),
        pool1=pool,
        conv2=conv(second, 5, padding=2, groups=groups),
        relu2=jax.nn.relu,
        **({"lrn2": local_response_normalization} if norms else {}),
        pool2=pool,
        conv3=conv(third, 3, padding=1),
        relu3=jax.nn.relu,
        conv4=conv(fourth, 3, padding=1, groups=groups),
        relu4=jax.nn.relu,
        conv5=conv(fifth, 3, padding=1, groups=groups),
        relu5=jax.nn.relu,
        pool5=pool,
        **({} if norms else {"average": adaptive_avg_pool(6)}),
        flatten=flatten(),
        # Dropout precedes each hidden layer, as in torchvision; the paper drops their outputs.
        dropout1=dropout(0.5),
        dense1=dense(4096),
        relu6=jax.nn.relu,
        dropout2=dropout(0.5),
        dense2=dense(4096),
        relu7=jax.nn.relu,
        logits=dense(num_classes),
    )
