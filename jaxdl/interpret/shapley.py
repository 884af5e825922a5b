"""Shapley values: what a feature adds, averaged over all orders in which features come in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.interpret import _compile, _input, _layer, _target
from jaxdl.interpret.occlusion import features, of_coalitions, to_values

__all__ = ["shapley_sampling", "shapley_values"]

MOST = 16
"""Features for which all coalitions are run: 65,536."""


@_compile.once
@_target.each
def shapley_values(
    f: Callable[[Any], Any],
    x: Any,
    *,
    target: _target.Target = None,
    baseline: Any = 0.0,
    mask: Any = None,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Any:
    """Each feature's mean gain over all orders in which the features may come in, exactly.

    Shapley 1953; Lundberg and Lee 2017 (arXiv 1705.07874), eq. 4. All 2^M coalitions are run; their
    values add up to y(x) - y(baseline).

    Args:
      f, x, target, baseline, mask, layer: as for `ablation`, of at most 16 features.
      batch_size: coalitions run side by side; None for as many as `memory_budget` allows.

    Returns:
      Like x; all that belongs to a feature has its value, in units of the score.

    Raises:
      ValueError: as `ablation`; there are more than 16 features: use `shapley_sampling`.
    """
    name = "shapley_values"
    x, like = _layer.arrays(name, f, x, layer)
    base, ids, count = features(name, like, baseline, mask)
    if count > MOST:
        raise ValueError(
            f"{name}: {count} features make 2^{count} coalitions; expected at most {MOST}: join "
            "features by mask=, or use shapley_sampling."
        )
    members = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    size = members.sum(1)
    weight = lambda s: 1 / (count * math.comb(count - 1, s))  # noqa: E731
    entering = np.array([weight(s - 1) if s else 0.0 for s in size])
    leaving = np.array([weight(s) if s < count else 0.0 for s in size])
    shares = jnp.asarray(np.where(members == 1, entering[:, None], -leaving[:, None]))
    present = jnp.asarray(members, bool)

    def explain(score):
        def coalition(i):
            gain = score(present[i])
            return gain[:, None] * shares[i].astype(gain.dtype)

        return _input.weighted_sum(name, coalition, jnp.ones(2**count), batch_size)

    values = of_coalitions(name, f, (x, base, ids), target, layer, batch_size, explain)
    return to_values(values, ids, like)


@_compile.once
@_target.each
def shapley_sampling(
    f: Callable[[Any], Any],
    x: Any,
    *,
    key: jax.Array,
    target: _target.Target = None,
    baseline: Any = 0.0,
    mask: Any = None,
    orders: int = 25,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Any:
    """Shapley values estimated from random orders, each run forwards and backwards.

    Castro, Gomez, Tejada 2009 (doi:10.1016/j.cor.2008.04.004); orders and their reverse in pairs:
    Mitchell et al. 2022 (arXiv 2104.12199). For every number of orders the values add up to
    y(x) - y(baseline).

    Args:
      f, x, target, baseline, mask, layer: as for `ablation`.
      key: a PRNG key.
      orders: random orders; each takes two runs of f for each feature.
      batch_size: orders run side by side; None for as many as `memory_budget` allows.

    Returns:
      Like x, in units of the score.

    Raises:
      ValueError: as `ablation`; `orders` is below 1.
    """
    name = "shapley_sampling"
    x, like = _layer.arrays(name, f, x, layer)
    base, ids, count = features(name, like, baseline, mask)
    (orders,) = _input.at_least(name, 1, orders=orders)

    def explain(score):
        def gains(order):
            """What each feature adds when they come in by this order, (N, M)."""
            rank = jnp.argsort(order)
            scores = jax.lax.map(lambda t: score(rank < t), jnp.arange(count + 1))
            return jnp.diff(scores, axis=0)[rank].T

        def both_ways(i):
            order = jax.random.permutation(jax.random.fold_in(key, i), count)
            return (gains(order) + gains(order[::-1])) / 2

        return _input.weighted_sum(name, both_ways, jnp.full(orders, 1 / orders), batch_size)

    values = of_coalitions(name, f, (x, base, ids), target, layer, batch_size, explain)
    return to_values(values, ids, like)
