"""Parametrizations of images: pixels, and the outputs of a generator.

A parametrization maps parameters theta to one input of the network, which gradient ascent then
improves by changing theta. Letters: H x W pixels, C channels; `shape` is the shape of one input
without its batch axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl._check import require_number

__all__ = ["Parametrization", "generator", "pixels"]


def _no_penalty(theta: Any) -> jax.Array:
    return jnp.zeros((), jnp.result_type(float))


def _unchanged(theta: Any) -> Any:
    return theta


class Parametrization(NamedTuple):
    """An image as a function of parameters.

    Attributes:
      init: from a PRNG key to the initial parameters theta, a tree of arrays.
      decode: from theta to one image, (*shape).
      penalty: from theta to a number, which is subtracted from the objective.
      project: from theta after a step to valid parameters.
    """

    init: Callable[[jax.Array], Any]
    decode: Callable[[Any], jax.Array]
    penalty: Callable[[Any], jax.Array] = _no_penalty
    project: Callable[[Any], Any] = _unchanged


def pixels(
    shape: Sequence[int],
    bounds: tuple[float, float] | None = None,
    *,
    start: jax.Array | np.ndarray | float | None = None,
    sd: float = 0.01,
) -> Parametrization:
    """Returns the parametrization of an image by its pixels.

    Args:
      shape: the shape of one input, (*space, C) or any other.
      bounds: (low, high), to which the pixels are clipped after every step; None for no bounds.
      start: the initial image, an array of `shape` or one number for all values; None for the
        middle of the bounds, or 0 without bounds.
      sd: standard deviation of the normal noise added to the start.

    Returns:
      A `Parametrization`, whose theta is the image itself.

    Raises:
      ValueError: `bounds` are not in order, or `start` has another shape.
    """
    shape, bounds = as_shape("pixels", shape), as_bounds("pixels", bounds)
    if start is None:
        start = 0.0 if bounds is None else sum(bounds) / 2
    if np.shape(start) not in ((), shape):
        raise ValueError(
            f"pixels: start has shape {np.shape(start)}; expected one number or the shape of one "
            f"input, {shape}, without a batch axis."
        )
    dtype = jnp.result_type(start) if np.ndim(start) else jnp.result_type(float)

    def project(theta):
        return theta if bounds is None else jnp.clip(theta, *bounds)

    def init(key):
        return project(jnp.asarray(start, dtype) + sd * jax.random.normal(key, shape, dtype))

    return Parametrization(init, _unchanged, project=project)


def generator(
    generate: Callable[[jax.Array], jax.Array],
    latent_shape: Sequence[int],
    *,
    prior: float | Callable[[jax.Array], jax.Array] = 0.0,
    start: jax.Array | np.ndarray | float = 0.0,
    sd: float = 1.0,
) -> Parametrization:
    """Returns the parametrization of an image by the latent variables z of a generator G.

    Nguyen et al. 2016 (arXiv 1605.09304), section 3: z* = argmax_z score(G(z)) - prior ||z||^2, and
    the image is G(z*). The image stays among those that G can generate. G is the decoder of an
    autoencoder, a GAN, a normalizing flow or any other function.

    Args:
      generate: G, any function from a batch (N, *latent_shape) to inputs (N, *shape).
      latent_shape: the shape of one z.
      prior: weight of ||z||^2, which is up to a constant the log-density of normal z with variance
        1 / (2 prior); or a function from one z to the penalty, a number.
      start: the initial z, an array of `latent_shape` or one number.
      sd: standard deviation of the normal noise added to the start.

    Returns:
      A `Parametrization`, whose theta is z.

    Raises:
      ValueError: `prior` is negative, or `start` has another shape.
    """
    name = "generator"
    z = pixels(as_shape(name, latent_shape, "latent_shape"), start=start, sd=sd)
    if not callable(prior):
        expected = "a weight of 0 or more, or a function from z to a number"
        weight = require_number(name, expected, lambda v: v >= 0, prior=prior)

    def penalty(theta):
        return prior(theta) if callable(prior) else weight * jnp.sum(theta**2)

    return Parametrization(z.init, lambda theta: generate(theta[None])[0], penalty)


def as_shape(caller: str, shape: Sequence[int], argument: str = "shape") -> tuple[int, ...]:
    """Returns a shape as a tuple of Python ints.

    Raises:
      ValueError: it is not a sequence of integers of at least 1.
    """
    try:
        sizes = tuple(int(size) for size in shape)
    except TypeError:
        sizes = (0,)
    if min(sizes, default=1) < 1:
        raise ValueError(
            f"{caller}: {argument} is {shape!r}; expected positive integers, the shape of one "
            "input without its batch axis."
        )
    return sizes


def as_space(caller: str, shape: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """Returns the spatial shape and the number of channels of images (*space, C).

    Raises:
      ValueError: there are not one to three spatial axes.
    """
    sizes = as_shape(caller, shape)
    if not 2 <= len(sizes) <= 4:
        raise ValueError(
            f"{caller}: shape is {sizes}; expected (*space, C) with one to three spatial "
            "axes, such as (224, 224, 3). Use pixels for other inputs."
        )
    return sizes[:-1], sizes[-1]


def as_bounds(caller: str, bounds: tuple[float, float] | None) -> tuple[float, float] | None:
    """Returns (low, high) as floats, or None.

    Raises:
      ValueError: they are not two finite numbers in order.
    """
    if bounds is None:
        return None
    ends = np.asarray(bounds, float)
    if ends.shape != (2,) or not np.all(np.isfinite(ends)) or not ends[0] < ends[1]:
        raise ValueError(f"{caller}: bounds are {bounds}; expected low < high.")
    return float(ends[0]), float(ends[1])


def squash(values: jax.Array, bounds: tuple[float, float] | None) -> jax.Array:
    """Returns low + (high - low) sigmoid(values), or without bounds the values."""
    if bounds is None:
        return values
    low, high = bounds
    return low + (high - low) * jax.nn.sigmoid(values)
