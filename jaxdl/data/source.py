"""Data that are not arrays in memory: random-access sources and batch streams.

`fit` shuffles the rows of a random-access source, and resumes at any of them. A stream has its own
order; to resume in the middle, it is opened at that batch.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from jaxdl._check import require_ints

__all__ = ["BatchStream", "RandomAccessSource", "from_grain", "from_hugging_face", "from_iterable"]


ENDLESS = 10**12
"""More batches than any run has; a repeated Grain data set has `sys.maxsize` of them."""


@dataclasses.dataclass(frozen=True)
class RandomAccessSource:
    """Rows that are fetched by index when needed, for data larger than the memory.

    Attributes:
      rows: number of rows.
      fetch: `(k,) row indices -> (x, y)`, arrays of k rows; a pure function.

    Raises:
      ValueError: `rows` is not positive, or `fetch` is not a function.
    """

    rows: int
    fetch: Callable[[np.ndarray], Any]

    def __post_init__(self):
        require_ints("RandomAccessSource", 1, rows=self.rows)
        if not callable(self.fetch):
            raise ValueError(
                f"RandomAccessSource: fetch is {self.fetch!r}; expected a function of indices: "
                "lambda rows: (x[rows], y[rows])."
            )


@dataclasses.dataclass(frozen=True)
class BatchStream:
    """Batches in the order of their source.

    Attributes:
      steps: batches in an epoch.
      open: `(epoch, first) -> iterator` over the batches `(x, y)` of an epoch from number `first`
        on; batches after `steps` are ignored. Axes may differ in length, such as the number of time
        steps: every shape is compiled once. With several processes, each opens its own share of
        every batch.
      batch_size: rows to which smaller batches are padded and masked; None takes the size of the
        first batch, and for every other shape the size of the largest one.

    Raises:
      ValueError: `steps` or `batch_size` is not positive.
    """

    steps: int
    open: Callable[[int, int], Iterator[Any]]
    batch_size: int | None = None

    def __post_init__(self):
        require_ints("BatchStream", 1, steps=self.steps)
        if self.batch_size is not None:
            require_ints("BatchStream", 1, batch_size=self.batch_size)


def from_iterable(
    source: Iterable | Callable[[], Iterable],
    *,
    steps: int | None = None,
    batch_size: int | None = None,
) -> BatchStream:
    """Creates a stream from an iterable of batches.

    Args:
      source: an iterable of batches `(x, y)` of arrays or tensors, such as a list, a PyTorch
        `DataLoader` or a generator; or a function that returns one, called once per epoch. To
        resume in the middle of an epoch, earlier batches are drawn and dropped, which is exact if
        their order is the same. An iterator without restart, such as a generator, is used once.
      steps: batches in an epoch; None takes `len(source)`.
      batch_size: as for `BatchStream`.

    Raises:
      ValueError: there is neither a length nor `steps`; `source` is a function with arguments; in
        the run, an iterator without restart would have to start again.
    """
    if callable(source):
        try:
            inspect.signature(source).bind()
        except TypeError as error:
            raise ValueError(
                f"from_iterable: source is a function that cannot be called alone, {error}; "
                "expected one without arguments: lambda: batches. For an order that depends on the "
                "epoch, use data.BatchStream(steps, open)."
            ) from error
        except ValueError:  # a built-in function without a signature
            pass
    if steps is None:
        try:
            steps = len(source)  # type: ignore[arg-type]
        except TypeError:  # a DataLoader of an IterableDataset has __len__, but no length
            raise ValueError(
                f"from_iterable: {type(source).__name__} has no length; pass steps=, the number of "
                "batches in an epoch."
            ) from None
    once = isinstance(source, Iterator)
    drawn = 0  # batches so far, of an iterator without restart

    def count(batches):
        nonlocal drawn
        for batch in batches:
            drawn += 1
            yield batch

    def open(epoch, first):
        if not once:
            batches = source() if callable(source) else source
            return itertools.islice(iter(batches), first, None)
        skipped = epoch * steps + first - drawn
        if skipped < 0:
            raise ValueError(
                f"from_iterable: {type(source).__name__} has yielded {drawn} batches and cannot go "
                "back; pass a function that returns a new iterator, or a list."
            )
        return itertools.islice(count(source), skipped, None)

    return BatchStream(steps, open, batch_size)


def from_grain(dataset: Any, *, steps: int | None = None) -> BatchStream:
    """Creates a stream from a Grain `MapDataset`, `IterDataset` or `DataLoader`.

    Args:
      dataset: a data set of batches `(x, y)`. A `MapDataset` opens at any batch directly, and
        reshuffles every epoch if it is shuffled; the others are drawn from the start of the epoch.
      steps: batches in an epoch; None takes `len(dataset)`.

    Raises:
      ValueError: there is neither a length nor `steps`.
    """
    if not hasattr(dataset, "__getitem__"):
        return from_iterable(dataset, steps=steps)
    length = len(dataset)
    if length > ENDLESS:  # it repeats
        if steps is None:
            raise ValueError(
                "from_grain: the data set repeats without an end; expected steps=, the number of "
                "batches in an epoch."
            )
        length = steps

    def open(epoch, first):
        # Indices past the end of a MapDataset are those of the next, reshuffled epoch.
        return (dataset[i] for i in range(epoch * length + first, (epoch + 1) * length))

    return BatchStream(length if steps is None else min(steps, length), open)


def from_hugging_face(
    dataset: Any,
    *,
    x: str,
    y: str,
    transform: Callable[[np.ndarray, np.ndarray], Any] = lambda x, y: (x, y),
) -> RandomAccessSource:
    """Creates a source from a Hugging Face `datasets.Dataset`, whose rows are read when needed.

    Args:
      dataset: a map-style dataset of one split.
      x: name of the column of x.
      y: name of the column of y.
      transform: `(x, y) -> (x, y)`, applied to the fetched rows as arrays.

    Raises:
      ValueError: the dataset has no such column.
    """
    for name in (x, y):
        if name not in dataset.column_names:
            raise ValueError(
                f"from_hugging_face: no column {name!r}; there are {dataset.column_names}."
            )
    # Other columns would be decoded with every row.
    columns = dataset.select_columns([x, y]).with_format("numpy")

    def fetch(rows):
        fetched = columns[rows]
        return transform(np.asarray(fetched[x]), np.asarray(fetched[y]))

    return RandomAccessSource(len(dataset), fetch)
