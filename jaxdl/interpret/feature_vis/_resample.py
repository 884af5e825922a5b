"""Transformations that resample an image: scaling, rotation, blur, boxes, sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl._check import require_ints, require_number
from jaxdl.data import augment

Transform = Callable[[jax.Array, jax.Array], jax.Array]
"""`(key, images) -> images`."""


def scale(factors: Sequence[float]) -> Transform:
    """Returns the transformation that magnifies by a random factor, about the centre.

    Args:
      factors: the factors, all above 0, of which each image gets one. Below 1, pixels at the edge
        are repeated outside.

    Returns:
      A transformation that keeps the shape, with bilinear interpolation.

    Raises:
      ValueError: there are no factors, or one is not above 0.
    """
    choices = _as_choices("scale", "factors", factors)
    if not choices.min() > 0:
        raise ValueError(f"scale: factors are {list(factors)}; expected numbers above 0.")

    def apply(key, images):
        dtype = _position_dtype(images)
        factor = jax.random.choice(key, jnp.asarray(choices, dtype), images.shape[:1])
        shrink = 1 / factor

        def weights(size):
            middle = (size - 1) / 2
            places = middle + shrink[:, None] * (jnp.arange(size, dtype=dtype) - middle)
            return _interpolate(places, size)

        _, height, width, _ = images.shape
        return _transform_axes(images, weights(height), weights(width))

    return apply


def rotate(degrees: Sequence[float]) -> Transform:
    """Returns the transformation that rotates by a random angle, about the centre.

    Args:
      degrees: the angles, counter-clockwise, of which each image gets one.

    Returns:
      A transformation that keeps the shape, with bilinear interpolation. Pixels at the edge are
      repeated outside.

    Raises:
      ValueError: there are no angles.
    """
    choices = _as_choices("rotate", "degrees", degrees)
    reach = float(np.abs(np.sin(np.deg2rad(choices))).max())

    def apply(key, images):
        angles = jax.random.choice(key, jnp.asarray(choices, images.dtype), images.shape[:1])
        _, height, width, _ = images.shape
        # The corner of the result is at most this far outside of the image.
        edge = math.ceil(reach * max(height, width) / 2) + 1
        edges = ((0, 0), (edge, edge), (edge, edge), (0, 0))
        turned = augment.rotate_by(jnp.pad(images, edges, mode="edge"), angles)
        return turned[:, edge : edge + height, edge : edge + width]

    return apply


def blur(sigma: float) -> Transform:
    """Returns the transformation that blurs by a Gaussian of random width.

    Args:
      sigma: the largest standard deviation, in pixels, 0 or more; that of each image is uniform in
        0 .. sigma. Weights are normalized at the edges.

    Returns:
      A transformation that keeps the shape.

    Raises:
      ValueError: `sigma` is negative.
    """
    sigma = require_number("blur", "a number of 0 or more", lambda v: v >= 0, sigma=sigma)

    def apply(key, images):
        n, height, width, _ = images.shape
        widths = jax.random.uniform(key, (n, 1, 1), images.dtype, 0, sigma)
        # A width of 0 is no blur; a small positive one underflows to that without 0 / 0.
        variance = jnp.maximum(widths, 1e-3) ** 2

        def weights(size):
            distance = np.subtract.outer(np.arange(size), np.arange(size))
            gaussian = jnp.exp(-jnp.asarray(distance**2, images.dtype) / (2 * variance))
            return gaussian / jnp.sum(gaussian, axis=-1, keepdims=True)

        return _transform_axes(images, weights(height), weights(width))

    return apply


def random_crop(low: float = 0.05, high: float = 0.5) -> Transform:
    """Returns the transformation that magnifies a random box to the size of the image.

    Fel et al. 2023 (arXiv 2306.06805), section 3: an image of which every part shows the feature.
    Use it with several `crops` per step.

    Args:
      low, high: the sides of the box as shares of the image's, 0 < low <= high <= 1. The side is
        uniform, and the position too, inside of the image.

    Returns:
      A transformation that keeps the shape, with bilinear interpolation.

    Raises:
      ValueError: `low` and `high` are not in order.
    """
    if not 0 < low <= high <= 1:
        raise ValueError(
            f"random_crop: low and high are {low} and {high}; expected 0 < low <= high <= 1."
        )

    def apply(key, images):
        n, height, width, _ = images.shape
        dtype = _position_dtype(images)
        uniform = jax.random.uniform(key, (3, n, 1), dtype)
        side = low + (high - low) * uniform[0]

        def weights(size, start):
            places = jnp.arange(size, dtype=dtype)
            return _interpolate((size - 1) * (1 - side) * start + side * places, size)

        return _transform_axes(images, weights(height, uniform[1]), weights(width, uniform[2]))

    return apply


def resize(size: tuple[int, int]) -> Transform:
    """Returns the transformation to one size, bilinear.

    Args:
      size: height and width of the result.

    Returns:
      A transformation to (N, *size, C).

    Raises:
      ValueError: a size is not an integer of at least 1.
    """
    height, width = require_ints("resize", 1, **{"size[0]": size[0], "size[1]": size[1]})

    def apply(key, images):
        shape = (len(images), height, width, images.shape[-1])
        return jax.image.resize(images, shape, "bilinear", antialias=True)

    return apply


def _as_choices(caller: str, argument: str, values: Sequence[float]) -> np.ndarray:
    choices = np.asarray(values, float)
    if choices.ndim != 1 or not choices.size or not np.all(np.isfinite(choices)):
        raise ValueError(f"{caller}: {argument} is {values!r}; expected a list of numbers.")
    return choices


def _position_dtype(images: jax.Array) -> Any:
    """Returns the type of positions: half precision has none between pixels above 256."""
    return images.dtype if jnp.finfo(images.dtype).bits >= 32 else jnp.float32


def _interpolate(places: jax.Array, size: int) -> jax.Array:
    """Returns the weights (N, P, size) of linear interpolation at places (N, P) of a row."""
    places = jnp.clip(places, 0, size - 1)
    return jnp.maximum(1 - jnp.abs(places[..., None] - jnp.arange(size, dtype=places.dtype)), 0)


def _transform_axes(images: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Returns images times matrices (N, H', H) and (N, W', W) along both axes.

    Products with dense matrices, unlike gathers, have a derivative that is fast on a CPU.
    """
    rows, columns = rows.astype(images.dtype), columns.astype(images.dtype)
    return jnp.einsum("nih,njw,nhwc->nijc", rows, columns, images)
