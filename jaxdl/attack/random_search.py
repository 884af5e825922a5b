"""An attack without derivatives: random changes of a perturbation, kept where they help."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl._check import require_ints, require_key
from jaxdl.attack.gradient import Bounds, _as_labels, _as_limits, _as_size, _check_inside
from jaxdl.interpret import _input, _target

__all__ = ["random_search"]


def random_search(
    f: Callable[[Any], Any],
    x: Any,
    labels: Any,
    epsilon: float,
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
    whole = _input.as_batch("attack", x)
    count = _target.verify("attack", f, whole, "argmax")
    labels = _as_labels(labels, len(jax.tree.leaves(whole)[0]), max(count, 2))
    f, x = _input.separate(f, whole)
    epsilon, (least, most) = _as_size("epsilon", epsilon), _as_limits(bounds)
    _check_inside(x, least, most)
    (queries,) = require_ints("random_search", 1, queries=queries)
    key = require_key("random_search", key)
    low = jax.tree.map(lambda x: jnp.maximum(x - epsilon, least), x)
    high = jax.tree.map(lambda x: jnp.minimum(x + epsilon, most), x)
    leaves, tree = jax.tree.flatten(low)
    smallest = -math.log(max(2, sum(math.prod(leaf.shape[1:]) for leaf in leaves)))

    def as_inputs(signs):
        return jax.tree.map(jnp.where, signs, high, low)

    def draw(key, share):
        keys = tree.unflatten(list(jax.random.split(key, len(leaves))))
        return jax.tree.map(lambda k, leaf: jax.random.bernoulli(k, share, leaf.shape), keys, low)

    def advance(best, key):
        signs, value = best
        share_key, flip_key = jax.random.split(key)
        share = jnp.exp(jax.random.uniform(share_key, (), jnp.float32, smallest, 0.0))
        changed = jax.tree.map(jnp.logical_xor, signs, draw(flip_key, share))
        new = margins(f(as_inputs(changed)), labels)
        better = new < value

        def select(a, b):
            return jnp.where(better.reshape(-1, *[1] * (a.ndim - 1)), a, b)

        return (jax.tree.map(select, changed, signs), jnp.where(better, new, value)), None

    first_key, key = jax.random.split(key)
    signs = draw(first_key, 0.5)
    start = signs, margins(f(as_inputs(signs)), labels)
    (signs, _), _ = jax.lax.scan(advance, start, jax.random.split(key, queries - 1))
    moved = as_inputs(signs)
    return jax.tree.map(lambda leaf, part: leaf if part is None else part, whole, moved)


def margins(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns how far the score of the label exceeds the best other one, (N,).

    Args:
      scores: (N, classes); or one logit each, (N,) or (N, 1), of class 1 against class 0.
      labels: (N,) integers.
    """
    if scores.size == labels.size:
        logits = scores.reshape(labels.shape)
        return jnp.where(labels == 1, logits, -logits)
    own = jnp.arange(scores.shape[1]) == labels[:, None]
    rest = jnp.max(jnp.where(own, -jnp.inf, scores), axis=1)
    return jnp.sum(jnp.where(own, scores, 0), axis=1) - rest
