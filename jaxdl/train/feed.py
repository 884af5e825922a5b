"""Which rows make which batch, and where they lie while a program runs over them.

The order of an epoch is a pure function of (seed, epoch), and the place in it one of the step:
a run that is interrupted at any step goes on as if it had not been. Lecture row D08.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxdl.data.batches import permutation
from jaxdl.train.loop import Rows

RESIDENT_BYTES = 2**31
"""Data up to this size are put on the device as a whole, unless the caller says otherwise."""
CHUNK_BYTES = 2**26
"""How much data a call is fed at once where all of it is too much for the device."""


def epoch_batches(
    rows: int, batch_size: int, seed: int | None, epoch: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Which rows make which batch of an epoch: `(order, mask)`, as for `Rows`.

    The last batch is filled up with the epoch's first rows, which the mask leaves out. Without a
    seed the rows stay as they stand.
    """
    order = np.arange(rows) if seed is None else permutation(rows, seed=seed, epoch=epoch)
    steps = -(-rows // batch_size)
    size = steps * batch_size
    order = np.resize(order, size).astype(np.int32).reshape(steps, batch_size)
    return order, None if size == rows else (np.arange(size) < rows).reshape(steps, batch_size)


class Feed:
    """The batches of a data set, epoch by epoch.

    Args:
      data: `(x, y)`, a tree of arrays with one leading axis.
      batch_size: rows in a batch.
      seed: of the epochs' orders; None keeps the rows as they stand.
      resident_bytes: data up to this size stay on the device as a whole.
      steps_per_call: batches in a piece when they do not; None takes `CHUNK_BYTES`.
    """

    def __init__(
        self,
        data: Any,
        batch_size: int,
        *,
        seed: int | None,
        resident_bytes: int,
        steps_per_call: int | None = None,
    ):
        leaves = jax.tree.leaves(data)
        nbytes = sum(leaf.nbytes for leaf in leaves)
        self.rows, self.batch_size, self.seed = leaves[0].shape[0], batch_size, seed
        self.steps = -(-self.rows // batch_size)
        self.resident = nbytes <= resident_bytes
        fitting = max(1, CHUNK_BYTES * self.rows // max(1, nbytes * batch_size))
        self.piece = self.steps if self.resident else min(self.steps, steps_per_call or fitting)
        self._data = jax.device_put(data) if self.resident else jax.tree.map(np.asarray, data)
        self._loaded: dict[tuple[int, int], Rows] = {}

    def at(self, step: int, count: int) -> tuple[Rows, int, int]:
        """`(rows, first, count)`: the batches from `step` on, at most `count`, in one piece."""
        epoch, at = divmod(step, self.steps)
        piece, first = divmod(at, self.piece)
        count = min(count, self.piece - first, self.steps - at)
        return self._rows(epoch, piece), first, count

    def ahead(self, step: int, end: int) -> None:
        """Loads the piece after the one of `step`, if it begins before `end`."""
        epoch, at = divmod(step, self.steps)
        after = min((at // self.piece + 1) * self.piece, self.steps) + epoch * self.steps
        if after < end:
            self.at(after, 1)

    def _rows(self, epoch: int, piece: int) -> Rows:
        if (epoch, piece) not in self._loaded:
            kept = list(self._loaded.items())[-1:]
            self._loaded = dict(kept) | {(epoch, piece): self._load(epoch, piece)}
        return self._loaded[epoch, piece]

    def _load(self, epoch: int, piece: int) -> Rows:
        # Pieces have one shape, the last of an epoch too: a shape is a compilation.
        at = np.arange(piece * self.piece, (piece + 1) * self.piece).clip(max=self.steps - 1)
        order, mask = epoch_batches(self.rows, self.batch_size, self.seed, epoch)
        order, mask = order[at], None if mask is None else jax.device_put(mask[at])
        if self.resident:
            return Rows(self._data, jax.device_put(order), mask)
        data = jax.tree.map(lambda a: a[order.reshape(-1)], self._data)
        order = np.arange(order.size, dtype=np.int32).reshape(order.shape)
        return Rows(jax.device_put(data), jax.device_put(order), mask)
