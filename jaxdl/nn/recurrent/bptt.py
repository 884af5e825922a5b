"""What backpropagation through time does: Jacobians from step to step, and how they die or explode.

With s_j the carry after step j and E = E_1 + ... + E_T a loss of the outputs,

    dE_t / dW = sum_k  dE_t / ds_t  (prod_{j=k+1..t} ds_j / ds_{j-1})  d+s_k / dW

where d+ keeps s_{k-1} fixed. Werbos 1990 (doi:10.1109/5.58337); Pascanu, Mikolov and Bengio 2013
(arXiv 1211.5063), eq. 3-5; lecture rows D12-D14, D16. `jax.grad` computes the same without ever
forming a Jacobian; here they are formed, to be looked at. One sequence at a time, (T, D), and cells
whose output is the first part of their carry, as it is in all of this library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from jaxdl.core import Tree
from jaxdl.nn.recurrent.cell import Cell

__all__ = [
    "explicit_gradient",
    "gradient_norms",
    "loss_surface",
    "sensitivity",
    "states",
    "step_jacobians",
]


def states(cell: Cell, params: Tree, x: jax.Array) -> jax.Array:
    """The carry before the first step and after each, flattened.

    Args:
      cell: any `Cell`.
      params: its parameters.
      x: (T, D), one sequence.

    Returns:
      (T + 1, S); S is the width of the whole carry, (h, c) for an LSTM.

    Raises:
      ValueError: x is not (T, D).
    """
    start = _start(cell, params, _sequence(x))

    def step(s, x):
        s = _step(cell, params, s, x)
        return s, s

    return jnp.concatenate([start[None], lax.scan(step, start, x)[1]])


def step_jacobians(cell: Cell, params: Tree, x: jax.Array) -> jax.Array:
    """ds_t / ds_{t-1} for every step, (T, S, S).

    For h' = tanh(z + h U) it is diag(1 - h'^2) U^T. The deck says that its 2-norm is at most 1:
    that holds of diag(1 - h'^2), and with U only if U's own norm allows (lecture row D14).

    Args and raises as for `states`.
    """
    before = states(cell, params, x)[:-1]
    return jax.vmap(jax.jacfwd(lambda s, x: _step(cell, params, s, x)))(before, x)


def sensitivity(
    cell: Cell, params: Tree, x: jax.Array, loss: Callable[[jax.Array, jax.Array], jax.Array]
) -> jax.Array:
    """|| dE_t / ds_k ||_2 for all t and k: how far back each step's error is felt.

    Args:
      cell, params, x: as for `states`.
      loss: `(y_t (H,), t) -> E_t`, a scalar.

    Returns:
      (T, T); row t, column k, for the states after steps 1 to T; 0 where k > t.

    Raises:
      ValueError: x is not (T, D).
    """
    steps = len(_sequence(x))
    nudges = jnp.zeros((steps, states(cell, params, x).shape[1]), x.dtype)

    def errors(nudges):
        """E_t when s_k is moved by nudges[k]: its derivative there is dE_t / ds_k."""

        def step(s, at):
            x, nudge, t = at
            s = _step(cell, params, s, x) + nudge
            return s, loss(_output(cell, params, s, x[None]), t)

        along = x, nudges, jnp.arange(steps)
        return lax.scan(step, _start(cell, params, x), along)[1]

    return jnp.linalg.norm(jax.jacrev(errors)(nudges), axis=-1)


def explicit_gradient(
    cell: Cell,
    params: Tree,
    x: jax.Array,
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    *,
    back: int | None = None,
) -> Tree:
    """The gradient of E by the sum over k of Jacobian products, as the lectures write it.

    Equal to `jax.grad` through the scan, at the price of forming ds_k / dW, one step's at a time:
    for looking, and for checking. The deck repeats ds_3 / dW in the sum where ds_k / dW is meant.
    Lecture row D12.

    Args:
      cell, params, x: as for `states`; a learned carry's own gradient is part of the sum.
      loss: `(y_t (H,), t) -> E_t`, a scalar.
      back: only terms with t - k < back, which is truncated backpropagation; None for all.

    Returns:
      A tree like `params`.

    Raises:
      ValueError: x is not (T, D), or `back` is below 1.
    """
    if back is not None and back < 1:
        raise ValueError(f"explicit_gradient: back is {back}; expected at least 1, or None.")
    steps = len(_sequence(x))
    reach = steps + 1 if back is None else back  # the carry before the first step is one more back
    s, t = states(cell, params, x), jnp.arange(steps)
    own = jax.vmap(jax.grad(lambda s, t: loss(_output(cell, params, s, x), t)))(s[1:], t)

    def back_one(carry, at):
        """Adds the terms of one k for all t; row t of `errors` goes from dE_t/ds_k to s_{k-1}."""
        errors, total = carry
        k, own, jacobian, before, x = at
        errors = jnp.where((t - k < reach)[:, None], errors.at[k].set(own), 0)
        immediate = jax.jacrev(lambda p: _step(cell, p, before, x))(params)
        return (errors @ jacobian, _add(total, errors, immediate)), None

    begin = jnp.zeros_like(own), jax.tree.map(jnp.zeros_like, params)
    along = t, own, step_jacobians(cell, params, x), s[:-1], x
    (errors, total), _ = lax.scan(back_one, begin, along, reverse=True)
    errors = jnp.where((t + 1 < reach)[:, None], errors, 0)
    return _add(total, errors, jax.jacrev(lambda p: _start(cell, p, x))(params))


def _add(total: Tree, errors: jax.Array, jacobian: Tree) -> Tree:
    return jax.tree.map(lambda sum, j: sum + jnp.tensordot(errors.sum(0), j, 1), total, jacobian)


def loss_surface(
    loss: Callable[[Any], jax.Array],
    params: Any,
    directions: tuple[Any, Any],
    steps: tuple[Sequence[float] | jax.Array, Sequence[float] | jax.Array],
) -> jax.Array:
    """L(params + a u + b v) over a grid of a and b, all points at once by `vmap`.

    Lecture row D16; Li et al. 2018 (arXiv 1712.09913), sec. 2.

    Args:
      loss: `params -> scalar`.
      params: the middle of the picture.
      directions: u and v, trees like `params`.
      steps: the values of a (A,) and of b (B,).

    Returns:
      (A, B).
    """
    u, v = directions

    def at(a, b):
        def moved(p, u, v):
            return p + a.astype(p.dtype) * u + b.astype(p.dtype) * v

        return loss(jax.tree.map(moved, params, u, v))

    a, b = (jnp.asarray(values) for values in steps)
    return jax.vmap(jax.vmap(at, (None, 0)), (0, None))(a, b)


def gradient_norms(gradient: Tree) -> dict[str, jax.Array]:
    """The Euclidean norm of the gradient of each part of a model. Lecture row D13.

    Args:
      gradient: a tree like a model's parameters, `{"dense_0": {...}, "dense_1": {...}}`.

    Returns:
      A norm for each first-level part, in the tree's order.
    """
    return {name: optax.tree.norm(part) for name, part in gradient.items()}


def _sequence(x: jax.Array) -> jax.Array:
    if x.ndim != 2:
        raise ValueError(f"bptt: x has shape {x.shape}; expected one sequence (T, D).")
    return x


def _start(cell: Cell, params: Tree, x: jax.Array) -> jax.Array:
    return ravel_pytree(cell.initial_carry(params, x[:1]))[0]


def _carry(cell: Cell, params: Tree, s: jax.Array, x: jax.Array) -> Any:
    return ravel_pytree(cell.initial_carry(params, x[:1]))[1](s)


def _step(cell: Cell, params: Tree, s: jax.Array, x: jax.Array) -> jax.Array:
    x = x[None]
    return ravel_pytree(cell.step(params, _carry(cell, params, s, x), x)[0])[0]


def _output(cell: Cell, params: Tree, s: jax.Array, x: jax.Array) -> jax.Array:
    return jax.tree.leaves(_carry(cell, params, s, x))[0][0]
