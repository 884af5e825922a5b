"""Faithfulness: whether features with large attributions determine the score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdl._check import require_ints
from jaxdl.interpret import _batching, _input, _target
from jaxdl.interpret.integrated_gradients import add_noise

__all__ = [
    "Curve",
    "deletion",
    "faithfulness_correlation",
    "infidelity",
    "insertion",
    "pixel_flipping",
]


class Curve(NamedTuple):
    """Scores as more and more features change.

    Attributes:
      scores: (N, steps + 1), from no feature changed to all.
      area: (N,), the area under the curve, by trapezoids over the share of features from 0 to 1.
    """

    scores: jax.Array
    area: jax.Array


def insertion(
    f: Callable[[Any], Any],
    x: Any,
    attributions: Any,
    *,
    target: _target.Target = None,
    baseline: Any = 0.0,
    steps: int = 50,
    batch_size: int | None = None,
) -> Curve:
    """Computes the scores as features are inserted, largest attributions first.

    Petsiuk, Das and Saenko 2018 (arXiv 1806.07421), sec. 4.1. For their numbers, let f end in a
    softmax.

    Args:
      f, x, target: as for `saliency`. "argmax" is the predicted class of x itself.
      attributions: like x, or for x of (N, ..., C) with one channel or none: all channels of a
        position are then inserted together. The arrays of a tree are ranked together.
      baseline: the value of a feature that is not inserted.
      steps: number of insertions, of equal numbers of features up to rounding.
      batch_size: steps evaluated side by side; None for the largest number within `memory_budget`.

    Returns:
      A `Curve`; a larger area is better.

    Raises:
      ValueError: as `saliency`; the attributions do not fit x; or `steps` is below 1.
    """
    args = f, x, attributions, target, baseline, steps, batch_size
    return _compute_curve("insertion", *args, inserts=True)


def deletion(
    f: Callable[[Any], Any],
    x: Any,
    attributions: Any,
    *,
    target: _target.Target = None,
    baseline: Any = 0.0,
    steps: int = 50,
    batch_size: int | None = None,
) -> Curve:
    """Computes the scores as features are deleted, largest attributions first.

    Petsiuk, Das and Saenko 2018, sec. 4.1.

    Args, raises: as `insertion`.

    Returns:
      A `Curve`; a smaller area is better.
    """
    args = f, x, attributions, target, baseline, steps, batch_size
    return _compute_curve("deletion", *args, inserts=False)


def pixel_flipping(
    f: Callable[[Any], Any],
    x: Any,
    attributions: Any,
    *,
    target: _target.Target = None,
    batch_size: int | None = None,
) -> Curve:
    """Computes the scores as the signs of features are flipped one by one.

    Bach et al. 2015 (doi:10.1371/journal.pone.0130140), sec. "Pixel-flipping"; for inputs around 0.

    Args, raises: as `insertion`.

    Returns:
      A `Curve`; a smaller area is better.
    """
    name = "pixel_flipping"
    f, x, target = _target.prepare(name, f, x, target)
    steps = _rank(name, x, attributions)[1]
    flipped = jax.tree.map(jnp.negative, x)
    return _compute_curve(name, f, x, attributions, target, flipped, steps, batch_size, False)


def _compute_curve(
    name, f, x, attributions, target, baseline, steps, batch_size, inserts: bool
) -> Curve:
    f, x, target = _target.prepare(name, f, x, target)
    base = _input.broadcast_baseline(name, x, baseline)
    rank, count = _rank(name, x, attributions)
    (steps,) = require_ints(name, 1, steps=steps)
    # Step i has changed the features of rank below cuts[i].
    cuts = jnp.round(jnp.linspace(0, count, steps + 1)).astype(jnp.int32)

    def score(i):
        def mix(rank, x, base):
            return jnp.where((rank < cuts[i]) == inserts, x, base)

        return _target.score(name, f(jax.tree.map(mix, rank, x, base)), target)

    scores = _batching.map_evaluations(name, score, steps + 1, batch_size).T
    # The real shares: rounding to whole features makes the steps unequal.
    shares = cuts.astype(scores.dtype) / count
    return Curve(scores, jnp.trapezoid(scores, shares, axis=1))


def _rank(name: str, x: Any, attributions: Any) -> tuple[Any, int]:
    """Returns the rank of each feature, like x, and the number of ranks."""

    def add_channels(leaf, a):
        a = jnp.asarray(a)
        a = a[..., None] if a.shape == leaf.shape[:-1] else a
        if a.shape not in (leaf.shape, (*leaf.shape[:-1], 1)):
            raise ValueError(
                f"{name}: attributions of {a.shape} for x of {leaf.shape}; expected the same, or "
                "one number for all channels of a position."
            )
        return a

    attributions = _input.match(name, x, "attributions", attributions)
    attributions = jax.tree.map(add_channels, x, attributions)
    flat = _input.flatten(attributions)
    # The argsort of an argsort is the rank.
    rank = jnp.argsort(jnp.argsort(-flat, axis=1), axis=1).astype(jnp.int32)
    ranks = _input.unflatten(rank, attributions)
    return jax.tree.map(lambda r, x: jnp.broadcast_to(r, x.shape), ranks, x), flat.shape[1]


def infidelity(
    f: Callable[[Any], Any],
    x: Any,
    attributions: Any,
    *,
    key: jax.Array,
    target: _target.Target = None,
    sigma: float = 0.2,
    samples: int = 100,
    batch_size: int | None = None,
) -> jax.Array:
    """Computes the mean squared error of an attribution as a linear prediction.

    Yeh et al. 2019 (arXiv 1901.09392), def. 2.1: E[(I . a - (y(x) - y(x - I)))^2] with normal noise
    I. The attribution a is per unit of input, like a gradient: divide others by x - baseline.

    Args:
      f, x, target: as for `saliency`. "argmax" is the predicted class of x itself.
      attributions: like x.
      key: a PRNG key.
      sigma: standard deviation of the noise, in units of the input.
      samples: number of draws.
      batch_size: draws evaluated side by side; None for the largest number within `memory_budget`.

    Returns:
      (N,), in squared units of the score; 0 is best.

    Raises:
      ValueError: as `saliency`; or `samples` is below 1.
    """
    name = "infidelity"
    f, x, target = _target.prepare(name, f, x, target)
    (samples,) = require_ints(name, 1, samples=samples)
    attributions = _input.as_attributions(name, x, attributions)
    whole = _target.score(name, f(x), target)

    def error(i):
        noise = add_noise(jax.random.fold_in(key, i), jax.tree.map(jnp.zeros_like, x), sigma)
        drop = whole - _target.score(name, f(jax.tree.map(jnp.subtract, x, noise)), target)
        products = jax.tree.map(jnp.multiply, noise, attributions)
        return (jnp.sum(_input.flatten(products), axis=1) - drop) ** 2

    return _batching.accumulate(name, error, jnp.full(samples, 1 / samples), batch_size)


def faithfulness_correlation(
    f: Callable[[Any], Any],
    x: Any,
    attributions: Any,
    *,
    key: jax.Array,
    target: _target.Target = None,
    baseline: Any = 0.0,
    size: int = 16,
    samples: int = 100,
    batch_size: int | None = None,
) -> jax.Array:
    """Correlates attributions of random feature sets with drops of the score.

    Bhatt, Weller and Moura 2020 (arXiv 2005.00631), def. 3: the correlation, over sets, of the sum
    of the attributions of a set and the drop of the score without the set.

    Args:
      f, x, target: as for `saliency`. "argmax" is the predicted class of x itself.
      attributions: like x.
      key: a PRNG key.
      baseline: the replacement of a feature.
      size: features in a set.
      samples: number of sets.
      batch_size: sets evaluated side by side; None for the largest number within `memory_budget`.

    Returns:
      (N,), from -1 to 1; 1 is best.

    Raises:
      ValueError: as `saliency`; or `size` is not from 1 to the number of features.
    """
    name = "faithfulness_correlation"
    f, x, target = _target.prepare(name, f, x, target)
    base = _input.broadcast_baseline(name, x, baseline)
    attributions = _input.as_attributions(name, x, attributions)
    flat = _input.flatten(attributions)
    count = flat.shape[1]
    size, samples = require_ints(name, 1, size=size, samples=samples)
    if size > count:
        raise ValueError(f"{name}: size is {size}; expected 1 to {count}.")
    whole = _target.score(name, f(x), target)

    def evaluate(i):
        # The `size` smallest numbers of a random permutation are a random set.
        chosen = jax.random.permutation(jax.random.fold_in(key, i), count) < size
        without = jax.tree.map(jnp.where, _input.unflatten(chosen[None], x), base, x)
        drop = whole - _target.score(name, f(without), target)
        return jnp.sum(jnp.where(chosen, flat, 0), axis=1), drop

    sums, drops = _batching.map_evaluations(name, evaluate, samples, batch_size)
    sums, drops = sums - sums.mean(0), drops - drops.mean(0)
    return jnp.sum(sums * drops, 0) / jnp.sqrt(jnp.sum(sums**2, 0) * jnp.sum(drops**2, 0))
