"""How relevance goes through a layer y = w x + b: rules of layer-wise relevance propagation.

A rule is a function `rule(layer, x, w, b, y, r) -> relevance of x`. `layer.apply(x, w)` is the
product, `layer.back(s, x, w)` its transpose w^T s; b broadcasts to y. The names are those of
Montavon et al. 2019, "Layer-wise relevance propagation: an overview".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

__all__ = [
    "alpha_beta",
    "box",
    "epsilon",
    "flat",
    "gamma",
    "stabilized",
    "w_square",
    "z_plus",
]

Rule = Callable[..., jax.Array]
"""`rule(layer, x, w, b, y, r) -> array like x`."""


def stabilized(y: jax.Array, eps: float = 1e-6) -> jax.Array:
    """y moved away from 0 by `eps`, upwards at 0 itself."""
    return y + jnp.where(y >= 0, eps, -eps).astype(y.dtype)


def epsilon(eps: float = 1e-6) -> Rule:
    """x w r / y: each term's share of the sum. Bach et al. 2015 (doi:10.1371/journal.pone.0130140),
    eq. 58.

    Args:
      eps: what keeps y away from 0; a larger one takes relevance away from weak and noisy sums.

    Returns:
      A rule.
    """

    def rule(layer, x, w, b, y, r):
        return x * layer.back(r / stabilized(y, eps), x, w)

    return rule


def gamma(gamma: float = 0.25, eps: float = 1e-6) -> Rule:
    """The shares with positive weights made greater by `gamma`, where y is positive.

    Montavon et al. 2019, and for inputs and outputs of either sign Andéol et al. 2021 (arXiv
    2106.08784), sec. 3: where y is negative, negative weights are made greater. The limits are 0,
    the epsilon rule, and infinity, z+.

    Args:
      gamma: 0 or more.
      eps: as for `epsilon`.

    Returns:
      A rule.

    Raises:
      ValueError: gamma is below 0.
    """
    if not gamma >= 0:
        raise ValueError(f"gamma: gamma is {gamma}; expected 0 or more.")

    def rule(layer, x, w, b, y, r):
        up, down = jnp.maximum(x, 0), jnp.minimum(x, 0)
        more, less = w + gamma * jnp.maximum(w, 0), w + gamma * jnp.minimum(w, 0)
        found = 0.0
        for sign, (first, second) in ((1, (more, less)), (-1, (less, more))):
            shift = b + gamma * (jnp.maximum(b, 0) if sign > 0 else jnp.minimum(b, 0))
            total = layer.apply(up, first) + layer.apply(down, second) + shift
            s = jnp.where(sign * y > 0, r / stabilized(total, eps), 0)
            found = found + up * layer.back(s, x, first) + down * layer.back(s, x, second)
        return found

    return rule


def alpha_beta(alpha: float = 2.0, beta: float = 1.0, eps: float = 1e-6) -> Rule:
    """The positive terms' shares of their sum, alpha times, less the negative ones', beta times.

    Bach et al. 2015, eq. 60.

    Args:
      alpha, beta: 0 or more, with alpha - beta = 1, so that the relevance stays what it was.
      eps: as for `epsilon`.

    Returns:
      A rule.

    Raises:
      ValueError: alpha - beta is not 1, or one is below 0.
    """
    if alpha < 0 or beta < 0 or not math.isclose(alpha - beta, 1):
        raise ValueError(
            f"alpha_beta: alpha={alpha}, beta={beta}; expected 0 or more, and alpha - beta = 1."
        )

    def rule(layer, x, w, b, y, r):
        up, down = jnp.maximum(x, 0), jnp.minimum(x, 0)
        plus, minus = jnp.maximum(w, 0), jnp.minimum(w, 0)

        def share(first, second, b):
            s = r / stabilized(layer.apply(up, first) + layer.apply(down, second) + b, eps)
            return up * layer.back(s, x, first) + down * layer.back(s, x, second)

        found = alpha * share(plus, minus, jnp.maximum(b, 0))
        return found - beta * share(minus, plus, jnp.minimum(b, 0)) if beta else found

    return rule


def z_plus(eps: float = 1e-6) -> Rule:
    """The positive terms' shares alone: `alpha_beta` of 1 and 0.

    Montavon et al. 2017 (doi:10.1016/j.patcog.2016.11.008), eq. 9, and for inputs of either sign.

    Args:
      eps: as for `epsilon`.

    Returns:
      A rule.
    """
    return alpha_beta(1.0, 0.0, eps)


def box(low: Any, high: Any, eps: float = 1e-6) -> Rule:
    """For inputs that lie between two bounds, pixels: z^B.

    Montavon et al. 2017, eq. 13.

    Args:
      low, high: the bounds: numbers, or what broadcasts to x.
      eps: as for `epsilon`.

    Returns:
      A rule.
    """

    def rule(layer, x, w, b, y, r):
        least, most = (jnp.broadcast_to(jnp.asarray(v, x.dtype), x.shape) for v in (low, high))
        plus, minus = jnp.maximum(w, 0), jnp.minimum(w, 0)
        total = layer.apply(x, w) - layer.apply(least, plus) - layer.apply(most, minus)
        s = r / stabilized(total, eps)
        back = lambda v, w: v * layer.back(s, x, w)  # noqa: E731
        return back(x, w) - back(least, plus) - back(most, minus)

    return rule


def w_square(eps: float = 1e-6) -> Rule:
    """Shares by the squares of the weights, whatever the input. Montavon et al. 2017, eq. 12.

    Args:
      eps: as for `epsilon`.

    Returns:
      A rule.
    """

    def rule(layer, x, w, b, y, r):
        total = layer.apply(jnp.ones_like(x), w * w) + b * b
        return layer.back(r / stabilized(total, eps), x, w * w)

    return rule


def flat(eps: float = 1e-6) -> Rule:
    """The same share for every input that takes part. Lapuschkin et al. 2019 (doi:10.1038/
    s41467-019-08987-4).

    Args:
      eps: as for `epsilon`.

    Returns:
      A rule.
    """

    def rule(layer, x, w, b, y, r):
        ones = jnp.ones_like(w)
        return layer.back(r / stabilized(layer.apply(jnp.ones_like(x), ones), eps), x, ones)

    return rule
