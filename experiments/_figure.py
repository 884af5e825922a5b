"""Figures of the experiments, drawn without a screen and saved below the results folder."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, PercentFormatter

from jaxdl.interpret import plot


def pyplot() -> Any:
    """Returns matplotlib's pyplot, which draws to files only."""
    matplotlib.use("agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
    return pyplot


def curves(axis: Any, histories: Mapping[str, Any], deck: Mapping[str, float | None]) -> None:
    """Draws a line for each entry: the mean over the seeds, in a band from least to most.

    Args:
      axis: an axis of a figure.
      histories: (seeds, epochs) values by label.
      deck: the lectures' numbers by label, drawn as dotted lines.
    """
    for i, (label, values) in enumerate(histories.items()):
        values, colour = np.asarray(values), f"C{i}"
        epochs = np.arange(1, values.shape[1] + 1)
        axis.plot(epochs, values.mean(0), color=colour, label=label)
        axis.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.25, lw=0)
        number = deck.get(label)
        if number is not None:
            axis.axhline(number, color=colour, ls=":", lw=1)
    axis.set_xlabel("epoch")
    axis.legend(frameon=False)


def words(axis: Any, y: float, label: str, words: Sequence[str], values: Any) -> None:
    """Draws a line of words on the colours of their values, red for positive, blue for negative."""
    style: dict[str, Any] = {"va": "center", "fontsize": 8, "family": "monospace"}
    axis.text(-0.5, y, label, ha="right", color="0.4", **style)
    x = 0.0
    for word, value in zip(words, values / max(np.abs(values).max(), 1e-9), strict=True):
        colour = pyplot().cm.RdBu_r(0.5 + 0.4 * value)
        box = {"boxstyle": "round,pad=0.2", "facecolor": colour, "edgecolor": "none"}
        ink = "white" if abs(value) > 0.6 else "black"
        axis.text(x, y, word, ha="left", bbox=box, color=ink, **style)
        x += 0.13 * len(word) + 0.22


def compare_maps(
    figure: Any,
    pictures: Mapping[str, Any],
    maps: Mapping[str, Any],
    titles: Sequence[str],
    *,
    boxes: Sequence[Any] | None = None,
    overlay: bool = False,
    percentile: float = 99.0,
) -> None:
    """Draws N pictures above their attributions, with a row for each method.

    Red is positive, blue negative and white 0. Each map has a scale of its own, because the units
    of methods differ.

    Args:
      figure: an empty figure or subfigure with a constrained layout.
      pictures: rows of pictures without attributions by label, (N, H, W) or (N, H, W, 3) in [0, 1].
      maps: (N, H, W) attributions by method.
      titles: N texts above the columns.
      boxes: N boxes (x0, y0, x1, y1) to outline, in pixels.
      overlay: whether to draw the maps over pale copies of the first row of pictures.
      percentile: that of the absolute values of a map at which its scale ends.
    """
    axes = figure.subplots(len(pictures) + len(maps), len(titles), squeeze=False)
    bases = np.asarray(next(iter(pictures.values())), float)
    bases = bases.mean(-1) if bases.ndim == 4 else bases
    for row, (label, values) in zip(axes, {**pictures, **maps}.items(), strict=True):
        row[0].set_ylabel(label, fontsize=9)
        for i, axis in enumerate(row):
            height, width = values[i].shape[:2]
            # Boxes have the coordinates of edges, where imshow's default has those of centres.
            style: dict[str, Any] = {"extent": (0, width, height, 0), "interpolation": "nearest"}
            if label in pictures:
                axis.imshow(np.clip(values[i], 0, 1), cmap="gray", vmin=0, vmax=1, **style)
            else:
                sizes = np.abs(values[i])
                limit = np.percentile(sizes, percentile) or sizes.max() or 1.0
                shares = np.clip(values[i] / limit, -1, 1)
                if overlay:
                    pale = 0.5 + 0.5 * bases[i]
                    axis.imshow(pale, cmap="gray", vmin=0, vmax=1, **style)
                    style["alpha"] = 0.85 * np.abs(shares)
                axis.imshow(shares, cmap="RdBu_r", vmin=-1, vmax=1, **style)
            if boxes is not None:
                x0, y0, x1, y1 = boxes[i]
                outline = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec="black", lw=1)
                outline.set_path_effects([withStroke(linewidth=2.2, foreground="white")])
                axis.add_patch(outline)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    figure.colorbar(
        ScalarMappable(Normalize(-1, 1), "RdBu_r"),
        # Of all rows, so that the columns are in line, but as high as those of the maps.
        ax=axes.ravel().tolist(),
        shrink=0.98 * len(maps) / len(axes),
        anchor=(0.0, 0.0),
        label=f"attribution / {percentile:g}th percentile of its map",
        aspect=40,
        extend="both",
    )


def save(
    figure: Any, config: Any, experiment: str, name: str, dpi: float | str = 150
) -> pathlib.Path:
    """Writes `<results>/<experiment>/<name>.png` and closes the figure."""
    folder = config.results / experiment
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    figure.savefig(path, dpi=dpi)
    pyplot().close(figure)
    print(f"figure: {path}")
    return path


# The figures of the digits report. Each is as wide as a phone, so that they can be placed side
# by side on a larger screen.

PHONE = 4.2
DIGITS_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "savefig.dpi": 220,
    "savefig.facecolor": "white",
}
# Okabe and Ito's palette, which remains distinct for the colour-blind.
COLOURS = ("#0072b2", "#d55e00", "#009e73")


def style_for_digits(draw):
    """Wraps a function so that its figures have the style of the digits report."""

    def draw_in_style(*args, **options):
        with matplotlib.rc_context(DIGITS_STYLE):
            return draw(*args, **options)

    return draw_in_style


@style_for_digits
def optimizer_curves(histories: Mapping[str, Sequence[Mapping[str, Sequence[float]]]]) -> Figure:
    """Draws training loss and held-out accuracy by epoch, as the mean of runs in their range.

    Args:
      histories: by optimizer, one history for each run.
    """
    figure = Figure(figsize=(PHONE, 4.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for ax, key, title in (
        (upper, "loss", "Training loss (nats per image, log scale)"),
        (lower, "eval_accuracy", "Held-out accuracy"),
    ):
        ends = []
        for colour, (name, runs) in zip(COLOURS, histories.items(), strict=False):
            values = np.array([run[key] for run in runs])
            epochs = np.arange(1, values.shape[1] + 1)
            ax.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.18, lw=0)
            ax.plot(epochs, values.mean(0), color=colour, lw=1.6)
            ends.append((values[:, -1].mean(), name, colour))
        ax.set_title(title)
        ax.margins(x=0.01)
        if key == "loss":
            ax.set_yscale("log")
        else:
            ax.set_ylim(min(0.9, max(values.min(), 0.5)), 1)
            ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        _label_ends(ax, epochs[-1], ends)
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    lower.set_xlabel("epoch (once through all training images)")
    return figure


def _label_ends(ax: Any, x: float, ends: Sequence[tuple[float, str, str]]) -> None:
    """Labels each line at its right end; labels that would overlap are moved apart."""
    ends = sorted(ends)
    to_axes = ax.transData + ax.transAxes.inverted()
    heights = [to_axes.transform((x, value))[1] for value, _, _ in ends]
    gap = 0.11
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    over = max(0.0, heights[-1] - 1.0)
    for height, (_, name, colour) in zip(heights, ends, strict=True):
        ax.text(
            1.02, height - over, name, color=colour, transform=ax.transAxes, va="center", size=9
        )


@style_for_digits
def confusion(matrix: np.ndarray) -> Figure:
    """Draws a confusion matrix: right predictions in grey, mistakes on a red scale."""
    figure = Figure(figsize=(PHONE, 3.9), layout="constrained")
    ax = figure.subplots()
    mistakes = np.where(np.eye(len(matrix), dtype=bool), 0, matrix)
    top = max(4, 1.6 * mistakes.max())
    ax.imshow(np.ma.masked_equal(mistakes, 0), cmap="Reds", vmin=-0.2 * top, vmax=top)
    for i, row in enumerate(matrix):
        for j, count in enumerate(row):
            if i == j:
                ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fc="#eceff2"))
            if count:
                ax.text(
                    j, i, count, ha="center", va="center", weight="normal" if i == j else "bold"
                )
    ax.set(xticks=range(len(matrix)), yticks=range(len(matrix)))
    ax.set_xticks(np.arange(0.5, len(matrix) - 1), minor=True)
    ax.set_yticks(np.arange(0.5, len(matrix) - 1), minor=True)
    ax.grid(False)
    ax.grid(which="minor", color="#e6e6e6", lw=0.6)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    ax.set(xlabel="decision of the network", ylabel="true digit")
    return figure


@style_for_digits
def filters(weights: np.ndarray, columns: int) -> Figure:
    """Draws the weights of units on one diverging scale: blue below zero, red above."""
    return plot.heat_map(weights, columns=columns, label="weight", size=(PHONE - 0.8) / columns)


@style_for_digits
def decisions(images: np.ndarray, maps: np.ndarray, titles: Sequence[str], limit: float) -> Figure:
    """Draws each image above the same image with its saliency, all on one scale from 0."""
    return plot.overlay(
        images,
        maps,
        titles=titles,
        columns=5,
        limit=limit,
        cmap="gray_r",
        label="change of the score per unit of ink",
        size=(PHONE - 0.8) / 5,
        originals=True,
    )


@style_for_digits
def faces(images: np.ndarray, titles: Sequence[str]) -> Figure:
    """Draws one image for each class, ink black on white from 0 to 1."""
    return plot.image_grid(
        images,
        titles=titles,
        columns=5,
        limits=(0, 1),
        cmap="gray_r",
        label="ink",
        size=(PHONE - 0.8) / 5,
    )
