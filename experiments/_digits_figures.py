"""The figures of the digits report, each as wide as a phone, so that they set side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from jaxdl.interpret import plot

WIDTH = 4.2
STYLE: dict[Any, Any] = {
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
COLOURS = ("#0072b2", "#d55e00", "#009e73")  # Okabe and Ito: apart for every kind of sight


def styled(draw):
    """A function whose figures have this report's style."""

    def drawn(*args, **options):
        with matplotlib.rc_context(STYLE):
            return draw(*args, **options)

    return drawn


@styled
def curves(histories: Mapping[str, Sequence[Mapping[str, Sequence[float]]]]) -> Figure:
    """Training loss and held-out accuracy by epoch; a line is the mean of runs, a band their range.

    Args:
      histories: by optimizer, one history a run.
    """
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
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
    """Names each line at its right end, moved apart where the ends are close."""
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


@styled
def confusion(matrix: np.ndarray) -> Figure:
    """Counts of true class by decision: right ones in grey, mistakes on a red scale."""
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
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


@styled
def filters(weights: np.ndarray, columns: int) -> Figure:
    """Weights of units on one diverging scale: blue below zero, red above, white at zero."""
    return plot.heat_map(weights, columns=columns, label="weight", size=(WIDTH - 0.8) / columns)


@styled
def decisions(images: np.ndarray, maps: np.ndarray, titles: Sequence[str], limit: float) -> Figure:
    """Each image above the same image with its saliency, all maps on one scale from 0."""
    return plot.overlay(
        images,
        maps,
        titles=titles,
        columns=5,
        limit=limit,
        cmap="gray_r",
        label="change of the score per unit of ink",
        size=(WIDTH - 0.8) / 5,
        originals=True,
    )


@styled
def faces(images: np.ndarray, titles: Sequence[str]) -> Figure:
    """One image a class, ink black on white from 0 to 1."""
    return plot.image_grid(
        images,
        titles=titles,
        columns=5,
        limits=(0, 1),
        cmap="gray_r",
        label="ink",
        size=(WIDTH - 0.8) / 5,
    )
