"""Images by a network from coordinates to colors (CPPN)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl._check import require_ints
from jaxdl.interpret.feature_vis import parametrization
from jaxdl.interpret.feature_vis.parametrization import Parametrization

__all__ = ["cppn"]


def cppn(
    shape: Sequence[int],
    bounds: tuple[float, float] = (0.0, 1.0),
    *,
    layers: int = 8,
    width: int = 24,
) -> Parametrization:
    """Returns the parametrization of an image by a network from coordinates to colors.

    Compositional pattern-producing network (Stanley 2007, doi:10.1007/s10710-007-9028-8) with the
    activations of Mordvintsev et al. 2018, "Differentiable Image Parameterizations"
    (doi:10.23915/distill.00012): each layer's values v become atan(v) / 0.67 and atan(v)^2 / 0.6,
    which have a variance of about 1. Its images are smooth and can be drawn at any resolution. The
    last layer starts at 0, so the first image is the middle of the bounds.

    Args:
      shape: (*space, C), the shape of one input.
      bounds: (low, high) of the image, reached by a sigmoid.
      layers: hidden layers, 1 or more.
      width: features of each hidden layer.

    Returns:
      A `Parametrization`, whose theta is a list of (kernel, bias). Use a smaller learning rate than
      for `fourier`, such as 0.005.

    Raises:
      ValueError: `shape` has no spatial axis; `bounds` are not in order; a size is below 1.
    """
    space, channels = parametrization.as_space("cppn", shape)
    limits = parametrization.as_bounds("cppn", bounds)
    layers, width = require_ints("cppn", 1, layers=layers, width=width)
    # Coordinates of variance 1, as of a uniform distribution on (-sqrt 3, sqrt 3).
    axes = [math.sqrt(3) * np.linspace(-1, 1, size) if size > 1 else np.zeros(1) for size in space]
    coordinates = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    inputs = [len(space)] + [2 * width] * (layers - 1)

    def init(key):
        hidden = [
            (jax.random.normal(one, (n, width)) / math.sqrt(n), jnp.zeros(width))
            for one, n in zip(jax.random.split(key, layers), inputs, strict=True)
        ]
        return [*hidden, (jnp.zeros((2 * width, channels)), jnp.zeros(channels))]

    def decode(theta):
        *hidden, (kernel, bias) = theta
        values = jnp.asarray(coordinates, kernel.dtype)
        for weights, shift in hidden:
            angle = jnp.arctan(values @ weights + shift)
            values = jnp.concatenate([angle / 0.67, angle**2 / 0.6], axis=-1)
        return parametrization.squash(values @ kernel + bias, limits)

    return Parametrization(init, decode)
