"""Activations are functions, and `jax.nn` has them: any of them is a layer as it stands.

    nn.serial(nn.dense(500), jax.nn.sigmoid, nn.dense(10))

Where the lectures and `jax.nn` could differ, `jax.nn` is what this library follows:

- ReLU's derivative at 0 is 0 in `jax.nn.relu`, as in PyTorch. One deck has 1, and the derivative
  of `jnp.maximum(x, 0)` is 1/2. Each is a subgradient; all agree away from 0. Lecture row B03.
- Leaky ReLU is `jax.nn.leaky_relu`, z for z >= 0 and alpha z below; the deck's max(alpha z, z) is
  the same for alpha <= 1, and for alpha > 1 takes the other branch on either side. Row B04.
- Softmax subtracts the largest score first, so that no exponential overflows. Row B06.

Here is only what is not there: the threshold unit.
"""

from __future__ import annotations

import jax

__all__ = ["heaviside"]


def heaviside(z: jax.Array) -> jax.Array:
    """g(z) = 1 for z >= 0, else 0: the threshold unit. Lecture row B10.

    McCulloch and Pitts 1943. It passes all or nothing; its derivative is 0 everywhere, so that no
    gradient descends through it. `jax.nn.sigmoid` is the gate that learns.

    Args:
      z: an array of floats.

    Returns:
      An array of z's shape and dtype; NaN gives 0.
    """
    return (z >= 0).astype(z.dtype)
