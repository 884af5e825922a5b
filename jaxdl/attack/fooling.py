"""Fooling images: noise that a network assigns to a class with certainty."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdl._check import require_key
from jaxdl.attack._arguments import check_bounds
from jaxdl.attack.gradient import Bounds, pgd

__all__ = ["fooling_images"]


def fooling_images(
    f: Callable[[jax.Array], jax.Array],
    labels: ArrayLike,
    shape: Sequence[int],
    *,
    key: jax.Array,
    steps: int = 100,
    step: ArrayLike | None = None,
    bounds: Bounds = (0.0, 1.0),
) -> jax.Array:
    """Computes images without a meaning that f assigns to chosen classes.

    Nguyen et al. 2015 (arXiv 1412.1897), sec. 2.3: gradient ascent from random images. It is `pgd`
    from uniform noise, with `targeted` and an epsilon as large as the bounds are wide. Use
    `interpret.activation_maximization` for images with a prior, which look more like their class.

    Args:
      f: from images (N, *shape) to scores (N, classes), (N,) or (N, 1).
      labels: (N,), the class of each image.
      shape: the shape of one image.
      key: PRNG key of the noise.
      steps: number of steps, >= 1.
      step: change of every value in a step; None for 2.5 / steps of the bounds' width.
      bounds: the smallest and largest valid value, finite: numbers, or arrays that broadcast to
        (N, *shape).

    Returns:
      (N, *shape), the images.

    Raises:
      ValueError: as for `pgd`; or bounds are not finite.
    """
    key = require_key("fooling_images", key)
    low, high = check_bounds("fooling_images", bounds, finite=True)
    if np.ndim(labels) != 1:
        raise ValueError(
            f"fooling_images: labels have shape {np.shape(labels)}; expected (N,), a class for "
            "each image."
        )
    dtype = jnp.result_type(float)
    x = jax.random.uniform(key, (*np.shape(labels), *shape), dtype, low, high)
    return pgd(f, x, labels, high - low, step=step, steps=steps, bounds=bounds, targeted=True)
