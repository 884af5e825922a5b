"""Sets of allowed inputs: a norm ball around x, within bounds. Steepest steps and projections.

The set is {y : ||(y - x) / epsilon||_p <= 1, low <= y <= high}, with x, epsilon, low and high of
shape (N, D): an epsilon of several values weighs the norm, for inputs whose channels have different
units, and an epsilon of 0 keeps a value unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from jaxdl.attack._problem import Problem, as_bounds, as_sizes, broadcast

Norm = Literal["linf", "l2", "l1"]
"""The norm of a change: of its largest value, Euclidean, or the sum of absolute values."""


class Ball(NamedTuple):
    """The allowed inputs: center and radius of the ball, and the bounds, each (N, D)."""

    norm: Norm
    center: jax.Array
    radius: jax.Array
    low: jax.Array
    high: jax.Array


def make_ball(problem: Problem, norm: Norm, epsilon: Any, bounds: Any, mask: Any) -> Ball:
    """Checks the arguments and returns the allowed inputs around x.

    Raises:
      ValueError: an argument is invalid, or does not broadcast to x.
    """
    radius = as_radius(problem, norm, epsilon, mask)
    return Ball(norm, problem.rows, radius, *as_bounds(problem, bounds))


def as_radius(problem: Problem, norm: Norm, epsilon: Any, mask: Any) -> jax.Array:
    """Checks the norm, and returns epsilon as rows (N, D), 0 where the mask is."""
    if norm not in get_args(Norm):
        raise ValueError(
            f"{problem.caller}: norm is {norm!r}; expected one of {list(get_args(Norm))}."
        )
    radius = as_sizes(problem, "epsilon", epsilon)
    if mask is None:
        return radius
    return jnp.where(broadcast(problem, "mask", mask) != 0, radius, 0)


def ascend(ball: Ball, x: jax.Array, gradient: jax.Array, size: jax.Array) -> jax.Array:
    """Returns x after the steepest step {v : ||v / size||_p <= 1}, for `size` (N, D).

    For the L1 norm the step raises the values of the largest gradients to their bounds, one after
    the other, until the norm of the step is used up: the steepest step among those that stay in
    bounds (Croce and Hein 2021, arXiv 2103.01208, proposition 3.2).
    """
    size = jnp.where(ball.radius > 0, size, 0)
    if ball.norm == "linf":
        return x + size * jnp.sign(gradient)
    slope = size * gradient
    # Squares of small gradients would underflow.
    slope = _divide(slope, jnp.max(jnp.abs(slope), axis=1, keepdims=True))
    if ball.norm == "l2":
        return x + size * _divide(slope, _length(slope))
    room = _divide(jnp.where(slope > 0, ball.high - x, x - ball.low), size)
    order = jnp.argsort(-jnp.abs(slope), axis=1)
    room = jnp.maximum(jnp.take_along_axis(room, order, axis=1), 0)
    used = jnp.cumsum(room, axis=1)
    before = jnp.concatenate([jnp.zeros_like(used[:, :1]), used[:, :-1]], axis=1)
    share = jnp.minimum(jnp.maximum(1 - before, 0), room)
    share = jnp.take_along_axis(share, jnp.argsort(order, axis=1), axis=1)
    return x + size * share * jnp.sign(slope)


def project(ball: Ball, x: jax.Array) -> jax.Array:
    """Returns the nearest allowed input, in the units of the radius.

    The conditions of Karush, Kuhn and Tucker give, for u = (x - center) / radius between l and h,
    clip(s u, l, h) in the L2 ball and clip(sign(u) max(|u| - t, 0), l, h) in the L1 ball. Their
    norms are monotonic in s and t, which are found by bisection.
    """
    low, high = ball.low, ball.high
    if ball.norm == "linf":
        low, high = (
            jnp.maximum(ball.center - ball.radius, low),
            jnp.minimum(ball.center + ball.radius, high),
        )
        return jnp.clip(x, low, high)
    u, least, most = (_divide(end - ball.center, ball.radius) for end in (x, low, high))
    one = jnp.ones_like(u[:, :1])
    if ball.norm == "l2":
        first, last = one / jnp.maximum(_length(u), 1), one
    else:
        first, last = jnp.max(jnp.abs(u), axis=1, keepdims=True), 0 * one

    def shrink(value):
        shrunk = value * u if ball.norm == "l2" else _shift_to_zero(u, value)
        return jnp.clip(shrunk, least, most)

    length = _length if ball.norm == "l2" else _sum
    value = bisect(lambda value: length(shrink(value)) <= 1, first, last)
    return jnp.clip(ball.center + ball.radius * shrink(value), low, high)


def draw(ball: Ball, key: jax.Array) -> jax.Array:
    """Returns a random allowed input: uniform in the box, or in the ball and then clipped."""
    shape, dtype = ball.center.shape, ball.center.dtype
    if ball.norm == "linf":
        low = jnp.maximum(ball.center - ball.radius, ball.low)
        high = jnp.minimum(ball.center + ball.radius, ball.high)
        return jax.random.uniform(key, shape, dtype, low, high)
    one, two = jax.random.split(key)
    free = ball.radius > 0
    if ball.norm == "l2":
        u = jnp.where(free, jax.random.normal(one, shape, dtype), 0)
        size = jnp.maximum(jnp.sum(free, axis=1, keepdims=True), 1).astype(dtype)
        u = _divide(u, _length(u)) * jax.random.uniform(two, (shape[0], 1), dtype) ** (1 / size)
    else:
        # One more exponential number than values: the sum of the others is uniform in the ball.
        parts = jax.random.exponential(one, (shape[0], shape[1] + 1), dtype)
        rest, parts = parts[:, :1], jnp.where(free, parts[:, 1:], 0)
        u = parts / (rest + _sum(parts)) * jax.random.rademacher(two, shape, dtype)
    return jnp.clip(ball.center + ball.radius * u, ball.low, ball.high)


def bisect(
    is_inside: Callable[[jax.Array], jax.Array], inside: jax.Array, outside: jax.Array
) -> jax.Array:
    """Returns the values nearest to `outside` that are inside, each by itself."""
    # Ten bits more than the precision, for values that are small against the interval.
    count = jnp.finfo(inside.dtype).nmant + 10

    def halve(_, interval):
        inside, outside = interval
        middle = (inside + outside) / 2
        within = is_inside(middle)
        return jnp.where(within, middle, inside), jnp.where(within, outside, middle)

    inside = jnp.where(is_inside(outside), outside, inside)
    return jax.lax.fori_loop(0, count, halve, (inside, outside))[0]


def _shift_to_zero(u: jax.Array, size: jax.Array) -> jax.Array:
    return jnp.sign(u) * jnp.maximum(jnp.abs(u) - size, 0)


def _divide(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns a / b, and 0 where b is 0."""
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))


def _length(u: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(u**2, axis=1, keepdims=True))


def _sum(u: jax.Array) -> jax.Array:
    return jnp.sum(jnp.abs(u), axis=1, keepdims=True)
