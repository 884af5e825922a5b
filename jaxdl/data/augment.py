"""New examples from old ones: keyed pure functions of a batch of images. Lecture row E03.

Each is `(key, images, ...) -> images` with images (N, H, W, C), every image changed in its own way,
the same for the same key; all compile and vmap, and one of them, or a composition, is
`train.fit(..., augment=)`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from jaxdl.nn import _check

__all__ = ["crop", "flip", "noise", "rotate", "rotate_by", "shift"]


def rotate_by(images: jax.Array, degrees: Any) -> jax.Array:
    """Turns each image counter-clockwise about its centre, bilinear, with 0 outside.

    Args:
      images: (N, H, W, C).
      degrees: an angle for all, or (N,) angles.

    Returns:
      (N, H, W, C).

    Raises:
      ValueError: images are not floating-point of four axes.
    """
    _check_images("rotate_by", images)
    n, height, width, _ = images.shape
    turn = jnp.deg2rad(jnp.broadcast_to(jnp.asarray(degrees, images.dtype), (n,)))
    rows = jnp.arange(height, dtype=images.dtype) - (height - 1) / 2
    columns = jnp.arange(width, dtype=images.dtype) - (width - 1) / 2
    i, j = jnp.meshgrid(rows, columns, indexing="ij")

    def one(image, angle):
        sine, cosine = jnp.sin(angle), jnp.cos(angle)
        at = (
            cosine * i + sine * j + (height - 1) / 2,
            cosine * j - sine * i + (width - 1) / 2,
        )
        channel = lambda plane: map_coordinates(plane, at, order=1)  # noqa: E731
        return jax.vmap(channel, in_axes=-1, out_axes=-1)(image)

    return jax.vmap(one)(images, turn)


def rotate(key: jax.Array, images: jax.Array, degrees: float = 15.0) -> jax.Array:
    """Turns each image by a uniform angle in -degrees .. degrees. Lecture row E03.

    Args:
      key: a PRNG key.
      images: (N, H, W, C).
      degrees: the largest angle.

    Returns:
      (N, H, W, C).
    """
    _check_images("rotate", images)
    angles = jax.random.uniform(key, images.shape[:1], images.dtype, -degrees, degrees)
    return rotate_by(images, angles)


def shift(key: jax.Array, images: jax.Array, pixels: int = 1) -> jax.Array:
    """Moves each image by -pixels .. pixels rows and columns, with 0 moving in.

    Args:
      key: a PRNG key.
      images: (N, H, W, C).
      pixels: the largest move, 0 or more.

    Returns:
      (N, H, W, C).
    """
    _check_images("shift", images)
    return crop(key, images, (images.shape[1], images.shape[2]), padding=pixels)


def flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirrors each image left to right with probability one half.

    Args:
      key: a PRNG key.
      images: (N, H, W, C).

    Returns:
      (N, H, W, C).
    """
    _check_images("flip", images)
    mirrored = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


def crop(
    key: jax.Array, images: jax.Array, size: int | tuple[int, int], padding: int = 0
) -> jax.Array:
    """Cuts a window at a random place out of each image, padded with 0 first.

    Args:
      key: a PRNG key.
      images: (N, H, W, C).
      size: the window's height and width, or one number for both.
      padding: zeros added at each edge, 0 or more.

    Returns:
      (N, height, width, C).

    Raises:
      ValueError: images are not floating-point of four axes; the window is larger than the padded
        image.
    """
    _check_images("crop", images)
    n, height, width, channels = images.shape
    window = _check.per_axis("crop", "size", size, 2)
    room = (height + 2 * padding - window[0], width + 2 * padding - window[1])
    if padding < 0 or min(room) < 0:
        raise ValueError(
            f"crop: a window of {window} and padding {padding} for images of {(height, width)}; "
            "expected a window no larger than the padded image."
        )
    edge = (padding, padding)
    padded = jnp.pad(images, ((0, 0), edge, edge, (0, 0)))
    corners = jax.random.randint(key, (n, 2), 0, jnp.array(room) + 1)

    def one(image, corner):
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (*window, channels))

    return jax.vmap(one)(padded, corners)


def noise(key: jax.Array, images: jax.Array, deviation: float = 1.0) -> jax.Array:
    """Adds Gaussian noise to every pixel, without clipping. Lecture rows E02, S23.

    The lecture's noisy test images are those of deviation 1 on pixels in [0, 1].

    Args:
      key: a PRNG key.
      images: (N, H, W, C).
      deviation: the noise's standard deviation, in units of the pixels.

    Returns:
      (N, H, W, C).
    """
    _check_images("noise", images)
    return images + deviation * jax.random.normal(key, images.shape, images.dtype)


def _check_images(what: str, images: jax.Array) -> None:
    _check.floating(what, images)
    if images.ndim != 4:
        raise ValueError(f"{what}: images have shape {images.shape}; expected (N, H, W, C).")
