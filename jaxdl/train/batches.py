"""Batch sources: the order of an epoch's rows, and their transfer to the device in shards.

The order of an epoch is a pure function of (seed, epoch), and the position in it one of the step.
So a run that was interrupted at any step resumes with the same batches.
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
from jax.sharding import Mesh

from jaxdl.data import convert
from jaxdl.data.batches import permutation
from jaxdl.data.source import BatchStream, RandomAccessSource
from jaxdl.train import sharding, validation
from jaxdl.train.epoch import EpochBatches

RESIDENT_BYTES = 2**31
"""Default limit up to which data stay on the device for the whole run."""
SHARD_BYTES = 2**26
"""Size of a shard of data that are larger than the limit."""


@dataclasses.dataclass(frozen=True)
class Batches:
    """Options of `fit(batch_size=)` for the batches of an epoch.

    Attributes:
      size: rows in a batch, over all devices.
      drop_last: whether to drop a last batch that is not full. With `shuffle`, other rows are
        dropped in every epoch.
      shuffle: whether to shuffle the rows in every epoch.

    Raises:
      ValueError: `size` is not a positive integer.
    """

    size: int = 32
    drop_last: bool = False
    shuffle: bool = True

    def __post_init__(self):
        validation.validate_positive("Batches", size=self.size)


def epoch_batches(
    rows: int, batch_size: int, seed: int | None, epoch: int, drop_last: bool = False
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns `(order, mask)` of an epoch, as in `EpochBatches`.

    The last batch is padded with the first rows of the epoch, which the mask excludes. Without a
    seed the rows keep their order.
    """
    order = np.arange(rows) if seed is None else permutation(rows, seed=seed, epoch=epoch)
    if drop_last:
        rows = rows // batch_size * batch_size
        order = order[:rows]
    steps = -(-rows // batch_size)
    size = steps * batch_size
    # Padding with real rows: batch statistics ignore the mask, and zeros would bias them.
    order = np.resize(order, size).astype(np.int32).reshape(steps, batch_size)
    return order, None if size == rows else (np.arange(size) < rows).reshape(steps, batch_size)


class BatchSource:
    """Base class of batch sources: loads the batches of an epoch in shards on the device.

    Attributes:
      rows: number of rows in an epoch; for a stream, an upper bound.
      batch_size: rows in a batch, over all processes.
      steps: batches in an epoch.
      shard: batches in a shard.
      sample: `(x, y)` or `(x, y, weight)` for validation and shapes: all rows if they are in
        memory, else one batch.
      mesh: the devices that share a batch; None is the default device.
      check: `(data, name)`, called with data that were fetched after the sample.
    """

    rows: int
    batch_size: int
    steps: int
    shard: int
    sample: tuple[Any, ...]
    check: Callable[[tuple[Any, ...], str], None] = staticmethod(lambda data, name: None)

    def __init__(self, mesh: Mesh | None):
        self.mesh = mesh
        self._loaded: dict[tuple[int, int, int], EpochBatches] = {}

    def get(self, step: int, count: int) -> tuple[EpochBatches, int, int]:
        """Returns `(batches, first, count)`: at most `count` batches from `step` on, in a shard."""
        epoch, number = divmod(step, self.steps)
        (_, first, stop), batches = self._get_shard(epoch, number)
        return batches, number - first, min(count, stop - number)

    def prefetch(self, step: int, end: int) -> None:
        """Loads the shard after the one of `step`, if it begins before `end`."""
        epoch, number = divmod(step, self.steps)
        (_, _, stop), _ = self._get_shard(epoch, number)
        after = epoch * self.steps + stop
        if after < end:
            self._get_shard(*divmod(after, self.steps))

    def require_continued_rows(self, name: str) -> None:
        """Warns or raises if row n of a batch does not continue row n of the batch before."""

    def _get_shard(self, epoch: int, number: int) -> tuple[tuple[int, int, int], EpochBatches]:
        """Returns `(epoch, first, stop)` and the batches of the shard that has batch `number`."""
        for key, batches in self._loaded.items():
            if key[0] == epoch and key[1] <= number < key[2]:
                return key, batches
        batches, first, stop = self._load(epoch, number)
        # At most two shards are on the device: the one in use and the one prefetched.
        self._loaded = dict(list(self._loaded.items())[-1:]) | {(epoch, first, stop): batches}
        return (epoch, first, stop), batches

    def _load(self, epoch: int, number: int) -> tuple[EpochBatches, int, int]:
        """Loads the shard with batch `number`; returns it, its first batch and the one after it.

        All shards of batches of one shape have the same shape, also the last one of an epoch,
        because every new shape costs a compilation.
        """
        raise NotImplementedError


class RowSource(BatchSource):
    """Batches of rows that can be read in any order.

    Args:
      data: `(x, y)` or `(x, y, weight)`, arrays with one leading axis, or `RandomAccessSource`.
      batch_size: rows in a batch.
      seed: seed of the epochs' orders; None keeps the order of the rows.
      mesh: the devices that share a batch; None is the default device.
      drop_last: as for `Batches`.
      resident_bytes: arrays up to this size stay on the device for the whole run.
      steps_per_call: batches in a shard of larger data; None takes `SHARD_BYTES`.
      few_shapes: pad the number of batches to a power of two, within `SHARD_BYTES`, by repeating
        the last row, and mask every batch, so that data of many sizes need few compilations.
    """

    def __init__(
        self,
        data: Any,
        batch_size: int,
        *,
        seed: int | None,
        mesh: Mesh | None = None,
        drop_last: bool = False,
        resident_bytes: int = RESIDENT_BYTES,
        steps_per_call: int | None = None,
        few_shapes: bool = False,
    ):
        super().__init__(mesh)
        self.batch_size, self.seed, self.drop_last = batch_size, seed, drop_last
        self._fetches = isinstance(data, RandomAccessSource)
        if isinstance(data, RandomAccessSource):
            self.rows, self._take = data.rows, functools.partial(_fetch, data)
            self.sample = self._take(np.arange(min(batch_size, data.rows)))
            row_bytes = _nbytes(self.sample) / min(batch_size, data.rows)
            resident = False
        else:
            self.sample, self.rows = data, jax.tree.leaves(data)[0].shape[0]
            self._take = lambda rows: jax.tree.map(lambda a: np.asarray(a)[rows], data)
            row_bytes = _nbytes(data) / self.rows
            resident = row_bytes * self.rows <= resident_bytes
        self.steps = self.rows // batch_size if drop_last else -(-self.rows // batch_size)
        fitting = max(1, int(SHARD_BYTES / max(1, row_bytes * batch_size)))
        self.shard = self.steps if resident else min(self.steps, steps_per_call or fitting)
        self._data = data if resident else None
        self._masked = few_shapes
        # Twice the size, because the next power of two may be almost twice the number of batches.
        if few_shapes and resident and 2 * row_bytes * self.rows <= SHARD_BYTES:
            self.shard = power_of_two(self.steps)
            rows = np.arange(self.shard * batch_size).clip(max=self.rows - 1)
            self._data = jax.tree.map(lambda a: np.asarray(a)[rows], data)

    @functools.cached_property
    def _resident(self) -> Any:
        """All rows, on the device."""
        return sharding.put(self._data, sharding.replicated_sharding(self.mesh))

    def require_continued_rows(self, name):
        if self.seed is not None:
            warnings.warn(
                f"{name} is shuffled, and the model keeps a carry from batch to batch; expected "
                "batches whose rows continue each other: pass batch_size=train.Batches("
                f"{self.batch_size}, shuffle=False), or a data.BatchStream.",
                stacklevel=3,
            )

    def _load(self, epoch, number):
        first = number // self.shard * self.shard
        stop = min(first + self.shard, self.steps)
        # The last shard repeats its last batch up to the common shape; `get` excludes the copies.
        numbers = np.arange(first, first + self.shard).clip(max=self.steps - 1)
        order, mask = epoch_batches(self.rows, self.batch_size, self.seed, epoch, self.drop_last)
        if mask is None and self._masked:
            mask = np.ones(order.shape, bool)
        split = sharding.batch_sharding(self.mesh, 1)
        order = order[numbers]
        mask = None if mask is None else sharding.put(mask[numbers], split)
        if self._data is not None:
            return EpochBatches(self._resident, sharding.put(order, split), mask), first, stop
        if self.mesh is not None:
            # Each process reads only the rows that its devices need.
            order = order[:, sharding.local_rows(self.mesh, self.batch_size)]
        data = self._take(order.reshape(-1))
        if self._fetches:
            self.check(data, f"the result of fetch from batch {first} on")
        data = jax.tree.map(lambda a: np.asarray(a).reshape(*order.shape, *a.shape[1:]), data)
        return EpochBatches(sharding.put_local(data, split), None, mask), first, stop


class StreamSource(BatchSource):
    """Batches of a `BatchStream`; every batch has a mask, because some may be smaller.

    A shard is a sequence of batches of one shape. If shapes change within the first shard, every
    shard is one batch, because longer ones would be padded with copies.

    Args:
      data: the stream.
      mesh: the devices that share a batch; batches are padded to a multiple of their number.
      steps_per_call: batches in a shard; None takes `SHARD_BYTES`.
    """

    def __init__(
        self, data: BatchStream, mesh: Mesh | None = None, *, steps_per_call: int | None = None
    ):
        super().__init__(mesh)
        self.steps, self._stream = data.steps, data
        self._local_shards = max(1, sharding.num_shards(mesh) // jax.process_count())
        self._next, self._batches = (0, 0), iter(data.open(0, 0))
        self.sample = self._draw(0, 0)
        self._local_size = self._round_up(data.batch_size or _num_rows(self.sample))
        self._sizes: dict[Any, int] = {}  # by shape, if it is not that of the first batch
        self._continued = False
        self.batch_size = self._local_size * jax.process_count()
        self.rows = self.steps * self.batch_size
        fitting = int(SHARD_BYTES / max(1, _nbytes(self.sample)))
        self.shard = min(self.steps, steps_per_call or max(1, fitting))
        self._drawn = [self.sample]  # batches from `self._next` on that are in no shard yet
        self._draw_shard(0, 0)
        if len({_shape(batch) for batch in self._drawn}) > 1:
            self.shard = 1

    def require_continued_rows(self, name):
        self._continued = True

    def _round_up(self, rows: int) -> int:
        return -(-rows // self._local_shards) * self._local_shards

    def _draw(self, epoch: int, number: int) -> Any:
        """Returns the next batch of the stream as validated arrays."""
        batch = next(self._batches, None)
        if batch is None:
            raise ValueError(
                f"the stream of data ends after {number} batches of epoch {epoch + 1}; expected "
                f"{self.steps}. Let it yield that many, or pass a smaller steps=."
            )
        batch = validation.as_xy(batch, "a batch of the stream")
        if any(leaf.ndim == 0 for leaf in jax.tree.leaves(batch)):
            raise ValueError(
                "a batch of the stream has single examples; expected arrays with one row per "
                "example. Batch the data: in Grain by dataset.batch(n), in PyTorch by batch_size=n."
            )
        batch = jax.tree.map(np.asarray, batch)
        for leaf in jax.tree.leaves(batch):
            convert.check_range(leaf, f"batch {number} of the stream")
        rows = sorted({len(a) for a in jax.tree.leaves(batch)})
        if len(rows) > 1 or rows[0] < 1:
            raise ValueError(
                f"batch {number} of the stream has arrays of {rows} rows; expected the same number "
                "of rows, at least 1, in all of them."
            )
        return batch

    def _load(self, epoch, number):
        # Consecutive shards share an iterator: opening a stream in the middle may draw and drop all
        # batches before.
        if self._next != (epoch, number):
            self._batches, self._drawn = iter(self._stream.open(epoch, number)), []
        self._draw_shard(epoch, number)
        shape = _shape(self._drawn[0])
        run = list(itertools.takewhile(lambda batch: _shape(batch) == shape, self._drawn))
        run = run[: self.shard]
        stop = number + len(run)
        self._next, self._drawn = (epoch, stop), self._drawn[len(run) :]
        for i, batch in enumerate(run):
            self.check(batch, f"batch {number + i} of the stream")
        size = self._padded_size(run, number)
        padded = [_pad(batch, size) for batch in run]
        # Copies of the last batch, for the common shape; `get` excludes them.
        padded += padded[-1:] * (self.shard - len(padded))
        data, mask = jax.tree.map(lambda *leaves: np.stack(leaves), *padded)
        split = sharding.batch_sharding(self.mesh, 1)
        data, mask = (sharding.put_local(part, split) for part in (data, mask))
        return EpochBatches(data, None, mask), number, stop

    def _draw_shard(self, epoch: int, number: int) -> None:
        """Draws the missing batches of a shard that begins at batch `number`."""
        for i in range(number + len(self._drawn), min(number + self.shard, self.steps)):
            self._drawn.append(self._draw(epoch, i))
            self._check_kind(self._drawn[-1], i)

    def _check_kind(self, batch: Any, number: int) -> None:
        """Raises if a batch differs from the first in more than the lengths of its axes."""
        kinds = [
            (jax.tree.structure(b), [(a.ndim, a.dtype) for a in jax.tree.leaves(b)])
            for b in (self.sample, batch)
        ]
        if kinds[0] != kinds[1]:
            raise ValueError(
                f"batch {number} of the stream is {validation.show(batch)} and the first "
                f"was {validation.show(self.sample)}; expected the same arrays in every "
                "batch, of the same dtypes and numbers of axes. Only rows and lengths may differ."
            )

    def _padded_size(self, run: list, number: int) -> int:
        """Returns the number of rows to which the batches of a shard are padded."""
        counts, shape = [_num_rows(batch) for batch in run], _shape(run[0])
        for i, rows in enumerate(counts):
            last = number + i == self.steps - 1
            if self._continued and not (last or rows == self._local_size):
                raise ValueError(
                    f"batch {number + i} of the stream has {rows} rows, and the model keeps a "
                    f"carry from batch to batch; expected {self._local_size} rows in all but the "
                    "last."
                )
        if self._stream.batch_size is None and shape != _shape(self.sample):
            known = self._sizes.get(shape, 0)
            self._sizes[shape] = max(known, self._round_up(max(counts)))
            return self._sizes[shape]
        if max(counts) > self._local_size:
            number += counts.index(max(counts))
            raise ValueError(
                f"batch {number} of the stream has arrays of {[max(counts)]} rows; expected from 1 "
                f"to {self._local_size}, the rows of the first batch. Pass batch_size= to the "
                "stream."
            )
        return self._local_size


def _pad(batch: Any, size: int) -> tuple[Any, np.ndarray]:
    """Returns a batch of `size` rows by repeating rows, and a mask of the real ones."""
    rows = _num_rows(batch)
    # In turn, and not the last row again and again: batch statistics include the padding.
    index = np.resize(np.arange(rows), size)
    return jax.tree.map(lambda a: a[index], batch), np.arange(size) < rows


def _num_rows(batch: Any) -> int:
    return len(jax.tree.leaves(batch)[0])


def _shape(batch: Any) -> tuple[tuple[int, ...], ...]:
    """Returns the shapes of a batch's rows; batches of one shape share a compilation."""
    return tuple(leaf.shape[1:] for leaf in jax.tree.leaves(batch))


def _fetch(data: RandomAccessSource, rows: np.ndarray) -> Any:
    """Returns the rows with these indices, as validated arrays."""
    fetched = validation.as_xy(data.fetch(rows), "the result of fetch")
    lengths = {leaf.shape[:1] for leaf in jax.tree.leaves(fetched)}
    if lengths != {(len(rows),)}:
        shapes = ", ".join(str(list(leaf.shape)) for leaf in jax.tree.leaves(fetched))
        raise ValueError(
            f"the result of fetch for {len(rows)} row indices has the shapes {shapes}; expected "
            f"{len(rows)} rows of each. fetch takes an array of indices, such as "
            "lambda rows: (x[rows], y[rows])."
        )
    for leaf in jax.tree.leaves(fetched):
        convert.check_range(leaf, "the result of fetch")
    return fetched


def power_of_two(n: int) -> int:
    """Returns the smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length()


def _nbytes(data: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(data))


def make_batch_source(
    name: str,
    data: Any,
    batch_size: int | Batches | None,
    *,
    seed: int | None,
    resident_bytes: int,
    mesh: Mesh | None = None,
    steps_per_call: int | None = None,
    evaluates: bool = False,
    few_shapes: bool = False,
    who: str = "fit",
) -> BatchSource:
    """Returns a batch source for any kind of data that `fit` takes.

    Args:
      name: the name of the data in errors.
      data: the data.
      batch_size: rows in a batch; None is 32, or all rows if there are fewer, or a stream's own.
      seed: as for `RowSource`.
      resident_bytes: as for `RowSource`.
      mesh: the devices that share a batch. A batch of all rows is padded to a multiple of their
        number.
      steps_per_call: as for `RowSource`.
      evaluates: whether a `batch_size` above the number of rows is allowed.
      few_shapes: whether data of other sizes will follow that should share compiled programs.
      who: the calling function, for errors.
    """
    data = convert.as_source(data, name)
    if isinstance(data, BatchStream):
        if isinstance(batch_size, Batches) and seed is not None:
            raise ValueError(
                f"{who}: batch_size is {batch_size} and {name} is a BatchStream, which makes its "
                "own batches; expected batch_size=None. Size, order and drop batches in the stream."
            )
        source = StreamSource(data, mesh, steps_per_call=steps_per_call)
        own = source.batch_size if data.batch_size is None else data.batch_size
        if seed is not None and batch_size not in (None, own):
            raise ValueError(
                f"{who}: batch_size is {batch_size!r} and {name} makes its own batches, of {own} "
                "rows; expected batch_size=None. Set the batch size of the stream."
            )
        return source
    if not isinstance(data, RandomAccessSource):
        data = validation.as_xy(data, name)
    rows = data.rows if isinstance(data, RandomAccessSource) else validation.count_rows(data, name)
    options = batch_size if isinstance(batch_size, Batches) else Batches()
    size: Any = options.size if batch_size is options else batch_size
    size = options.size if size is None else size
    parts = sharding.num_shards(mesh)
    whole = -(-(power_of_two(rows) if few_shapes else rows) // parts) * parts
    validation.validate_positive(who, batch_size=size)
    if size > whole and not (evaluates or batch_size is None):
        validation.choose_batch_size(who, size, rows)
    return RowSource(
        data,
        whole if size >= rows else size,
        seed=seed if options.shuffle else None,
        mesh=mesh,
        drop_last=options.drop_last,
        resident_bytes=resident_bytes,
        steps_per_call=steps_per_call,
        few_shapes=few_shapes,
    )
