"""Single units and their learning rules: McCulloch-Pitts, perceptron, ADALINE.

    McCulloch-Pitts    out = 1 if sum_i w_i x_i >= threshold, else 0        fixed weights
    perceptron         w <- w + eta (y - out) x                             if out != y
    ADALINE            w <- w + eta (y - w x) x                             for every example

The rules visit the examples in order. The bias is the weight of a constant input of 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdl.nn.activation import step

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
        """Returns the weighted sum plus the bias, (..., D) -> (...)."""
        return x @ self.weights + self.bias


def mcculloch_pitts(x: jax.Array, weights: jax.Array, threshold: float) -> jax.Array:
    """Returns 1 where the weighted sum of the inputs reaches the threshold, else 0.

    McCulloch and Pitts 1943 (doi:10.1007/BF02478259). AND of two is weights (1, 1) and threshold 2,
    OR threshold 1, NOT weight -1 and threshold 0.

    Args:
      x: (..., D).
      weights: (D,).
      threshold: the smallest sum with output 1.

    Returns:
      (...) of x's dtype, 0 or 1.
    """
    return step(x @ jnp.asarray(weights, x.dtype) - threshold)


def perceptron_step(unit: Unit, x: jax.Array, y: jax.Array, rate: float = 1.0) -> Unit:
    """Applies Rosenblatt's rule to one example; a correct output changes nothing.

    Args:
      unit: the unit; its output is 1 where its sum is above 0.
      x: (D,).
      y: (), 0 or 1.
      rate: eta, above 0. From zero weights it only scales them and changes no decision.

    Returns:
      The updated unit.
    """
    error = jnp.asarray(y, x.dtype) - (unit(x) > 0).astype(x.dtype)
    return Unit(unit.weights + rate * error * x, unit.bias + rate * error)


def adaline_step(unit: Unit, x: jax.Array, y: jax.Array, rate: float = 0.01) -> Unit:
    """Applies the least mean squares rule to one example: descent on (y - w x)^2 / 2.

    Widrow and Hoff 1960. Stable for rate < 2 / |x|^2, where x includes the 1 of the bias.

    Args:
      unit: the unit; its output is its sum.
      x: (D,).
      y: (), any number.
      rate: eta.

    Returns:
      The updated unit.
    """
    error = jnp.asarray(y, x.dtype) - unit(x)
    return Unit(unit.weights + rate * error * x, unit.bias + rate * error)


def perceptron(x: jax.Array, y: jax.Array, *, epochs: int = 50) -> Unit:
    """Trains a perceptron.

    Rosenblatt 1958 (doi:10.1037/h0042519). On linearly separable data it converges after at most
    R^2 / margin^2 mistakes (Novikoff 1962); on other data, such as XOR, it does not converge.

    Args:
      x: (N, D).
      y: (N,), 0 or 1.
      epochs: passes through the examples.

    Returns:
      The unit; it predicts 1 where `unit(x) > 0`.

    Raises:
      ValueError: the shapes do not fit, or y has other values.
    """
    labels = jnp.asarray(y)
    if not bool(jnp.all((labels == 0) | (labels == 1))):
        raise ValueError(
            f"perceptron: y has the values {jnp.unique(labels)}; expected 0 and 1 only."
        )
    return _train("perceptron", perceptron_step, x, labels, epochs, 1.0)


def adaline(x: jax.Array, y: jax.Array, *, epochs: int = 50, rate: float = 0.01) -> Unit:
    """Trains a linear unit by the least mean squares rule.

    Args:
      x: (N, D).
      y: (N,), any numbers.
      epochs: passes through the examples.
      rate: eta; smaller rates end nearer to the least squares solution.

    Returns:
      The unit; it predicts `unit(x)`.

    Raises:
      ValueError: the shapes do not fit.
    """
    return _train("adaline", adaline_step, x, jnp.asarray(y), epochs, rate)


def _train(who: str, rule: Callable, x: jax.Array, y: jax.Array, epochs: int, rate: float) -> Unit:
    x = jnp.asarray(x)
    if x.ndim != 2 or y.shape != x.shape[:1] or not x.size:
        raise ValueError(f"{who}: x is {x.shape} and y {y.shape}; expected (N, D) and (N,).")

    def epoch(unit, _):
        return jax.lax.scan(lambda u, xy: (rule(u, *xy, rate), None), unit, (x, y))

    first = Unit(jnp.zeros(x.shape[1], x.dtype), jnp.zeros((), x.dtype))
    return jax.lax.scan(epoch, first, length=epochs)[0]
