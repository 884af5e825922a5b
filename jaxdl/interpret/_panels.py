"""What the figures of `plot` share: checked arrays, their scale, axes with titles, a colour bar."""

from __future__ import annotations

import math

import numpy as np


def images(caller, images):
    images = np.asarray(images, np.float32)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim != 3 and not (images.ndim == 4 and images.shape[3] == 3):
        raise ValueError(
            f"{caller}: images are {images.shape}; expected (N, H, W) or (N, H, W, C) with C = 1 "
            "or 3: add a batch axis with image[None]."
        )
    return images


def summed(caller, maps):
    maps = np.asarray(maps, np.float32)
    if maps.ndim not in (3, 4):
        raise ValueError(f"{caller}: maps are {maps.shape}; expected (N, H, W) or (N, H, W, C).")
    return maps.sum(-1) if maps.ndim == 4 else maps


def scale(maps, limit):
    """Whether the maps have a sign, and the end of their scale; maps of zeros have one too."""
    return bool((maps < 0).any()), limit or float(np.abs(maps).max()) or 1.0


def panels(caller, n, titles, columns, size, tall=1):
    """A figure, and for each image its axes: `tall` of them, one below the other."""
    from matplotlib.figure import Figure

    if titles is not None and len(titles) != n:
        raise ValueError(f"{caller}: {len(titles)} titles for {n} images; expected one for each.")
    columns = min(n, columns or 10)
    rows = math.ceil(n / columns)
    lines = max((title.count("\n") + 1 for title in titles), default=0) if titles else 0
    height = rows * (tall * (size + 0.04) + 0.17 * lines)
    figure = Figure(figsize=(columns * size + 0.8, height), dpi=150)
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    grid = figure.subplots(rows * tall, columns, squeeze=False)
    for ax in grid.flat:
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.spines[:].set(visible=True, color="#d0d0d0", linewidth=0.6)
    panels = [
        grid[row * tall : (row + 1) * tall, column]
        for row in range(rows)
        for column in range(columns)
    ]
    for unused in panels[n:]:
        for ax in unused:
            ax.set_axis_off()
    for (top, *_), title in zip(panels, titles or [], strict=False):
        top.set_title(title, loc="center", fontsize=8, pad=2)
    return figure, panels[:n]


def colour_bar(figure, shown, panels, label):
    axes = [ax for panel in panels for ax in panel]
    bar = figure.colorbar(shown, ax=axes, label=label, shrink=0.85, aspect=35, pad=0.02)
    bar.outline.set_visible(False)
