"""Complexity: how few features an explanation uses."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.interpret import _input

__all__ = ["complexity", "effective_complexity", "sparseness"]


def sparseness(attributions: Any) -> jax.Array:
    """Computes the Gini index of the absolute attributions.

    Chalasani et al. 2020 (arXiv 1810.06583), sec. 4.

    Args:
      attributions: (N, ...), or a tree of such arrays.

    Returns:
      (N,), from 0 for equal attributions to 1 - 1 / n for a single one; NaN if all are 0.
    """
    sizes = jnp.sort(jnp.abs(_input.flatten(attributions)), axis=1)
    n = sizes.shape[1]
    rank = jnp.arange(1, n + 1, dtype=sizes.dtype)
    return jnp.sum((2 * rank - n - 1) * sizes, axis=1) / (n * jnp.sum(sizes, axis=1))


def complexity(attributions: Any) -> jax.Array:
    """Computes the entropy of the absolute attributions, divided by their sum.

    Bhatt, Weller and Moura 2020 (arXiv 2005.00631), def. 6.

    Args:
      attributions: (N, ...), or a tree of such arrays.

    Returns:
      (N,), in nats, from 0 for a single attribution to ln n for equal ones; NaN if all are 0.
    """
    sizes = jnp.abs(_input.flatten(attributions))
    shares = sizes / jnp.sum(sizes, axis=1, keepdims=True)
    return -jnp.sum(jax.scipy.special.xlogy(shares, shares), axis=1)


def effective_complexity(attributions: Any, threshold: float = 1e-5) -> jax.Array:
    """Counts the features whose absolute attribution exceeds a threshold.

    Nguyen and Martinez 2020 (arXiv 2007.07584), sec. 3.3.

    Args:
      attributions: (N, ...), or a tree of such arrays.
      threshold: in units of the attribution.

    Returns:
      (N,) int32.
    """
    sizes = jnp.abs(_input.flatten(attributions))
    return jnp.sum((sizes > threshold).astype(jnp.int32), axis=1)
