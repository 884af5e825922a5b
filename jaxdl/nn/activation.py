"""Activation functions that `jax.nn` does not have: `heaviside`, the threshold unit.

All activations of `jax.nn` are layers, because any function of arrays is a layer:

    nn.serial(nn.dense(500), jax.nn.sigmoid, nn.dense(10))

Conventions of `jax.nn` that differ elsewhere:

- The derivative of `jax.nn.relu` at 0 is 0, as in PyTorch. That of `jnp.maximum(x, 0)` is 1/2, and
  some texts use 1. Each is a subgradient; all agree away from 0.
- `jax.nn.leaky_relu` is z for z >= 0 and alpha z below. The definition max(alpha z, z) is the same
  for alpha <= 1, but exchanges the branches for alpha > 1.
- `jax.nn.softmax` subtracts the largest score first, so that no exponential overflows.
"""

from __future__ import annotations

import jax

__all__ = ["heaviside"]


def heaviside(z: jax.Array) -> jax.Array:
    """Computes the threshold unit: 1 for z >= 0, else 0.

    McCulloch and Pitts 1943. Its derivative is 0 everywhere, so no gradient passes through it; use
    `jax.nn.sigmoid` for a gate that is trained by gradient descent.

    Args:
      z: an array of floats.

    Returns:
      An array of z's shape and dtype. It is 0 where z is NaN.
    """
    return (z >= 0).astype(z.dtype)
