"""Figures of images and attributions, on one color scale for comparison.

Every function returns a `matplotlib.figure.Figure`, which a notebook displays and
`figure.savefig("name.png")` writes. No window is opened and no global state is changed. In every
map zero is white, positive is red and negative is blue. Letters: N images, H x W pixels, C
channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdl._check import require_number
from jaxdl._optional import extra
from jaxdl.interpret import _panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["heat_map", "image_grid", "overlay", "reveal", "signals"]


def image_grid(
    images: Any,
    *,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    limits: tuple[float, float] | None = None,
    cmap: str = "gray",
    label: str | None = None,
    size: float | None = None,
) -> Figure:
    """Draws images side by side, all on one gray or color scale.

    Args:
      images: (N, H, W) or (N, H, W, C) with C = 1 or 3. Colors are floats in [0, 1] or uint8.
      titles: N texts, one above each image. Long ones are wrapped.
      columns: images in a row; by default, rows of equal length of at most 10 images and 12 inches.
      limits: the values that are black and white; by default, the minimum and maximum of all
        images. For color images, the values that become 0 and 1.
      cmap: matplotlib's name of the color map of gray images.
      label: label of the values, with their unit; adds a color bar.
      size: width of one image in inches. By default it grows with the image, with a whole number of
        dots per pixel: 1.1 for 28 pixels, 2.2 for 224 and for at most three images.

    Returns:
      The figure.

    Raises:
      ValueError: the images have another shape, values that are not finite, or colors out of range;
        or there is not one title for each image.
    """
    limits = _panels.limits("image_grid", limits)
    images = _panels.images("image_grid", images, limits)
    low, high = limits or (float(images.min()), float(images.max()))
    from jaxdl.interpret import _figure

    cmap = _figure.color_map("image_grid", cmap)
    return _draw_grid("image_grid", images, [(cmap, low, high)], titles, columns, label, size)


def heat_map(
    maps: Any,
    *,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    clip: float = 99.0,
    limit: float | None = None,
    scale_each: bool = False,
    label: str | None = None,
    size: float | None = None,
) -> Figure:
    """Draws attributions side by side, all on one scale where zero is white.

    Maps with a negative value have a scale from blue to red, others only its red half.

    Args:
      maps: (N, H, W) or (N, H, W, C), summed over channels.
      titles, columns, size: as for `image_grid`.
      clip: the percentile, in (0, 100], of the absolute values at which the scale ends. Without it,
        a few outliers would leave the rest pale. A pointed color bar marks values beyond the end.
        100 ends the scale at the maximum.
      limit: the absolute value at the end of the scale, instead of a percentile.
      scale_each: whether to scale each map separately, by its own percentile and signs. Colors of
        different maps are then not comparable.
      label: as for `image_grid`.

    Returns:
      The figure.

    Raises:
      ValueError: as for `image_grid`; `clip` or `limit` is out of range; or `scale_each` with a
        limit.
    """
    maps = _panels.maps("heat_map", maps)
    maps, signed, limit = _panels.scale("heat_map", maps, clip, limit, scale_each)
    return _draw_grid("heat_map", maps, _make_scales(signed, limit), titles, columns, label, size)


def overlay(
    images: Any,
    maps: Any,
    *,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    clip: float = 99.0,
    limit: float | None = None,
    scale_each: bool = False,
    cmap: str = "gray",
    label: str | None = None,
    size: float | None = None,
    originals: bool = False,
) -> Figure:
    """Draws attributions over pale gray images: red above zero, blue below.

    Stronger attributions are more opaque. Where the attribution is zero, only the image is visible.

    Args:
      images: (N, H, W), (N, H, W, 1) or (N, H, W, 3), drawn by their luminance.
      maps: (N, H, W) or (N, H, W, C), summed over channels.
      titles, columns, label, size: as for `image_grid`.
      clip, limit, scale_each: as for `heat_map`.
      cmap: color map of gray images, as for `image_grid`.
      originals: whether to draw each image without attributions above.

    Returns:
      The figure.

    Raises:
      ValueError: as for `heat_map`; or images and maps differ in number or size.
    """
    images, maps = _panels.images("overlay", images), _panels.maps("overlay", maps)
    _check_pairs("overlay", images, maps)
    maps, signed, limit = _panels.scale("overlay", maps, clip, limit, scale_each)
    with extra("plot", "jaxdl.interpret.plot"):
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize
    from jaxdl.interpret import _figure

    panels = _figure.panels("overlay", images, titles, columns, size, 2 if originals else 1)
    sharp: Any = {"interpolation": panels.interpolation}
    colors = _as_colors("overlay", images, cmap)
    luminance = colors @ np.array([0.299, 0.587, 0.114])[:, None]  # Rec. 601
    grays = np.repeat(luminance, 3, -1) if images.ndim == 4 else colors
    for axes, color, gray, values in zip(panels.axes, colors, grays, maps, strict=True):
        if originals:
            axes[0].imshow(color, **sharp)
        # Half contrast leaves room for the colors.
        axes[-1].imshow(1 - 0.5 * (1 - gray), **sharp)
        alpha = _figure.OPACITY * np.clip(np.abs(values) / limit, 0, 1)
        axes[-1].imshow(values >= 0, _figure.INKS, vmin=0, vmax=1, alpha=alpha, **sharp)
    low = -limit if any(signed) else 0.0
    shown = ScalarMappable(Normalize(low, limit), _figure.DENSITY[any(signed)])
    return panels.finish(label, shown, maps)


def reveal(
    images: Any,
    maps: Any,
    *,
    share: float | None = None,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    clip: float = 99.0,
    cmap: str = "gray",
    size: float | None = None,
) -> Figure:
    """Draws images that are visible only where the attribution is strong.

    Args:
      images: (N, H, W), (N, H, W, 1) or (N, H, W, 3).
      maps: (N, H, W) or (N, H, W, C), summed over channels. The absolute values of each map are
        divided by their own percentile.
      share: the share of visible pixels, those with the strongest attribution, in (0, 1]; None
        makes the visibility of each pixel proportional to its attribution.
      titles, columns, cmap, size: as for `image_grid`.
      clip: the percentile, as for `heat_map`.

    Returns:
      The figure.

    Raises:
      ValueError: as for `overlay`; or the share is not in (0, 1].
    """
    images, maps = _panels.images("reveal", images), np.abs(_panels.maps("reveal", maps))
    _check_pairs("reveal", images, maps)
    if share is None:
        visible = np.clip(_panels.scale("reveal", maps, clip, None, True)[0], 0, 1)
    else:
        share = _panels.number("reveal", "a share of the pixels in (0, 1]", 0, 1, share=share)
        count = max(1, round(share * maps[0].size))
        least = np.sort(maps.reshape(len(maps), -1), axis=1)[:, -count]
        visible = maps >= least[:, None, None]
    # Toward gray, and not toward black or white, which images contain.
    mixed = 0.5 + visible[..., None] * (_as_colors("reveal", images, cmap) - 0.5)
    return image_grid(mixed, titles=titles, columns=columns, size=size)


def signals(
    values: Any,
    maps: Any,
    *,
    titles: Sequence[str] | None = None,
    clip: float = 99.0,
    limit: float | None = None,
    label: str = "attribution",
    size: tuple[float, float] = (7.0, 1.2),
) -> Figure:
    """Draws curves over time, each on the colors of its attributions.

    Args:
      values: (N, T).
      maps: (N, T), or (N, T, C), summed over channels.
      titles: N texts, one next to each curve.
      clip, limit: as for `heat_map`.
      label: label of the attributions, with their unit.
      size: width and height of one curve in inches.

    Returns:
      The figure.

    Raises:
      ValueError: as for `heat_map`; the shapes do not fit; values are not finite; or there is not
        one title for each curve.
    """
    values = _panels.real("signals", "values", values).astype(np.float32)
    maps = _panels.real("signals", "maps", maps).astype(np.float64)
    maps = maps.sum(-1) if maps.ndim == 3 else maps
    if values.ndim != 2 or not values.size or maps.shape != values.shape:
        raise ValueError(
            f"signals: values are {values.shape}, maps {maps.shape}; expected (N, T) of both."
        )
    titles = _panels.names("signals", titles, len(values))
    if not isinstance(size, tuple | list) or len(size) != 2:
        raise ValueError(f"signals: size is {size!r}; expected (width, height) in inches.")
    width, height = (
        require_number("signals", "inches above 0, 100 at most", lambda v: 0 < v <= 100, size=side)
        for side in size
    )
    _panels.check_finite("signals", "values", values)
    _panels.check_finite("signals", "maps", maps)
    limit = _panels.scale_end("signals", maps, clip, limit)
    with extra("plot", "jaxdl.interpret.plot"):
        from matplotlib.patheffects import withStroke
    from jaxdl.interpret import _figure

    ((cmap, low, high),) = _make_scales([bool((maps < 0).any())], limit)
    figure = _figure.NotebookFigure(
        figsize=(width, height * len(values)), dpi=_figure.DPI, layout="constrained"
    )
    axes = figure.subplots(len(values), 1, squeeze=False, sharex=True)[:, 0]
    steps, outline = values.shape[1], [withStroke(linewidth=2.5, foreground="white")]
    for ax, curve, strip, title in zip(axes, values, maps, titles, strict=True):
        least, greatest = float(curve.min()), float(curve.max())
        shown = ax.imshow(
            strip[None],
            extent=(-0.5, steps - 0.5, least, greatest if greatest > least else least + 1),
            aspect="auto",
            cmap=cmap,
            vmin=low,
            vmax=high,
            interpolation="nearest",
        )
        ax.plot(curve, color="black", linewidth=1, path_effects=outline)
        ax.set_ylabel(_figure.wrap(title, 1.2, 9), rotation=0, ha="right", va="center", fontsize=9)
    _figure.color_bar(figure, shown, list(axes), label, height * len(values), maps)
    return figure


def _draw_grid(caller, images, scales, titles, columns, label, size):
    """Draws a panel for each image, with one (cmap, low, high) for each or for all."""
    from jaxdl.interpret import _figure

    panels = _figure.panels(caller, images, titles, columns, size)
    shown = [
        ax.imshow(image, cmap=cmap, vmin=low, vmax=high, interpolation=panels.interpolation)
        for (ax,), image, (cmap, low, high) in zip(
            panels.axes, images, scales * (len(images) // len(scales)), strict=True
        )
    ]
    return panels.finish(label, min(shown, key=lambda image: image.get_clim()), images)


def _make_scales(signed, limit):
    """Returns (cmap, low, high) of each map."""
    from jaxdl.interpret import _figure

    scales = {True: (_figure.SIGNED, -limit, limit), False: (_figure.UNSIGNED, 0.0, limit)}
    return [scales[sign] for sign in signed]


def _check_pairs(caller, images, maps):
    if images.shape[:3] != maps.shape:
        raise ValueError(
            f"{caller}: images are {images.shape} and maps {maps.shape}; expected one map of the "
            "same height and width for each image."
        )


def _as_colors(caller, images, cmap):
    """Returns gray or color images as (N, H, W, 3)."""
    with extra("plot", "jaxdl.interpret.plot"):
        from matplotlib.colors import Normalize
    from jaxdl.interpret import _figure

    if images.ndim == 4:
        return images
    scaled = Normalize(float(images.min()), float(images.max()))(images)
    return _figure.color_map(caller, cmap)(scaled)[..., :3]
