"""Attributions as the weights of a linear function fitted to masked copies of the input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.interpret import _at, _compile, _input, _target
from jaxdl.interpret.perturbation import features, to_values

__all__ = ["kernel_shap", "lime"]


@_compile.once
@_target.each
def kernel_shap(
    f: Callable[[jax.Array], Any],
    x: jax.Array,
    *,
    key: jax.Array,
    target: _target.Target = None,
    baseline: Any = 0.0,
    mask: Any = None,
    samples: int = 1024,
    at: str | None = None,
    chunk: int | None = None,
) -> jax.Array:
    """Shapley values by a weighted regression on coalitions of features.

    Lundberg and Lee 2017 (arXiv 1705.07874), theorem 2; coalitions come with their complements, and
    the sum is held to y(x) - y(baseline): Covert and Lee 2021 (arXiv 2012.01536), sec. 3. Where
    `samples` reach for all 2^M coalitions, all are run and the values are exact.

    Args:
      f, x, target, baseline, mask, at: as for `ablation`.
      key: a PRNG key.
      samples: coalitions, at least twice the number of features.
      chunk: coalitions run side by side; None for all.

    Returns:
      Like x; all that belongs to a feature has its value, in units of the score.

    Raises:
      ValueError: as `ablation`; there are fewer than two samples a feature.
    """
    name = "kernel_shap"
    f, x = _at.located(name, f, x, at)
    base, ids, count = features(name, x, baseline, mask)
    if samples < 2 * count:
        raise ValueError(
            f"{name}: samples is {samples} for {count} features; expected at least {2 * count}."
        )
    target = _target.settled(name, f, x, target)
    present, weights = _coalitions(key, count, samples)
    empty, whole = (_target.score(name, f(v), target) for v in (base, x))
    if count == 1:
        return jnp.broadcast_to((whole - empty).reshape(-1, *[1] * (x.ndim - 1)), x.shape)

    def moments(i):
        z = present[i].astype(x.dtype)
        rise = _target.score(name, f(jnp.where(present[i][ids], x, base)), target) - empty
        return jnp.outer(z, z), rise[:, None] * z

    a, b = _input.weighted_sum(name, moments, weights, chunk)
    ones = jnp.ones((count, 1), b.dtype)
    free, spread = (jnp.linalg.solve(a, side) for side in (b.T, ones))
    excess = (jnp.sum(free, 0) - (whole - empty)) / jnp.sum(spread)
    values = (free - spread * excess).T
    return to_values(values, ids, x)


def _coalitions(key: jax.Array, count: int, samples: int) -> tuple[jax.Array, jax.Array]:
    """Which features are there, (n, M), and the weights of the regression."""
    if count < 2:
        return jnp.ones((1, count), bool), jnp.ones(1)
    if 2**count - 2 <= samples:
        members = (np.arange(1, 2**count - 1)[:, None] >> np.arange(count)) & 1
        size = members.sum(1)
        kernel = np.array([(count - 1) / (math.comb(count, s) * s * (count - s)) for s in size])
        return jnp.asarray(members, bool), jnp.asarray(kernel / kernel.sum())
    sizes = np.arange(1, count)
    chances = jnp.asarray(1 / (sizes * (count - sizes)))
    of_size, of_members = jax.random.split(key)
    size = jax.random.choice(of_size, sizes, (samples // 2,), p=chances / jnp.sum(chances))
    rank = jnp.argsort(jax.random.uniform(of_members, (samples // 2, count)), axis=1)
    half = rank < size[:, None]
    both = jnp.concatenate([half, ~half])
    return both, jnp.full(len(both), 1 / len(both))


@_compile.once
@_target.each
def lime(
    f: Callable[[jax.Array], Any],
    x: jax.Array,
    *,
    key: jax.Array,
    target: _target.Target = None,
    baseline: Any = 0.0,
    mask: Any = None,
    samples: int = 1024,
    width: float = 0.25,
    ridge: float = 1.0,
    at: str | None = None,
    chunk: int | None = None,
) -> jax.Array:
    """The weights of a ridge regression from which features are there to the score, near x.

    Ribeiro, Singh and Guestrin 2016 (arXiv 1602.04938), algorithm 1. Each feature is there with
    chance 1/2; a copy with a share s of its features weighs exp(-(1 - sqrt(s))^2 / 2 width^2).

    Args:
      f, x, target, baseline, mask, at: as for `ablation`; a mask of `superpixels` makes features
        of an image.
      key: a PRNG key.
      samples: masked copies.
      width: how near to x a copy must be to weigh.
      ridge: the penalty on the squares of the weights, not on the intercept, 0 or more.
      chunk: copies run side by side; None for all.

    Returns:
      Like x; all that belongs to a feature has its weight, in units of the score.

    Raises:
      ValueError: as `ablation`; there are fewer samples than features, the width is not above 0, or
        the ridge below 0.
    """
    name = "lime"
    f, x = _at.located(name, f, x, at)
    base, ids, count = features(name, x, baseline, mask)
    if samples <= count or not width > 0 or not ridge >= 0:
        raise ValueError(
            f"{name}: samples={samples} for {count} features, width={width}, ridge={ridge}; "
            "expected more samples than features, a width above 0, and a ridge of 0 or more."
        )
    target = _target.settled(name, f, x, target)
    present = jax.random.bernoulli(key, 0.5, (samples, count))
    far = 1 - jnp.sqrt(jnp.mean(present.astype(x.dtype), axis=1))
    weights = jnp.exp(-(far**2) / (2 * width**2))

    def moments(i):
        z = jnp.append(present[i], True).astype(x.dtype)
        score = _target.score(name, f(jnp.where(present[i][ids], x, base)), target)
        return jnp.outer(z, z), score[:, None] * z

    a, b = _input.weighted_sum(name, moments, weights, chunk)
    penalty = jnp.diag(jnp.append(jnp.full(count, ridge), 0.0)).astype(a.dtype)
    values = jnp.linalg.solve(a + penalty, b.T)[:-1].T
    return to_values(values, ids, x)
