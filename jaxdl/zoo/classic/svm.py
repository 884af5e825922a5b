"""Support vector machine (SVM), trained in the primal.

Cortes and Vapnik 1995 (doi:10.1007/BF00994018):

    min_w  |w|^2 / 2 + C sum_i max(0, 1 - y_i (w phi(x_i) + b)),   y_i = -1, 1

minimized by gradient descent on the objective divided by N. phi is the identity or random Fourier
features, whose products approximate exp(-gamma |x - x'|^2) (Rahimi and Recht 2007, Algorithm 1):

    phi(x) = sqrt(2 / F) cos(omega x + beta),   omega ~ N(0, 2 gamma),  beta ~ U(0, 2 pi)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

__all__ = ["Machine", "rbf_features", "svm"]


class Machine(NamedTuple):
    """A trained machine: `machine(x)` is positive for the second class.

    Attributes:
      weights: (F,).
      bias: ().
      features: phi.
    """

    weights: jax.Array
    bias: jax.Array
    features: Callable[[jax.Array], jax.Array]

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the signed distance from the boundary times |w|, (N, D) -> (N,)."""
        return self.features(x) @ self.weights + self.bias


def rbf_features(
    key: jax.Array, inputs: int, features: int, gamma: float
) -> Callable[[jax.Array], jax.Array]:
    """Draws random features phi with phi(x) . phi(x') near exp(-gamma |x - x'|^2).

    Args:
      key: a PRNG key.
      inputs: D.
      features: F; the error falls as 1 / sqrt(F).
      gamma: above 0; a larger value gives a narrower kernel.

    Returns:
      `phi(x)`: (N, D) -> (N, F).

    Raises:
      ValueError: `gamma` is not above 0.
    """
    if not gamma > 0:
        raise ValueError(f"rbf_features: gamma is {gamma}; expected a number above 0.")
    slopes, phases = jax.random.split(key)
    omega = math.sqrt(2 * gamma) * jax.random.normal(slopes, (inputs, features))
    beta = jax.random.uniform(phases, (features,), maxval=2 * math.pi)
    return lambda x: math.sqrt(2 / features) * jnp.cos(x @ omega + beta)


def svm(
    x: jax.Array,
    y: jax.Array,
    *,
    cost: float = 1.0,
    features: Callable[[jax.Array], jax.Array] = lambda x: x,
    steps: int = 2000,
    rate: float = 0.05,
) -> Machine:
    """Trains a support vector machine on two classes by full-batch Adam.

    Args:
      x: (N, D).
      y: (N,), 0 or 1.
      cost: C, the weight of margin violations.
      features: phi, such as `rbf_features`.
      steps, rate: steps of Adam and its initial rate, which decays to 0 along a cosine.

    Returns:
      The machine.

    Raises:
      ValueError: the shapes do not fit, or y has other values.
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    if x.ndim != 2 or y.shape != x.shape[:1] or not x.size:
        raise ValueError(f"svm: x is {x.shape} and y {y.shape}; expected (N, D) and (N,).")
    if not bool(jnp.all((y == 0) | (y == 1))):
        raise ValueError(f"svm: y has the values {jnp.unique(y)}; expected 0 and 1 only.")
    phi = features(x)
    signs = 2 * y.astype(phi.dtype) - 1
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def loss(params):
        weights, bias = params
        return jnp.vdot(weights, weights) / 2 / len(y) + cost * jnp.mean(
            jax.nn.relu(1 - signs * (phi @ weights + bias))
        )

    def descend(carry, _):
        params, opt_state = carry
        updates: Any
        with jax.numpy_dtype_promotion("standard"):  # optax's Adam mixes integers and floats
            updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    params = jnp.zeros(phi.shape[1], phi.dtype), jnp.zeros((), phi.dtype)
    first: Any = params, optimizer.init(params)
    last: Any
    last, _ = jax.lax.scan(descend, first, length=steps)
    (weights, bias), _ = last
    return Machine(weights, bias, features)
