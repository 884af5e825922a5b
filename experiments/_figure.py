"""Figures of the experiments: drawn without a screen, saved below the results folder."""

from __future__ import annotations

import pathlib
from typing import Any


def pyplot() -> Any:
    """matplotlib's pyplot, drawing into files only."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
    return pyplot


def save(figure: Any, config: Any, experiment: str, name: str) -> pathlib.Path:
    """Writes `<results>/<experiment>/<name>.png` and closes the figure."""
    folder = config.results / experiment
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    figure.savefig(path, dpi=150)
    pyplot().close(figure)
    print(f"figure: {path}")
    return path
