"""Penalties of an image, before it is transformed."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxdl.interpret.feature_vis._objective import Objective, image_objective


def total_variation() -> Objective:
    """Returns the sum of absolute differences between neighbouring pixels of the image.

    Mahendran and Vedaldi 2015 (arXiv 1412.0035), section 3, with beta = 1 and each axis alone.

    Returns:
      An `Objective` to subtract.
    """

    def compute(images):
        steps = (jnp.abs(jnp.diff(images, axis=axis)) for axis in range(1, images.ndim - 1))
        return sum(map(_sum, steps), jnp.zeros(len(images), images.dtype))

    return image_objective(compute)


def l1() -> Objective:
    """Returns the sum of absolute values of the image.

    Returns:
      An `Objective` to subtract.
    """
    return image_objective(lambda images: _sum(jnp.abs(images)))


def l2() -> Objective:
    """Returns the sum of squares of the image, ||I||^2.

    `logit(c) - weight * l2()` is eq. 1 of Simonyan et al. 2014 (arXiv 1312.6034).

    Returns:
      An `Objective` to subtract.
    """
    return image_objective(lambda images: _sum(images**2))


def _sum(values: jax.Array) -> jax.Array:
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))
