"""Which rows make which batch, and where they lie while a program runs over them.

The order of an epoch is a pure function of (seed, epoch), and the place in it one of the step:
a run that is interrupted at any step goes on as if it had not been. Lecture row D08.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import numpy as np

from jaxdl.data.batches import permutation
from jaxdl.data.source import Indexed, Stream
from jaxdl.train import distributed, validate
from jaxdl.train.distributed import Placement
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
    """The batches of some data, epoch by epoch, in pieces that lie on the device.

    Attributes:
      rows: how many there are in an epoch; of a stream, at most so many.
      batch_size: rows in a batch, of all processes together.
      steps: batches in an epoch.
      piece: batches in a piece.
      sample: `(x, y)` to check and to know the shapes by: all rows where they are in memory.
      placement: over which devices, or None for one; to be settled before the first piece.
    """

    rows: int
    batch_size: int
    steps: int
    piece: int
    sample: tuple[Any, Any]
    placement: Placement | None = None

    def __init__(self):
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
        """A piece; all have one shape, the last of an epoch too: a shape is a compilation."""
        raise NotImplementedError


class RowFeed(Feed):
    """Batches of rows that can be had in any order.

    Args:
      data: `(x, y)`, a tree of arrays with one leading axis, or `Indexed`.
      batch_size: rows in a batch.
      seed: of the epochs' orders; None keeps the rows as they stand.
      resident_bytes: arrays up to this size stay on the device as a whole.
      steps_per_call: batches in a piece when they do not; None takes `CHUNK_BYTES`.
      few_shapes: repeat the last row up to a power of two of batches, within `CHUNK_BYTES`, and
        mask every batch, so that data of many sizes compile few times.
    """

    def __init__(
        self,
        data: Any,
        batch_size: int,
        *,
        seed: int | None,
        resident_bytes: int = RESIDENT_BYTES,
        steps_per_call: int | None = None,
        few_shapes: bool = False,
    ):
        super().__init__()
        self.batch_size, self.seed = batch_size, seed
        if isinstance(data, Indexed):
            self.rows, self._fetch = data.rows, data.fetch
            self.sample = validate.unpacked(
                data.fetch(np.arange(min(batch_size, data.rows))), "what Indexed fetches"
            )
            row_bytes = _bytes(self.sample) / min(batch_size, data.rows)
            resident = False
        else:
            self.sample, self.rows = data, jax.tree.leaves(data)[0].shape[0]
            self._fetch = lambda rows: jax.tree.map(lambda a: np.asarray(a)[rows], data)
            row_bytes = _bytes(data) / self.rows
            resident = row_bytes * self.rows <= resident_bytes
        self.steps = -(-self.rows // batch_size)
        fitting = max(1, int(CHUNK_BYTES / max(1, row_bytes * batch_size)))
        self.piece = self.steps if resident else min(self.steps, steps_per_call or fitting)
        self._data = data if resident else None
        self._masked = few_shapes
        if few_shapes and resident and 2 * row_bytes * self.rows <= CHUNK_BYTES:
            self.piece = power_of_two(self.steps)
            rows = np.arange(self.piece * batch_size).clip(max=self.rows - 1)
            self._data = jax.tree.map(lambda a: np.asarray(a)[rows], data)

    @functools.cached_property
    def _resident(self) -> Any:
        """All rows on the device."""
        return distributed.put(self._data, self.placement and self.placement.everywhere)

    def _load(self, epoch, piece):
        at = np.arange(piece * self.piece, (piece + 1) * self.piece).clip(max=self.steps - 1)
        order, mask = epoch_batches(self.rows, self.batch_size, self.seed, epoch)
        if mask is None and self._masked:
            mask = np.ones(order.shape, bool)
        where = self.placement and self.placement.batch(1)
        order = order[at]
        mask = None if mask is None else distributed.put(mask[at], where)
        if self._data is not None:
            return Rows(self._resident, distributed.put(order, where), mask)
        if self.placement is not None:
            order = order[:, self.placement.columns(self.batch_size)]
        data = jax.tree.map(
            lambda a: np.asarray(a).reshape(*order.shape, *a.shape[1:]),
            self._fetch(order.reshape(-1)),
        )
        return Rows(distributed.put_shares(data, where), None, mask)


class StreamFeed(Feed):
    """Batches as a `Stream` gives them; each has a mask, for the last may be smaller.

    Args:
      data: the stream.
      steps_per_call: batches in a piece; None takes `CHUNK_BYTES`.
    """

    def __init__(self, data: Stream, *, steps_per_call: int | None = None):
        super().__init__()
        self.steps, self._stream = data.steps, data
        self._next, self._batches = (0, 0), iter(data.open(0, 0))
        self.sample = self._draw(0, 0)
        self._batches = itertools.chain([self.sample], self._batches)
        leaves = jax.tree.leaves(self.sample)
        self._share = leaves[0].shape[0]
        self.batch_size = self._share * jax.process_count()
        self.rows = self.steps * self.batch_size
        fitting = int(CHUNK_BYTES / max(1, _bytes(self.sample)))
        self.piece = min(self.steps, steps_per_call or max(1, fitting))

    def _draw(self, epoch: int, number: int) -> Any:
        batch = next(self._batches, None)
        if batch is None:
            raise ValueError(
                f"the stream of data ends after {number} batches of epoch {epoch + 1}; expected "
                f"{self.steps}: give it that many, or a smaller steps=."
            )
        return jax.tree.map(np.asarray, validate.unpacked(batch, "a batch of the stream"))

    def _load(self, epoch, piece):
        first = piece * self.piece
        if self._next != (epoch, first):
            self._batches = iter(self._stream.open(epoch, first))
        stop = min(first + self.piece, self.steps)
        drawn = [self._filled(self._draw(epoch, i), i) for i in range(first, stop)]
        self._next = (epoch, stop) if stop < self.steps else (epoch + 1, -1)
        drawn += drawn[-1:] * (self.piece - len(drawn))
        data, mask = jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)
        where = self.placement and self.placement.batch(1)
        data, mask = (distributed.put_shares(part, where) for part in (data, mask))
        return Rows(data, None, mask)

    def _filled(self, batch: Any, number: int) -> tuple[Any, np.ndarray]:
        """A batch of full size, and which of its rows are real."""
        rows = jax.tree.leaves(batch)[0].shape[0]
        if not 1 <= rows <= self._share or any(len(a) != rows for a in jax.tree.leaves(batch)):
            raise ValueError(
                f"batch {number} of the stream has arrays of "
                f"{sorted({len(a) for a in jax.tree.leaves(batch)})} rows; expected one number of "
                f"them, from 1 to the {self._share} of the first batch."
            )
        fill = np.resize(np.arange(rows), self._share)
        return jax.tree.map(lambda a: a[fill], batch), np.arange(self._share) < rows


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length()


def _bytes(data: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(data))


def feed(
    name: str,
    data: Any,
    batch_size: int | None,
    *,
    seed: int | None,
    resident_bytes: int,
    steps_per_call: int | None = None,
    parts: int | None = None,
    few_shapes: bool = False,
    who: str = "fit",
) -> Feed:
    """The feed of arrays, of `Indexed` rows or of a `Stream`, as an argument `name` of `fit`.

    Args:
      batch_size: rows in a batch; None is 32, or a stream's own.
      parts: for an evaluation, the devices that share a batch: where there are fewer rows than in
        a batch, the batch is smaller. None insists on whole batches.
      few_shapes: whether data of other sizes will follow that should share their programs.
    """
    if isinstance(data, Stream):
        return StreamFeed(data, steps_per_call=steps_per_call)
    if not isinstance(data, Indexed):
        data = validate.unpacked(data, name)
    rows = data.rows if isinstance(data, Indexed) else validate.rows(data, name)
    size = 32 if batch_size is None else batch_size
    validate.positive(who, batch_size=size)
    if parts is None:
        validate.batch_size(who, size, rows)
    else:
        few = power_of_two(rows) if few_shapes else rows
        size = min(size, -(-few // parts) * parts)
    return RowFeed(
        data,
        size,
        seed=seed,
        resident_bytes=resident_bytes,
        steps_per_call=steps_per_call,
        few_shapes=few_shapes,
    )
