"""Attack on a few pixels, without derivatives, by differential evolution."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdl._check import require_ints, require_key
from jaxdl.attack import _problem
from jaxdl.attack.evolution import differential_evolution
from jaxdl.attack.gradient import Bounds
from jaxdl.interpret import _input

__all__ = ["PixelSearch", "one_pixel", "search_pixels"]


class PixelSearch(NamedTuple):
    """Result of a search for pixels.

    Attributes:
      x: the changed inputs, like x.
      history: (N, generations + 1), the smallest of the minimized losses at the start and after
        every generation: the loss of the label with `targeted`, and otherwise its negative.
    """

    x: Any
    history: jax.Array


def one_pixel(
    f: Callable[[Any], Any],
    x: Any,
    labels: Any,
    *,
    key: jax.Array,
    pixels: int = 1,
    population: int = 400,
    generations: int = 100,
    weight: ArrayLike = 0.5,
    crossover: ArrayLike = 1.0,
    restarts: int = 1,
    batch_size: int | None = None,
    bounds: Bounds = (0.0, 1.0),
    targeted: bool = False,
    loss: _problem.Loss | None = None,
) -> Any:
    """Attacks by changing at most `pixels` pixels of each image.

    Su, Vargas and Sakurai 2019 (arXiv 1710.08864), sec. 3. A candidate is a position and a color
    for each pixel; differential evolution minimizes the score of the true class, or maximizes that
    of the wanted one. Candidates, restarts and images are evaluated side by side.

    Args:
      f: from inputs (N, ...) to scores, as for `pgd`; it needs no derivative.
      x: (N, *S, C), floating-point: images of any number of axes S of positions, with channels
        last; or a tree with one such array and integers, which are not changed.
      labels: (N,), the true classes, or with `targeted` the wanted ones; with `loss`, what it
        takes, as arrays (N, ...).
      key: PRNG key.
      pixels: largest number of changed pixels of an image, >= 1.
      population, generations, weight, crossover: as for `differential_evolution`. The defaults are
        the paper's.
      restarts: number of searches of each image, >= 1, of which the best counts.
      batch_size: number of images that are searched side by side; None for all. Together they need
        the memory of `batch_size * restarts * population` evaluations of f.
      bounds: the smallest and largest color, finite, in the form of `pgd`.
      targeted, loss: as for `pgd`.

    Returns:
      An array like x, or a tree of them.

    Raises:
      ValueError: as for `pgd` and `differential_evolution`; x has no axis of positions or of
        channels; or bounds are not finite.
    """
    return search_pixels(
        f,
        x,
        labels,
        key=key,
        pixels=pixels,
        population=population,
        generations=generations,
        weight=weight,
        crossover=crossover,
        restarts=restarts,
        batch_size=batch_size,
        bounds=bounds,
        targeted=targeted,
        loss=loss,
    ).x


def search_pixels(
    f: Callable[[Any], Any],
    x: Any,
    labels: Any,
    *,
    key: jax.Array,
    pixels: int = 1,
    population: int = 400,
    generations: int = 100,
    weight: ArrayLike = 0.5,
    crossover: ArrayLike = 1.0,
    restarts: int = 1,
    batch_size: int | None = None,
    bounds: Bounds = (0.0, 1.0),
    targeted: bool = False,
    loss: _problem.Loss | None = None,
) -> PixelSearch:
    """Attacks as `one_pixel`, and returns the course of the search too.

    Args:
      f, x, labels, key, pixels, population: as for `one_pixel`.
      generations, weight, crossover, restarts: as for `one_pixel`.
      batch_size, bounds, targeted, loss: as for `one_pixel`.

    Returns:
      A `PixelSearch`.

    Raises:
      ValueError: as for `one_pixel`.
    """
    problem = _problem.prepare("one_pixel", f, x, labels, loss=loss, derivative=False)
    pixels, restarts = require_ints("one_pixel", 1, pixels=pixels, restarts=restarts)
    if batch_size is not None:
        (batch_size,) = require_ints("one_pixel", 1, batch_size=batch_size)
    low, high = _problem.as_bounds(problem, bounds, finite=True)
    key = require_key("one_pixel", key)
    *places, channels = _infer_shape(x)
    count, axes, dtype = math.prod(places), len(places), problem.rows.dtype

    def set_pixels(candidate, row, low, high):
        """Returns a row (D,) with the pixels of a candidate, of values in [0, 1]."""
        image, low, high = (part.reshape(count, channels) for part in (row, low, high))
        for part in candidate.reshape(pixels, axes + channels):
            index = jnp.zeros((), int)
            for size, share in zip(places, part[:axes], strict=True):
                place = jnp.floor(share * size).astype(int)
                index = index * size + jnp.clip(place, 0, size - 1)
            # Positions are not rounded to the type of the image, which may be of half precision.
            color = low[index] + part[axes:].astype(dtype) * (high[index] - low[index])
            image = jnp.where((jnp.arange(count) == index)[:, None], color, image)
        return image.reshape(-1)

    def search(inputs):
        example, key, *parts = inputs

        def evaluate(candidate):
            (value,) = problem.losses(set_pixels(candidate, *parts)[None], example[None])
            return value if targeted else -value

        def evolve(key):
            one, two, three = jax.random.split(key, 3)
            shape = population, pixels, axes
            position = jax.random.uniform(one, shape)
            # The paper draws colors from N(128, 127) of 255: one in three is an extreme.
            color = 0.5 + 0.5 * jax.random.normal(two, (population, pixels, channels))
            start = jnp.concatenate([position, color], axis=2).reshape(population, -1)
            return differential_evolution(
                evaluate,
                jnp.zeros(start.shape[1]),
                jnp.ones(start.shape[1]),
                key=three,
                population=population,
                generations=generations,
                weight=weight,
                crossover=crossover,
                start=start,
            )

        results = jax.vmap(evolve)(jax.random.split(key, restarts))
        best = jnp.argmin(results.value)
        return set_pixels(results.x[best], *parts), jnp.min(results.history, axis=0)

    n = len(problem.rows)
    inputs = jnp.arange(n), jax.random.split(key, n), problem.rows, low, high
    if batch_size is None:
        rows, history = jax.vmap(search)(inputs)
    else:
        rows, history = jax.lax.map(search, inputs, batch_size=batch_size)
    return PixelSearch(problem.restore(rows), history)


def _infer_shape(x: Any) -> tuple[int, ...]:
    """Returns (*S, C) of images (N, *S, C)."""
    shapes = [leaf.shape for leaf in jax.tree.leaves(x) if _input.is_floating(leaf)]
    if len(shapes) != 1 or len(shapes[0]) < 3 or 0 in shapes[0]:
        raise ValueError(
            f"one_pixel: x has floating-point arrays of shapes {shapes}; expected one, (N, *S, C), "
            "with positions and channels, such as (N, H, W, C). Add channels with x[..., None]."
        )
    return tuple(np.asarray(shapes[0][1:]).tolist())
