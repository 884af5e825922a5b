"""LRP rules of weighted layers y = w x + b.

A rule is a function `rule(layer, x, w, b, y, r) -> relevance of x`, where r is the relevance of y.
`layer.apply(x, w)` is the product, `layer.back(s, x, w)` its transpose w^T s; b broadcasts to y.
The names are those of Montavon et al. 2019, "Layer-wise relevance propagation: an overview".
"""

from __future__ import annotations

import dataclasses
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
    "per_unit",
    "stabilize",
    "w_square",
    "z_plus",
]

Rule = Callable[..., jax.Array]
"""`rule(layer, x, w, b, y, r) -> array like x`."""


@dataclasses.dataclass(frozen=True)
class InputRule:
    """A rule that also gives relevance to inputs of 0.

    Constants that are added before such a layer, to center pixels for example, have no share. It
    would be unbounded: a sum near 0 can have a large relevance here.
    """

    rule: Rule

    def __call__(self, *args: Any) -> jax.Array:
        return self.rule(*args)


def stabilize(y: jax.Array, eps: float = 1e-6) -> jax.Array:
    """Moves y away from 0 by `eps`; 0 itself becomes `eps`."""
    # Not eps * sign(y), which is 0 at 0.
    return y + jnp.where(y >= 0, eps, -eps).astype(y.dtype)


def per_unit(r: jax.Array, y: jax.Array, eps: float = 1e-6) -> jax.Array:
    """Divides the relevance of a sum by the stabilized sum.

    Args:
      r: the relevance of a sum.
      y: the sum, of the same shape.
      eps: as for `epsilon`.

    Returns:
      The relevance of each unit of the sum, like r. It is NaN where an infinite sum has relevance,
      because a finite result would hide that this relevance is lost.
    """
    return jnp.where(jnp.isinf(y) & (r != 0), jnp.nan, r / stabilize(y, eps))


def epsilon(eps: float = 1e-6, *, bias: bool = True) -> Rule:
    """Returns the epsilon rule: each term x w of a sum y has the share x w / y.

    Bach et al. 2015 (doi:10.1371/journal.pone.0130140), eq. 58.

    Args:
      eps: keeps y away from 0; larger values absorb relevance of weak and noisy sums.
      bias: whether the bias is a term of the sum, so that its share is absorbed. Without it the
        relevance of a layer's inputs adds up to that of its outputs.
    """

    def rule(layer, x, w, b, y, r):
        total = y if bias else layer.apply(x, w)
        return x * layer.back(per_unit(r, total, eps), x, w)

    return rule


def gamma(gamma: float = 0.25, eps: float = 1e-6, *, bias: bool = True) -> Rule:
    """Returns the gamma rule, in which positive weights count 1 + `gamma` times.

    Montavon et al. 2019, and for inputs and outputs of either sign Andéol et al. 2021 (arXiv
    2106.08784), sec. 3: where y is negative, negative weights count more. With gamma = 0 it is the
    epsilon rule; for large gamma it approaches z+.

    Args:
      gamma: 0 or more.
      eps, bias: as for `epsilon`.

    Raises:
      ValueError: gamma is negative.
    """
    if not gamma >= 0:
        raise ValueError(f"gamma: gamma is {gamma}; expected 0 or more.")

    def rule(layer, x, w, b, y, r):
        up, down = jnp.maximum(x, 0), jnp.minimum(x, 0)
        more, less = w + gamma * jnp.maximum(w, 0), w + gamma * jnp.minimum(w, 0)
        result = 0.0
        for sign, (first, second) in ((1, (more, less)), (-1, (less, more))):
            total = layer.apply(up, first) + layer.apply(down, second)
            if bias:
                total += b + gamma * (jnp.maximum(b, 0) if sign > 0 else jnp.minimum(b, 0))
            # Outputs of the other sign have their own sum: they share in the other iteration.
            s = jnp.where(sign * y > 0, per_unit(r, total, eps), 0)
            result = result + up * layer.back(s, x, first) + down * layer.back(s, x, second)
        return result

    return rule


def alpha_beta(
    alpha: float = 2.0, beta: float = 1.0, eps: float = 1e-6, *, bias: bool = True
) -> Rule:
    """Returns the alpha-beta rule, which separates positive and negative terms.

    Bach et al. 2015, eq. 60. Positive terms have alpha times their share of the sum of positive
    terms, negative ones -beta times theirs.

    Args:
      alpha, beta: 0 or more, with alpha - beta = 1, which conserves relevance.
      eps, bias: as for `epsilon`; the positive part of the bias counts among the positive terms.

    Raises:
      ValueError: alpha - beta is not 1, or one is negative.
    """
    if alpha < 0 or beta < 0 or not math.isclose(alpha - beta, 1):
        raise ValueError(
            f"alpha_beta: alpha={alpha}, beta={beta}; expected 0 or more, and alpha - beta = 1."
        )

    def rule(layer, x, w, b, y, r):
        up, down = jnp.maximum(x, 0), jnp.minimum(x, 0)
        plus, minus = jnp.maximum(w, 0), jnp.minimum(w, 0)

        def share(first, second, b):
            # A term is positive if x and w have the same sign: positive inputs use `first`,
            # negative ones `second`.
            total = layer.apply(up, first) + layer.apply(down, second) + (b if bias else 0)
            s = per_unit(r, total, eps)
            return up * layer.back(s, x, first) + down * layer.back(s, x, second)

        result = alpha * share(plus, minus, jnp.maximum(b, 0))
        return result - beta * share(minus, plus, jnp.minimum(b, 0)) if beta else result

    return rule


def z_plus(eps: float = 1e-6, *, bias: bool = False) -> Rule:
    """Returns the z+ rule, `alpha_beta(1, 0)`: only positive terms have shares.

    Montavon et al. 2017 (doi:10.1016/j.patcog.2016.11.008), eq. 9, extended to inputs of either
    sign. Biases have no share there.

    Args:
      eps, bias: as for `epsilon`. With biases, nearly all relevance is absorbed in deep networks
        whose batch norms have large positive ones.
    """
    return alpha_beta(1.0, 0.0, eps, bias=bias)


def box(low: Any, high: Any, eps: float = 1e-6) -> Rule:
    """Returns the z^B rule, for inputs with bounds, such as pixels.

    Montavon et al. 2017, eq. 13.

    Args:
      low, high: the bounds: numbers, or arrays that broadcast to x.
      eps: as for `epsilon`.
    """

    def rule(layer, x, w, b, y, r):
        least, most = (jnp.broadcast_to(jnp.asarray(v, x.dtype), x.shape) for v in (low, high))
        plus, minus = jnp.maximum(w, 0), jnp.minimum(w, 0)
        total = layer.apply(x, w) - layer.apply(least, plus) - layer.apply(most, minus)
        s = per_unit(r, total, eps)

        def back(v, w):
            return v * layer.back(s, x, w)

        return back(x, w) - back(least, plus) - back(most, minus)

    return InputRule(rule)


def w_square(eps: float = 1e-6) -> Rule:
    """Returns the w^2 rule, with shares proportional to the squares of the weights.

    Montavon et al. 2017, eq. 12. The input does not matter; biases have no share.

    Args:
      eps: as for `epsilon`.
    """

    def rule(layer, x, w, b, y, r):
        total = layer.apply(jnp.ones_like(x), w * w)
        return layer.back(per_unit(r, total, eps), x, w * w)

    return InputRule(rule)


def flat(eps: float = 1e-6) -> Rule:
    """Returns the flat rule, with equal shares for all inputs of a sum.

    Lapuschkin et al. 2019 (doi:10.1038/s41467-019-08987-4).

    Args:
      eps: as for `epsilon`.
    """

    def rule(layer, x, w, b, y, r):
        ones = jnp.ones_like(w)
        # Not `per_unit`: the sum is a count, which is never infinite.
        return layer.back(r / stabilize(layer.apply(jnp.ones_like(x), ones), eps), x, ones)

    return InputRule(rule)
