"""A recurrent cell: one step's mathematics, and the layer over sequences that it is by itself.

    h_t = f(h_{t-1}, x_t)

Everything in a cell that needs the input alone is `project`, done for all steps as one product; the
rest is `recur`, which `unroll` repeats. Lecture rows A22, J03.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.core import Module, Tree, named_key
from jaxdl.nn.dense import affine
from jaxdl.nn.initializers import Initializer, initializer
from jaxdl.nn.recurrent.unroll import Carry, own_params, sequences, unroll

__all__ = ["Cell"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Cell(Module):
    """A recurrent layer, (N, T, D) -> (N, T, H), that can also be run one step at a time.

    `apply(params, state, x, lengths=None, carry=None)` runs it over whole sequences, as
    `rnn(cell)` with its defaults does.

    Attributes:
      carry: the width of each part of the carry by name, e.g. `{"h": H, "c": H}`; with one part the
        carry is an array (N, H), with several it is a tuple. The first part is what recurrent
        products read.
      project: `(params, x) -> z`, over any leading axes.
      recur: `(params, carry, z, drop) -> (carry, y)`, one step; `drop` is applied to what the
        recurrent products read of the carry.
      fused: `(params, carry, x W, mask, *, reverse, unroll) -> (carry, y)`, the same over all
        steps, time first, with faster derivatives; or None.
      cudnn: `(params, carry, x, lengths, *, reverse) -> (carry, y)`, the same by NVIDIA's library;
        or None.
    """

    carry: Mapping[str, int]
    project: Callable[[Tree, jax.Array], jax.Array]
    recur: Callable[..., tuple[Carry, jax.Array]]
    fused: Callable[..., tuple[Carry, jax.Array]] | None = None
    cudnn: Callable[..., tuple[Carry, jax.Array]] | None = None

    def step(self, params: Tree, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step, for streams: `(carry, x (N, D)) -> (carry, y (N, H))`."""
        with own_params(self, params, x):
            return self.recur(params, carry, self.project(params, x), lambda h: h)

    def start(self, params: Tree, x: jax.Array) -> Carry:
        """The carry before the first step, for a batch like x (N, ...): zeros, or as learned."""
        parts = []
        for name, size in self.carry.items():
            row = params.get(f"initial_{name}", jnp.zeros(size, x.dtype))
            parts.append(jnp.broadcast_to(row, (x.shape[0], size)))
        return parts[0] if len(parts) == 1 else tuple(parts)


def make_cell(
    kind: str,
    carry: Mapping[str, int],
    make_params: Callable[[jax.Array, int, Any], Tree],
    recur: Callable[..., tuple[Carry, jax.Array]],
    *,
    initial: str | Initializer = "zeros",
    learn_initial: bool = False,
    fused: Callable[..., tuple[Carry, jax.Array]] | None = None,
    cudnn: Callable[..., tuple[Carry, jax.Array]] | None = None,
    **config: Any,
) -> Cell:
    """A `Cell` from one step's mathematics; every cell of this library is made by it.

    Args:
      kind: the factory's name.
      carry: name and width of each part of the carry.
      make_params: `(key, D, dtype) -> params`, with `kernel` (D, F) and perhaps `bias` (F,), whose
        affine map of x is the z that `recur` is given.
      recur: `(params, carry, z, drop) -> (carry, y)`.
      initial: initial values of the learned carry `initial_h` (H,), ...
      learn_initial: whether the carry before the first step is learned, or zeros.
      fused, cudnn: see `Cell`.
      **config: hyper-parameters, to be shown.
    """
    make_initial = initializer(initial)

    def init(key, x, *rest):
        sequences(kind, x)
        params = make_params(key, x.shape[-1], x.dtype)
        if learn_initial:
            for name, size in carry.items():
                own = named_key(key, f"initial_{name}")
                params[f"initial_{name}"] = make_initial(own, (1, size), x.dtype)[0]
        return params, {}

    def project(params, x):
        return affine(x, params["kernel"], params.get("bias"))

    def apply(params, state, x, lengths=None, carry=None, **_):
        return unroll(cell, params, x, lengths=lengths, carry=carry)[1], state

    cell = Cell(
        init=init,
        apply=apply,
        kind=kind,
        config=config,
        takes_lengths=True,
        carry=carry,
        project=project,
        recur=recur,
        fused=fused,
        cudnn=cudnn,
    )
    return cell


def gate_kernels(
    make: Initializer, key: Any, shape: tuple[int, int], gates: int, dtype: Any
) -> jax.Array:
    """(rows, gates * columns): each gate's matrix drawn by itself, so that each is orthogonal."""
    blocks = jax.vmap(lambda k: make(k, shape, dtype))(jax.random.split(key, gates))
    return jnp.moveaxis(blocks, 0, 1).reshape(shape[0], gates * shape[1])
