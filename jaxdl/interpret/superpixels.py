"""Superpixels: features of an image that follow its edges."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl._optional import extra
from jaxdl.interpret import _input

__all__ = ["superpixels"]


def superpixels(images: jax.Array, count: int = 50, *, compactness: float = 10.0) -> jax.Array:
    """Patches of about one size and of one colour each, as a mask of what belongs together.

    Achanta et al. 2012 (doi:10.1109/TPAMI.2012.120), by scikit-image, which is not a dependency:
    `pip install 'jaxdl[superpixels]'`. An image's range is taken from its own darkest to its own
    brightest value, so that normalized images serve as they are. Not for use under `jit`.

    Args:
      images: (N, H, W, 1) or (N, H, W, 3).
      count: about how many patches an image is cut into.
      compactness: the weight of nearness beside that of colour, above 0; the larger, the squarer.

    Returns:
      (N, H, W, 1) int32, numbers from 0 in every image: the `mask` of `ablation`, `lime`,
      `kernel_shap` and their like.

    Raises:
      ImportError: scikit-image is not installed.
      ValueError: the images have another shape or values that are not finite; count is below 1, or
        compactness not above 0.
    """
    pixels = np.asarray(images, np.float32)
    if pixels.ndim != 4 or pixels.shape[-1] not in (1, 3) or not np.isfinite(pixels).all():
        raise ValueError(
            f"superpixels: images have shape {pixels.shape}; expected (N, H, W, 1) or (N, H, W, 3) "
            "of finite values: images[None] makes a batch of one."
        )
    (count,) = _input.at_least("superpixels", 1, count=count)
    if not compactness > 0:
        raise ValueError(f"superpixels: compactness is {compactness}; expected a number above 0.")
    with extra("superpixels", "superpixels"):
        from skimage.segmentation import slic
    low = pixels.min((1, 2, 3), keepdims=True, initial=np.inf)
    high = pixels.max((1, 2, 3), keepdims=True, initial=-np.inf)
    pixels = (pixels - low) / np.where(high > low, high - low, 1)
    if pixels.shape[-1] == 1:
        pixels *= 100  # the scale of lightness, which scikit-image compares colours by
    masks = [
        slic(image, n_segments=count, compactness=compactness, start_label=0, channel_axis=-1)
        for image in pixels
    ]
    return jnp.asarray(np.array(masks, np.int32).reshape(*pixels.shape[:3], 1))
