"""The carries that stateful recurrent layers keep in a model's state."""

from __future__ import annotations

import jax.numpy as jnp

from jaxdl.core import Tree

__all__ = ["reset_carry"]

CARRIED = "carried"
"""The entry of a stateful layer's state, () bool: whether its carry is that of a call before."""


def reset_carry(state: Tree, rows: int | None = None) -> Tree:
    """Makes stateful layers begin the next call with their cell's own initial carry.

    `train.fit` calls it before every epoch, `train.evaluate` and `train.predict` before their first
    batch, `train.predictor` before every call. In a loop of your own, call it wherever the next
    batch does not continue the one before.

    Args:
      state: a model's state.
      rows: the batch size of the calls to come; None keeps the present one.

    Returns:
      The state with the same structure. Entries of other layers, such as running statistics, are
      kept.
    """

    def zeros(name, leaf):
        # The batch is the last axis but one: `scan_layers` puts an axis before it.
        own = name == CARRIED or rows is None
        shape = leaf.shape if own else (*leaf.shape[:-2], rows, leaf.shape[-1])
        return jnp.zeros_like(leaf, shape=shape)

    def reset(part):
        if CARRIED in part:
            return {name: zeros(name, leaf) for name, leaf in part.items()}
        return {name: reset(inner) for name, inner in part.items()}

    return with_carries(state, reset(carries(state)))


def carries(state: Tree) -> Tree:
    """Returns the entries of stateful layers alone; empty where there are none."""
    if CARRIED in state:
        return state
    parts = {name: carries(part) for name, part in state.items() if isinstance(part, dict)}
    return {name: part for name, part in parts.items() if part}


def with_carries(state: Tree, kept: Tree) -> Tree:
    """Returns the state with entries of stateful layers replaced by those of `carries`."""
    if CARRIED in kept:
        return kept
    return state | {name: with_carries(state[name], part) for name, part in kept.items()}


def carry_rows(state: Tree) -> int | None:
    """Returns the batch size of a state's carries, or None where no layer is stateful."""
    if CARRIED in state:
        return next(leaf.shape[-2] for name, leaf in state.items() if name != CARRIED)
    return next(map(carry_rows, carries(state).values()), None)
