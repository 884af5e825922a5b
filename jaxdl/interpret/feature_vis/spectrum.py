"""Images by their Fourier transform: all of it, or its phase alone.

Gradient ascent on pixels prefers high frequencies, which look like noise. In a Fourier basis scaled
by 1 / frequency, each step changes the image like a natural one. Letters: H x W pixels, C channels,
F frequencies, `shape` = (*space, C) with one to three spatial axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl._check import require_number
from jaxdl.interpret.feature_vis import parametrization
from jaxdl.interpret.feature_vis.color import as_color_matrix
from jaxdl.interpret.feature_vis.parametrization import Parametrization

__all__ = ["fourier", "mean_magnitude", "phase"]

CONTRAST = 0.25
"""Factor of the image of random coefficients before the sigmoid, as in Lucid."""


def fourier(
    shape: Sequence[int],
    bounds: tuple[float, float] | None = (0.0, 1.0),
    *,
    decay: float = 1.0,
    sd: float = 0.01,
    decorrelate: bool | jax.Array | np.ndarray = True,
) -> Parametrization:
    """Returns the parametrization of an image by its Fourier coefficients.

    Olah, Mordvintsev and Schubert 2017, "Feature Visualization" (doi:10.23915/distill.00007),
    section "Preconditioning and Parameterization", with the constants of their library Lucid. A
    coefficient of frequency k, in cycles per pixel, is multiplied by sqrt(P) / max(|k|, 1 / L)
    ^decay, where P is the number of pixels and L the longest side.

    Args:
      shape: (*space, C), the shape of one input.
      bounds: (low, high) of the image, reached by a sigmoid; None for no bounds.
      decay: 0 treats all frequencies alike; larger values prefer low ones.
      sd: standard deviation of the initial coefficients.
      decorrelate: True multiplies three channels by the square root of the covariance of colors in
        ImageNet, and leaves other numbers of channels as they are; False never does. A matrix
        (C, C), such as `color_matrix(images)`, is used instead.

    Returns:
      A `Parametrization`, whose theta is (2, C, *F): real and imaginary parts.

    Raises:
      ValueError: `shape` has no spatial axis; `bounds` are not in order; `decorrelate` has another
        shape.
    """
    space, channels = parametrization.as_space("fourier", shape)
    bounds = parametrization.as_bounds("fourier", bounds)
    matrix = as_color_matrix("fourier", decorrelate, channels)
    decay = require_number("fourier", "a finite number", lambda v: True, decay=decay)
    frequencies = np.maximum(_frequencies(space), 1 / max(space))
    scale = CONTRAST * math.sqrt(math.prod(space)) / frequencies**decay

    def init(key):
        return sd * jax.random.normal(key, (2, channels, *frequencies.shape))

    def decode(theta):
        real, imaginary = theta * jnp.asarray(scale, theta.dtype)
        spectrum = jax.lax.complex(real, imaginary)
        return parametrization.squash(_correlate(_invert(spectrum, space), matrix), bounds)

    return Parametrization(init, decode)


def phase(
    shape: Sequence[int],
    magnitude: jax.Array | np.ndarray,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    *,
    decorrelate: bool | jax.Array | np.ndarray = True,
) -> Parametrization:
    """Returns the parametrization of an image by the phases of its Fourier coefficients.

    Fel et al. 2023, "MaCo" (arXiv 2306.06805), section 3: the magnitudes are fixed to those of
    natural images, so that no frequency can dominate. Without bounds and colors the image has
    exactly these magnitudes, with a mean of 0 or more. With bounds, it is standardized and mapped
    by a sigmoid.

    Args:
      shape: (*space, C), the shape of one input.
      magnitude: (C, *F), the absolute values of the coefficients, such as `mean_magnitude(images)`.
      bounds: (low, high) of the image; None for no bounds.
      decorrelate: as for `fourier` and the same as for `mean_magnitude`.

    Returns:
      A `Parametrization`, whose theta is (C, *F) in radians. Steps of Adam of about 1 are useful.

    Raises:
      ValueError: `magnitude` has another shape; as `fourier`.
    """
    space, channels = parametrization.as_space("phase", shape)
    bounds = parametrization.as_bounds("phase", bounds)
    matrix = as_color_matrix("phase", decorrelate, channels)
    magnitude = jnp.asarray(magnitude)
    expected = (channels, *_frequencies(space).shape)
    if magnitude.shape != expected:
        raise ValueError(
            f"phase: magnitude has shape {magnitude.shape}; expected {expected} for an image of "
            f"{tuple(shape)}. Pass mean_magnitude(images) of images of this size."
        )

    def init(key):
        return jax.random.uniform(key, expected, magnitude.dtype, -jnp.pi, jnp.pi)

    def decode(theta):
        angles = _make_odd(theta, space)
        spectrum = jax.lax.complex(magnitude * jnp.cos(angles), magnitude * jnp.sin(angles))
        image = _invert(spectrum, space)
        if bounds is not None:
            deviation = jnp.std(image)
            image = (image - jnp.mean(image)) / jnp.where(deviation > 0, deviation, 1)
        return parametrization.squash(_correlate(image, matrix), bounds)

    return Parametrization(init, decode)


def mean_magnitude(
    images: jax.Array | np.ndarray, *, decorrelate: bool | jax.Array | np.ndarray = True
) -> jax.Array:
    """Returns the mean magnitudes of the Fourier coefficients of images.

    Args:
      images: (N, *space, C), floating-point.
      decorrelate: as for `fourier`: the colors are decorrelated first.

    Returns:
      (C, *F), as `phase` takes them.

    Raises:
      ValueError: the images are not floating-point, or have no spatial axis.
    """
    images = jnp.asarray(images)
    if not jnp.issubdtype(images.dtype, jnp.floating) or not 3 <= images.ndim <= 5:
        raise ValueError(
            f"mean_magnitude: images are {images.dtype}{list(images.shape)}; expected "
            "floating-point (N, *space, C) with one to three spatial axes."
        )
    matrix = as_color_matrix("mean_magnitude", decorrelate, images.shape[-1])
    if matrix is not None:
        images = images @ jnp.linalg.inv(matrix).T.astype(images.dtype)
    planes = jnp.moveaxis(images, -1, 1)
    spectrum = jnp.fft.rfftn(planes, axes=tuple(range(2, planes.ndim)))
    return jnp.mean(jnp.abs(spectrum), axis=0)


def _frequencies(space: tuple[int, ...]) -> np.ndarray:
    """Returns the lengths (*F) of the frequencies of a real image, in cycles per pixel."""
    axes = [np.fft.fftfreq(size) for size in space[:-1]] + [np.fft.rfftfreq(space[-1])]
    grid = np.meshgrid(*axes, indexing="ij")
    return np.sqrt(sum(axis**2 for axis in grid))


def _invert(spectrum: jax.Array, space: tuple[int, ...]) -> jax.Array:
    """Returns the real image (*space, C) of a spectrum (C, *F)."""
    axes = tuple(range(1, spectrum.ndim))
    return jnp.moveaxis(jnp.fft.irfftn(spectrum, s=space, axes=axes), 0, -1)


def _make_odd(theta: jax.Array, space: tuple[int, ...]) -> jax.Array:
    """Returns angles that are odd in frequency where a real image needs it.

    Along the last axis, only the first and, for an even size, the last column contain both a
    frequency and its negative. A self-conjugate coefficient, such as the mean, is real: angle 0.
    """
    opposite = theta
    for axis, size in enumerate(space[:-1], start=1):
        opposite = jnp.take(opposite, -np.arange(size) % size, axis=axis)
    columns = np.arange(theta.shape[-1])
    paired = (columns == 0) | (2 * columns == space[-1])
    return jnp.where(paired, (theta - opposite) / 2, theta)


def _correlate(image: jax.Array, matrix: jax.Array | None) -> jax.Array:
    return image if matrix is None else image @ matrix.T.astype(image.dtype)
