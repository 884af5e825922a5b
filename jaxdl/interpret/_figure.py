"""Figures: panel sizes, wrapped titles, color maps and color bars.

It is not part of `plot`, so that importing `plot` does not import matplotlib.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdl._check import require_ints
from jaxdl._optional import extra
from jaxdl.interpret import _panels
from jaxdl.interpret._panels import BLUE, RED

with extra("plot", "jaxdl.interpret.plot"):
    from matplotlib import colormaps
    from matplotlib.cbook import is_math_text
    from matplotlib.colors import Colormap, LinearSegmentedColormap
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.textpath import text_to_path
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

DPI = 200
DOTS_IN_NOTEBOOK = 100
"""Screen dots per inch of a figure: half of `DPI`, for high-density screens."""

ENDS = [tuple(part / 255 for part in color) for color in (BLUE, RED)]
DARK = [tuple(0.6 * part for part in color) for color in ENDS]
SIGNED = LinearSegmentedColormap.from_list(
    "attribution", [(0, DARK[0]), (0.2, ENDS[0]), (0.5, "white"), (0.8, ENDS[1]), (1, DARK[1])]
)
UNSIGNED = LinearSegmentedColormap.from_list("attribution from 0", SIGNED(np.linspace(0.5, 1, 256)))
"""The upper half of `SIGNED`, so that zero is white and positive red in every map."""

OPACITY = 0.8
"""Opacity of the strongest attribution over an image, which stays recognizable."""

INKS = LinearSegmentedColormap.from_list("inks", ENDS, N=2)
MIXED = [tuple(1 - OPACITY * (1 - part) for part in color) for color in ENDS]
DENSITY = [
    LinearSegmentedColormap.from_list("density from 0", ["white", MIXED[1]]),
    LinearSegmentedColormap.from_list("density", [MIXED[0], "white", MIXED[1]]),
]
"""Color maps of overlays without and with negative values: inks of varying density on white."""


class NotebookFigure(Figure):
    """A figure that a notebook displays without pyplot."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=self.dpi)
        return file.getvalue()

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, bytes], dict[str, Any]]:
        """Returns a PNG with its display size. Takes precedence over matplotlib-inline."""
        png = self._repr_png_()
        dots = struct.unpack(">II", png[16:24])
        width, height = (round(dot * DOTS_IN_NOTEBOOK / self.dpi) for dot in dots)
        return {"image/png": png}, {"image/png": {"width": width, "height": height}}


class Panels(NamedTuple):
    """A figure of equal panels."""

    figure: NotebookFigure
    layout: ConstrainedLayoutEngine
    axes: list[np.ndarray]
    """The axes of each image, from top to bottom."""
    size: tuple[float, float]
    """Width and height of one panel in inches, wide enough for the title of a narrow image."""
    interpolation: str
    """"nearest", or "auto" if there are fewer dots than pixels, which averages them."""

    def finish(self, label: str | None = None, shown: Any = None, values: Any = 0) -> Figure:
        """Adds a color bar if there is a label, and fits the figure to its panels.

        Args:
          label: label of the values.
          shown: the image with the color map and its limits.
          values: all drawn values. The bar is pointed where they exceed the limits.
        """
        grid = self.axes[0][0].get_subplotspec().get_gridspec()
        width, height = self.size
        if label is not None:
            height = max(height, 1 / grid.nrows)  # below an inch its label and numbers do not fit
            axes = [ax for panel in self.axes for ax in panel]
            color_bar(self.figure, shown, axes, label, grid.nrows * height, values)
        for _ in range(3):  # the width of a color bar depends a little on that of the figure
            self.layout.execute(self.figure)
            inches = self.figure.get_size_inches()
            cell = self.axes[0][0].get_position(original=True).size * inches
            short = ((width, height) - cell) * (grid.ncols, grid.nrows)
            if np.abs(short).max() < 1e-3:
                break
            self.figure.set_size_inches(inches + short)
        return self.figure


def panels(
    caller: str,
    images: np.ndarray,
    titles: Sequence[str] | None,
    columns: int | None,
    size: float | None,
    tall: int = 1,
) -> Panels:
    """Returns a figure with `tall` panels for each of the images (N, H, W, ...).

    Raises:
      ValueError: there is not one title for each image, or a size is not positive.
    """
    n = len(images)
    titles = _panels.names(caller, titles, n)
    if columns is not None:
        (columns,) = require_ints(caller, 1, columns=columns)
    size = _panels.number(caller, "inches above 0, 100 at most", 0, 100, size=size)
    scale = panel_scale(images.shape[1], images.shape[2], n, size)
    width, height = max(images.shape[2] * scale, 0.6), max(images.shape[1] * scale, 0.1)
    if columns is None:
        most = min(10, max(1, int(11.8 / width)))
        columns = math.ceil(n / math.ceil(n / most))
    columns = min(n, columns)
    rows = math.ceil(n / columns)
    figure = NotebookFigure(figsize=(columns * width + 2, rows * (tall * height + 1) + 1), dpi=DPI)
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
    figure.set_layout_engine(layout)
    grid = figure.subplots(rows * tall, columns, squeeze=False)
    for ax in grid.flat:
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.spines[:].set(visible=True, color="#d0d0d0", linewidth=0.6)
    axes = [
        grid[row * tall : (row + 1) * tall, column]
        for row in range(rows)
        for column in range(columns)
    ]
    for unused in axes[n:]:
        for ax in unused:
            ax.set_axis_off()
    font = 8 if width < 1.6 else 10
    for (top, *_), title in zip(axes, titles, strict=False):
        top.set_title(wrap(title, width, font), loc="center", fontsize=font, pad=3)
    sharp = scale * DPI > 0.99
    return Panels(figure, layout, axes[:n], (width, height), "nearest" if sharp else "auto")


def panel_scale(height: int, width: int, n: int, size: float | None) -> float:
    """Returns the inches of one pixel in a figure of n images.

    By default a pixel has a whole number of dots, so that all are drawn equally wide: an image of
    28 pixels has 1.12 inches, or 2.24 among at most three, and one of 224 has 2.24.
    """
    if size is not None:
        return size / width
    longest = max(height, width)
    inches = min(max(longest / 100, 2.2 if n <= 3 else 1.1), 2.8 if n <= 20 else 1.4)
    dots = inches * DPI / longest
    return (round(dots) if dots >= 1 else dots) / DPI


def color_bar(
    figure: Figure, shown: Any, axes: list[Any], label: str, height: float, values: Any
) -> None:
    """Adds a color bar next to axes that are `height` inches high, as in `finish`."""
    low, high = shown.get_clim()
    below, above = np.min(values) < low, np.max(values) > high
    font = 8 if height < 1.6 else 9
    ticks = ScalarFormatter(useMathText=True)
    ticks.set_powerlimits((-2, 4))
    bar = figure.colorbar(
        shown,
        ax=axes,
        ticks=MaxNLocator(max(2, min(8, int(height / 0.35))), steps=[1, 2, 2.5, 5, 10]),
        format=ticks,
        extend={(0, 0): "neither", (0, 1): "max", (1, 0): "min"}.get((below, above), "both"),
        extendfrac=0.04,
        shrink=0.92,
        aspect=max(8.0, 8 * height),
        pad=0.02,
        fraction=0.1,
    )
    bar.set_label(wrap(label, 0.92 * height, font), fontsize=font)
    bar.ax.tick_params(labelsize=font - 1)
    bar.ax.yaxis.set_offset_position("left")  # a power of ten above the bar widens nothing
    bar.ax.yaxis.get_offset_text().set_fontsize(font - 1)
    bar.outline.set_visible(False)


def color_map(caller: str, name: Any) -> Any:
    """Returns matplotlib's color map of a name.

    Raises:
      ValueError: there is none.
    """
    if isinstance(name, Colormap):
        return name
    if not isinstance(name, str) or name not in colormaps:
        raise ValueError(
            f"{caller}: cmap is {name!r}; expected a color map of matplotlib, such as 'gray', "
            "'viridis' or 'magma'."
        )
    return colormaps[name]


def wrap(text: str, inches: float, font: float) -> str:
    """Breaks a text into lines of limited width. Mathematical text is not changed."""
    if is_math_text(text):
        return text
    properties = FontProperties(size=font)

    def fits(line):
        return text_to_path.get_text_width_height_descent(line, properties, False)[0] <= 72 * inches

    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            if line and fits(f"{line} {word}"):
                line = f"{line} {word}"
                continue
            lines += [line] * bool(line)
            while len(word) > 2 and not fits(word):
                end = next((i for i in range(len(word) - 1, 1, -1) if fits(word[:i] + "-")), 1)
                lines.append(word[:end] + "-")
                word = word[end:]
            line = word
        lines.append(line)
    return "\n".join(lines)
