"""How few features an explanation names."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.interpret import _input

__all__ = ["complexity", "effective_complexity", "sparseness"]


def sparseness(attributions: Any) -> jax.Array:
    """The Gini index of the attributions' sizes.

    Chalasani et al. 2020 (arXiv 1810.06583), sec. 4.

    Args:
      attributions: (N, ...), or a tree of such arrays.

    Returns:
      (N,), from 0, all are the same, to 1 - 1 / n, one alone; NaN where all are 0.
    """
    sizes = jnp.sort(jnp.abs(_input.flatten(attributions)), axis=1)
    n = sizes.shape[1]
    rank = jnp.arange(1, n + 1, dtype=sizes.dtype)
    return jnp.sum((2 * rank - n - 1) * sizes, axis=1) / (n * jnp.sum(sizes, axis=1))


def complexity(attributions: Any) -> jax.Array:
    """The entropy of the attributions' sizes as shares of their sum.

    Bhatt, Weller and Moura 2020 (arXiv 2005.00631), def. 6.

    Args:
      attributions: (N, ...), or a tree of such arrays.

    Returns:
      (N,), in nats: 0 for one feature alone, ln n for all the same; NaN where all are 0.
    """
    sizes = jnp.abs(_input.flatten(attributions))
    shares = sizes / jnp.sum(sizes, axis=1, keepdims=True)
    return -jnp.sum(jax.scipy.special.xlogy(shares, shares), axis=1)


def effective_complexity(attributions: Any, threshold: float = 1e-5) -> jax.Array:
    """How many features have an attribution greater than a threshold.

    Nguyen and Martinez 2020 (arXiv 2007.07584), sec. 3.3.

    Args:
      attributions: (N, ...), or a tree of such arrays.
      threshold: of the attribution's size, in its units.

    Returns:
      (N,) int32.
    """
    sizes = jnp.abs(_input.flatten(attributions))
    return jnp.sum((sizes > threshold).astype(jnp.int32), axis=1)
