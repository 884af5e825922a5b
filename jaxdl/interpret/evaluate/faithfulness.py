"""Whether what an explanation names first is what the score hangs on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdl.interpret import _input, _target

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
    f: Callable[[jax.Array], Any],
    x: jax.Array,
    attributions: jax.Array,
    *,
    target: _target.Target = None,
    baseline: Any = 0.0,
    steps: int = 50,
    chunk: int | None = 10,
) -> Curve:
    """The scores as features come in, those with the greatest attribution first.

    Petsiuk, Das and Saenko 2018 (arXiv 1806.07421), sec. 4.1; let f end in a softmax for their
    numbers.

    Args:
      f, x, target: as for `saliency`; "argmax" is the class that x itself is given.
      attributions: like x, or with one channel or none for x of (N, ..., C): places come in with
        all their channels.
      baseline: what is there before a feature comes in.
      steps: how many times features come in, as many each time as can be.
      chunk: steps run side by side; None for all.

    Returns:
      A `Curve`; a greater area is better.

    Raises:
      ValueError: as `saliency`; the attributions' shape does not fit x's; `steps` is below 1.
    """
    return _curve("insertion", f, x, attributions, target, baseline, steps, chunk, enter=True)


def deletion(
    f: Callable[[jax.Array], Any],
    x: jax.Array,
    attributions: jax.Array,
    *,
    target: _target.Target = None,
    baseline: Any = 0.0,
    steps: int = 50,
    chunk: int | None = 10,
) -> Curve:
    """The scores as features go out, those with the greatest attribution first.

    Petsiuk, Das and Saenko 2018, sec. 4.1.

    Args, raises: as `insertion`.

    Returns:
      A `Curve`; a smaller area is better.
    """
    return _curve("deletion", f, x, attributions, target, baseline, steps, chunk, enter=False)


def pixel_flipping(
    f: Callable[[jax.Array], Any],
    x: jax.Array,
    attributions: jax.Array,
    *,
    target: _target.Target = None,
    chunk: int | None = 10,
) -> Curve:
    """`deletion` of one feature after the other, which change their sign.

    Bach et al. 2015 (doi:10.1371/journal.pone.0130140), sec. "Pixel-flipping"; for inputs around 0.

    Args, raises: as `insertion`.

    Returns:
      A `Curve`; a smaller area is better.
    """
    places = _ranks("pixel_flipping", x, attributions)[1]
    return _curve(
        "pixel_flipping", f, x, attributions, target, -jnp.asarray(x), places, chunk, enter=False
    )


def _curve(name, f, x, attributions, target, baseline, steps, chunk, enter: bool) -> Curve:
    x = _input.checked(name, x)
    base = _input.baselines(name, x, baseline)
    rank, count = _ranks(name, x, attributions)
    if steps < 1:
        raise ValueError(f"{name}: steps is {steps}; expected at least 1.")
    target = _target.settled(name, f, x, target)
    cuts = jnp.round(jnp.linspace(0, count, steps + 1)).astype(jnp.int32)

    def score(i):
        changed = rank < cuts[i]
        return _target.score(name, f(jnp.where(changed == enter, x, base)), target)

    size = steps + 1 if chunk is None else chunk
    scores = jax.lax.map(score, jnp.arange(steps + 1), batch_size=size).T
    shares = cuts.astype(scores.dtype) / count
    return Curve(scores, jnp.trapezoid(scores, shares, axis=1))


def _ranks(name: str, x, attributions) -> tuple[jax.Array, int]:
    """The place of each feature in the order of attributions, like x, and how many there are."""
    attributions = jnp.asarray(attributions)
    if attributions.shape == x.shape[:-1]:
        attributions = attributions[..., None]
    if attributions.shape not in (x.shape, (*x.shape[:-1], 1)):
        raise ValueError(
            f"{name}: attributions of {attributions.shape} for x of {x.shape}; expected the same, "
            "or one number for all channels of a place."
        )
    flat = attributions.reshape(len(x), -1)
    rank = jnp.argsort(jnp.argsort(-flat, axis=1), axis=1).astype(jnp.int32)
    return jnp.broadcast_to(rank.reshape(attributions.shape), x.shape), flat.shape[1]


def infidelity(
    f: Callable[[jax.Array], Any],
    x: jax.Array,
    attributions: jax.Array,
    *,
    key: jax.Array,
    target: _target.Target = None,
    sigma: float = 0.2,
    samples: int = 100,
    chunk: int | None = None,
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
      chunk: draws run side by side; None for all.

    Returns:
      (N,), in squared units of the score; 0 is best.

    Raises:
      ValueError: as `saliency`; `samples` is below 1.
    """
    name = "infidelity"
    x = _input.checked(name, x)
    target = _target.settled(name, f, x, target)
    whole = _target.score(name, f(x), target)

    def error(i):
        noise = sigma * jax.random.normal(jax.random.fold_in(key, i), x.shape, x.dtype)
        fall = whole - _target.score(name, f(x - noise), target)
        told = jnp.sum((noise * attributions).reshape(len(x), -1), axis=1)
        return (told - fall) ** 2

    return _input.weighted_sum(name, error, jnp.full(samples, 1 / samples), chunk)


def faithfulness_correlation(
    f: Callable[[jax.Array], Any],
    x: jax.Array,
    attributions: jax.Array,
    *,
    key: jax.Array,
    target: _target.Target = None,
    baseline: Any = 0.0,
    size: int = 16,
    samples: int = 100,
    chunk: int | None = None,
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
      chunk: sets run side by side; None for all.

    Returns:
      (N,), from -1 to 1; 1 is best.

    Raises:
      ValueError: as `saliency`; `size` is not from 1 to the number of features.
    """
    name = "faithfulness_correlation"
    x = _input.checked(name, x)
    base = _input.baselines(name, x, baseline)
    count = x[0].size
    if not 1 <= size <= count:
        raise ValueError(f"{name}: size is {size}; expected 1 to {count}.")
    target = _target.settled(name, f, x, target)
    whole = _target.score(name, f(x), target)

    def both(i):
        chosen = jax.random.permutation(jax.random.fold_in(key, i), count) < size
        chosen = chosen.reshape(x.shape[1:])
        fall = whole - _target.score(name, f(jnp.where(chosen, base, x)), target)
        told = jnp.sum(jnp.where(chosen, attributions, 0).reshape(len(x), -1), axis=1)
        return told, fall

    side = samples if chunk is None else chunk
    told, fall = jax.lax.map(both, jnp.arange(samples), batch_size=side)
    told, fall = told - told.mean(0), fall - fall.mean(0)
    return jnp.sum(told * fall, 0) / jnp.sqrt(jnp.sum(told**2, 0) * jnp.sum(fall**2, 0))
