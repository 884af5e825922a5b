"""A gradient-free attack: random changes of the signs of a perturbation, kept where they help."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def random_search(
    margin: Callable[[Any], jax.Array], low: Any, high: Any, *, key: jax.Array, queries: int
) -> Any:
    """Minimizes a margin over the corners of a box by random search.

    As in the square attack (Andriushchenko et al. 2020, arXiv 1912.00049) only the scores of f are
    used, the perturbation is at a corner of the box, and a change is kept where the margin
    decreases. Here it is a random set of coordinates, whose share is drawn from 1 / D to 1 on a
    logarithmic scale.

    Args:
      margin: from a tree like `low` to (N,) margins.
      low, high: the smallest and largest inputs, trees of arrays (N, ...) with D numbers per
        example.
      key: a PRNG key.
      queries: evaluations of the margin, at least 1.

    Returns:
      The inputs with the least margin, a tree like `low`.
    """
    leaves, tree = jax.tree.flatten(low)
    smallest = -math.log(max(2, sum(leaf[0].size for leaf in leaves)))

    def at(signs):
        return jax.tree.map(jnp.where, signs, high, low)

    def draw(key, share):
        keys = tree.unflatten(list(jax.random.split(key, len(leaves))))
        return jax.tree.map(lambda k, leaf: jax.random.bernoulli(k, share, leaf.shape), keys, low)

    def advance(best, key):
        signs, least = best
        share_key, flip_key = jax.random.split(key)
        share = jnp.exp(jax.random.uniform(share_key, (), jnp.float32, smallest, 0.0))
        changed = jax.tree.map(jnp.logical_xor, signs, draw(flip_key, share))
        value = margin(at(changed))
        better = value < least

        def select(a, b):
            return jnp.where(better.reshape(-1, *[1] * (a.ndim - 1)), a, b)

        return (jax.tree.map(select, changed, signs), jnp.where(better, value, least)), None

    first_key, key = jax.random.split(key)
    signs = draw(first_key, 0.5)
    keys = jax.random.split(key, queries - 1)
    (signs, _), _ = jax.lax.scan(advance, (signs, margin(at(signs))), keys)
    return at(signs)
