"""Superpixels: features of an image that follow its edges."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl._check import require_ints
from jaxdl._optional import extra

__all__ = ["superpixels"]


def superpixels(images: jax.Array, count: int = 50, *, compactness: float = 10.0) -> jax.Array:
    """Segments images into patches of similar size and uniform color, as a mask.

    SLIC, Achanta et al. 2012 (doi:10.1109/TPAMI.2012.120), by scikit-image, an optional dependency:
    `pip install 'jaxdl[superpixels]'`. Each image is scaled to [0, 1] from its minimum and maximum,
    so that normalized images can be passed directly. Not for use under `jit`.

    Args:
      images: (N, H, W, 1) or (N, H, W, 3).
      count: approximate number of patches of an image.
      compactness: the weight of distance against color, above 0; larger values give squarer
        patches.

    Returns:
      (N, H, W, 1) int32, numbers from 0 in every image: the `mask` of `ablation`, `lime`,
      `kernel_shap` and others.

    Raises:
      ImportError: scikit-image is not installed.
      ValueError: the images have another shape or values that are not finite; count is below 1; or
        compactness is not above 0.
    """
    pixels = np.asarray(images, np.float32)
    if pixels.ndim != 4 or pixels.shape[-1] not in (1, 3) or not np.isfinite(pixels).all():
        raise ValueError(
            f"superpixels: images have shape {pixels.shape}; expected (N, H, W, 1) or (N, H, W, 3) "
            "of finite values: images[None] makes a batch of one."
        )
    (count,) = require_ints("superpixels", 1, count=count)
    if not compactness > 0:
        raise ValueError(f"superpixels: compactness is {compactness}; expected a number above 0.")
    with extra("superpixels", "superpixels"):
        from skimage.segmentation import slic
    low = pixels.min((1, 2, 3), keepdims=True, initial=np.inf)
    high = pixels.max((1, 2, 3), keepdims=True, initial=-np.inf)
    pixels = (pixels - low) / np.where(high > low, high - low, 1)
    if pixels.shape[-1] == 1:
        pixels *= 100  # the scale of lightness in CIELAB, in which scikit-image compares colors
    masks = [
        slic(image, n_segments=count, compactness=compactness, start_label=0, channel_axis=-1)
        for image in pixels
    ]
    return jnp.asarray(np.array(masks, np.int32).reshape(*pixels.shape[:3], 1))
