"""Whether what an explanation names first is what the score hangs on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdl.interpret import _input, _target
from jaxdl.interpret.integrated_gradients import noisy

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
      area: (N,), the area below, by trapezoids over the share of features from 0 to 1.
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
    """The scores as features come in, those with the greatest attribution first.

    Petsiuk, Das and Saenko 2018 (arXiv 1806.07421), sec. 4.1; let f end in a softmax for their
    numbers.

    Args:
      f, x, target: as for `saliency`; "argmax" is the class that x itself is given.
      attributions: like x, or with one channel or none for x of (N, ..., C): places come in with
        all their channels. The values of all arrays of a tree are put in one order.
      baseline: what is there before a feature comes in.
      steps: how many times features come in, as many each time as can be.
      batch_size: steps run side by side; None for as many as `memory_budget` allows.

    Returns:
      A `Curve`; a greater area is better.

    Raises:
      ValueError: as `saliency`; the attributions' shape does not fit x's; `steps` is below 1.
    """
    return _curve("insertion", f, x, attributions, target, baseline, steps, batch_size, enter=True)


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
    """The scores as features go out, those with the greatest attribution first.

    Petsiuk, Das and Saenko 2018, sec. 4.1.

    Args, raises: as `insertion`.

    Returns:
      A `Curve`; a smaller area is better.
    """
    return _curve("deletion", f, x, attributions, target, baseline, steps, batch_size, enter=False)


def pixel_flipping(
    f: Callable[[Any], Any],
    x: Any,
    attributions: Any,
    *,
    target: _target.Target = None,
    batch_size: int | None = None,
) -> Curve:
    """`deletion` of one feature after the other, which change their sign.

    Bach et al. 2015 (doi:10.1371/journal.pone.0130140), sec. "Pixel-flipping"; for inputs around 0.

    Args, raises: as `insertion`.

    Returns:
      A `Curve`; a smaller area is better.
    """
    name = "pixel_flipping"
    f, x, target = _target.prepare(name, f, x, target)
    places = _ranks(name, x, attributions)[1]
    flipped = jax.tree.map(jnp.negative, x)
    return _curve(name, f, x, attributions, target, flipped, places, batch_size, enter=False)


def _curve(name, f, x, attributions, target, baseline, steps, batch_size, enter: bool) -> Curve:
    f, x, target = _target.prepare(name, f, x, target)
    base = _input.baselines(name, x, baseline)
    rank, count = _ranks(name, x, attributions)
    (steps,) = _input.at_least(name, 1, steps=steps)
    cuts = jnp.round(jnp.linspace(0, count, steps + 1)).astype(jnp.int32)

    def score(i):
        mixed = lambda rank, x, b: jnp.where((rank < cuts[i]) == enter, x, b)  # noqa: E731
        return _target.score(name, f(jax.tree.map(mixed, rank, x, base)), target)

    scores = _input.mapped(name, score, steps + 1, batch_size).T
    shares = cuts.astype(scores.dtype) / count
    return Curve(scores, jnp.trapezoid(scores, shares, axis=1))


def _ranks(name: str, x: Any, attributions: Any) -> tuple[Any, int]:
    """Returns the place of each feature in the order of attributions, like x, and their number."""

    def with_channels(leaf, a):
        a = jnp.asarray(a)
        a = a[..., None] if a.shape == leaf.shape[:-1] else a
        if a.shape not in (leaf.shape, (*leaf.shape[:-1], 1)):
            raise ValueError(
                f"{name}: attributions of {a.shape} for x of {leaf.shape}; expected the same, or "
                "one number for all channels of a place."
            )
        return a

    places = _input.match(name, x, "attributions", attributions)
    places = jax.tree.map(with_channels, x, places)
    flat = _input.flatten(places)
    rank = jnp.argsort(jnp.argsort(-flat, axis=1), axis=1).astype(jnp.int32)
    ranks = _input.unflatten(rank, places)
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
    """The mean squared error of predicting the fall of the score from the attribution.

    Yeh et al. 2019 (arXiv 1901.09392), def. 2.1: E[(I . a - (y(x) - y(x - I)))^2], I normal noise.
    The attribution is one per unit of input, a gradient: divide others by x - baseline.

    Args:
      f, x, target: as for `saliency`; "argmax" is the class that x itself is given.
      attributions: like x.
      key: a PRNG key.
      sigma: standard deviation of the noise, in units of the input.
      samples: how many draws.
      batch_size: draws run side by side; None for as many as `memory_budget` allows.

    Returns:
      (N,), in squared units of the score; 0 is best.

    Raises:
      ValueError: as `saliency`; `samples` is below 1.
    """
    name = "infidelity"
    f, x, target = _target.prepare(name, f, x, target)
    (samples,) = _input.at_least(name, 1, samples=samples)
    attributions = _input.like(name, x, attributions)
    whole = _target.score(name, f(x), target)

    def error(i):
        noise = noisy(jax.random.fold_in(key, i), jax.tree.map(jnp.zeros_like, x), sigma)
        fall = whole - _target.score(name, f(jax.tree.map(jnp.subtract, x, noise)), target)
        products = jax.tree.map(jnp.multiply, noise, attributions)
        return (jnp.sum(_input.flatten(products), axis=1) - fall) ** 2

    return _input.weighted_sum(name, error, jnp.full(samples, 1 / samples), batch_size)


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
    """Over random sets of features, the correlation of their attributions' sum with the fall of the
    score without them.

    Bhatt, Weller and Moura 2020 (arXiv 2005.00631), def. 3.

    Args:
      f, x, target: as for `saliency`; "argmax" is the class that x itself is given.
      attributions: like x.
      key: a PRNG key.
      baseline: what takes a feature's place.
      size: features in a set.
      samples: how many sets.
      batch_size: sets run side by side; None for as many as `memory_budget` allows.

    Returns:
      (N,), from -1 to 1; 1 is best.

    Raises:
      ValueError: as `saliency`; `size` is not from 1 to the number of features.
    """
    name = "faithfulness_correlation"
    f, x, target = _target.prepare(name, f, x, target)
    base = _input.baselines(name, x, baseline)
    attributions = _input.like(name, x, attributions)
    flat = _input.flatten(attributions)
    count = flat.shape[1]
    size, samples = _input.at_least(name, 1, size=size, samples=samples)
    if size > count:
        raise ValueError(f"{name}: size is {size}; expected 1 to {count}.")
    whole = _target.score(name, f(x), target)

    def both(i):
        chosen = jax.random.permutation(jax.random.fold_in(key, i), count) < size
        without = jax.tree.map(jnp.where, _input.unflatten(chosen[None], x), base, x)
        fall = whole - _target.score(name, f(without), target)
        return jnp.sum(jnp.where(chosen, flat, 0), axis=1), fall

    sums, falls = _input.mapped(name, both, samples, batch_size)
    sums, falls = sums - sums.mean(0), falls - falls.mean(0)
    return jnp.sum(sums * falls, 0) / jnp.sqrt(jnp.sum(sums**2, 0) * jnp.sum(falls**2, 0))
