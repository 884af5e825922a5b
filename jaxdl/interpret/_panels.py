"""Checks and color scales shared by figures and colored texts."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxdl._check import require_number

RED, BLUE = (200, 16, 46), (31, 95, 174)
"""Colors of positive and negative attributions, in sRGB from 0 to 255."""


def images(caller: str, images: Any, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Returns images as float32: gray (N, H, W), or color (N, H, W, 3) in [0, 1].

    Args:
      caller: the public function's name, for messages.
      images: (N, H, W), (N, H, W, 1) or (N, H, W, 3).
      limits: the values of color images that become 0 and 1; by default 0 and 255 for uint8, and 0
        and 1 for others.

    Raises:
      ValueError: another shape, a value that is not finite, or colors out of range.
    """
    images = real(caller, "images", images)
    low, high = limits or ((0, 255) if images.dtype == np.uint8 else (0, 1))
    images = images.astype(np.float32)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.size == 0 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)):
        raise ValueError(
            f"{caller}: images are {images.shape}; expected (N, H, W) or (N, H, W, C) with C = 1 "
            "or 3. Add a batch axis with image[None]."
        )
    check_finite(caller, "images", images)
    if images.ndim == 3:
        return images
    images = (images - low) / (high - low)
    if limits is None and (images.min() < -1e-3 or images.max() > 1.001):
        raise ValueError(
            f"{caller}: color images go from {images.min():.3g} to {images.max():.3g}; expected "
            "floats from 0 to 1, or uint8. Rescale them."
        )
    return np.clip(images, 0, 1)


def maps(caller: str, maps: Any) -> np.ndarray:
    """Returns attributions as (N, H, W) in float64, summed over channels.

    Raises:
      ValueError: another shape than (N, H, W) or (N, H, W, C), a shape like (N, C, H, W), or a
        value that is not a finite real number.
    """
    maps = real(caller, "maps", maps).astype(np.float64)
    if maps.ndim not in (3, 4) or maps.size == 0:
        raise ValueError(
            f"{caller}: maps are {maps.shape}; expected (N, H, W) or (N, H, W, C). Add a batch "
            "axis with map[None]."
        )
    if maps.ndim == 4 and maps.shape[1] <= 4 < min(maps.shape[2:]):
        raise ValueError(
            f"{caller}: maps are {maps.shape}; expected channels on the last axis. Pass "
            "np.moveaxis(maps, 1, -1) if they are on axis 1, else maps.sum(-1)."
        )
    check_finite(caller, "maps", maps)
    return maps.sum(-1) if maps.ndim == 4 else maps


def real(caller: str, what: str, array: Any) -> np.ndarray:
    """Returns an array of real numbers.

    Raises:
      ValueError: it is complex, ragged, or of strings.
    """
    try:
        array = np.asarray(array)
        if array.dtype.kind not in "cOUSM":
            return array
        kind = str(array.dtype)
    except (TypeError, ValueError):
        kind = type(array).__name__
    raise ValueError(f"{caller}: {what} are {kind}; expected an array of real numbers.")


def limits(caller: str, limits: Any) -> tuple[float, float] | None:
    """Returns the two ends of a scale in order, or None.

    Raises:
      ValueError: they are not two finite numbers, the first below the second.
    """
    if limits is None:
        return None
    if not isinstance(limits, tuple | list | np.ndarray) or np.shape(limits) != (2,):
        raise ValueError(f"{caller}: limits are {limits!r}; expected (low, high), or None.")
    low, high = (number(caller, "a finite number", limits=end) for end in limits)
    if not low < high:
        raise ValueError(f"{caller}: limits are {limits!r}; expected the low one first.")
    return low, high


def number(
    caller: str, expected: str, above: float = -np.inf, most: float = np.inf, **value: Any
) -> Any:
    """Returns a finite number in (above, most], or None.

    Raises:
      ValueError: it is neither.
    """
    if next(iter(value.values())) is None:
        return None
    return require_number(caller, expected, lambda v: above < v <= most, **value)


def names(caller: str, titles: Any, count: int) -> list[str]:
    """Returns one title for each panel, empty ones if `titles` is None.

    Raises:
      ValueError: there are not `count` strings.
    """
    if titles is None:
        return [""] * count
    if isinstance(titles, str) or not np.iterable(titles):
        raise ValueError(f"{caller}: titles are {titles!r}; expected a list of texts.")
    titles = list(titles)
    if len(titles) != count:
        raise ValueError(f"{caller}: {len(titles)} titles for {count} images; expected one each.")
    wrong = [title for title in titles if not isinstance(title, str)]
    if wrong:
        raise ValueError(f"{caller}: a title is {wrong[0]!r}; expected texts. Use str(label).")
    return titles


def check_finite(caller: str, what: str, array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        count, first = np.count_nonzero(~np.isfinite(array)), np.argwhere(~np.isfinite(array))[0]
        raise ValueError(
            f"{caller}: {what} have {count} NaN or infinite values, the first at "
            f"{tuple(map(int, first))}; expected finite numbers."
        )


def scale_end(caller: str, values: np.ndarray, clip: float, limit: float | None) -> float:
    """Returns the absolute value at the end of a scale: a limit, or a percentile.

    If the percentile is 0 (most values are 0), it is the maximum, and 1 if all values are 0.

    Raises:
      ValueError: `clip` is not in (0, 100], or the limit is not positive.
    """
    if clip is None:
        raise ValueError(f"{caller}: clip is None; expected a percentile in (0, 100].")
    clip = number(caller, "a percentile in (0, 100]", 0, 100, clip=clip)
    limit = number(caller, "a number above 0, or None", 0, limit=limit)
    sizes = np.abs(values)
    if limit is not None or sizes.size == 0:
        return limit or 1.0
    return float(np.percentile(sizes, clip) or sizes.max() or 1.0)


def scale(
    caller: str, maps: np.ndarray, clip: float, limit: float | None, scale_each: bool
) -> tuple[np.ndarray, list[bool], float]:
    """Returns the maps, whether each has negative values, and the end of all scales.

    With `scale_each`, each map is divided by the end of its own scale first.

    Raises:
      ValueError: as `scale_end`; or `scale_each` with a limit.
    """
    if not scale_each:
        return maps, [bool((maps < 0).any())] * len(maps), scale_end(caller, maps, clip, limit)
    if limit is not None:
        raise ValueError(
            f"{caller}: limit={limit} and scale_each=True exclude each other, since scale_each "
            "computes a limit for each map. Pass one of the two."
        )
    ends = np.array([scale_end(caller, values, clip, None) for values in maps])
    return maps / ends[:, None, None], [bool((values < 0).any()) for values in maps], 1.0
