"""Which rows make which batch, and where they lie while a program runs over them.

The order of an epoch is a pure function of (seed, epoch), and the place in it one of the step:
a run that is interrupted at any step goes on as if it had not been. Lecture row D08.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxdl.data import convert
from jaxdl.data.batches import permutation
from jaxdl.data.source import BatchStream, RandomAccessSource
from jaxdl.train import sharding, validation
from jaxdl.train.epoch import Rows
from jaxdl.train.sharding import Placement

RESIDENT_BYTES = 2**31
"""Data up to this size are put on the device as a whole, unless the caller says otherwise."""
CHUNK_BYTES = 2**26
"""How much data a call is fed at once where all of it is too much for the device."""


@dataclasses.dataclass(frozen=True)
class Batches:
    """How the rows of an epoch are cut into batches, as `fit(batch_size=)` takes it.

    Attributes:
      size: rows in a batch, of all devices together.
      drop_last: whether to leave out the rows that fill no whole batch. Shuffled, these are others
        in every epoch.
      shuffle: whether every epoch has an order of its own; otherwise rows keep theirs.

    Raises:
      ValueError: `size` is no positive integer.
    """

    size: int = 32
    drop_last: bool = False
    shuffle: bool = True

    def __post_init__(self):
        validation.positive("Batches", size=self.size)


def epoch_batches(
    rows: int, batch_size: int, seed: int | None, epoch: int, drop_last: bool = False
) -> tuple[np.ndarray, np.ndarray | None]:
    """Which rows make which batch of an epoch: `(order, mask)`, as for `Rows`.

    The last batch is filled up with the epoch's first rows, which the mask leaves out. Without a
    seed the rows stay as they stand.
    """
    order = np.arange(rows) if seed is None else permutation(rows, seed=seed, epoch=epoch)
    if drop_last:
        rows = rows // batch_size * batch_size
        order = order[:rows]
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
      sample: `(x, y)` or `(x, y, weight)` to check and to know the shapes by: all rows where they
        are in memory.
      placement: over which devices, or None for one; to be settled before the first piece.
      check: `(data, name)`, called with what is drawn later than the sample.
    """

    rows: int
    batch_size: int
    steps: int
    piece: int
    sample: tuple[Any, ...]
    placement: Placement | None = None
    check: Callable[[tuple[Any, ...], str], None] = staticmethod(lambda data, name: None)

    def __init__(self):
        self._loaded: dict[tuple[int, int, int], Rows] = {}

    def at(self, step: int, count: int) -> tuple[Rows, int, int]:
        """`(rows, first, count)`: the batches from `step` on, at most `count`, in one piece."""
        epoch, number = divmod(step, self.steps)
        (_, first, stop), rows = self._piece(epoch, number)
        return rows, number - first, min(count, stop - number)

    def ahead(self, step: int, end: int) -> None:
        """Loads the piece after the one of `step`, if it begins before `end`."""
        epoch, number = divmod(step, self.steps)
        (_, _, stop), _ = self._piece(epoch, number)
        after = epoch * self.steps + stop
        if after < end:
            self._piece(*divmod(after, self.steps))

    def continue_rows(self, name: str) -> None:
        """Sees to it that row n of every batch can continue row n of the one before."""

    def _piece(self, epoch: int, number: int) -> tuple[tuple[int, int, int], Rows]:
        """The piece with a batch, and its place: the epoch, its first batch, the one after it."""
        for key, rows in self._loaded.items():
            if key[0] == epoch and key[1] <= number < key[2]:
                return key, rows
        rows, first, stop = self._load(epoch, number)
        self._loaded = dict(list(self._loaded.items())[-1:]) | {(epoch, first, stop): rows}
        return (epoch, first, stop), rows

    def _load(self, epoch: int, number: int) -> tuple[Rows, int, int]:
        """The piece with batch `number`, its first batch and the one after its last.

        Pieces of batches of one shape have one shape, the last of an epoch too: a shape is a
        compilation.
        """
        raise NotImplementedError


class RowFeed(Feed):
    """Batches of rows that can be had in any order.

    Args:
      data: `(x, y)` or `(x, y, weight)`, arrays with one leading axis, or `RandomAccessSource`.
      batch_size: rows in a batch.
      seed: of the epochs' orders; None keeps the rows as they stand.
      drop_last: as for `Batches`.
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
        drop_last: bool = False,
        resident_bytes: int = RESIDENT_BYTES,
        steps_per_call: int | None = None,
        few_shapes: bool = False,
    ):
        super().__init__()
        self.batch_size, self.seed, self.drop_last = batch_size, seed, drop_last
        self._indexed = isinstance(data, RandomAccessSource)
        if isinstance(data, RandomAccessSource):
            self.rows, self._fetch = data.rows, lambda rows: _fetched(data, rows)
            self.sample = self._fetch(np.arange(min(batch_size, data.rows)))
            row_bytes = _bytes(self.sample) / min(batch_size, data.rows)
            resident = False
        else:
            self.sample, self.rows = data, jax.tree.leaves(data)[0].shape[0]
            self._fetch = lambda rows: jax.tree.map(lambda a: np.asarray(a)[rows], data)
            row_bytes = _bytes(data) / self.rows
            resident = row_bytes * self.rows <= resident_bytes
        self.steps = self.rows // batch_size if drop_last else -(-self.rows // batch_size)
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
        return sharding.put(self._data, self.placement and self.placement.everywhere)

    def continue_rows(self, name):
        if self.seed is not None:
            warnings.warn(
                f"{name} is shuffled, and the model keeps a carry from batch to batch; expected "
                "batches whose rows continue each other: pass batch_size=train.Batches("
                f"{self.batch_size}, shuffle=False), or a data.BatchStream.",
                stacklevel=3,
            )

    def _load(self, epoch, number):
        first = number // self.piece * self.piece
        stop = min(first + self.piece, self.steps)
        at = np.arange(first, first + self.piece).clip(max=self.steps - 1)
        order, mask = epoch_batches(self.rows, self.batch_size, self.seed, epoch, self.drop_last)
        if mask is None and self._masked:
            mask = np.ones(order.shape, bool)
        where = self.placement and self.placement.batch(1)
        order = order[at]
        mask = None if mask is None else sharding.put(mask[at], where)
        if self._data is not None:
            return Rows(self._resident, sharding.put(order, where), mask), first, stop
        if self.placement is not None:
            order = order[:, self.placement.columns(self.batch_size)]
        data = self._fetch(order.reshape(-1))
        if self._indexed:
            self.check(data, f"what Indexed fetches from batch {first} on")
        data = jax.tree.map(lambda a: np.asarray(a).reshape(*order.shape, *a.shape[1:]), data)
        return Rows(sharding.put_shares(data, where), None, mask), first, stop


class StreamFeed(Feed):
    """Batches as a `BatchStream` gives them; each has a mask, for some may be smaller.

    A piece is a run of batches of one shape. Where shapes change within what would be the first
    piece of all, every piece is one batch: longer ones would be filled up with copies.

    Args:
      data: the stream.
      parts: the devices that share a batch; batches are filled up to a multiple.
      steps_per_call: batches in a piece; None takes `CHUNK_BYTES`.
    """

    def __init__(self, data: BatchStream, parts: int, *, steps_per_call: int | None = None):
        super().__init__()
        self.steps, self._stream = data.steps, data
        self._parts = max(1, parts // jax.process_count())
        self._next, self._batches = (0, 0), iter(data.open(0, 0))
        self.sample = self._draw(0, 0)
        self._share = self._filled_up(data.batch_size or _rows(self.sample))
        self._rows_of: dict[Any, int] = {}  # by shape, where it is not the first batch's
        self._continued = False
        self.batch_size = self._share * jax.process_count()
        self.rows = self.steps * self.batch_size
        fitting = int(CHUNK_BYTES / max(1, _bytes(self.sample)))
        self.piece = min(self.steps, steps_per_call or max(1, fitting))
        self._drawn = [self.sample]  # batches from `self._next` on that are in no piece yet
        self._draw_piece(0, 0)
        if len({_shape(batch) for batch in self._drawn}) > 1:
            self.piece = 1

    def continue_rows(self, name):
        self._continued = True

    def _filled_up(self, rows: int) -> int:
        return -(-rows // self._parts) * self._parts

    def _draw(self, epoch: int, number: int) -> Any:
        batch = next(self._batches, None)
        if batch is None:
            raise ValueError(
                f"the stream of data ends after {number} batches of epoch {epoch + 1}; expected "
                f"{self.steps}: give it that many, or a smaller steps=."
            )
        batch = validation.unpacked(batch, "a batch of the stream")
        if any(leaf.ndim == 0 for leaf in jax.tree.leaves(batch)):
            raise ValueError(
                "a batch of the stream holds single examples; expected arrays with one row an "
                "example: batch it, in Grain by dataset.batch(n), in PyTorch by batch_size=n."
            )
        batch = jax.tree.map(np.asarray, batch)
        for leaf in jax.tree.leaves(batch):
            convert.check_range(leaf, f"batch {number} of the stream")
        rows = sorted({len(a) for a in jax.tree.leaves(batch)})
        if len(rows) > 1 or rows[0] < 1:
            raise ValueError(
                f"batch {number} of the stream has arrays of {rows} rows; expected one number of "
                "rows in all of them, at least 1."
            )
        return batch

    def _load(self, epoch, number):
        if self._next != (epoch, number):
            self._batches, self._drawn = iter(self._stream.open(epoch, number)), []
        self._draw_piece(epoch, number)
        shape = _shape(self._drawn[0])
        run = list(itertools.takewhile(lambda batch: _shape(batch) == shape, self._drawn))
        run = run[: self.piece]
        stop = number + len(run)
        self._next, self._drawn = (epoch, stop), self._drawn[len(run) :]
        for i, batch in enumerate(run):
            self.check(batch, f"batch {number + i} of the stream")
        size = self._size(run, number)
        filled = [_filled(batch, size) for batch in run]
        filled += filled[-1:] * (self.piece - len(filled))
        data, mask = jax.tree.map(lambda *leaves: np.stack(leaves), *filled)
        where = self.placement and self.placement.batch(1)
        data, mask = (sharding.put_shares(part, where) for part in (data, mask))
        return Rows(data, None, mask), number, stop

    def _draw_piece(self, epoch: int, number: int) -> None:
        """Draws what lacks of the batches from `number` on that a piece can have."""
        for i in range(number + len(self._drawn), min(number + self.piece, self.steps)):
            self._drawn.append(self._draw(epoch, i))
            self._check_kind(self._drawn[-1], i)

    def _check_kind(self, batch: Any, number: int) -> None:
        """A batch differs from the first in the lengths of its axes alone."""
        kinds = [
            (jax.tree.structure(b), [(a.ndim, a.dtype) for a in jax.tree.leaves(b)])
            for b in (self.sample, batch)
        ]
        if kinds[0] != kinds[1]:
            raise ValueError(
                f"batch {number} of the stream is {validation.show(batch)} and the first was "
                f"{validation.show(self.sample)}; expected the same arrays in every batch, of the "
                "same dtypes and numbers of axes: only rows and lengths may differ."
            )

    def _size(self, run: list, number: int) -> int:
        """How many rows the batches of a run are filled up to."""
        counts, shape = [_rows(batch) for batch in run], _shape(run[0])
        for i, rows in enumerate(counts):
            last = number + i == self.steps - 1
            if self._continued and not (last or rows == self._share):
                raise ValueError(
                    f"batch {number + i} of the stream has {rows} rows, and the model keeps a "
                    f"carry from batch to batch; expected {self._share} rows in all but the last."
                )
        if self._stream.batch_size is None and shape != _shape(self.sample):
            known = self._rows_of.get(shape, 0)
            self._rows_of[shape] = max(known, self._filled_up(max(counts)))
            return self._rows_of[shape]
        if max(counts) > self._share:
            number += counts.index(max(counts))
            raise ValueError(
                f"batch {number} of the stream has arrays of {[max(counts)]} rows; expected from 1 "
                f"to {self._share}, as many as the first batch: give the stream batch_size=."
            )
        return self._share


def _filled(batch: Any, size: int) -> tuple[Any, np.ndarray]:
    """A batch of `size` rows, and which of them are real."""
    rows = _rows(batch)
    fill = np.resize(np.arange(rows), size)
    return jax.tree.map(lambda a: a[fill], batch), np.arange(size) < rows


def _rows(batch: Any) -> int:
    return len(jax.tree.leaves(batch)[0])


def _shape(batch: Any) -> tuple[tuple[int, ...], ...]:
    """The shapes of a batch's rows; batches of one shape are compiled once."""
    return tuple(leaf.shape[1:] for leaf in jax.tree.leaves(batch))


def _fetched(data: RandomAccessSource, rows: np.ndarray) -> Any:
    """The rows of these numbers, as arrays."""
    fetched = validation.unpacked(data.fetch(rows), "what Indexed fetches")
    lengths = {leaf.shape[:1] for leaf in jax.tree.leaves(fetched)}
    if lengths != {(len(rows),)}:
        shapes = ", ".join(str(list(leaf.shape)) for leaf in jax.tree.leaves(fetched))
        raise ValueError(
            f"what Indexed fetches for {len(rows)} row numbers has the shapes {shapes}; expected "
            f"{len(rows)} rows of each: fetch takes an array of numbers, such as "
            "lambda rows: (x[rows], y[rows])."
        )
    for leaf in jax.tree.leaves(fetched):
        convert.check_range(leaf, "what Indexed fetches")
    return fetched


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length()


def _bytes(data: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(data))


def feed(
    name: str,
    data: Any,
    batch_size: int | Batches | None,
    *,
    seed: int | None,
    resident_bytes: int,
    steps_per_call: int | None = None,
    parts: int = 1,
    evaluates: bool = False,
    few_shapes: bool = False,
    who: str = "fit",
) -> Feed:
    """Returns the feed of data as an argument `name` of `fit`, of any kind that it takes.

    Args:
      batch_size: rows in a batch; None is 32, or all rows if these are fewer, or a stream's own.
      parts: the devices that share a batch. Where it has all rows, it is filled up to a multiple.
      evaluates: whether a `batch_size` above the number of rows is none of the caller's making.
      few_shapes: whether data of other sizes will follow that should share their programs.
    """
    data = convert.as_source(data, name)
    if isinstance(data, BatchStream):
        if isinstance(batch_size, Batches) and seed is not None:
            raise ValueError(
                f"{who}: batch_size is {batch_size} and {name} a Stream, which makes its batches "
                "itself; expected None: cut, order and drop them where they are made."
            )
        feed = StreamFeed(data, parts, steps_per_call=steps_per_call)
        own = feed.batch_size if data.batch_size is None else data.batch_size
        if seed is not None and batch_size not in (None, own):
            raise ValueError(
                f"{who}: batch_size is {batch_size!r} and {name} makes its own batches, of {own} "
                "rows; expected None: give the batch size where they are made."
            )
        return feed
    if not isinstance(data, RandomAccessSource):
        data = validation.unpacked(data, name)
    rows = data.rows if isinstance(data, RandomAccessSource) else validation.rows(data, name)
    cut = batch_size if isinstance(batch_size, Batches) else Batches()
    size: Any = cut.size if batch_size is cut else batch_size
    size = cut.size if size is None else size
    whole = -(-(power_of_two(rows) if few_shapes else rows) // parts) * parts
    validation.positive(who, batch_size=size)
    if size > whole and not (evaluates or batch_size is None):
        validation.batch_size(who, size, rows)
    return RowFeed(
        data,
        whole if size >= rows else size,
        seed=seed if cut.shuffle else None,
        drop_last=cut.drop_last,
        resident_bytes=resident_bytes,
        steps_per_call=steps_per_call,
        few_shapes=few_shapes,
    )
