"""Analysis of backpropagation through time: Jacobians between steps, and vanishing gradients.

With s_j the carry after step j and E = E_1 + ... + E_T a loss of the outputs,

    dE_t / dW = sum_k  dE_t / ds_t  (prod_{j=k+1..t} ds_j / ds_{j-1})  d+s_k / dW

with d+ the derivative at constant s_{k-1}. Werbos 1990 (doi:10.1109/5.58337); Pascanu, Mikolov and
Bengio 2013 (arXiv 1211.5063), eq. 3-5. `jax.grad` computes the same without forming a Jacobian;
these functions form them for inspection.

Shapes: one sequence of T steps, (T, D), and a carry of S numbers. The cell's output must be the
first part of its carry, as in all cells of jaxdl.
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
    """Returns the flattened carry before the first step and after each step.

    Args:
      cell: any `Cell`.
      params: its parameters.
      x: (T, D), one sequence.

    Returns:
      (T + 1, S), where S counts all parts of the carry, h and c for an LSTM.

    Raises:
      ValueError: x is not (T, D).
    """
    _check_sequence(x)
    initial = _initial_state(cell, params, x)

    def step(s, x):
        s = _step(cell, params, s, x)
        return s, s

    return jnp.concatenate([initial[None], lax.scan(step, initial, x)[1]])


def step_jacobians(cell: Cell, params: Tree, x: jax.Array) -> jax.Array:
    """Returns ds_t / ds_{t-1} for every step, (T, S, S).

    For h' = tanh(z + h U) it is diag(1 - h'^2) U^T. The 2-norm of diag(1 - h'^2) is at most 1; that
    of the Jacobian can be larger, depending on U.

    Arguments and errors are those of `states`.
    """
    # One Jacobian for each step, all at once: the states are known before.
    previous = states(cell, params, x)[:-1]
    return jax.vmap(jax.jacfwd(lambda s, x: _step(cell, params, s, x)))(previous, x)


def sensitivity(
    cell: Cell, params: Tree, x: jax.Array, loss: Callable[[jax.Array, jax.Array], jax.Array]
) -> jax.Array:
    """Returns || dE_t / ds_k ||_2 for all t and k: how each error depends on earlier states.

    Args:
      cell, params, x: as for `states`.
      loss: `(y_t (H,), t) -> E_t`, a scalar.

    Returns:
      (T, T), row t and column k for the states after steps 1 to T; 0 where k > t.

    Raises:
      ValueError: x is not (T, D).
    """
    _check_sequence(x)
    zeros = jnp.zeros((len(x), states(cell, params, x).shape[1]), x.dtype)

    def compute_errors(offsets):
        """Returns E_t with offsets[k] added to s_k; its derivative by offsets[k] is dE_t / ds_k."""

        def step(s, inputs):
            x, offset, t = inputs
            s = _step(cell, params, s, x) + offset
            return s, loss(_output(cell, params, s, x[None]), t)

        inputs = x, offsets, jnp.arange(len(x))
        return lax.scan(step, _initial_state(cell, params, x), inputs)[1]

    return jnp.linalg.norm(jax.jacrev(compute_errors)(zeros), axis=-1)


def explicit_gradient(
    cell: Cell,
    params: Tree,
    x: jax.Array,
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    *,
    truncation: int | None = None,
) -> Tree:
    """Computes the gradient of E as the sum over k of Jacobian products.

    It equals `jax.grad` through the scan, but forms ds_k / dW of one step at a time. Use it to
    inspect or check gradients, not to train.

    Args:
      cell, params, x: as for `states`. The gradient of a learned initial carry is part of the sum.
      loss: `(y_t (H,), t) -> E_t`, a scalar.
      truncation: only terms with t - k < truncation, as in truncated backpropagation; None for all.

    Returns:
      A tree like `params`.

    Raises:
      ValueError: x is not (T, D); `truncation` is below 1.
    """
    if truncation is not None and truncation < 1:
        raise ValueError(
            f"explicit_gradient: got truncation={truncation}, expected at least 1 or None."
        )
    _check_sequence(x)
    # The initial carry is T steps before the last error, so no truncation means T + 1.
    max_lag = len(x) + 1 if truncation is None else truncation
    s, t = states(cell, params, x), jnp.arange(len(x))
    direct = jax.vmap(jax.grad(lambda s, t: loss(_output(cell, params, s, x), t)))(s[1:], t)

    def step_back(carry, inputs):
        """Adds the terms of one k for all t, then propagates row t of `errors` to s_{k-1}."""
        errors, total = carry
        k, direct, jacobian, previous, x = inputs
        # dE_k / ds_k enters at step k; the rows of later errors come from step k + 1.
        errors = jnp.where((t - k < max_lag)[:, None], errors.at[k].set(direct), 0)
        immediate = jax.jacrev(lambda p: _step(cell, p, previous, x))(params)
        return (errors @ jacobian, _add_products(total, errors, immediate)), None

    zeros = jnp.zeros_like(direct), jax.tree.map(jnp.zeros_like, params)
    inputs = t, direct, step_jacobians(cell, params, x), s[:-1], x
    (errors, total), _ = lax.scan(step_back, zeros, inputs, reverse=True)
    errors = jnp.where((t + 1 < max_lag)[:, None], errors, 0)
    initial = jax.jacrev(lambda p: _initial_state(cell, p, x))(params)
    return _add_products(total, errors, initial)


def _add_products(total: Tree, errors: jax.Array, jacobian: Tree) -> Tree:
    """Adds the product of the errors, summed over t, with a Jacobian by the parameters."""
    return jax.tree.map(lambda sum, j: sum + jnp.tensordot(errors.sum(0), j, 1), total, jacobian)


def loss_surface(
    loss: Callable[[Any], jax.Array],
    params: Any,
    directions: tuple[Any, Any],
    steps: tuple[Sequence[float] | jax.Array, Sequence[float] | jax.Array],
) -> jax.Array:
    """Evaluates L(params + a u + b v) on a grid of a and b, all points at once by `vmap`.

    Li et al. 2018 (arXiv 1712.09913), sec. 2.

    Args:
      loss: `params -> scalar`.
      params: the parameters at a = b = 0.
      directions: u and v, trees like `params`.
      steps: the values of a (A,) and of b (B,).

    Returns:
      (A, B).
    """
    u, v = directions

    def evaluate(a, b):
        def move(p, u, v):
            return p + a.astype(p.dtype) * u + b.astype(p.dtype) * v

        return loss(jax.tree.map(move, params, u, v))

    a, b = (jnp.asarray(values) for values in steps)
    return jax.vmap(jax.vmap(evaluate, (None, 0)), (0, None))(a, b)


def gradient_norms(gradient: Tree) -> dict[str, jax.Array]:
    """Returns the Euclidean norm of the gradient of each part of a model.

    Args:
      gradient: a tree like a model's parameters, `{"dense_0": {...}, "dense_1": {...}}`.

    Returns:
      A norm for each top-level entry, in the order of the tree.
    """
    return {name: optax.tree.norm(part) for name, part in gradient.items()}


def _check_sequence(x: jax.Array) -> None:
    if x.ndim != 2:
        raise ValueError(f"bptt: x has shape {x.shape}, expected one sequence (T, D).")


def _initial_state(cell: Cell, params: Tree, x: jax.Array) -> jax.Array:
    return ravel_pytree(cell.initial_carry(params, x[:1]))[0]


def _carry(cell: Cell, params: Tree, s: jax.Array, x: jax.Array) -> Any:
    return ravel_pytree(cell.initial_carry(params, x[:1]))[1](s)


def _step(cell: Cell, params: Tree, s: jax.Array, x: jax.Array) -> jax.Array:
    x = x[None]
    return ravel_pytree(cell.step(params, _carry(cell, params, s, x), x)[0])[0]


def _output(cell: Cell, params: Tree, s: jax.Array, x: jax.Array) -> jax.Array:
    return jax.tree.leaves(_carry(cell, params, s, x))[0][0]
