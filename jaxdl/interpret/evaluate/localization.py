"""Localization: whether attributions are inside of a mask."""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["pointing_game", "relevance_mass", "relevance_rank", "top_k_intersection"]


def pointing_game(attributions: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns whether the largest attribution is inside of the mask.

    Zhang et al. 2018 (arXiv 1608.00507), sec. 4.1.

    Args:
      attributions: (N, ...), one array.
      mask: like the attributions, of truth values.

    Returns:
      (N,) bool.

    Raises:
      ValueError: the shapes differ, one argument is a tree, or the mask is not of truth values.
    """
    values, inside = _flatten("pointing_game", attributions, mask)
    return jnp.take_along_axis(inside, jnp.argmax(values, axis=1)[:, None], axis=1)[:, 0]


def relevance_mass(attributions: jax.Array, mask: jax.Array) -> jax.Array:
    """Computes the share of the positive attributions inside of the mask.

    Arras, Osman and Samek 2022 (arXiv 2003.07258), eq. 1.

    Args, raises: as `pointing_game`.

    Returns:
      (N,), from 0 to 1; NaN if none is positive.
    """
    values, inside = _flatten("relevance_mass", attributions, mask)
    positive = jnp.maximum(values, 0)
    return jnp.sum(jnp.where(inside, positive, 0), axis=1) / jnp.sum(positive, axis=1)


def relevance_rank(attributions: jax.Array, mask: jax.Array) -> jax.Array:
    """Computes the share of the K largest attributions inside of a mask of size K.

    Arras, Osman and Samek 2022 (arXiv 2003.07258), eq. 2.

    Args, raises: as `pointing_game`.

    Returns:
      (N,), from 0 to 1; NaN if the mask is empty.
    """
    values, inside = _flatten("relevance_rank", attributions, mask)
    order = jnp.take_along_axis(inside, jnp.argsort(-values, axis=1), axis=1)
    size = jnp.sum(inside.astype(values.dtype), axis=1, keepdims=True)
    top = jnp.arange(values.shape[1], dtype=values.dtype) < size
    return jnp.sum((order & top).astype(values.dtype), axis=1) / size[:, 0]


def top_k_intersection(attributions: jax.Array, mask: jax.Array, k: int) -> jax.Array:
    """Computes the share of the k largest attributions inside of the mask.

    Theiner, Müller-Budack and Ewerth 2022 (arXiv 2104.14995), sec. 5.

    Args:
      attributions, mask: as for `pointing_game`.
      k: from 1 to the number of features.

    Returns:
      (N,), from 0 to 1.

    Raises:
      ValueError: as `pointing_game`; or k is out of range.
    """
    values, inside = _flatten("top_k_intersection", attributions, mask)
    if not 1 <= k <= values.shape[1]:
        raise ValueError(f"top_k_intersection: k is {k}; expected 1 to {values.shape[1]}.")
    _, indices = jax.lax.top_k(values, k)
    return jnp.mean(jnp.take_along_axis(inside, indices, axis=1).astype(values.dtype), axis=1)


def _flatten(name, attributions, mask):
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
