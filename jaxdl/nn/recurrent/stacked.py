"""Recurrent layers: a cell as a layer, stacks of such layers, and carries kept between calls.

`rnn` runs a cell in reverse, with variational dropout, with a carry kept from batch to batch, or
returns only the last output. `stacked_rnn` puts recurrent layers on top of one another. The other
functions read and reset the carries that `rnn(stateful=True)` keeps in a model's state.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.combine import numbered
from jaxdl.core import Module, Tree, compose
from jaxdl.nn.dropout import drop
from jaxdl.nn.dropout import dropout as dropout_layer
from jaxdl.nn.recurrent.cell import Carry, Cell, choose_implementation
from jaxdl.nn.recurrent.cell import unroll as unroll_cell

__all__ = ["reset_carry", "rnn", "stacked_rnn"]

CARRIED = "carried"
"""Entry of a stateful layer's state, () bool: whether its carry comes from a previous call."""


def rnn(
    cell: Cell,
    *,
    reverse: bool = False,
    returns: Literal["all", "last", "carry"] = "all",
    recurrent_dropout: float = 0.0,
    stateful: bool = False,
    unroll: int = 1,
    remat: int = 0,
    implementation: str = "auto",
) -> Module:
    """Makes a layer that runs a cell along sequences, with options that `cell.apply` lacks.

    The parameters are those of the cell, so the same tree also runs in reverse or step by step. The
    layer takes `(x (N, T, D), lengths=None, carry=None)`; see `unroll`.

    Args:
      cell: any `Cell`.
      reverse: run from the last step to the first. y_t keeps index t.
      returns: "all" for y (N, T, H); "last" for the output of each row's last step (N, H), or of
        its first with `reverse`, and 0 for rows of length 0; "carry" for `(y, final carry)`.
      recurrent_dropout: probability of dropping the values that recurrent products read, with one
        mask for all steps of a row. Gal and Ghahramani 2016 (arXiv 1512.05287), sec. 4.
      stateful: keep the final carry in the model's state and start the next call with it. Gradients
        stop there, so backpropagation through time is truncated to the T steps of a call. Row n of
        a batch must continue row n of the previous batch; `reset_carry` starts over.
      unroll, remat, implementation: see `unroll`. Training with recurrent dropout always scans.

    Returns:
      A `Module` of the cell's kind.

    Raises:
      ValueError: `cell` is not a `Cell`; `returns` is unknown; `recurrent_dropout` is outside
        [0, 1); `implementation` is not available; `stateful` and `reverse` are both true; training
        with recurrent dropout without a key; a stateful layer gets another batch size than its
        state; and the errors of `unroll`.
    """
    if not isinstance(cell, Cell):
        kind = getattr(cell, "kind", repr(cell))
        raise ValueError(
            f"rnn: got {kind}, expected a Cell such as nn.lstm(features). nn.bidirectional takes "
            "the options of rnn itself: nn.bidirectional(cell, returns='last')."
        )
    if returns not in ("all", "last", "carry"):
        raise ValueError(f"rnn: got returns={returns!r}, expected 'all', 'last' or 'carry'.")
    if not 0 <= recurrent_dropout < 1:
        raise ValueError(
            f"rnn: got recurrent_dropout={recurrent_dropout!r}, expected a probability in [0, 1)."
        )
    if stateful and reverse:
        raise ValueError(
            "rnn: stateful=True and reverse=True cannot be combined, because the next call does "
            "not continue at the first step of this one. Set one of them to False."
        )
    choose_implementation(cell, implementation, remat, None)

    def init(key, x, *rest):
        params, state = cell.init(key, x, *rest)
        if stateful:
            state = state | _carry_to_state(cell, cell.initial_carry(params, x), False)
        return params, state

    def apply(params, state, x, lengths=None, carry=None, *, train=False, key=None, **_):
        mask = None
        if recurrent_dropout and train:
            mask = _draw_dropout_mask(cell, x, recurrent_dropout, key)
        if stateful and carry is None:
            carry = _carry_from_state(cell, params, state, x)
        carry, y = unroll_cell(
            cell,
            params,
            x,
            lengths=lengths,
            carry=carry,
            reverse=reverse,
            unroll=unroll,
            remat=remat,
            implementation=implementation if mask is None else "scan",
            recurrent_dropout_mask=mask,
        )
        if stateful:
            # In the state's dtype, because a compiled loop over batches needs fixed types.
            entries = lax.stop_gradient(_carry_to_state(cell, carry, True))
            state = state | {name: a.astype(state[name].dtype) for name, a in entries.items()}
        if returns == "last":
            y = _take_last(y, lengths, reverse)
        return ((y, carry) if returns == "carry" else y), state

    config = dict(cell.config) | {"reverse": reverse, "returns": returns}
    return Module(init, apply, cell.kind, config, takes_lengths=True)


def _carry_to_state(cell: Cell, carry: Carry, carried: bool) -> Tree:
    """Returns a carry as entries of the model's state."""
    parts = dict(zip(cell.carry_sizes, jax.tree.leaves(carry), strict=True))
    return parts | {CARRIED: jnp.asarray(carried)}


def _carry_from_state(cell: Cell, params: Tree, state: Tree, x: jax.Array) -> Carry:
    """Returns the carry of the previous call, or the cell's initial carry after a reset."""
    stored = [state[name] for name in cell.carry_sizes]
    if stored[0].shape[0] != x.shape[0]:
        raise ValueError(
            f"{cell.kind}: x has {x.shape[0]} rows, but the carry in the state has "
            f"{stored[0].shape[0]}. For another batch size, start with "
            f"nn.reset_carry(state, {x.shape[0]})."
        )
    initial, treedef = jax.tree.flatten(cell.initial_carry(params, x))

    # The initial carry is computed here, not stored, so that a learned one receives its gradient.
    def select(stored, initial):
        return jnp.where(state[CARRIED], stored.astype(initial.dtype), initial)

    return jax.tree.unflatten(treedef, map(select, stored, initial))


def _draw_dropout_mask(cell, x, rate, key):
    if key is None:
        raise ValueError(
            f"{cell.kind}: recurrent dropout needs a PRNG key with train=True. Call "
            "model.apply(params, state, x, train=True, key=key)."
        )
    width = next(iter(cell.carry_sizes.values()))
    return drop(jnp.ones((x.shape[0], width), x.dtype), key, rate) / (1 - rate)


def _take_last(y: jax.Array, lengths: jax.Array | None, reverse: bool) -> jax.Array:
    if reverse:
        return y[:, 0]
    if lengths is None:
        return y[:, -1]
    last = jnp.clip(lengths - 1, 0, y.shape[1] - 1)
    return jnp.take_along_axis(y, last[:, None, None], axis=1)[:, 0]


def stacked_rnn(
    *layers: Module,
    residual: bool = False,
    dropout: float = 0.0,
    variational: bool = False,
) -> Module:
    """Stacks recurrent layers: each reads the outputs of the previous one at every step.

    Pascanu et al. 2014 (arXiv 1312.6026). Dropout is applied between layers, as in Zaremba,
    Sutskever and Vinyals 2014 (arXiv 1409.2329).

    Args:
      *layers: cells, or layers from `rnn` and `bidirectional`, each of `(x, lengths)`. Parameters
        are named by kind and number, `lstm_0`, `lstm_1`.
      residual: add each layer's input to its output where the widths are equal, except in the first
        layer.
      dropout: probability of dropping a value between two layers.
      variational: draw one mask for all steps of a row (Gal and Ghahramani 2016,
        arXiv 1512.05287) instead of one per step.

    Returns:
      A `Module` of `(x (N, T, D), lengths=None)`.

    Raises:
      ValueError: there are no layers; `dropout` is outside [0, 1).
    """
    if not layers:
        raise ValueError("stacked_rnn: got no layers, expected at least one.")
    children = numbered(layers)
    names = list(children)
    if dropout:
        shared = (1,) if variational else ()
        for i in range(len(names) - 1):
            children[f"dropout_{i}"] = dropout_layer(dropout, shared_axes=shared)

    def forward(call, x, lengths=None):
        y = call(names[0], x, lengths)
        for i, name in enumerate(names[1:]):
            below = call(f"dropout_{i}", y) if dropout else y
            above = call(name, below, lengths)
            # The shortcut adds y itself, not its dropped values.
            y = above + y if residual and above.shape == y.shape else above
        return y

    return compose("stacked_rnn", children, forward, residual=residual, dropout=dropout)


def reset_carry(state: Tree, rows: int | None = None) -> Tree:
    """Makes stateful layers start the next call with their cell's initial carry.

    `train.fit` calls it before every epoch, `train.evaluate` and `train.predict` before their first
    batch, `train.predictor` before every call. In a custom loop, call it wherever the next batch
    does not continue the previous one.

    Args:
      state: a model's state.
      rows: the batch size of the following calls; None keeps the current one.

    Returns:
      The state with the same structure. Entries of other layers, such as running statistics, are
      unchanged.
    """

    def zeros(name, leaf):
        # The batch is the last axis but one, because `stack` adds an axis before it.
        same_shape = name == CARRIED or rows is None
        shape = leaf.shape if same_shape else (*leaf.shape[:-2], rows, leaf.shape[-1])
        return jnp.zeros_like(leaf, shape=shape)

    def reset(part):
        if CARRIED in part:
            return {name: zeros(name, leaf) for name, leaf in part.items()}
        return {name: reset(inner) for name, inner in part.items()}

    return with_carries(state, reset(carries(state)))


def carries(state: Tree) -> Tree:
    """Returns only the entries of stateful layers; empty if there are none."""
    if CARRIED in state:
        return state
    parts = {name: carries(part) for name, part in state.items() if isinstance(part, dict)}
    return {name: part for name, part in parts.items() if part}


def with_carries(state: Tree, replacements: Tree) -> Tree:
    """Returns the state with the entries of stateful layers replaced; see `carries`."""
    if CARRIED in replacements:
        return replacements
    return state | {name: with_carries(state[name], part) for name, part in replacements.items()}


def carry_rows(state: Tree) -> int | None:
    """Returns the batch size of a state's carries, or None if no layer is stateful."""
    if CARRIED in state:
        return next(leaf.shape[-2] for name, leaf in state.items() if name != CARRIED)
    return next(map(carry_rows, carries(state).values()), None)
