"""Shapley values, exact and by sampling: mean gains over orders of features."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl._check import require_ints
from jaxdl.interpret import _batching, _layer
from jaxdl.interpret._explanation import explanation
from jaxdl.interpret._target import Target
from jaxdl.interpret.occlusion import explain_coalitions, label_features, spread_values

__all__ = ["shapley_sampling", "shapley_values"]

MAX_FEATURES = 16
"""Limit of exact Shapley values: 65,536 coalitions."""


@explanation
def shapley_values(
    f: Callable[[Any], Any],
    x: Any,
    *,
    target: Target = None,
    baseline: Any = 0.0,
    mask: Any = None,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Any:
    """Computes exact Shapley values: the mean gain of each feature over all orders.

    Shapley 1953; Lundberg and Lee 2017 (arXiv 1705.07874), eq. 4. All 2^M coalitions of M features
    are evaluated. The values sum to y(x) - y(baseline).

    Args:
      f, x, target, baseline, mask, layer: as for `ablation`, with at most 16 features.
      batch_size: coalitions evaluated side by side; None for the largest number within
        `memory_budget`.

    Returns:
      Like x, in units of the score. All values of a feature have the feature's attribution.

    Raises:
      ValueError: as `ablation`; or there are more than 16 features.
    """
    name = "shapley_values"
    shapes = _layer.eval_shape(name, f, x, layer)
    base, ids, count = label_features(name, shapes, baseline, mask)
    if count > MAX_FEATURES:
        raise ValueError(
            f"{name}: {count} features have 2^{count} coalitions; expected at most "
            f"{MAX_FEATURES} features. Merge features with mask=, or use shapley_sampling."
        )
    members = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    size = members.sum(1)
    # The weight of adding a feature to a coalition of s features: s! (M - 1 - s)! / M!.
    weights = [1 / (count * math.comb(count - 1, s)) for s in range(count)]
    entering = np.array([weights[s - 1] if s else 0.0 for s in size])
    leaving = np.array([weights[s] if s < count else 0.0 for s in size])
    shares = jnp.asarray(np.where(members == 1, entering[:, None], -leaving[:, None]))
    present = jnp.asarray(members, bool)

    def explain(score):
        # A coalition counts with a plus for its members and with a minus for other features.
        def evaluate(i):
            gain = score(present[i])
            return gain[:, None] * shares[i].astype(gain.dtype)

        return _batching.accumulate(name, evaluate, jnp.ones(2**count), batch_size)

    values = explain_coalitions(name, explain, f, x, base, ids, target, layer, batch_size)
    return spread_values(values, ids, shapes)


@explanation
def shapley_sampling(
    f: Callable[[Any], Any],
    x: Any,
    *,
    key: jax.Array,
    target: Target = None,
    baseline: Any = 0.0,
    mask: Any = None,
    orders: int = 25,
    layer: str | None = None,
    batch_size: int | None = None,
) -> Any:
    """Estimates Shapley values from random orders, each taken in both directions.

    Castro, Gomez, Tejada 2009 (doi:10.1016/j.cor.2008.04.004); pairs of an order and its reverse:
    Mitchell et al. 2022 (arXiv 2104.12199). The values sum to y(x) - y(baseline) for every number
    of orders.

    Args:
      f, x, target, baseline, mask, layer: as for `ablation`.
      key: a PRNG key.
      orders: random orders; each takes two evaluations of f for each feature.
      batch_size: orders evaluated side by side; None for the largest number within `memory_budget`.

    Returns:
      Like x, in units of the score.

    Raises:
      ValueError: as `ablation`; or `orders` is below 1.
    """
    name = "shapley_sampling"
    shapes = _layer.eval_shape(name, f, x, layer)
    base, ids, count = label_features(name, shapes, baseline, mask)
    (orders,) = require_ints(name, 1, orders=orders)

    def explain(score):
        def compute_gains(order):
            """Returns the gain of each feature when features enter in this order, (N, M)."""
            rank = jnp.argsort(order)
            # Coalitions of an order one after another: `batch_size` counts orders, side by side.
            scores = jax.lax.map(lambda t: score(rank < t), jnp.arange(count + 1))
            return jnp.diff(scores, axis=0)[rank].T

        def evaluate(i):
            order = jax.random.permutation(jax.random.fold_in(key, i), count)
            return (compute_gains(order) + compute_gains(order[::-1])) / 2

        return _batching.accumulate(name, evaluate, jnp.full(orders, 1 / orders), batch_size)

    values = explain_coalitions(name, explain, f, x, base, ids, target, layer, batch_size)
    return spread_values(values, ids, shapes)
