"""Grids of images and attributions, with one colour scale for all, so that they can be compared.

Every function returns a `matplotlib.figure.Figure`, which a notebook displays and
`figure.savefig("name.png")` writes; no window is opened and no global state is touched. White is
zero in every map, red is positive and blue negative. Letters: N images, H x W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdl._optional import extra
from jaxdl.interpret import _input, _panels

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
    """Draws images side by side, all on one grey or colour scale.

    Args:
      images: (N, H, W) or (N, H, W, C) with C = 1 or 3; colours are floats in [0, 1] or uint8.
      titles: N texts, one above each; long ones are wrapped.
      columns: images in a row; by default rows of equal length, of at most 10 images and 12 inches.
      limits: the values that are black and white; the least and the greatest of all by default.
        For colour images, the values that become 0 and 1.
      cmap: matplotlib's name of the colour map of grey images.
      label: what the values are, with their unit; adds a colour bar.
      size: width of one image in inches; by default it grows with the image: 1.1 for 28 pixels, 2.2
        for 224 and for at most three images, with a whole number of dots a pixel.

    Returns:
      The figure.

    Raises:
      ValueError: another shape; values that are not finite or colours out of range; or not one
        title for each image.
    """
    limits = _panels.limits("image_grid", limits)
    images = _panels.images("image_grid", images, limits)
    low, high = limits or (float(images.min()), float(images.max()))
    from jaxdl.interpret import _figure

    cmap = _figure.colour_map("image_grid", cmap)
    return _grid("image_grid", images, [(cmap, low, high)], titles, columns, label, size)


def heat_map(
    maps: Any,
    *,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    clip: float = 99.0,
    limit: float | None = None,
    own: bool = False,
    label: str | None = None,
    size: float | None = None,
) -> Figure:
    """Draws attributions side by side, all on one scale where zero is white.

    Maps with a negative value get a scale from blue to red, all others its red half.

    Args:
      maps: (N, H, W) or (N, H, W, C); channels are summed.
      titles, columns, size: as for `image_grid`.
      clip: the percentile, in (0, 100], of the sizes of all values on one scale, at which the scale
        ends: a few outliers would leave the rest pale. A pointed colour bar says that values go
        beyond. 100 ends it at the greatest.
      limit: the size of value at the end of the scale, instead of a percentile.
      own: whether each map is divided by its own percentile first, and has a scale with or without
        a sign by its own values. Compare colours within a map only.
      label: as for `image_grid`.

    Returns:
      The figure.

    Raises:
      ValueError: as for `image_grid`; `clip` or `limit` is out of range; `own` with a limit.
    """
    maps = _panels.maps("heat_map", maps)
    maps, signed, limit = _panels.scale("heat_map", maps, clip, limit, own)
    return _grid("heat_map", maps, _scales(signed, limit), titles, columns, label, size)


def overlay(
    images: Any,
    maps: Any,
    *,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    clip: float = 99.0,
    limit: float | None = None,
    own: bool = False,
    cmap: str = "gray",
    label: str | None = None,
    size: float | None = None,
    originals: bool = False,
) -> Figure:
    """Draws attributions in red, and below zero in blue, over pale grey images.

    The stronger an attribution is, the denser is its colour; where it is zero, the image is seen.

    Args:
      images: (N, H, W), (N, H, W, 1) or (N, H, W, 3), of which the luminance is shown.
      maps: (N, H, W) or (N, H, W, C); channels are summed.
      titles, columns, label, size: as for `image_grid`.
      clip, limit, own: as for `heat_map`.
      cmap: of grey images, as for `image_grid`.
      originals: whether to show each image alone too, above.

    Returns:
      The figure.

    Raises:
      ValueError: images and maps differ in number or size; and as for `heat_map`.
    """
    images, maps = _panels.images("overlay", images), _panels.maps("overlay", maps)
    _check_pairs("overlay", images, maps)
    maps, signed, limit = _panels.scale("overlay", maps, clip, limit, own)
    with extra("plot", "jaxdl.interpret.plot"):
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize
    from jaxdl.interpret import _figure

    panels = _figure.panels("overlay", images, titles, columns, size, 2 if originals else 1)
    sharp: Any = {"interpolation": panels.interpolation}
    colours = _colours("overlay", images, cmap)
    luminance = colours @ np.array([0.299, 0.587, 0.114])[:, None]  # Rec. 601
    greys = np.repeat(luminance, 3, -1) if images.ndim == 4 else colours
    for axes, colour, grey, values in zip(panels.axes, colours, greys, maps, strict=True):
        if originals:
            axes[0].imshow(colour, **sharp)
        axes[-1].imshow(1 - 0.5 * (1 - grey), **sharp)
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
    """Draws images that are visible where the attribution is strong, and grey elsewhere.

    Args:
      images: (N, H, W), (N, H, W, 1) or (N, H, W, 3).
      maps: (N, H, W) or (N, H, W, C); channels are summed, and each map's sizes are divided by
        their own percentile.
      share: of the pixels, those with the strongest attribution, that are visible, in (0, 1]; None
        makes each as visible as it is strong.
      titles, columns, cmap, size: as for `image_grid`.
      clip: the percentile, as for `heat_map`.

    Returns:
      The figure.

    Raises:
      ValueError: as for `overlay`; the share is not in (0, 1].
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
    mixed = 0.5 + visible[..., None] * (_colours("reveal", images, cmap) - 0.5)
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
    """Draws curves over time, one below the other, above the colours of their attributions.

    Args:
      values: (N, T).
      maps: (N, T), or (N, T, C) of which channels are summed.
      titles: N texts, one beside each.
      clip, limit: as for `heat_map`.
      label: what the attributions are, with their unit.
      size: width and height of one curve in inches.

    Returns:
      The figure.

    Raises:
      ValueError: the shapes do not fit, values are not finite, or there is not one title for each
        curve; and as for `heat_map`.
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
        _input.number("signals", "inches above 0, 100 at most", lambda v: 0 < v <= 100, size=side)
        for side in size
    )
    _panels.check_finite("signals", "values", values)
    _panels.check_finite("signals", "maps", maps)
    limit = _panels.scale_end("signals", maps, clip, limit)
    with extra("plot", "jaxdl.interpret.plot"):
        from matplotlib.patheffects import withStroke
    from jaxdl.interpret import _figure

    ((cmap, low, high),) = _scales([bool((maps < 0).any())], limit)
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
    _figure.colour_bar(figure, shown, list(axes), label, height * len(values), maps)
    return figure


def _grid(caller, images, scales, titles, columns, label, size):
    """A panel for each image, with its own (cmap, low, high) or one for all."""
    from jaxdl.interpret import _figure

    panels = _figure.panels(caller, images, titles, columns, size)
    shown = [
        ax.imshow(image, cmap=cmap, vmin=low, vmax=high, interpolation=panels.interpolation)
        for (ax,), image, (cmap, low, high) in zip(
            panels.axes, images, scales * (len(images) // len(scales)), strict=True
        )
    ]
    return panels.finish(label, min(shown, key=lambda image: image.get_clim()), images)


def _scales(signed, limit):
    """(cmap, low, high) of each map."""
    from jaxdl.interpret import _figure

    scales = {True: (_figure.SIGNED, -limit, limit), False: (_figure.UNSIGNED, 0.0, limit)}
    return [scales[sign] for sign in signed]


def _check_pairs(caller, images, maps):
    if images.shape[:3] != maps.shape:
        raise ValueError(
            f"{caller}: images are {images.shape} and maps {maps.shape}; expected one map of the "
            "same height and width for each image."
        )


def _colours(caller, images, cmap):
    """(N, H, W, 3) of grey or colour images."""
    with extra("plot", "jaxdl.interpret.plot"):
        from matplotlib.colors import Normalize
    from jaxdl.interpret import _figure

    if images.ndim == 4:
        return images
    scaled = Normalize(float(images.min()), float(images.max()))(images)
    return _figure.colour_map(caller, cmap)(scaled)[..., :3]
