"""Figures of the experiments: drawn without a screen, saved below the results folder."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def pyplot() -> Any:
    """matplotlib's pyplot, drawing into files only."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
    return pyplot


def curves(axis: Any, histories: Mapping[str, Any], deck: Mapping[str, float | None]) -> None:
    """A line an entry, the mean over the seeds of (seeds, epochs), in a band from least to most;
    dotted, the lectures' number."""
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
    """A line of words on the colours of their parts, red for and blue against, with a label."""
    style: dict[str, Any] = {"va": "center", "fontsize": 8, "family": "monospace"}
    axis.text(-0.5, y, label, ha="right", color="0.4", **style)
    x = 0.0
    for word, value in zip(words, values / max(np.abs(values).max(), 1e-9), strict=True):
        colour = pyplot().cm.RdBu_r(0.5 + 0.4 * value)
        box = {"boxstyle": "round,pad=0.2", "facecolor": colour, "edgecolor": "none"}
        ink = "white" if abs(value) > 0.6 else "black"
        axis.text(x, y, word, ha="left", bbox=box, color=ink, **style)
        x += 0.13 * len(word) + 0.22


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
