"""How relevance goes through a layer y = w x + b: rules of layer-wise relevance propagation.

A rule is a function `rule(layer, x, w, b, y, r) -> relevance of x`. `layer.apply(x, w)` is the
product, `layer.back(s, x, w)` its transpose w^T s; b broadcasts to y. The names are those of
Montavon et al. 2019, "Layer-wise relevance propagation: an overview".
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
    "stabilized",
    "w_square",
    "z_plus",
]

Rule = Callable[..., jax.Array]
"""`rule(layer, x, w, b, y, r) -> array like x`."""


@dataclasses.dataclass(frozen=True)
class InputRule:
    """A rule that gives relevance to an input of 0, too.

    Constants that are added before such a layer, to center pixels for example, have no share: it
    would be unbounded, because the relevance of a sum near 0 is not.
    """

    rule: Rule

    def __call__(self, *args: Any) -> jax.Array:
        return self.rule(*args)


def stabilized(y: jax.Array, eps: float = 1e-6) -> jax.Array:
    """Moves y away from 0 by `eps`, upwards at 0 itself."""
    return y + jnp.where(y >= 0, eps, -eps).astype(y.dtype)


def per_unit(r: jax.Array, y: jax.Array, eps: float = 1e-6) -> jax.Array:
    """Divides relevance by a stabilized sum: the relevance of each unit of the sum.

    Args:
      r: the relevance of a sum.
      y: the sum, of the same shape.
      eps: as for `epsilon`.

    Returns:
      Like r; NaN where an infinite sum has relevance, which would vanish otherwise.
    """
    return jnp.where(jnp.isinf(y) & (r != 0), jnp.nan, r / stabilized(y, eps))


def epsilon(eps: float = 1e-6, *, bias: bool = True) -> Rule:
    """Returns the epsilon rule: each term x w of a sum y has the share x w / y.

    Bach et al. 2015 (doi:10.1371/journal.pone.0130140), eq. 58.

    Args:
      eps: what keeps y away from 0; a larger one takes relevance away from weak and noisy sums.
      bias: whether the bias is a term of the sum, whose share of the relevance goes no further.
        Without it the relevance of a layer's inputs adds up to that of its outputs.
    """

    def rule(layer, x, w, b, y, r):
        total = y if bias else layer.apply(x, w)
        return x * layer.back(per_unit(r, total, eps), x, w)

    return rule


def gamma(gamma: float = 0.25, eps: float = 1e-6, *, bias: bool = True) -> Rule:
    """Returns the gamma rule: shares in which positive weights count 1 + `gamma` times.

    Montavon et al. 2019, and for inputs and outputs of either sign Andéol et al. 2021 (arXiv
    2106.08784), sec. 3: where y is negative, negative weights count more. The limits are 0, the
    epsilon rule, and infinity, z+.

    Args:
      gamma: 0 or more.
      eps, bias: as for `epsilon`.

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
            total = layer.apply(up, first) + layer.apply(down, second)
            if bias:
                total += b + gamma * (jnp.maximum(b, 0) if sign > 0 else jnp.minimum(b, 0))
            s = jnp.where(sign * y > 0, per_unit(r, total, eps), 0)
            found = found + up * layer.back(s, x, first) + down * layer.back(s, x, second)
        return found

    return rule


def alpha_beta(
    alpha: float = 2.0, beta: float = 1.0, eps: float = 1e-6, *, bias: bool = True
) -> Rule:
    """Returns the alpha-beta rule: positive and negative terms share separately.

    Bach et al. 2015, eq. 60. Positive terms have alpha times their share of the sum of positive
    terms, negative ones -beta times theirs.

    Args:
      alpha, beta: 0 or more, with alpha - beta = 1, so that the relevance stays what it was.
      eps, bias: as for `epsilon`; the positive part of the bias counts among the positive terms.

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
            total = layer.apply(up, first) + layer.apply(down, second) + (b if bias else 0)
            s = per_unit(r, total, eps)
            return up * layer.back(s, x, first) + down * layer.back(s, x, second)

        found = alpha * share(plus, minus, jnp.maximum(b, 0))
        return found - beta * share(minus, plus, jnp.minimum(b, 0)) if beta else found

    return rule


def z_plus(eps: float = 1e-6, *, bias: bool = False) -> Rule:
    """Returns the z+ rule: shares of the positive terms alone, `alpha_beta` of 1 and 0.

    Montavon et al. 2017 (doi:10.1016/j.patcog.2016.11.008), eq. 9, in which biases have no share,
    and for inputs of either sign.

    Args:
      eps, bias: as for `epsilon`. With biases, deep networks whose batch norms leave large positive
        ones lose nearly all relevance to them.
    """
    return alpha_beta(1.0, 0.0, eps, bias=bias)


def box(low: Any, high: Any, eps: float = 1e-6) -> Rule:
    """Returns the z^B rule, for inputs that lie between two bounds, such as pixels.

    Montavon et al. 2017, eq. 13.

    Args:
      low, high: the bounds: numbers, or what broadcasts to x.
      eps: as for `epsilon`.
    """

    def rule(layer, x, w, b, y, r):
        least, most = (jnp.broadcast_to(jnp.asarray(v, x.dtype), x.shape) for v in (low, high))
        plus, minus = jnp.maximum(w, 0), jnp.minimum(w, 0)
        total = layer.apply(x, w) - layer.apply(least, plus) - layer.apply(most, minus)
        s = per_unit(r, total, eps)
        back = lambda v, w: v * layer.back(s, x, w)  # noqa: E731
        return back(x, w) - back(least, plus) - back(most, minus)

    return InputRule(rule)


def w_square(eps: float = 1e-6) -> Rule:
    """Returns the w^2 rule: shares by the squares of the weights, whatever the input.

    Montavon et al. 2017, eq. 12; biases have no share.

    Args:
      eps: as for `epsilon`.
    """

    def rule(layer, x, w, b, y, r):
        total = layer.apply(jnp.ones_like(x), w * w)
        return layer.back(per_unit(r, total, eps), x, w * w)

    return InputRule(rule)


def flat(eps: float = 1e-6) -> Rule:
    """Returns the flat rule: the same share for every input of a sum.

    Lapuschkin et al. 2019 (doi:10.1038/s41467-019-08987-4).

    Args:
      eps: as for `epsilon`.
    """

    def rule(layer, x, w, b, y, r):
        ones = jnp.ones_like(w)
        return layer.back(r / stabilized(layer.apply(jnp.ones_like(x), ones), eps), x, ones)

    return InputRule(rule)
