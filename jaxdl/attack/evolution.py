"""Differential evolution: minimizes any function of a box, without derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxdl._check import require_ints, require_key, require_number

__all__ = ["Evolution", "differential_evolution"]


class Evolution(NamedTuple):
    """Result of differential evolution.

    Attributes:
      x: (D,), the best candidate.
      value: (), its value.
      history: (generations + 1,), the best value at the start and after every generation.
    """

    x: jax.Array
    value: jax.Array
    history: jax.Array


def differential_evolution(
    f: Callable[[jax.Array], jax.Array],
    low: ArrayLike,
    high: ArrayLike,
    *,
    key: jax.Array,
    population: int = 64,
    generations: int = 100,
    weight: ArrayLike = 0.5,
    crossover: ArrayLike = 0.9,
    start: jax.Array | None = None,
) -> Evolution:
    """Minimizes f in a box by differential evolution, in one compiled loop.

    Storn and Price 1997 (doi 10.1023/A:1008202821328), the form DE/rand/1/bin: a candidate i of a
    generation competes with x_a + weight (x_b - x_c), where a, b, c are three random candidates
    that differ from each other and from i, and of which each value is taken with the probability
    `crossover`, one of them always. The better of the two stays, so that the best value never
    increases. A generation is evaluated by `jax.vmap`; map the whole call by `jax.vmap` over keys
    for restarts.

    Args:
      f: from a candidate (D,) to a number, (). NaN counts as the worst value.
      low: (D,), the least values of a candidate.
      high: (D,), the largest ones. Candidates that leave the box are clipped to it.
      key: PRNG key.
      population: number of candidates, >= 4; about ten for each dimension.
      generations: number of generations, >= 1.
      weight: factor of the difference, in [0, 2].
      crossover: probability to take a value of the new candidate, in [0, 1].
      start: (population, D), the first candidates; None for uniform ones.

    Returns:
      An `Evolution`.

    Raises:
      ValueError: `low` and `high` are not two ends (D,) in order; f returns no number; `start` has
        another shape; or an argument is out of its range.
    """
    name = "differential_evolution"
    (population,) = require_ints(name, 4, population=population)
    (generations,) = require_ints(name, 1, generations=generations)
    weight = require_number(name, "in [0, 2]", lambda v: 0 <= v <= 2, weight=weight)
    crossover = require_number(name, "in [0, 1]", lambda v: 0 <= v <= 1, crossover=crossover)
    low, high = _check_box(low, high)
    dtype, size = low.dtype, len(low)
    shape = jax.eval_shape(f, low)
    if getattr(shape, "shape", None) != () or not jnp.issubdtype(shape.dtype, jnp.floating):
        raise ValueError(f"{name}: f returns {shape}; expected one floating-point number, ().")
    if start is not None and np.shape(start) != (population, size):
        raise ValueError(
            f"{name}: start has shape {np.shape(start)}; expected {(population, size)}, "
            "(population, D)."
        )

    def evaluate(candidates):
        values = jax.vmap(f)(candidates)
        return jnp.where(jnp.isnan(values), jnp.inf, values)

    key = require_key(name, key)
    first_key, key = jax.random.split(key)
    if start is None:
        candidates = jax.random.uniform(first_key, (population, size), dtype, low, high)
    else:
        candidates = jnp.clip(jnp.asarray(start, dtype), low, high)

    def advance(carry, _):
        key, candidates, values = carry
        key, *keys = jax.random.split(key, 4)
        a, b, c = (candidates[chosen] for chosen in _draw_others(keys[0], population))
        new = a + jnp.asarray(weight, dtype) * (b - c)
        taken = jax.random.uniform(keys[1], new.shape, dtype) < jnp.asarray(crossover, dtype)
        always = jax.random.randint(keys[2], (population, 1), 0, size)
        new = jnp.where(taken | (jnp.arange(size) == always), new, candidates)
        new = jnp.clip(new, low, high)
        new_values = evaluate(new)
        better = new_values <= values
        candidates = jnp.where(better[:, None], new, candidates)
        values = jnp.where(better, new_values, values)
        return (key, candidates, values), jnp.min(values)

    values = evaluate(candidates)
    # The key is carried: `scan` over keys under `vmap` would fail the check of their reuse.
    first = key, candidates, values
    (_, candidates, last), history = jax.lax.scan(advance, first, length=generations)
    best = jnp.argmin(last)
    history = jnp.concatenate([jnp.min(values, keepdims=True), history])
    return Evolution(candidates[best], last[best], history)


def _draw_others(key: jax.Array, count: int) -> list[jax.Array]:
    """Draws three indices for each of `count`, which differ from it and from each other."""
    taken = [jnp.arange(count)]
    for i, draw_key in enumerate(jax.random.split(key, 3), 1):
        index = jax.random.randint(draw_key, (count,), 0, count - i)
        # Skips the indices that are taken, from the smallest on.
        for other in jnp.sort(jnp.stack(taken), axis=0):
            index = index + (index >= other).astype(index.dtype)
        taken.append(index)
    return taken[1:]


def _check_box(low: Any, high: Any) -> tuple[jax.Array, jax.Array]:
    """Returns the ends of a box as floats (D,)."""
    dtype = jnp.result_type(float)
    shapes = np.shape(low), np.shape(high)
    if len(shapes[0]) != 1 or shapes[0] != shapes[1] or shapes[0] == (0,):
        raise ValueError(
            f"differential_evolution: low and high have shapes {shapes[0]} and {shapes[1]}; "
            "expected (D,), an end for every value."
        )
    known = not isinstance(low, Tracer) and not isinstance(high, Tracer)
    if known and not (np.isfinite(low) & np.isfinite(high) & (np.asarray(low) <= high)).all():
        raise ValueError(
            f"differential_evolution: low is {low} and high {high}; expected finite ends in order."
        )
    return jnp.asarray(low, dtype), jnp.asarray(high, dtype)
