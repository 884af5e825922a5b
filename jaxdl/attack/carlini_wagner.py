"""Attack by Carlini and Wagner: the nearest input of another class, by penalized descent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxdl._check import require_ints, require_number
from jaxdl.attack import _problem
from jaxdl.attack.gradient import Bounds

__all__ = ["carlini_wagner"]


def carlini_wagner(
    f: Callable[[Any], Any],
    x: Any,
    labels: Any,
    *,
    confidence: ArrayLike = 0.0,
    steps: int = 500,
    search_steps: int = 9,
    constant: float = 1e-3,
    learning_rate: float = 1e-2,
    bounds: Bounds | None = (0.0, 1.0),
    targeted: bool = False,
) -> Any:
    """Computes the smallest change, in the L2 norm, that changes the class.

    Carlini and Wagner 2017 (arXiv 1608.04644), sec. V and VI.A: minimizes

        ||x' - x||^2 + c max(s_y(x') - max_{k != y} s_k(x') + confidence, 0)

    by Adam, and searches for the smallest c that succeeds: c grows tenfold until one does and is
    then bisected. Between finite bounds, x' = (high + low) / 2 + (high - low) / 2 tanh(w) is
    optimized by w, which keeps it inside. Both loops are compiled, and every example has its own c.

    Args:
      f: from inputs (N, ...) to scores (N, classes), before any softmax; or to one logit each, (N,)
        or (N, 1).
      x: (N, ...), floating-point, or a tree of such arrays. Integers in it are not changed.
      labels: (N,), the true classes, or with `targeted` the wanted ones, whose score is then to
        exceed the others.
      confidence: the lead of the wrong score, >= 0.
      steps: steps of Adam for each c, >= 1.
      search_steps: number of values of c, >= 1.
      constant: the first c, > 0.
      learning_rate: Adam's rate, > 0, for w or for x' where bounds are infinite.
      bounds: as for `pgd`.
      targeted: whether `labels` are wanted.

    Returns:
      An array like x, or a tree of them: the nearest input with the lead that the search came
      across. An example without one is not changed.

    Raises:
      ValueError: as for `pgd`; or a number is out of its range.
    """
    name = "carlini_wagner"
    problem = _problem.prepare(name, f, x, labels)
    steps, search_steps = require_ints(name, 1, steps=steps, search_steps=search_steps)
    margin = require_number(name, "a number >= 0", lambda v: v >= 0, confidence=confidence)
    positive = "a number > 0", lambda v: v > 0
    constant = require_number(name, *positive, constant=constant)
    optimizer = optax.adam(require_number(name, *positive, learning_rate=learning_rate))
    # The search of half-precision inputs is in single precision: the constant would overflow, and
    # values at a bound could not be moved inside.
    precision = problem.rows.dtype
    dtype = precision if jnp.finfo(precision).bits >= 32 else jnp.dtype("float32")
    low, high = (end.astype(dtype) for end in _problem.as_bounds(problem, bounds))
    center = problem.rows.astype(dtype)

    finite = jnp.isfinite(low) & jnp.isfinite(high)
    middle = jnp.where(finite, (low + high) / 2, 0)
    half = jnp.where(finite, (high - low) / 2, 1)

    def decode(w):
        return jnp.clip(jnp.where(finite, middle + half * jnp.tanh(w), w), low, high)

    # Inputs at a bound are moved inside by a millionth, as in the authors' code.
    unit = (center - middle) / half
    start = jnp.where(finite, jnp.arctanh(jnp.where(finite, unit * (1 - 1e-6), 0)), center)

    def excess(rows):
        """Returns the amount by which the lead of the wrong score is too small, (N,)."""
        lead = _problem.margins(problem.f(rows.astype(precision)), problem.labels).astype(dtype)
        return jnp.asarray(margin, dtype) + (-lead if targeted else lead)

    def total(w, c):
        rows = decode(w)
        distances, missing = jnp.sum((rows - center) ** 2, axis=1), excess(rows)
        # Where the wrong score leads by enough, only the distance is decreased.
        loss = jnp.sum(distances + c * jnp.maximum(missing, 0))
        return loss, (rows, distances, missing < 0)

    def descend(c, best):
        def advance(_, carry):
            w, state, reached, (best_rows, best_distances) = carry
            (_, (rows, distances, succeeds)), gradient = jax.value_and_grad(total, has_aux=True)(
                w, c
            )
            nearer = succeeds & (distances < best_distances)
            best_rows = jnp.where(nearer[:, None], rows, best_rows)
            best = best_rows, jnp.where(nearer, distances, best_distances)
            # optax mixes ints and floats, which strict promotion does not allow.
            with jax.numpy_dtype_promotion("standard"):
                updates, state = optimizer.update(gradient, state, w)
            return w + updates, state, reached | succeeds, best

        carry = start, optimizer.init(start), jnp.zeros(len(center), bool), best
        _, _, reached, best = jax.lax.fori_loop(0, steps, advance, carry)
        return reached, best

    def search(carry, _):
        c, least, most, best = carry
        reached, best = descend(c, best)
        least, most = jnp.where(reached, least, c), jnp.where(reached, c, most)
        c = jnp.where(jnp.isinf(most), 10 * c, (least + most) / 2)
        return (c, least, most, best), None

    c = jnp.full(len(center), constant, dtype)
    infinite = jnp.full_like(c, jnp.inf)
    first = c, jnp.zeros_like(c), infinite, (center, infinite)
    ((_, _, _, (rows, _)), _) = jax.lax.scan(search, first, length=search_steps)
    return problem.restore(jnp.clip(rows, low, high).astype(precision))
