"""Grids of images and attributions, with one colour scale for all, so that they can be compared.

Every function returns a `matplotlib.figure.Figure`, which a notebook shows and
`figure.savefig("name.png")` writes; no window is opened and no global state is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdl.interpret import _panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["heat_map", "image_grid", "overlay", "reveal", "signals"]

RED, BLUE = "#c8102e", "#1f5fae"


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
    images = _panels.images("image_grid", images)
    low, high = (float(images.min()), float(images.max())) if limits is None else limits
    figure, axes = _panels.panels("image_grid", len(images), titles, columns, size)
    for (ax,), image in zip(axes, images, strict=True):
        shown = ax.imshow(image, cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
    if label is not None:
        _panels.colour_bar(figure, shown, axes, label)
    return figure


def heat_map(
    maps: Any,
    *,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    limit: float | None = None,
    own: bool = False,
    label: str | None = None,
    size: float = 1.1,
) -> Figure:
    """Attributions side by side, all on one scale with zero at its end or in its middle.

    Maps with a negative value get a diverging scale with white at 0, all others one from 0 up.

    Args:
      maps: (N, H, W) or (N, H, W, C); channels are added up.
      titles, columns, label, size: as for `image_grid`.
      limit: the size of value at the end of the scale; the greatest of all by default.
      own: whether each map is divided by its own greatest size first; then colours say nothing of
        one map against another.

    Returns:
      The figure.

    Raises:
      ValueError: as for `image_grid`.
    """
    maps = _panels.summed("heat_map", maps)
    if own:
        greatest = np.abs(maps).max((1, 2), keepdims=True)
        maps = maps / np.where(greatest == 0, 1, greatest)
    signed, limit = _panels.scale(maps, limit)
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
    cmap: str = "gray",
    label: str | None = None,
    size: float = 1.1,
    originals: bool = False,
) -> Figure:
    """Attributions in red, and below zero in blue, over pale images; the stronger, the denser.

    Args:
      images: (N, H, W), (N, H, W, 1) or (N, H, W, 3).
      maps: (N, H, W) or (N, H, W, C); channels are added up.
      titles, columns, label, size: as for `image_grid`.
      limit: as for `heat_map`.
      cmap: of the images, as for `image_grid`.
      originals: whether to show each image alone too, above.

    Returns:
      The figure.

    Raises:
      ValueError: images and maps differ in number or size; and as for `image_grid`.
    """
    images, maps = _panels.images("overlay", images), _panels.summed("overlay", maps)
    if images.shape[:3] != maps.shape:
        raise ValueError(
            f"overlay: images are {images.shape} and maps {maps.shape}; expected one map of the "
            "same height and width for each image."
        )
    signed, limit = _panels.scale(maps, limit)
    figure, axes = _panels.panels(
        "overlay", len(images), titles, columns, size, 2 if originals else 1
    )
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    colours = [BLUE, "white", RED] if signed else ["white", RED]
    scale = LinearSegmentedColormap.from_list("density", colours)
    ends = LinearSegmentedColormap.from_list("ends", [BLUE, RED], N=2)
    shade = Normalize(float(images.min()), float(images.max()))
    for panels, image, values in zip(axes, images, maps, strict=True):
        plain = image if image.ndim == 3 else colormaps[cmap](shade(image))[..., :3]
        if originals:
            panels[0].imshow(plain, interpolation="nearest")
        panels[-1].imshow(1 - 0.4 * (1 - plain), interpolation="nearest")
        alpha = np.clip(np.abs(values) / limit, 0, 1)
        panels[-1].imshow(values >= 0, ends, vmin=0, vmax=1, alpha=alpha, interpolation="nearest")
    if label is not None:
        shown = ScalarMappable(Normalize(-limit if signed else 0.0, limit), scale)
        _panels.colour_bar(figure, shown, axes, label)
    return figure


def reveal(
    images: Any,
    maps: Any,
    *,
    share: float | None = None,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    cmap: str = "gray",
    size: float = 1.1,
) -> Figure:
    """Images that are seen where the attribution is strong, and grey elsewhere.

    Args:
      images: (N, H, W), (N, H, W, 1) or (N, H, W, 3).
      maps: (N, H, W) or (N, H, W, C); channels are added up, and of their sizes each map is scaled
        by its own greatest.
      share: of the pixels, those with the strongest attribution, that are seen, in (0, 1]; None
        lets each be seen as much as it is strong.
      titles, columns, cmap, size: as for `image_grid`.

    Returns:
      The figure.

    Raises:
      ValueError: as for `overlay`; the share is not in (0, 1].
    """
    images, maps = _panels.images("reveal", images), np.abs(_panels.summed("reveal", maps))
    if images.shape[:3] != maps.shape or (share is not None and not 0 < share <= 1):
        raise ValueError(
            f"reveal: images are {images.shape}, maps {maps.shape} and share is {share}; expected "
            "one map of the same height and width for each image, and a share in (0, 1]."
        )
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    if share is None:
        greatest = maps.max((1, 2), keepdims=True)
        seen = maps / np.where(greatest == 0, 1, greatest)
    else:
        count = max(1, round(share * maps[0].size))
        least = np.sort(maps.reshape(len(maps), -1), axis=1)[:, -count]
        seen = (maps >= least[:, None, None]).astype(np.float32)
    shade = Normalize(float(images.min()), float(images.max()))
    colours = images if images.ndim == 4 else colormaps[cmap](shade(images))[..., :3]
    mixed = 0.5 + seen[..., None] * (colours - 0.5)
    return image_grid(mixed, titles=titles, columns=columns, size=size)


def signals(
    values: Any,
    maps: Any,
    *,
    titles: Sequence[str] | None = None,
    limit: float | None = None,
    label: str = "attribution",
    size: tuple[float, float] = (7.0, 1.2),
) -> Figure:
    """Curves over time, one below the other, above the colours of their attributions.

    Args:
      values: (N, T).
      maps: (N, T), or (N, T, C) of which channels are added up.
      titles: N short texts, one beside each.
      limit: as for `heat_map`.
      label: what the attributions are, with their unit.
      size: width and height of one curve in inches.

    Returns:
      The figure.

    Raises:
      ValueError: the shapes do not fit; or not one title for each curve.
    """
    values, maps = np.asarray(values, np.float32), np.asarray(maps, np.float32)
    maps = maps.sum(-1) if maps.ndim == 3 else maps
    if values.ndim != 2 or maps.shape != values.shape or len(titles or values) != len(values):
        raise ValueError(
            f"signals: values are {values.shape}, maps {maps.shape}, titles "
            f"{None if titles is None else len(titles)}; expected (N, T) of both, and N titles."
        )
    from matplotlib.figure import Figure

    signed, limit = _panels.scale(maps, limit)
    figure = Figure(figsize=(size[0], size[1] * len(values)), dpi=150, layout="constrained")
    axes = figure.subplots(len(values), 1, squeeze=False, sharex=True)[:, 0]
    steps = values.shape[1]
    for ax, curve, strip, title in zip(axes, values, maps, titles or [""] * len(axes), strict=True):
        low, high = float(curve.min()), float(curve.max())
        shown = ax.imshow(
            strip[None],
            extent=(-0.5, steps - 0.5, low, high if high > low else low + 1),
            aspect="auto",
            cmap="RdBu_r" if signed else "magma",
            vmin=-limit if signed else 0.0,
            vmax=limit,
            interpolation="nearest",
        )
        ax.plot(curve, color="black" if signed else "white", linewidth=1)
        ax.set_ylabel(title, rotation=0, ha="right", va="center")
    bar = figure.colorbar(shown, ax=list(axes), label=label, aspect=35, pad=0.02)
    bar.outline.set_visible(False)
    return figure
