"""DeepFool: steps to the nearest boundary between classes, each on a linearized f."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl._check import require_ints, require_number
from jaxdl.attack import _problem
from jaxdl.attack._ball import bisect
from jaxdl.attack.gradient import Bounds

__all__ = ["deep_fool"]


def deep_fool(
    f: Callable[[Any], Any],
    x: Any,
    labels: Any,
    *,
    steps: int = 50,
    overshoot: float = 0.02,
    candidates: int = 10,
    bounds: Bounds | None = (0.0, 1.0),
) -> Any:
    """Computes a small change, in the L2 norm, that changes the class.

    Moosavi-Dezfooli et al. 2016 (arXiv 1511.04599), algorithm 2. With w_k the gradient of
    f_k - f_y, a step is (f_y - f_k) w_k / ||w_k||^2 for the class k of the nearest boundary,
    |f_k - f_y| / ||w_k||; the steps are added, and their sum is extended by the overshoot. Within
    bounds, a step is the shortest one to the boundary that stays in them, where the paper's would
    be clipped and fall short. For affine f one step gives the nearest input of another class.

    Args:
      f: from inputs (N, ...) to scores (N, classes); or to one logit each, (N,) or (N, 1).
      x: (N, ...), floating-point, or a tree of such arrays. Integers in it are not changed.
      labels: (N,), the true classes. An example that f assigns to another class is not changed.
      steps: largest number of steps, >= 1. An example of a wrong class does not move on.
      overshoot: part of the change that is added to cross the boundary, >= 0.
      candidates: number of classes that are considered, >= 2: the true one and those of the
        highest scores.
      bounds: as for `pgd`.

    Returns:
      An array like x, or a tree of them: inputs of another class, or the last ones after `steps`.

    Raises:
      ValueError: as for `pgd`; `steps` or `candidates` is too small, or `overshoot` negative.
    """
    problem = _problem.prepare("deep_fool", f, x, labels)
    (steps,) = require_ints("deep_fool", 1, steps=steps)
    (candidates,) = require_ints("deep_fool", 2, candidates=candidates)
    expected = "a number >= 0"
    overshoot = require_number("deep_fool", expected, lambda v: v >= 0, overshoot=overshoot)
    low, high = _problem.as_bounds(problem, bounds)
    labels, center = problem.labels, problem.rows

    def scores_of(rows):
        return _problem.as_scores(problem.f(rows))

    scores = scores_of(center)
    is_true = jnp.arange(scores.shape[1]) == labels[:, None]
    others = min(candidates, scores.shape[1]) - 1
    _, rivals = jax.lax.top_k(jnp.where(is_true, -jnp.inf, scores), others)

    def gaps(rows):
        scores = scores_of(rows)
        gap = jnp.take_along_axis(scores, rivals, 1) - jnp.take_along_axis(
            scores, labels[:, None], 1
        )
        return gap, jnp.argmax(scores, axis=1) != labels

    def is_running(carry):
        step, _, _, done = carry
        return (step < steps) & ~jnp.all(done)

    def advance(carry):
        step, rows, change, _ = carry
        gap, pull, done = jax.vjp(gaps, rows, has_aux=True)
        basis = jnp.eye(others, dtype=gap.dtype)[:, None, :]
        basis = jnp.broadcast_to(basis, (others, *gap.shape))
        (gradients,) = jax.vmap(pull)(basis)  # (others, N, D)
        moves, reached = _move_to_planes(gradients, jnp.abs(gap).T, low - rows, high - rows)
        distances = jnp.where(reached, jnp.sqrt(jnp.sum(moves**2, axis=2)), jnp.inf)
        nearest = jnp.argmin(distances, axis=0)[None, :, None]
        move = jnp.take_along_axis(moves, nearest, axis=0)[0]
        change = jnp.where(done[:, None], change, change + move)
        moved = jnp.clip(center + (1 + overshoot) * change, low, high)
        return step + 1, jnp.where(done[:, None], rows, moved), change, done

    start = 0, center, jnp.zeros_like(center), jnp.zeros(len(center), bool)
    _, rows, _, _ = jax.lax.while_loop(is_running, advance, start)
    return problem.restore(rows)


def _move_to_planes(
    normals: jax.Array, gaps: jax.Array, low: jax.Array, high: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the shortest moves v with w . v = gap and low <= v <= high.

    By the conditions of Karush, Kuhn and Tucker, v = clip(t w, low, high), where w . v increases
    with t. Without bounds, t = gap / ||w||^2.

    Args:
      normals: (K, N, D), w for K planes and N examples.
      gaps: (K, N), >= 0.
      low, high: (N, D), around 0.

    Returns:
      The moves, (K, N, D), and whether they reach their planes, (K, N). The others lead as far as
      they can.
    """
    squares = jnp.sum(normals**2, axis=2)
    first = jnp.where(squares > 0, gaps / jnp.where(squares > 0, squares, 1), 0)
    first = first.astype(normals.dtype)

    def move(exponent):
        return jnp.clip((first * 2**exponent)[..., None] * normals, low, high)

    def is_reached(exponent):
        return jnp.sum(normals * move(exponent), axis=2) >= gaps

    last = jnp.full_like(first, 20.0)
    exponent = bisect(is_reached, last, jnp.zeros_like(last))
    # A plane that is reached without bounds may be missed by rounding.
    progress = jnp.sum(normals * move(exponent), axis=2)
    return move(exponent), (progress >= 0.999 * gaps) & (squares > 0)
