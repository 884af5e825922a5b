"""Means of metrics over an epoch, added up so that it does not show where a run was cut."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxdl.train.loop import Log


class Totals:
    """Sums and weights of metrics, in double precision and strictly one step after another.

    The order of the additions is that of the steps however these were grouped into calls, so an
    epoch that was interrupted and resumed has the mean of one that was not, to the last bit.

    Args:
      sums: `{"loss": (sum, weight), ...}` to go on from.
    """

    def __init__(self, sums: Mapping[str, tuple[float, float]] | None = None):
        self.sums = {name: (float(a), float(b)) for name, (a, b) in (sums or {}).items()}

    def add(self, log: Log) -> None:
        """The (sum, weight) pairs of more steps."""
        for name, pair in log.items():
            before = self.sums.get(name, (0.0, 0.0))
            total, weight = (
                _run(start, values) for start, values in zip(before, pair, strict=True)
            )
            self.sums[name] = total, weight

    def means(self) -> dict[str, float]:
        """sum / weight, the loss first; NaN where there is no weight."""
        names = sorted(self.sums, key=lambda name: name != "loss")
        return {name: _share(*self.sums[name]) for name in names}


def _run(start: float, values) -> float:
    steps = np.asarray(values, np.float64).ravel()
    return float(np.add.accumulate(np.concatenate([[start], steps]))[-1])


def _share(total: float, weight: float) -> float:
    return total / weight if weight else float("nan")
