"""Metrics over an epoch, added up so that it does not show where a run was cut."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdl.metrics import Collection
from jaxdl.train.epoch import Log


class Totals:
    """Sums and weights of metrics, in double precision and strictly one step after another.

    The order of the additions is that of the steps however these were grouped into calls, so an
    epoch that was interrupted and resumed has the mean of one that was not, to the last bit.

    Args:
      sums: `{"loss": (sum, weight), ...}` to go on from.
      collected: `{"auc": (weight, value, ...), ...}` to go on from.
    """

    def __init__(
        self,
        sums: Mapping[str, tuple[float, float]] | None = None,
        collected: Mapping[str, tuple[np.ndarray, ...]] | None = None,
    ):
        self.sums = {name: (float(a), float(b)) for name, (a, b) in (sums or {}).items()}
        self._arrays = {name: [tuple(arrays)] for name, arrays in (collected or {}).items()}
        self._collections: dict[str, Collection] = {}

    def add(self, log: Log) -> None:
        """Adds the metrics of more steps."""
        for name, item in log.items():
            if isinstance(item, Collection):
                self._collections[name] = item
                arrays = tuple(np.asarray(a) for a in (item.weight, *item.values))
                axes = arrays[0].ndim - item.labels
                flat = tuple(a.reshape(-1, *a.shape[axes:]) for a in arrays)
                self._arrays.setdefault(name, []).append(flat)
                continue
            before = self.sums.get(name, (0.0, 0.0))
            total, weight = (
                _run(start, values) for start, values in zip(before, item, strict=True)
            )
            self.sums[name] = total, weight

    @property
    def collected(self) -> dict[str, tuple[np.ndarray, ...]]:
        """What the metrics of a data set have read so far: `{"auc": (weight, value, ...)}`."""
        return {
            name: tuple(np.concatenate(parts) for parts in zip(*arrays, strict=True))
            for name, arrays in self._arrays.items()
        }

    def means(self) -> dict[str, float]:
        """Returns each metric over the steps, the loss first; NaN where there is no weight."""
        values: dict[str, Any] = {name: _share(*pair) for name, pair in self.sums.items()}
        for name, (weight, *arrays) in self.collected.items():
            last = self._collections[name]
            values[name] = dataclasses.replace(last, values=tuple(arrays), weight=weight).value
        return dict(sorted(values.items(), key=lambda item: item[0] != "loss"))


def _run(start: float, values) -> float:
    steps = np.asarray(values, np.float64).ravel()
    return float(np.add.accumulate(np.concatenate([[start], steps]))[-1])


def _share(total: float, weight: float) -> float:
    return total / weight if weight else float("nan")
