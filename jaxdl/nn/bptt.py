"""What backpropagation through time does: Jacobians from step to step, and how they die or explode.

With s_j the carry after step j and E = E_1 + ... + E_T a loss of the outputs,

    dE_t / dW = sum_k  dE_t / ds_t  (prod_{j=k+1..t} ds_j / ds_{j-1})  d+s_k / dW

where d+ keeps s_{k-1} fixed. Werbos 1990 (doi:10.1109/5.58337); Pascanu, Mikolov and Bengio 2013
(arXiv 1211.5063), eq. 3-5; lecture rows D12-D14, D16. `jax.grad` computes the same without ever
forming a Jacobian; here they are formed, to be looked at. One sequence at a time, (T, D).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from jaxdl.core import Tree
from jaxdl.nn.recurrent import Cell

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
    start = ravel_pytree(cell.start(params, _sequence(x)[:1]))[0]

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
            return s, loss(_output(cell, params, s), t)

        start = ravel_pytree(cell.start(params, x[:1]))[0]
        return lax.scan(step, start, (x, nudges, jnp.arange(steps)))[1]

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

    Equal to `jax.grad` through the scan, at the price of forming every Jacobian: for looking, and
    for checking. The deck repeats ds_3 / dW in the sum where ds_k / dW is meant. Row D12.

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
    s = states(cell, params, x)
    jacobians = step_jacobians(cell, params, x)
    of_state = jax.vmap(jax.grad(lambda s, t: loss(_output(cell, params, s), t)))(
        s[1:], jnp.arange(steps)
    )
    immediate = [
        jax.jacrev(lambda p, k=k: _step(cell, p, s[k], x[k]))(params) for k in range(steps)
    ]
    at_start = jax.jacrev(lambda p: ravel_pytree(cell.start(p, x[:1]))[0])(params)
    total = jax.tree.map(jnp.zeros_like, params)
    for t in range(steps):
        error = of_state[t]  # dE_t / ds_k, for k = t, t - 1, ...
        for k in range(t, max(-1, t - (back or steps)), -1):
            total = _add(total, error, immediate[k])
            error = error @ jacobians[k]
        if t - (back or steps) < 0 and (back is None or t + 1 < back):
            total = _add(total, error, at_start)
    return total


def _add(total: Tree, error: jax.Array, jacobian: Tree) -> Tree:
    return jax.tree.map(lambda sum, j: sum + jnp.tensordot(error, j, 1), total, jacobian)


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
        return loss(jax.tree.map(lambda p, u, v: p + a * u + b * v, params, u, v))

    a, b = (jnp.asarray(values) for values in steps)
    return jax.vmap(jax.vmap(at, (None, 0)), (0, None))(a, b)


def gradient_norms(gradient: Tree) -> dict[str, jax.Array]:
    """The Euclidean norm of the gradient of each part of a model. Lecture row D13.

    Args:
      gradient: a tree like a model's parameters, `{"dense_0": {...}, "dense_1": {...}}`.

    Returns:
      A norm for each first-level part, in the tree's order.
    """
    return {
        name: jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(part)))
        for name, part in gradient.items()
    }


def _sequence(x: jax.Array) -> jax.Array:
    if x.ndim != 2:
        raise ValueError(f"bptt: x has shape {x.shape}; expected one sequence (T, D).")
    return x


def _carry(cell: Cell, s: jax.Array) -> Any:
    parts = jnp.split(s, list(_ends(cell))[:-1])
    parts = [part[None] for part in parts]
    return parts[0] if len(parts) == 1 else tuple(parts)


def _ends(cell: Cell):
    end = 0
    for size in cell.carry.values():
        end += size
        yield end


def _step(cell: Cell, params: Tree, s: jax.Array, x: jax.Array) -> jax.Array:
    return ravel_pytree(cell.step(params, _carry(cell, s), x[None])[0])[0]


def _output(cell: Cell, params: Tree, s: jax.Array) -> jax.Array:
    """y from the carry: the cells' outputs are the carry's first part."""
    return s[: next(iter(cell.carry.values()))]
