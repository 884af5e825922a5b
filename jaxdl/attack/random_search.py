"""An attack without derivatives: random changes of a perturbation, kept where they help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdl._check import require_ints, require_key
from jaxdl.attack import _ball, _problem
from jaxdl.attack.gradient import Bounds

__all__ = ["random_search"]


def random_search(
    f: Callable[[Any], Any],
    x: Any,
    labels: Any,
    epsilon: ArrayLike,
    *,
    key: jax.Array,
    queries: int = 500,
    bounds: Bounds | None = (0.0, 1.0),
) -> Any:
    """Attacks by random search at the corners of the box around x, from the scores of f alone.

    As in the square attack (Andriushchenko et al. 2020, arXiv 1912.00049) every coordinate is
    changed by epsilon or -epsilon, and a random change of signs is kept where the score of the
    label falls relative to the best other one. Here the changed coordinates are independent, and
    their share is drawn from 1 / D to 1 on a logarithmic scale, for D coordinates. Such an attack
    is not deceived by a hidden gradient, but weaker than `pgd` where the gradient is true.

    Args:
      f, x, labels, epsilon, bounds: as for `fgsm`; f needs no derivative.
      key: a PRNG key.
      queries: evaluations of f, >= 1.

    Returns:
      An array like x, or a tree of them.

    Raises:
      ValueError: as for `fgsm`; `queries` is not a positive integer, or `key` not a PRNG key.
    """
    problem = _problem.prepare("random_search", f, x, labels, derivative=False)
    ball = _ball.make_ball(problem, "linf", epsilon, bounds, None)
    (queries,) = require_ints("random_search", 1, queries=queries)
    key = require_key("random_search", key)
    low, high = (_ball.project(ball, ball.center + s * ball.radius) for s in (-1, 1))
    shape = low.shape

    def measure(signs):
        return _problem.margins(problem.f(jnp.where(signs, high, low)), problem.labels)

    def advance(best, key):
        signs, value = best
        share_key, flip_key = jax.random.split(key)
        smallest = -np.log(np.float32(max(2, shape[1])))
        share = jnp.exp(jax.random.uniform(share_key, (), jnp.float32, smallest, 0.0))
        changed = signs ^ jax.random.bernoulli(flip_key, share, shape)
        new = measure(changed)
        better = new < value
        return (jnp.where(better[:, None], changed, signs), jnp.where(better, new, value)), None

    first_key, key = jax.random.split(key)
    signs = jax.random.bernoulli(first_key, 0.5, shape)
    keys = jax.random.split(key, queries - 1)
    (signs, _), _ = jax.lax.scan(advance, (signs, measure(signs)), keys)
    return problem.restore(jnp.where(signs, high, low))
