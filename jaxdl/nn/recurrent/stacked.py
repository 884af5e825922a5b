"""Recurrent layers: a cell as a layer, with every way of running it along a sequence.

Backwards, with variational dropout, with a carry that lasts from batch to batch, giving all outputs
or the last. Lecture rows A22, A23, J03, J04.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.core import Module, Tree
from jaxdl.nn.dropout import drop
from jaxdl.nn.recurrent.carry import CARRIED
from jaxdl.nn.recurrent.cell import Cell
from jaxdl.nn.recurrent.unroll import Carry, chosen
from jaxdl.nn.recurrent.unroll import unroll as unroll_cell

__all__ = ["rnn"]


def rnn(
    cell: Cell,
    *,
    reverse: bool = False,
    returns: Literal["all", "last", "carry"] = "all",
    recurrent_dropout: float = 0.0,
    stateful: bool = False,
    unroll: int = 1,
    remat: int = 0,
    form: str = "auto",
) -> Module:
    """A cell as a layer over sequences, with other ways of running it than its own `apply`.

    The parameters are the cell's own, so that the same tree can be run forwards, backwards or step
    by step. The layer takes `(x (N, T, D), lengths=None, carry=None)`; see `unroll`.

    Args:
      cell: any `Cell`.
      reverse: run from the last step to the first; y_t still stands at t.
      returns: "all" for y (N, T, H); "last" for the output of each row's last step (N, H), that is
        of its first when reversed, and 0 for rows of length 0; "carry" for `(y, final carry)`.
      recurrent_dropout: probability of dropping what the recurrent products read, one mask for all
        steps of a row. Gal and Ghahramani 2016 (arXiv 1512.05287), sec. 4.
      stateful: keep the final carry in the model's state and begin the next call with it, its
        gradient cut: backpropagation through time truncated to the T steps of a call. Row n of a
        batch must continue row n of the batch before; see `reset_carry` for where it begins.
      unroll, remat, form: see `unroll`.

    Returns:
      A `Module` named for its cell.

    Raises:
      ValueError: `returns` is another word, `recurrent_dropout` outside [0, 1), or `form` not to
        be had; `stateful` and `reverse` are both true; in training with recurrent dropout, no key
        is given; stateful, the state is that of a batch of another size; what `unroll` raises.
    """
    if not isinstance(cell, Cell):
        kind = getattr(cell, "kind", repr(cell))
        raise ValueError(
            f"rnn: got {kind}; expected a Cell, such as nn.lstm(features). Other layers have "
            "options of their own: nn.bidirectional(cell, returns='last')."
        )
    if returns not in ("all", "last", "carry"):
        raise ValueError(f"rnn: returns is {returns!r}; expected 'all', 'last' or 'carry'.")
    if not 0 <= recurrent_dropout < 1:
        raise ValueError(
            f"rnn: recurrent_dropout is {recurrent_dropout!r}; expected a probability of "
            "dropping, in [0, 1)."
        )
    if stateful and reverse:
        raise ValueError(
            "rnn: stateful=True and reverse=True; expected one of them: a carry from the "
            "first step of a call does not continue in the next call. Run one direction only."
        )
    chosen(cell, form, remat, None)

    def init(key, x, *rest):
        params, state = cell.init(key, x, *rest)
        return params, state | (_kept(cell, cell.start(params, x), False) if stateful else {})

    def apply(params, state, x, lengths=None, carry=None, *, train=False, key=None, **_):
        keep = None
        if recurrent_dropout and train:
            keep = _one_mask(cell, x, recurrent_dropout, key)
        if stateful and carry is None:
            carry = _before(cell, params, state, x)
        carry, y = unroll_cell(
            cell,
            params,
            x,
            lengths=lengths,
            carry=carry,
            reverse=reverse,
            unroll=unroll,
            remat=remat,
            form=form if keep is None else "plain",
            keep=keep,
        )
        if stateful:
            kept = lax.stop_gradient(_kept(cell, carry, True))
            state = state | {name: a.astype(state[name].dtype) for name, a in kept.items()}
        if returns == "last":
            y = _last(y, lengths, reverse)
        return ((y, carry) if returns == "carry" else y), state

    config = dict(cell.config) | {"reverse": reverse, "returns": returns}
    return Module(init, apply, cell.kind, config, takes_lengths=True)


def _kept(cell: Cell, carry: Carry, carried: bool) -> Tree:
    """A carry as entries of the state."""
    parts = dict(zip(cell.carry, jax.tree.leaves(carry), strict=True))
    return parts | {CARRIED: jnp.asarray(carried)}


def _before(cell: Cell, params: Tree, state: Tree, x: jax.Array) -> Carry:
    """The carry of the call before, or the cell's own where there was none."""
    kept = [state[name] for name in cell.carry]
    if kept[0].shape[0] != x.shape[0]:
        raise ValueError(
            f"{cell.kind}: x has {x.shape[0]} rows and the carry in the state {kept[0].shape[0]}; "
            "expected the rows of every call to continue those of the one before. For another "
            f"batch, begin with nn.reset_carry(state, {x.shape[0]})."
        )
    own, tree = jax.tree.flatten(cell.start(params, x))
    # Not a stored initial carry: a learned one has its gradient through this.
    choose = lambda last, own: jnp.where(state[CARRIED], last.astype(own.dtype), own)  # noqa: E731
    return jax.tree.unflatten(tree, map(choose, kept, own))


def _one_mask(cell, x, rate, key):
    if key is None:
        raise ValueError(
            f"{cell.kind}: no key with train=True; expected a PRNG key for the recurrent dropout: "
            "model.apply(params, state, x, train=True, key=key)."
        )
    width = next(iter(cell.carry.values()))
    return drop(jnp.ones((x.shape[0], width), x.dtype), key, rate) / (1 - rate)


def _last(y: jax.Array, lengths: jax.Array | None, reverse: bool) -> jax.Array:
    if reverse:
        return y[:, 0]
    if lengths is None:
        return y[:, -1]
    at = jnp.clip(lengths - 1, 0, y.shape[1] - 1)
    return jnp.take_along_axis(y, at[:, None, None], axis=1)[:, 0]
