"""Decorrelated colors: the square root of the covariance of the channels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

__all__ = ["color_matrix"]

IMAGENET = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
"""Square root of the covariance of colors in ImageNet, from Olah et al. 2017 (Lucid)."""


def color_matrix(images: jax.Array | np.ndarray) -> jax.Array:
    """Returns a square root M of the covariance of the channels, M M^T = c cov.

    Uncorrelated values u become colors M u with the covariance of the images. The columns are the
    principal axes, in decreasing order; c scales the longest column to length 1.

    Args:
      images: (N, *space, C), floating-point.

    Returns:
      (C, C).

    Raises:
      ValueError: the images have no channel axis, are not floating-point, or are all of one color.
    """
    images = jnp.asarray(images)
    if images.ndim < 2 or not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"color_matrix: images are {images.dtype}{list(images.shape)}; expected floating-point "
            "(N, *space, C)."
        )
    colors = images.reshape(-1, images.shape[-1])
    colors = colors - jnp.mean(colors, axis=0)
    variances, axes = jnp.linalg.eigh(colors.T @ colors / len(colors))
    variances, axes = jnp.maximum(variances[::-1], 0), axes[:, ::-1]
    if not isinstance(variances, Tracer) and not variances[0] > 0:
        raise ValueError("color_matrix: all pixels have one color; expected images that vary.")
    return axes * jnp.sqrt(variances / variances[0])


def as_color_matrix(
    caller: str, decorrelate: bool | jax.Array | np.ndarray, channels: int
) -> jax.Array | None:
    """Returns the matrix (C, C) that correlates colors, or None for none.

    Args:
      caller: the public function's name, for messages.
      decorrelate: True for ImageNet's if there are three channels and none otherwise, False for
        none, or a matrix.
      channels: C.

    Raises:
      ValueError: the matrix has another shape.
    """
    if isinstance(decorrelate, bool):
        if not decorrelate or channels != 3:
            return None
        return jnp.asarray(IMAGENET / np.linalg.norm(IMAGENET, axis=0).max(), float)
    if np.shape(decorrelate) != (channels, channels):
        raise ValueError(
            f"{caller}: decorrelate has shape {np.shape(decorrelate)}; expected True, False or a "
            f"matrix ({channels}, {channels}), such as color_matrix(images)."
        )
    return jnp.asarray(decorrelate)
