"""Single units and their rules: McCulloch-Pitts, perceptron, ADALINE. Lecture rows A05-A07.

    McCulloch-Pitts    out = 1 if sum_i w_i x_i >= threshold, else 0        weights by hand
    perceptron         w <- w + eta (y - out) x                             on a mistake only
    ADALINE            w <- w + eta (y - w x) x                             on every example

A rule goes through the examples one after the other; the bias is the weight of an input of 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdl.nn.activation import heaviside

__all__ = ["Unit", "adaline", "adaline_step", "mcculloch_pitts", "perceptron", "perceptron_step"]


class Unit(NamedTuple):
    """A unit's weights.

    Attributes:
      weights: (D,).
      bias: ().
    """

    weights: jax.Array
    bias: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., D) -> (...), the weighted sum and the bias."""
        return x @ self.weights + self.bias


def mcculloch_pitts(x: jax.Array, weights: jax.Array, threshold: float) -> jax.Array:
    """1 where the weighted sum of the inputs reaches the threshold, else 0. Lecture row A06.

    McCulloch and Pitts 1943 (doi:10.1007/BF02478259). AND of two is weights (1, 1) and threshold 2,
    OR threshold 1, NOT weight -1 and threshold 0. Nothing is learned.

    Args:
      x: (..., D).
      weights: (D,).
      threshold: the sum from which it fires.

    Returns:
      (...) of x's dtype, 0 or 1.
    """
    return heaviside(x @ jnp.asarray(weights, x.dtype) - threshold)


def perceptron_step(unit: Unit, x: jax.Array, y: jax.Array, rate: float = 1.0) -> Unit:
    """One example of Rosenblatt's rule: nothing where the unit is right. Lecture row A05.

    Args:
      unit: the unit, which fires where its sum is above 0.
      x: (D,).
      y: (), 0 or 1.
      rate: eta, above 0; it scales the weights and changes no decision if they begin at 0.

    Returns:
      The unit after it.
    """
    error = jnp.asarray(y, x.dtype) - (unit(x) > 0).astype(x.dtype)
    return Unit(unit.weights + rate * error * x, unit.bias + rate * error)


def adaline_step(unit: Unit, x: jax.Array, y: jax.Array, rate: float = 0.01) -> Unit:
    """One example of the least mean squares rule: descent on (y - w x)^2 / 2. Lecture row A07.

    Widrow and Hoff 1960. It stays bounded for rate < 2 / |x|^2, the 1 of the bias included.

    Args:
      unit: the unit, whose sum is its answer.
      x: (D,).
      y: (), any number.
      rate: eta.

    Returns:
      The unit after it.
    """
    error = jnp.asarray(y, x.dtype) - unit(x)
    return Unit(unit.weights + rate * error * x, unit.bias + rate * error)


def perceptron(x: jax.Array, y: jax.Array, *, epochs: int = 50) -> Unit:
    """A perceptron taught by its rule. Lecture row A05.

    Rosenblatt 1958 (doi:10.1037/h0042519). It ends without a mistake if any unit could, after at
    most R^2 / margin^2 of them (Novikoff 1962); on XOR, which none can, it never ends.

    Args:
      x: (N, D).
      y: (N,), 0 or 1.
      epochs: passes through the examples.

    Returns:
      The unit, which answers `unit(x) > 0`.

    Raises:
      ValueError: the shapes do not fit, or y holds other numbers.
    """
    labels = jnp.asarray(y)
    if not bool(jnp.all((labels == 0) | (labels == 1))):
        raise ValueError(f"perceptron: y holds {jnp.unique(labels)}; expected 0 and 1 only.")
    return _taught("perceptron", perceptron_step, x, labels, epochs, 1.0)


def adaline(x: jax.Array, y: jax.Array, *, epochs: int = 50, rate: float = 0.01) -> Unit:
    """A linear unit taught by the least mean squares rule. Lecture row A07.

    Args:
      x: (N, D).
      y: (N,), any numbers.
      epochs: passes through the examples.
      rate: eta; the smaller, the nearer it ends to the least squares solution.

    Returns:
      The unit, which answers `unit(x)`.

    Raises:
      ValueError: the shapes do not fit.
    """
    return _taught("adaline", adaline_step, x, jnp.asarray(y), epochs, rate)


def _taught(who: str, rule: Callable, x: jax.Array, y: jax.Array, epochs: int, rate: float) -> Unit:
    x = jnp.asarray(x)
    if x.ndim != 2 or y.shape != x.shape[:1] or not x.size:
        raise ValueError(f"{who}: x is {x.shape} and y {y.shape}; expected (N, D) and (N,).")

    def epoch(unit, _):
        return jax.lax.scan(lambda u, xy: (rule(u, *xy, rate), None), unit, (x, y))

    first = Unit(jnp.zeros(x.shape[1], x.dtype), jnp.zeros((), x.dtype))
    return jax.lax.scan(epoch, first, length=epochs)[0]
