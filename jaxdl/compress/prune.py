"""Pruning: weights or whole filters of small magnitude become 0 and stay 0 in training.

Han et al. 2015, arXiv 1506.02626, remove the weights of smallest absolute value and train the rest
further. Li et al. 2017, arXiv 1608.08710, remove the filters of smallest L1 norm instead, which
leaves dense convolutions.

    masks = prune(params, 0.8)[1]
    optimizer = optax.chain(optax.adam(1e-3), keep_pruned(masks))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdl._check import require_number
from jaxdl.core import Tree
from jaxdl.tree import flatten, unflatten

__all__ = ["keep_pruned", "prune", "prune_filters"]

Where = Callable[[str, jax.Array], bool]
"""`where(path, array)`: whether to change the parameter at a path such as "conv_0/kernel"."""


def is_weight(path: str, array: jax.Array) -> bool:
    """Returns whether a parameter has two axes or more, unlike biases and scales of norms."""
    return array.ndim >= 2


def is_convolution(path: str, array: jax.Array) -> bool:
    """Returns whether a parameter is the kernel of a convolution; classifiers are dense."""
    return path.rpartition("/")[2] == "kernel" and array.ndim >= 3


def prune(
    params: Tree,
    fraction: float,
    *,
    scope: Literal["global", "layer"] = "global",
    where: Where = is_weight,
) -> tuple[Tree, Tree]:
    """Sets the weights of smallest absolute value to 0.

    Args:
      params: the parameters of a model.
      fraction: the share of weights to remove, in [0, 1). It is rounded to a number of weights,
        and of equal weights the first are removed.
      scope: "global" compares the weights of all layers, "layer" removes the same share of each.
      where: which parameters to prune; by default arrays of two axes or more.

    Returns:
      `(params, masks)`: pruned parameters, and a tree of bools like them, false where pruned.

    Raises:
      ValueError: `fraction` is outside [0, 1), `scope` is unknown, or no parameter is selected.
    """
    if scope not in ("global", "layer"):
        raise ValueError(f"prune: scope is {scope!r}; expected 'global' or 'layer'.")
    leaves, chosen = _select("prune", params, fraction, where)
    sizes = {path: jnp.abs(leaves[path]).ravel() for path in chosen}
    if scope == "layer":
        masks = {path: _largest(size, fraction) for path, size in sizes.items()}
    else:
        # Layers may differ in dtype, which `concatenate` rejects under strict promotion.
        dtype = jnp.result_type(*(size.dtype for size in sizes.values()))
        whole = _largest(jnp.concatenate([s.astype(dtype) for s in sizes.values()]), fraction)
        masks, first = {}, 0
        for path, size in sizes.items():
            masks[path], first = whole[first : first + size.size], first + size.size
    return _apply(leaves, {path: mask.reshape(leaves[path].shape) for path, mask in masks.items()})


def prune_filters(
    params: Tree, fraction: float, *, where: Where = is_convolution
) -> tuple[Tree, Tree]:
    """Sets the filters of smallest L1 norm to 0, the same share in each layer.

    A filter is one output channel of a kernel, over its last axis. Its bias becomes 0, too. A
    normalization after the convolution still shifts the channel by its own bias.

    Args:
      params: the parameters of a model.
      fraction: the share of filters to remove, in [0, 1), rounded to a number of filters.
      where: which kernels to prune; by default those of convolutions.

    Returns:
      `(params, masks)`, as `prune`.

    Raises:
      ValueError: `fraction` is outside [0, 1), or no kernel is selected.
    """
    leaves, chosen = _select("prune_filters", params, fraction, where)
    masks = {}
    for path in chosen:
        kernel = leaves[path]
        keep = _largest(jnp.abs(kernel).sum(tuple(range(kernel.ndim - 1))), fraction)
        masks[path] = jnp.broadcast_to(keep, kernel.shape)
        bias = path.rpartition("/")[0] + "/bias"
        if bias in leaves and leaves[bias].shape == keep.shape:
            masks[bias] = keep
    return _apply(leaves, masks)


class KeepPrunedState(NamedTuple):
    """`masks`: bools like the parameters."""

    masks: Any


def keep_pruned(masks: Tree) -> optax.GradientTransformation:
    """Keeps pruned weights at 0 in training.

    Use it last in a chain: `optax.chain(optax.adam(1e-3), keep_pruned(masks))`.

    Args:
      masks: a tree of bools like the parameters, as `prune` returns it.

    Returns:
      The transformation; its state has the masks, and its `update` needs the parameters.

    Raises:
      ValueError: at init, the masks are not like the parameters; in `update`, no parameters are
        given.
    """

    def init(params):
        shapes, expected = (
            {path: jnp.shape(leaf) for path, leaf in flatten(tree).items()}
            for tree in (masks, params)
        )
        if wrong := [path for path in shapes | expected if shapes.get(path) != expected.get(path)]:
            raise ValueError(
                f"keep_pruned: the mask {wrong[0]} has shape {shapes.get(wrong[0], 'none')}; "
                f"expected {expected.get(wrong[0], 'none')}. Pass masks of these parameters."
            )
        # A copy, since a step may donate the state.
        return KeepPrunedState(jax.tree.map(lambda mask: jnp.array(mask, bool), masks))

    def update(updates, state, params=None):
        if params is None:
            raise ValueError(
                "keep_pruned: no parameters; expected update(gradients, state, params)."
            )
        # -w rather than 0, so that weights that are not 0 yet become 0.
        kept = jax.tree.map(lambda m, u, w: jnp.where(m, u, -w), state.masks, updates, params)
        return kept, state

    return optax.GradientTransformation(init, update)


def _select(
    caller: str, params: Tree, fraction: float, where: Where
) -> tuple[dict[str, jax.Array], list[str]]:
    """Returns the parameters by path, and the paths to prune."""
    require_number(caller, "a share in [0, 1)", lambda f: 0 <= f < 1, fraction=fraction)
    leaves = {path: jnp.asarray(leaf) for path, leaf in flatten(params).items()}
    chosen = [path for path, leaf in leaves.items() if where(path, leaf)]
    if not chosen:
        raise ValueError(
            f"{caller}: where selects none of {', '.join(leaves) or 'no parameters'}; expected a "
            "function (path, array) that is true for at least one."
        )
    return leaves, chosen


def _largest(sizes: jax.Array, fraction: float) -> jax.Array:
    """Returns bools, false for the given share of smallest sizes (n,)."""
    # By rank: a threshold would remove all or none of several equal weights.
    removed = jnp.argsort(sizes, stable=True)[: round(fraction * sizes.size)]
    return jnp.ones(sizes.shape, bool).at[removed].set(False)


def _apply(leaves: dict[str, Any], masks: dict[str, Any]) -> tuple[Tree, Tree]:
    whole = {path: masks.get(path, jnp.ones(leaf.shape, bool)) for path, leaf in leaves.items()}
    # Not a product, in which a pruned NaN stays NaN and a negative weight becomes -0.
    pruned = {path: jnp.where(whole[path], leaf, 0) for path, leaf in leaves.items()}
    return unflatten(pruned), unflatten(whole)
