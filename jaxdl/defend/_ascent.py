"""Projected gradient ascent on any loss of an input, for training on adversarial inputs.

Unlike `attack.pgd` it ascends the loss that is trained, whatever that is, and is part of a
compiled training step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdl._check import require_ints, require_number
from jaxdl._precision import widen
from jaxdl.interpret import _input

Bounds = tuple[float, float]

ROUNDING = 1e-3
"""How far x may be out of bounds, as a share of their distance: bounds in other units round."""


def ascend(
    loss: Callable[[Any], jax.Array],
    x: Any,
    options: Options,
    key: jax.Array,
) -> Any:
    """Maximizes a loss within epsilon of x by signed gradient steps from a random point.

    Args:
      loss: from a tree like x to losses (N, ...), of which the sum is maximized.
      x: an array (N, ...), or a tree of such arrays. Integers in it are not changed.
      options: epsilon, the largest change of a coordinate; step, that of one step; the number of
        steps; and bounds, the smallest and largest valid input, or None.
      key: a PRNG key.

    Returns:
      A tree like x, without gradient. Coordinates that are out of bounds are NaN.
    """
    epsilon, step, steps, bounds = options
    whole = _input.as_batch("defend", x)
    loss, x = _input.separate(loss, whole)
    x = jax.lax.stop_gradient(jax.tree.map(widen, x))
    low, high = (jax.tree.map(lambda x, e=e: x + e, x) for e in (-epsilon, epsilon))
    if bounds is not None:
        low, high = (jax.tree.map(lambda x: jnp.clip(x, *bounds), end) for end in (low, high))

    def move(_, x):
        def climb(x, slope, low, high):
            return jnp.clip(x + step * jnp.sign(slope), low, high)

        return jax.tree.map(climb, x, jax.grad(lambda x: jnp.sum(loss(x)))(x), low, high)

    leaves, tree = jax.tree.flatten(x)
    keys = tree.unflatten(list(jax.random.split(key, len(leaves))))

    def draw(key, x, low, high):
        return jax.random.uniform(key, x.shape, x.dtype, low, high)

    moved = jax.lax.fori_loop(0, steps, move, jax.tree.map(draw, keys, x, low, high))
    if bounds is not None:
        slack = ROUNDING * (bounds[1] - bounds[0])
        moved = jax.tree.map(
            # Clipping would silently train on other inputs.
            lambda x, y: jnp.where((x < bounds[0] - slack) | (x > bounds[1] + slack), jnp.nan, y),
            x,
            moved,
        )
    return jax.tree.map(lambda leaf, part: leaf if part is None else part, whole, moved)


class Options(NamedTuple):
    """Options of `ascend`, checked."""

    epsilon: float
    step: float
    steps: int
    bounds: Bounds | None


def check_options(
    caller: str, epsilon: Any, steps: Any, step: Any, reach: float, bounds: Any
) -> Options:
    """Returns the options of an attack; a step of None is reach * epsilon / steps.

    Raises:
      ValueError: an option is out of range.
    """
    expected = "a number >= 0"
    epsilon = require_number(caller, expected, lambda e: e >= 0, epsilon=epsilon)
    (steps,) = require_ints(caller, 1, steps=steps)
    step = reach * epsilon / steps if step is None else step
    step = require_number(caller, expected, lambda s: s >= 0, step=step)
    if bounds is not None:
        ends = bounds if isinstance(bounds, tuple | list) and len(bounds) == 2 else ()
        numbers = all(isinstance(end, int | float) and math.isfinite(end) for end in ends)
        if not ends or not numbers or not ends[0] < ends[1]:
            raise ValueError(
                f"{caller}: bounds are {bounds!r}; expected (smallest, largest) valid input, the "
                "smaller one first, or None for inputs without bounds."
            )
        bounds = float(ends[0]), float(ends[1])
    return Options(epsilon, step, steps, bounds)
