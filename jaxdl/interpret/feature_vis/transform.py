"""Random transformations of images, against which a visualization should be robust.

Each function returns a transformation `(key, images) -> images`, from (N, H, W, C) to (N, H', W',
C), with a size that does not depend on the key. Every image is transformed independently. `chain`
composes them, and any function of this form can be one of them.

Without transformations, gradient ascent produces high-frequency patterns that only one pixel
position and scale of the network reacts to. Olah et al. 2017 (doi:10.23915/distill.00007), section
"Transformation Robustness".
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxdl._check import require_ints, require_number
from jaxdl.data import augment
from jaxdl.interpret.feature_vis._resample import (
    Transform,
    blur,
    random_crop,
    resize,
    rotate,
    scale,
)

__all__ = [
    "blur",
    "chain",
    "jitter",
    "noise",
    "pad",
    "random_crop",
    "resize",
    "roll",
    "rotate",
    "scale",
    "standard",
]


def chain(*transforms: Transform) -> Transform:
    """Returns the transformation that applies others in turn, each with its own key.

    Args:
      *transforms: functions `(key, images) -> images`.

    Returns:
      The composition; of no transformation, the identity.
    """

    def apply(key, images):
        for i, transform in enumerate(transforms):
            images = transform(jax.random.fold_in(key, i), images)
        return images

    return apply


def standard(fill: float = 0.5) -> Transform:
    """Returns Lucid's transformations: padding, jitter, scaling, rotation, jitter.

    Args:
      fill: value of the padding: the middle of the image's bounds.

    Returns:
      A transformation whose images have 12 pixels more in each direction. For a network that takes
      one size only, append `resize`: `chain(standard(), resize((224, 224)))`.
    """
    return chain(
        pad(12, fill),
        jitter(8),
        scale([1 + (i - 5) / 50 for i in range(11)]),
        rotate([*range(-10, 11), *(0,) * 5]),
        jitter(4),
    )


def pad(pixels: int, fill: float | None = None) -> Transform:
    """Returns the transformation that adds a border.

    Args:
      pixels: width of the border at each edge, 0 or more.
      fill: value of the border; None repeats the pixels at the edge.

    Returns:
      A transformation to (N, H + 2 pixels, W + 2 pixels, C).

    Raises:
      ValueError: `pixels` is not an integer of at least 0.
    """
    (pixels,) = require_ints("pad", 0, pixels=pixels)
    edges = ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0))

    def apply(key, images):
        if fill is None:
            return jnp.pad(images, edges, mode="edge")
        return jnp.pad(images, edges, constant_values=jnp.asarray(fill, images.dtype))

    return apply


def jitter(pixels: int) -> Transform:
    """Returns the transformation that cuts out a window at a random position.

    Args:
      pixels: the pixels that are lost along each axis, 0 or more: the range of the position.

    Returns:
      A transformation to (N, H - pixels, W - pixels, C).

    Raises:
      ValueError: `pixels` is not an integer of at least 0; or, when applied, not smaller than the
        image.
    """
    (pixels,) = require_ints("jitter", 0, pixels=pixels)

    def apply(key, images):
        _, height, width, _ = images.shape
        if pixels >= min(height, width):
            raise ValueError(
                f"jitter: pixels is {pixels} for images of {(height, width)}; expected a number "
                "below both sizes."
            )
        return augment.crop(key, images, (height - pixels, width - pixels))

    return apply


def roll(pixels: int) -> Transform:
    """Returns the transformation that shifts cyclically by a random number of pixels.

    Args:
      pixels: largest shift along each axis and in each direction, 0 or more.

    Returns:
      A transformation that keeps the shape.

    Raises:
      ValueError: `pixels` is not an integer of at least 0.
    """
    (pixels,) = require_ints("roll", 0, pixels=pixels)

    def apply(key, images):
        shifts = jax.random.randint(key, (len(images), 2), -pixels, pixels + 1)
        return jax.vmap(lambda image, shift: jnp.roll(image, shift, axis=(0, 1)))(images, shifts)

    return apply


def noise(sd: float) -> Transform:
    """Returns the transformation that adds Gaussian noise.

    Args:
      sd: standard deviation of the noise, in units of the pixels, 0 or more.

    Returns:
      A transformation that keeps the shape.

    Raises:
      ValueError: `sd` is negative.
    """
    sd = require_number("noise", "a number of 0 or more", lambda v: v >= 0, sd=sd)
    return lambda key, images: augment.noise(key, images, sd)
