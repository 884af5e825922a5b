"""What figures and coloured texts share: checked arrays and the scale of attributions."""

from __future__ import annotations

from typing import Any

import numpy as np

RED, BLUE = (200, 16, 46), (31, 95, 174)
"""Colours of positive and negative attributions, in sRGB from 0 to 255."""


def images(caller: str, images: Any, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Returns images as float32: grey ones (N, H, W) as they are, colour (N, H, W, 3) in [0, 1].

    Args:
      caller: the public function's name, for messages.
      images: (N, H, W), (N, H, W, 1) or (N, H, W, 3).
      limits: the values of colour images that become 0 and 1; by default 0 and 255 for uint8, and
        0 and 1 for others.

    Raises:
      ValueError: another shape, a value that is not finite, or colours out of range.
    """
    images = np.asarray(images)
    low, high = limits or ((0, 255) if images.dtype == np.uint8 else (0, 1))
    images = images.astype(np.float32)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.size == 0 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)):
        raise ValueError(
            f"{caller}: images are {images.shape}; expected (N, H, W) or (N, H, W, C) with C = 1 "
            "or 3: add a batch axis with image[None]."
        )
    check_finite(caller, "images", images)
    if images.ndim == 3:
        return images
    images = (images - low) / (high - low)
    if limits is None and (images.min() < -1e-3 or images.max() > 1.001):
        raise ValueError(
            f"{caller}: colour images go from {images.min():.3g} to {images.max():.3g}; expected "
            "floats from 0 to 1, or uint8. Rescale them."
        )
    return np.clip(images, 0, 1)


def maps(caller: str, maps: Any) -> np.ndarray:
    """Returns attributions as (N, H, W) in float64, summed over channels.

    Raises:
      ValueError: another shape than (N, H, W) or (N, H, W, C), or a value that is not finite.
    """
    maps = np.asarray(maps).astype(np.float64)
    if maps.ndim not in (3, 4) or maps.size == 0:
        raise ValueError(
            f"{caller}: maps are {maps.shape}; expected (N, H, W) or (N, H, W, C): add a batch "
            "axis with map[None]."
        )
    check_finite(caller, "maps", maps)
    return maps.sum(-1) if maps.ndim == 4 else maps


def check_finite(caller: str, what: str, array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        count, first = np.count_nonzero(~np.isfinite(array)), np.argwhere(~np.isfinite(array))[0]
        raise ValueError(
            f"{caller}: {what} have {count} NaN or infinite values, the first at "
            f"{tuple(map(int, first))}; expected finite numbers."
        )


def scale_end(caller: str, values: np.ndarray, clip: float, limit: float | None) -> float:
    """Returns the size of value at the end of a scale: a limit, or a percentile of the sizes.

    Where the percentile is 0 (most values are 0), it is the greatest size, and 1 if all are 0.

    Raises:
      ValueError: `clip` is not in (0, 100], or the limit is not positive.
    """
    if not 0 < clip <= 100 or not (limit is None or 0 < limit < np.inf):
        raise ValueError(
            f"{caller}: clip is {clip} and limit {limit}; expected a percentile in (0, 100] and a "
            "limit above 0, or None."
        )
    sizes = np.abs(values)
    if limit is not None or sizes.size == 0:
        return limit or 1.0
    return float(np.percentile(sizes, clip) or sizes.max() or 1.0)


def scale(
    caller: str, maps: np.ndarray, clip: float, limit: float | None, own: bool
) -> tuple[np.ndarray, list[bool], float]:
    """Returns the maps, whether each one's scale goes below 0, and the end of all scales.

    With `own`, each map is divided by the end of its own scale first.

    Raises:
      ValueError: as `scale_end`; or `own` with a limit.
    """
    if not own:
        return maps, [bool((maps < 0).any())] * len(maps), scale_end(caller, maps, clip, limit)
    if limit is not None:
        raise ValueError(
            f"{caller}: limit={limit} was passed with own=True, which gives each map a limit of "
            "its own; pass one of the two."
        )
    ends = np.array([scale_end(caller, values, clip, None) for values in maps])
    return maps / ends[:, None, None], [bool((values < 0).any()) for values in maps], 1.0
