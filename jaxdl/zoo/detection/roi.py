"""Regions of interest: RoI pooling and RoI align, with fixed shapes.

    RoI pool    y[p, q] = max of the cells of bin (p, q)         Girshick 2015, arXiv 1504.08083
    RoI align   y[p, q] = mean of S x S bilinear samples in it   He et al. 2017, arXiv 1703.06870

A region is a box in the coordinates of the image; `scale` is the size of the map divided by that of
the image. RoI pool rounds the box and its bins to cells of the map; RoI align rounds nothing.
Shapes: H, W and C of a feature map, R regions, P x P bins.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdl._check import require_ints

__all__ = ["pyramid_roi_align", "roi_align", "roi_pool"]


def roi_pool(features: jax.Array, rois: jax.Array, *, size: int, scale: float = 1.0) -> jax.Array:
    """Pools the maximum of each of the P x P bins of regions.

    Args:
      features: (H, W, C) map of one image.
      rois: (R, 4) boxes.
      size: P.
      scale: the size of the map divided by that of the image.

    Returns:
      (R, P, P, C); 0 for bins outside of the map. A NaN of the map stays NaN.

    Raises:
      ValueError: the shapes do not fit, or `size` is below 1.
    """
    (size,) = require_ints("roi_pool", 1, size=size)
    _check_regions("roi_pool", features, rois)
    corners = jnp.floor(rois * scale + 0.5).astype(jnp.int32)

    def cells(low, high, length):
        """Returns which cells (length,) belong to each bin: (P, length)."""
        width = jnp.maximum(high - low + 1, 1)
        # In integers: in float32 7 (n / 7) > n for some n, and the last bin would be too large.
        first = jnp.arange(size) * width // size + low
        last = -(-(jnp.arange(size) + 1) * width // size) + low
        cell = jnp.arange(length)
        return (cell >= first[:, None]) & (cell < last[:, None])

    def pool(box):
        rows = cells(box[1], box[3], features.shape[0])
        columns = cells(box[0], box[2], features.shape[1])
        strips = jnp.max(jnp.where(rows[:, :, None, None], features, -jnp.inf), axis=1)
        bins = jnp.max(jnp.where(columns[:, :, None], strips[:, None], -jnp.inf), axis=2)
        # By the cells of a bin, not by its value: a NaN of the map must not become 0.
        filled = rows.any(1)[:, None] & columns.any(1)
        return jnp.where(filled[:, :, None], bins, 0)

    # One region at a time: the masked copies of the map take P times its memory.
    return lax.map(pool, corners)


def roi_align(
    features: jax.Array,
    rois: jax.Array,
    *,
    size: int,
    scale: float = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = True,
) -> jax.Array:
    """Averages bilinear samples of each of the P x P bins of regions.

    Args:
      features: (H, W, C) map of one image.
      rois: (R, 4) boxes.
      size: P.
      scale: the size of the map divided by that of the image.
      sampling_ratio: S, the samples along each axis of a bin. Shapes are fixed, so that the number
        cannot depend on the region, as it does in torchvision with -1.
      aligned: whether the values of a map are those at the centres of its cells. False, as in
        torchvision's Faster R-CNN, for their corners, and regions of at least one cell.

    Returns:
      (R, P, P, C), differentiable with respect to the map and the regions.

    Raises:
      ValueError: the shapes do not fit, or `size` or `sampling_ratio` is below 1.
    """
    levels = jnp.zeros(len(rois), jnp.int32)
    options = dict(size=size, sampling_ratio=sampling_ratio, aligned=aligned)
    return _align([features], rois, levels, [scale], **options)


def pyramid_roi_align(
    maps: Sequence[jax.Array],
    rois: jax.Array,
    scales: Sequence[float],
    *,
    size: int,
    canonical_size: float = 224,
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> jax.Array:
    """Applies RoI align to the level of a pyramid that fits the size of each region.

    Lin et al. 2017, arXiv 1612.03144, eq. 1: a region of area a belongs to the level of stride
    2^k, k = floor(4 + log2(sqrt(a) / canonical_size)), or else to the nearest level.

    Args:
      maps: (H, W, C) maps of one image, finest first.
      rois: (R, 4) boxes.
      scales: of each map, the powers of two 1 / stride.
      size, sampling_ratio, aligned: as for `roi_align`.
      canonical_size: the width of a square region of the level with stride 16.

    Returns:
      (R, P, P, C).

    Raises:
      ValueError: as for `roi_align`.
    """
    finest, coarsest = (round(-np.log2(scale)) for scale in (scales[0], scales[-1]))
    sides = jnp.maximum(rois[:, 2:] - rois[:, :2], 0)
    # 1e-6 as in torchvision, so that rounding does not move a canonical region down a level.
    level = jnp.floor(4 + jnp.log2(jnp.sqrt(jnp.prod(sides, -1)) / canonical_size + 1e-6))
    level = jnp.clip(level, finest, coarsest).astype(jnp.int32) - finest
    options = dict(size=size, sampling_ratio=sampling_ratio, aligned=aligned)
    return _align(maps, rois, level, scales, **options)


def _align(maps, rois, levels, scales, *, size, sampling_ratio, aligned):
    """Samples each region from one of several maps, which are joined into one list of cells."""
    size, ratio = require_ints("roi_align", 1, size=size, sampling_ratio=sampling_ratio)
    for features in maps:
        _check_regions("roi_align", features, rois)
    heights, widths = np.array([features.shape[:2] for features in maps], np.int32).T
    starts = np.cumsum([0, *heights * widths])[:-1].astype(np.int32)
    cells = jnp.concatenate([features.reshape(-1, features.shape[-1]) for features in maps])
    height, width, start = (
        jnp.asarray(part)[levels][:, None] for part in (heights, widths, starts)
    )
    scale = jnp.asarray(np.array(scales, rois.dtype))[levels][:, None]

    corners = rois * scale - (0.5 if aligned else 0.0)
    low, sides = corners[:, :2], corners[:, 2:] - corners[:, :2]
    if not aligned:
        sides = jnp.maximum(sides, 1)
    steps = ((np.arange(size * ratio) + 0.5) / (size * ratio)).astype(rois.dtype)
    x = _interpolate(low[:, :1] + sides[:, :1] * steps, width)
    y = _interpolate(low[:, 1:] + sides[:, 1:] * steps, height)
    samples = jnp.zeros((), cells.dtype)
    for row, row_weight in y:
        for column, column_weight in x:
            cell = start[:, :, None] + row[:, :, None] * width[:, :, None] + column[:, None]
            weight = row_weight[:, :, None] * column_weight[:, None]
            samples += cells[cell] * weight[..., None].astype(cells.dtype)
    return samples.reshape(-1, size, ratio, size, ratio, cells.shape[-1]).mean((2, 4))


def _interpolate(position, length):
    """Returns both neighbours of positions (R, S) and their weights, on an axis of cells.

    Positions up to one cell outside have the value of the border, others the value 0.
    """
    length = length.astype(position.dtype)
    inside = (position >= -1) & (position <= length)
    position = jnp.clip(position, 0, length - 1)
    low = jnp.floor(position)
    fraction = position - lax.stop_gradient(low)
    first, second = (a.astype(jnp.int32) for a in (low, jnp.minimum(low + 1, length - 1)))
    fraction = jnp.stack([1 - fraction, fraction]) * inside.astype(fraction.dtype)
    return (first, fraction[0]), (second, fraction[1])


def _check_regions(what: str, features: jax.Array, rois: jax.Array) -> None:
    if features.ndim != 3 or rois.ndim != 2 or rois.shape[1] != 4:
        raise ValueError(
            f"{what}: features {features.shape} and rois {rois.shape}; expected (H, W, C) and "
            "(R, 4) of one image. Use jax.vmap for several images."
        )
