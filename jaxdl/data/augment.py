"""Data augmentation: pure functions of a key and a batch of images.

Most are `(key, images, ...) -> images` with images (N, H, W, C); every image is changed
independently. `mixup`, `cutmix` and `both` change targets and weights, too:
`(key, images, y, weight) -> (images, y, weight)`. All can be compiled and vmapped, and passed,
alone or composed, to `train.fit(..., augment=)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from jaxdl.nn import _check

__all__ = [
    "both",
    "crop",
    "cutmix",
    "cutout",
    "elastic",
    "flip",
    "mixup",
    "noise",
    "rotate",
    "rotate_by",
    "shift",
]


def rotate_by(images: jax.Array, degrees: Any) -> jax.Array:
    """Rotates each image counter-clockwise about its centre, bilinear, with 0 outside.

    Args:
      images: (N, H, W, C).
      degrees: one angle for all images, or (N,) angles.

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

    def rotate_one(image, angle):
        sine, cosine = jnp.sin(angle), jnp.cos(angle)
        # The inverse rotation: for each pixel of the result the coordinates in the source.
        coordinates = (
            cosine * i + sine * j + (height - 1) / 2,
            cosine * j - sine * i + (width - 1) / 2,
        )

        def rotate_channel(plane):
            return map_coordinates(plane, coordinates, order=1)

        return jax.vmap(rotate_channel, in_axes=-1, out_axes=-1)(image)

    return jax.vmap(rotate_one)(images, turn)


def rotate(key: jax.Array, images: jax.Array, degrees: float = 15.0) -> jax.Array:
    """Rotates each image by a uniformly random angle in -degrees .. degrees.

    Args:
      key: a PRNG key.
      images: (N, H, W, C).
      degrees: largest angle.

    Returns:
      (N, H, W, C).
    """
    _check_images("rotate", images)
    angles = jax.random.uniform(key, images.shape[:1], images.dtype, -degrees, degrees)
    return rotate_by(images, angles)


def shift(key: jax.Array, images: jax.Array, pixels: int = 1) -> jax.Array:
    """Shifts each image by -pixels .. pixels rows and columns, and fills with 0.

    Args:
      key: a PRNG key.
      images: (N, H, W, C).
      pixels: largest shift, 0 or more.

    Returns:
      (N, H, W, C).
    """
    _check_images("shift", images)
    return crop(key, images, (images.shape[1], images.shape[2]), padding=pixels)


def flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirrors each image left to right with probability 1/2.

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
    """Pads each image with 0 and cuts out a window at a random position.

    Args:
      key: a PRNG key.
      images: (N, H, W, C).
      size: height and width of the window, or one number for both.
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

    def crop_one(image, corner):
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (*window, channels))

    return jax.vmap(crop_one)(padded, corners)


def elastic(
    key: jax.Array, images: jax.Array, alpha: float = 34.0, sigma: float = 4.0, order: int = 1
) -> jax.Array:
    """Deforms each image by a smooth random field of displacements.

    Simard et al. 2003 (doi:10.1109/ICDAR.2003.1227801), section 2: the displacements of each pixel
    are uniform in -1 .. 1, smoothed by a Gaussian and multiplied by alpha. The default is theirs,
    for digits of 28x28 pixels. Images are mirrored at their edges, as in U-Net.

    Args:
      key: a PRNG key.
      images: (N, H, W, C).
      alpha: the strength, in pixels. After smoothing, displacements have a standard deviation of
        about alpha / (6.1 sigma).
      sigma: standard deviation of the Gaussian, in pixels, > 0.
      order: 1 interpolates between pixels; 0 takes the nearest one, for labels.

    Returns:
      (N, H, W, C).

    Raises:
      ValueError: images are not floating-point of four axes, or `sigma` is not above 0.
    """
    _check_images("elastic", images)
    if not sigma > 0:
        raise ValueError(f"elastic: sigma is {sigma!r}; expected a number above 0.")
    n, height, width, _ = images.shape
    noise = jax.random.uniform(key, (n, 2, height, width), images.dtype, -1, 1)

    def gaussian(size):
        distance = np.subtract.outer(np.arange(size), np.arange(size))
        return np.exp(-(distance**2) / (2 * sigma**2)) / (sigma * np.sqrt(2 * np.pi))

    # Dense matrices: faster to compile than convolutions by windows of 6 sigma.
    rows, columns = (jnp.asarray(gaussian(size), images.dtype) for size in (height, width))
    field = alpha * rows @ noise @ columns
    grid = jnp.stack(jnp.meshgrid(*map(jnp.arange, (height, width)), indexing="ij"))

    def deform(image, field):
        coordinates = tuple(grid.astype(images.dtype) + field)

        def deform_channel(plane):
            return map_coordinates(plane, coordinates, order=order, mode="mirror")

        return jax.vmap(deform_channel, in_axes=-1, out_axes=-1)(image)

    return jax.vmap(deform)(images, field)


def noise(key: jax.Array, images: jax.Array, deviation: float = 1.0) -> jax.Array:
    """Adds Gaussian noise to every pixel, without clipping.

    Args:
      key: a PRNG key.
      images: (N, H, W, C).
      deviation: standard deviation of the noise, in units of the pixels.

    Returns:
      (N, H, W, C).
    """
    _check_images("noise", images)
    return images + deviation * jax.random.normal(key, images.shape, images.dtype)


def cutout(key: jax.Array, images: jax.Array, size: int | tuple[int, int] = 16) -> jax.Array:
    """Sets a box at a random position of each image to 0.

    DeVries and Taylor 2017 (arXiv 1708.04552), sec. 3.2: the centre is a uniformly random pixel and
    the box is cut at the edges. Subtract the mean of the images before, so that 0 is a mean pixel.

    Args:
      key: a PRNG key.
      images: (N, H, W, C).
      size: height and width of the box, or one number for both; the paper takes 16 of 32 pixels for
        CIFAR-10 and 8 for CIFAR-100.

    Returns:
      (N, H, W, C).

    Raises:
      ValueError: images are not floating-point of four axes; a size is not a positive integer.
    """
    _check_images("cutout", images)
    lengths = _check.per_axis("cutout", "size", size, 2)
    centres = jax.random.randint(key, (len(images), 2), 0, jnp.array(images.shape[1:3]))
    inside = []
    for axis, length in enumerate(lengths):
        first = centres[:, axis, None] - length // 2
        places = jnp.arange(images.shape[1 + axis], dtype=first.dtype)
        inside.append((places >= first) & (places < first + length))
    box = inside[0][:, :, None, None] & inside[1][:, None, :, None]
    return jnp.where(box, 0, images)


def mixup(
    key: jax.Array,
    x: jax.Array,
    y: jax.Array,
    weight: jax.Array | None = None,
    *,
    num_classes: int | None = None,
    alpha: float = 0.2,
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Mixes examples: l x + (1 - l) x' and l y + (1 - l) y' with l from Beta(alpha, alpha).

    Zhang et al. 2018 (arXiv 1710.09412), algorithm 1: one l for the batch, and a permutation of it
    as partners. With weights, targets are mixed in the proportion l w : (1 - l) w', so that an
    example of weight 0 contributes no target. Pass `functools.partial(mixup, num_classes=10)` as
    `fit(augment=)`.

    Args:
      key: a PRNG key.
      x: (N, ...) floating-point.
      y: (N, ...) targets as rows of probabilities or numbers, or integer classes (N,).
      weight: (N,), or None.
      num_classes: number of classes, for integer y.
      alpha: > 0; small values mix little.

    Returns:
      Mixed x, y and weight; integer classes become rows (N, num_classes).

    Raises:
      ValueError: x is not floating-point; y is integer and `num_classes` is None; `weight`
        is not (N,).
    """
    _check.floating("mixup", x)
    share, partner = _mix("mixup", key, len(x), alpha)
    mixed = share.astype(x.dtype) * x + (1 - share).astype(x.dtype) * x[partner]
    return mixed, *_mix_targets("mixup", y, weight, num_classes, share, partner)


def cutmix(
    key: jax.Array,
    images: jax.Array,
    y: jax.Array,
    weight: jax.Array | None = None,
    *,
    num_classes: int | None = None,
    alpha: float = 1.0,
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Pastes a box of another image into each image, and mixes the targets by area.

    Yun et al. 2019 (arXiv 1905.04899), sec. 3.1: the box covers 1 - l of the image's area, l from
    Beta(alpha, alpha), and has a uniformly random centre; it is cut at the edges.

    Args:
      key: a PRNG key.
      images: (N, H, W, C).
      y: as for `mixup`.
      weight: as for `mixup`.
      num_classes: as for `mixup`.
      alpha: as for `mixup`.

    Returns:
      Mixed images, y and weight; integer classes become rows (N, num_classes).

    Raises:
      ValueError: see `mixup`.
    """
    _check_images("cutmix", images)
    key, centre_key = jax.random.split(key)
    share, partner = _mix("cutmix", key, len(images), alpha)
    inside = []
    for size, uniform in zip(images.shape[1:3], jax.random.uniform(centre_key, (2,)), strict=True):
        centre, half = jnp.floor(uniform * size), jnp.round(size * jnp.sqrt(1 - share)) / 2
        places = jnp.arange(size, dtype=jnp.float32)
        inside.append((places >= jnp.floor(centre - half)) & (places < jnp.floor(centre + half)))
    box = inside[0][:, None, None] & inside[1][:, None]
    # The real area, not l: the box is rounded to pixels and cut at the edges.
    share = 1 - jnp.mean(box, dtype=jnp.float32)
    mixed = jnp.where(box, images[partner], images)
    return mixed, *_mix_targets("cutmix", y, weight, num_classes, share, partner)


def both(
    augment: Callable[[jax.Array, jax.Array], jax.Array],
    augment_masks: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
) -> Callable:
    """Returns an augmentation that moves images, masks and weights in the same way.

    Args:
      augment: moves whole pixels, such as `flip`, `crop` and `shift`. Masks and weights are
        (N, H, W) or (N, H, W, C), integer or floating-point, and get the same key; pixels from
        outside the image are 0. Weights of whole images, (N,), are unchanged.
      augment_masks: moves masks and weights, where `augment` interpolates between pixels:
        `both(elastic, partial(elastic, order=0))`. The default is `augment`.

    Returns:
      `(key, images, masks, weight) -> (images, masks, weight)`.
    """

    move_mask = augment if augment_masks is None else augment_masks

    def move(key, images, masks, weight=None):
        def move_alike(planes):
            last = planes[..., None] if planes.ndim == 3 else planes
            # Cloned, for JAX's key-reuse checker: here the key is used more than once on purpose.
            moved = move_mask(jax.random.clone(key), last.astype(jnp.float32)).astype(planes.dtype)
            return moved[..., 0] if planes.ndim == 3 else moved

        if weight is not None and weight.ndim > 2:
            weight = move_alike(weight)
        return augment(jax.random.clone(key), images), move_alike(masks), weight

    return move


def _mix(what: str, key: jax.Array, n: int, alpha: float) -> tuple[jax.Array, jax.Array]:
    if not alpha > 0:
        raise ValueError(f"{what}: alpha is {alpha!r}; expected a number above 0.")
    share_key, partner_key = jax.random.split(key)
    return jax.random.beta(share_key, alpha, alpha), jax.random.permutation(partner_key, n)


def _mix_targets(
    what: str,
    y: jax.Array,
    weight: jax.Array | None,
    num_classes: int | None,
    share: jax.Array,
    partner: jax.Array,
) -> tuple[jax.Array, jax.Array | None]:
    """Mixes targets and weights with those of the partners, in the proportion of the share."""
    y = _as_rows(what, y, num_classes)
    if weight is None:
        own, other, total = share, 1 - share, None
    else:
        if weight.ndim != 1:
            raise ValueError(
                f"{what}: weight is {weight.dtype}{list(weight.shape)}; expected one per example, "
                "(N,)."
            )
        weight = weight.astype(jnp.float32)
        own, other = share * weight, (1 - share) * weight[partner]
        total = own + other
        scale = jnp.where(total == 0, 1, total)  # no 0 / 0 where both weights are 0
        own, other = ((part / scale).reshape(-1, *[1] * (y.ndim - 1)) for part in (own, other))
    return own.astype(y.dtype) * y + other.astype(y.dtype) * y[partner], total


def _as_rows(what: str, y: jax.Array, num_classes: int | None) -> jax.Array:
    if jnp.issubdtype(y.dtype, jnp.floating):
        return y
    if num_classes is None:
        raise ValueError(
            f"{what}: y is {y.dtype}{list(y.shape)} and num_classes None; expected the number of "
            f"classes, functools.partial({what}, num_classes=10), or targets as rows."
        )
    return jax.nn.one_hot(y, num_classes)


def _check_images(what: str, images: jax.Array) -> None:
    _check.floating(what, images)
    if images.ndim != 4:
        raise ValueError(f"{what}: images have shape {images.shape}; expected (N, H, W, C).")
