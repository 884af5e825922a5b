"""Whether an explanation lies where it should: inside a mask."""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["pointing_game", "relevance_mass", "relevance_rank", "top_k_intersection"]


def pointing_game(attributions: jax.Array, mask: jax.Array) -> jax.Array:
    """Whether the greatest attribution lies inside of the mask.

    Zhang et al. 2018 (arXiv 1608.00507), sec. 4.1.

    Args:
      attributions: (N, ...), one array.
      mask: like the attributions, of truth values.

    Returns:
      (N,) bool.

    Raises:
      ValueError: the shapes differ, one is a tree, or the mask has no truth values.
    """
    found, inside = _flat("pointing_game", attributions, mask)
    return jnp.take_along_axis(inside, jnp.argmax(found, axis=1)[:, None], axis=1)[:, 0]


def relevance_mass(attributions: jax.Array, mask: jax.Array) -> jax.Array:
    """The positive attributions' share that lies inside of the mask.

    Arras, Osman and Samek 2022 (arXiv 2003.07258), eq. 1.

    Args, raises: as `pointing_game`.

    Returns:
      (N,), from 0 to 1; NaN where none is positive.
    """
    found, inside = _flat("relevance_mass", attributions, mask)
    positive = jnp.maximum(found, 0)
    return jnp.sum(jnp.where(inside, positive, 0), axis=1) / jnp.sum(positive, axis=1)


def relevance_rank(attributions: jax.Array, mask: jax.Array) -> jax.Array:
    """Of the K greatest attributions, K the mask's size, the share that lies inside of it.

    Arras, Osman and Samek 2022 (arXiv 2003.07258), eq. 2.

    Args, raises: as `pointing_game`.

    Returns:
      (N,), from 0 to 1; NaN where the mask is empty.
    """
    found, inside = _flat("relevance_rank", attributions, mask)
    order = jnp.take_along_axis(inside, jnp.argsort(-found, axis=1), axis=1)
    size = jnp.sum(inside.astype(found.dtype), axis=1, keepdims=True)
    among = jnp.arange(found.shape[1], dtype=found.dtype) < size
    return jnp.sum((order & among).astype(found.dtype), axis=1) / size[:, 0]


def top_k_intersection(attributions: jax.Array, mask: jax.Array, k: int) -> jax.Array:
    """Of the k greatest attributions, the share that lies inside of the mask.

    Theiner, Müller-Budack and Ewerth 2022 (arXiv 2104.14995), sec. 5.

    Args:
      attributions, mask: as for `pointing_game`.
      k: from 1 to the number of features.

    Returns:
      (N,), from 0 to 1.

    Raises:
      ValueError: as `pointing_game`; k is out of range.
    """
    found, inside = _flat("top_k_intersection", attributions, mask)
    if not 1 <= k <= found.shape[1]:
        raise ValueError(f"top_k_intersection: k is {k}; expected 1 to {found.shape[1]}.")
    _, places = jax.lax.top_k(found, k)
    return jnp.mean(jnp.take_along_axis(inside, places, axis=1).astype(found.dtype), axis=1)


def _flat(name, attributions, mask):
    if not jax.tree_util.all_leaves([attributions, mask]):
        trees = jax.tree.structure(attributions), jax.tree.structure(mask)
        raise ValueError(
            f"{name}: attributions are {trees[0]} and the mask is {trees[1]}; expected one "
            "array of each. Compare each array of a tree with its own mask."
        )
    attributions, mask = jnp.asarray(attributions), jnp.asarray(mask)
    if attributions.shape != mask.shape or mask.dtype != bool or mask.ndim == 0:
        raise ValueError(
            f"{name}: attributions {attributions.shape} and a mask {mask.dtype}{list(mask.shape)}; "
            "expected truth values of the same shape, (N, ...)."
        )
    return attributions.reshape(len(mask), -1), mask.reshape(len(mask), -1)
