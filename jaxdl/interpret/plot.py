"""Grids of images and attributions, with one colour scale for all, so that they can be compared.

Every function returns a `matplotlib.figure.Figure`, which a notebook shows and
`figure.savefig("name.png")` writes; no window is opened and no global state is touched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["heat_map", "image_grid", "overlay"]


def image_grid(
    images: Any,
    *,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    limits: tuple[float, float] | None = None,
    cmap: str = "gray",
    label: str | None = None,
    size: float = 1.1,
) -> Figure:
    """Images side by side, all on one grey or colour scale.

    Args:
      images: (N, H, W) or (N, H, W, C) with C = 1 or 3.
      titles: N short texts, one above each.
      columns: images in a row; at most 10 by default.
      limits: the values that are black and white; the least and the greatest of all by default.
        Images of three channels show values from 0 to 1 as they are.
      cmap: matplotlib's name of the colour map.
      label: what the values are, with their unit; adds a colour bar.
      size: width of one image in inches.

    Returns:
      The figure.

    Raises:
      ValueError: another shape; or not one title for each image.
    """
    images = _squeezed("image_grid", images, channels=(1, 3))
    low, high = (float(images.min()), float(images.max())) if limits is None else limits
    figure, axes = _panels("image_grid", len(images), titles, columns, size)
    for ax, image in zip(axes, images, strict=True):
        shown = ax.imshow(image, cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
    if label is not None:
        figure.colorbar(shown, ax=axes, label=label, shrink=0.8, aspect=30)
    return figure


def heat_map(
    maps: Any,
    *,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    limit: float | None = None,
    label: str | None = None,
    size: float = 1.1,
) -> Figure:
    """Attributions side by side, all on one scale with zero at its end or in its middle.

    Maps with a negative value get a diverging scale with white at 0, all others one from 0 up.

    Args:
      maps: (N, H, W) or (N, H, W, C); channels are added up.
      titles, columns, label, size: as for `image_grid`.
      limit: the size of value at the end of the scale; the greatest of all by default.

    Returns:
      The figure.

    Raises:
      ValueError: as for `image_grid`.
    """
    maps = _summed("heat_map", maps)
    signed, limit = _scale(maps, limit)
    return image_grid(
        maps,
        titles=titles,
        columns=columns,
        limits=(-limit if signed else 0.0, limit),
        cmap="RdBu_r" if signed else "magma",
        label=label,
        size=size,
    )


def overlay(
    images: Any,
    maps: Any,
    *,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    limit: float | None = None,
    label: str | None = None,
    size: float = 1.1,
) -> Figure:
    """Attributions over pale grey images: the colour is the value, and nothing is drawn at 0.

    Args:
      images: (N, H, W), (N, H, W, 1) or (N, H, W, 3).
      maps: (N, H, W) or (N, H, W, C); channels are added up.
      titles, columns, label, size: as for `image_grid`.
      limit: as for `heat_map`.

    Returns:
      The figure.

    Raises:
      ValueError: images and maps differ in number or size; and as for `image_grid`.
    """
    images = _squeezed("overlay", images, channels=(1, 3))
    maps = _summed("overlay", maps)
    if images.shape[:3] != maps.shape:
        raise ValueError(
            f"overlay: images are {images.shape} and maps {maps.shape}; expected one map of the "
            "same height and width for each image."
        )
    signed, limit = _scale(maps, limit)
    grey = images.mean(-1) if images.ndim == 4 else images
    figure, axes = _panels("overlay", len(images), titles, columns, size)
    for ax, image, values in zip(axes, grey, maps, strict=True):
        ax.imshow(image, cmap="gray_r", vmin=0, vmax=2.5 * max(float(grey.max()), 1e-12))
        shown = ax.imshow(
            values,
            cmap="RdBu_r" if signed else "YlOrRd",
            vmin=-limit if signed else 0.0,
            vmax=limit,
            alpha=np.clip(np.abs(values) / limit, 0, 1) ** 0.7,
            interpolation="nearest",
        )
    if label is not None:
        figure.colorbar(shown, ax=axes, label=label, shrink=0.8, aspect=30)
    return figure


def _squeezed(caller, images, channels):
    images = np.asarray(images, np.float32)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim != 3 and not (images.ndim == 4 and images.shape[3] in channels):
        raise ValueError(
            f"{caller}: images are {images.shape}; expected (N, H, W) or (N, H, W, C) with C in "
            f"{channels}: add a batch axis with image[None]."
        )
    return images


def _summed(caller, maps):
    maps = np.asarray(maps, np.float32)
    if maps.ndim not in (3, 4):
        raise ValueError(f"{caller}: maps are {maps.shape}; expected (N, H, W) or (N, H, W, C).")
    return maps.sum(-1) if maps.ndim == 4 else maps


def _scale(maps, limit):
    """Whether the maps have a sign, and the end of their scale; maps of zeros have one too."""
    return bool((maps < 0).any()), limit or float(np.abs(maps).max()) or 1.0


def _panels(caller, n, titles, columns, size):
    from matplotlib.figure import Figure

    if titles is not None and len(titles) != n:
        raise ValueError(f"{caller}: {len(titles)} titles for {n} images; expected one for each.")
    columns = min(n, columns or 10)
    rows = math.ceil(n / columns)
    height = size * (1.25 if titles else 1.05)
    figure = Figure(figsize=(columns * size + 0.8, rows * height), layout="constrained", dpi=150)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes:
        ax.set_axis_off()
    for ax, title in zip(axes, titles or [], strict=False):
        ax.set_title(title, fontsize=8, pad=3)
    return figure, axes[:n]
