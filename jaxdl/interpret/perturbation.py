"""Attributions by changing the input: leaving features out, one by one or in coalitions.

Perturbed copies run through f side by side, `chunk` of them at a time, never in a Python loop.
Features are named by a mask of numbers: pixels, segments of an image, words. Lecture rows Q01, Q13,
Q14.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.interpret import _input, _target

__all__ = ["ablation", "occlusion", "shapley_sampling", "shapley_values"]

MOST = 16
"""Features for which all coalitions are run: 65,536."""


def ablation(
    f: Callable[[jax.Array], Any],
    x: jax.Array,
    *,
    target: _target.Target = None,
    baseline: Any = 0.0,
    mask: Any = None,
    chunk: int | None = None,
) -> jax.Array:
    """y(x) - y(x without the feature), for each feature. Lecture rows Q01, Q13, Q14.

    Args:
      f, target: as for `saliency`; "argmax" is the class that x itself is given.
      x: (N, ...).
      baseline: what a feature is replaced by, a number or what broadcasts to x.
      mask: integers that broadcast to an example's shape, the same number for all that belongs to
        one feature: segments, or words of (T, D) by `arange(T)[:, None]`; None for every value by
        itself.
      chunk: features left out side by side; None for all.

    Returns:
      Like x; all that belongs to a feature has its value, in units of the score.

    Raises:
      ValueError: as `saliency`; the mask is no integers, or does not broadcast.
    """
    name = "ablation"
    x, base, ids, count = _features(name, x, baseline, mask)
    target = _target.settled(name, f, x, target)
    whole = _target.score(name, f(x), target)

    def without(i):
        left = ids == i
        fall = whole - _target.score(name, f(jnp.where(left, base, x)), target)
        return fall.reshape(-1, *[1] * (x.ndim - 1)) * left.astype(fall.dtype)

    return _input.weighted_sum(name, without, jnp.ones(count), chunk).astype(x.dtype)


def occlusion(
    f: Callable[[jax.Array], Any],
    x: jax.Array,
    window: Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    target: _target.Target = None,
    baseline: Any = 0.0,
    chunk: int | None = None,
) -> jax.Array:
    """The mean fall of the score over all windows that cover a value, when they are covered.

    Zeiler and Fergus 2014 (arXiv 1311.2901), sec. 4.2; lecture row Q01.

    Args:
      f, target, baseline: as for `ablation`.
      x: (N, ...).
      window: its size along each axis of an example, e.g. (4, 4, 1) or (4, 4, 3).
      stride: steps from one window to the next; the last one ends at the edge.
      chunk: windows covered side by side; None for all.

    Returns:
      Like x, in units of the score.

    Raises:
      ValueError: as `ablation`; the window does not fit in an example, or a stride is below 1 or
        leaves gaps between windows.
    """
    name = "occlusion"
    x = _input.checked(name, x)
    base = _input.baselines(name, x, baseline)
    shape = x.shape[1:]
    steps = (stride,) * len(shape) if isinstance(stride, int) else tuple(stride)
    window = tuple(window)
    fits = len(window) == len(steps) == len(shape) and all(
        1 <= w <= size and 1 <= s <= w for w, s, size in zip(window, steps, shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"{name}: window {window} and stride {stride} for examples of {shape}; expected a size "
            "for each axis, no larger than it, and strides of 1 up to the window."
        )
    axes = [
        sorted({*range(0, size - w, s), size - w})
        for size, w, s in zip(shape, window, steps, strict=True)
    ]
    corners = jnp.asarray(list(itertools.product(*axes)), jnp.int32)
    target = _target.settled(name, f, x, target)
    whole = _target.score(name, f(x), target)

    def covered(i):
        inside = jnp.ones(shape, bool)
        for axis, size in enumerate(window):
            at = jnp.arange(shape[axis], dtype=jnp.int32) - corners[i, axis]
            line = (at >= 0) & (at < size)
            inside &= line.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        fall = whole - _target.score(name, f(jnp.where(inside, base, x)), target)
        seen = inside.astype(fall.dtype)
        return fall.reshape(-1, *[1] * len(shape)) * seen, seen

    total, times = _input.weighted_sum(name, covered, jnp.ones(len(corners)), chunk)
    return (total / times).astype(x.dtype)


def shapley_values(
    f: Callable[[jax.Array], Any],
    x: jax.Array,
    *,
    target: _target.Target = None,
    baseline: Any = 0.0,
    mask: Any = None,
    chunk: int | None = None,
) -> jax.Array:
    """Each feature's mean gain over all orders in which the features may come in, exactly.

    Shapley 1953; Lundberg and Lee 2017 (arXiv 1705.07874), eq. 4. All 2^M coalitions are run; their
    values add up to y(x) - y(baseline).

    Args:
      f, x, target, baseline, mask: as for `ablation`, of at most 16 features.
      chunk: coalitions run side by side; None for all.

    Returns:
      Like x; all that belongs to a feature has its value, in units of the score.

    Raises:
      ValueError: as `ablation`; there are more than 16 features: use `shapley_sampling`.
    """
    name = "shapley_values"
    x, base, ids, count = _features(name, x, baseline, mask)
    if count > MOST:
        raise ValueError(
            f"{name}: {count} features make 2^{count} coalitions; expected at most {MOST}: join "
            "features by mask=, or use shapley_sampling."
        )
    target = _target.settled(name, f, x, target)
    members = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    size = members.sum(1)
    weight = lambda s: 1 / (count * math.comb(count - 1, s))  # noqa: E731
    entering = np.array([weight(s - 1) if s else 0.0 for s in size])
    leaving = np.array([weight(s) if s < count else 0.0 for s in size])
    shares = jnp.asarray(np.where(members == 1, entering[:, None], -leaving[:, None]))
    present = jnp.asarray(members, bool)

    def coalition(i):
        score = _target.score(name, f(jnp.where(present[i][ids], x, base)), target)
        return score[:, None] * shares[i].astype(score.dtype)

    values = _input.weighted_sum(name, coalition, jnp.ones(2**count), chunk)
    return jnp.take(values, ids, axis=1).astype(x.dtype)


def shapley_sampling(
    f: Callable[[jax.Array], Any],
    x: jax.Array,
    *,
    key: jax.Array,
    target: _target.Target = None,
    baseline: Any = 0.0,
    mask: Any = None,
    orders: int = 25,
    chunk: int | None = None,
) -> jax.Array:
    """Shapley values estimated from random orders, each run forwards and backwards.

    Castro, Gomez, Tejada 2009 (doi:10.1016/j.cor.2008.04.004); orders and their reverse in pairs:
    Mitchell et al. 2022 (arXiv 2104.12199). For every number of orders the values add up to
    y(x) - y(baseline).

    Args:
      f, x, target, baseline, mask: as for `ablation`.
      key: a PRNG key.
      orders: random orders; each takes two runs of f for each feature.
      chunk: orders run side by side; None for all.

    Returns:
      Like x, in units of the score.

    Raises:
      ValueError: as `ablation`; `orders` is below 1.
    """
    name = "shapley_sampling"
    x, base, ids, count = _features(name, x, baseline, mask)
    if orders < 1:
        raise ValueError(f"{name}: orders is {orders}; expected at least 1.")
    target = _target.settled(name, f, x, target)

    def gains(order):
        """What each feature adds when they come in by this order, (N, M)."""
        rank = jnp.argsort(order)

        def upto(t):
            return _target.score(name, f(jnp.where((rank < t)[ids], x, base)), target)

        scores = jax.lax.map(upto, jnp.arange(count + 1))
        return jnp.diff(scores, axis=0)[rank].T

    def both_ways(i):
        order = jax.random.permutation(jax.random.fold_in(key, i), count)
        return (gains(order) + gains(order[::-1])) / 2

    values = _input.weighted_sum(name, both_ways, jnp.full(orders, 1 / orders), chunk)
    return jnp.take(values, ids, axis=1).astype(x.dtype)


def _features(name, x, baseline, mask):
    """x, its baseline, the number of each value's feature from 0, and how many there are."""
    x = _input.checked(name, x)
    base = _input.baselines(name, x, baseline)
    shape = x.shape[1:]
    ids = np.arange(math.prod(shape)).reshape(shape) if mask is None else np.asarray(mask)
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"{name}: the mask is {ids.dtype}; expected integers, one for a feature.")
    try:
        ids = np.broadcast_to(ids, shape)
    except ValueError as error:
        raise ValueError(
            f"{name}: the mask has shape {ids.shape} for examples of {shape}; expected what "
            "broadcasts to an example, without the batch axis."
        ) from error
    known, numbers = np.unique(ids, return_inverse=True)
    return x, base, jnp.asarray(numbers.reshape(shape)), len(known)
