"""Data that are not arrays in memory: rows fetched by number, and streams of batches.

`fit` shuffles rows that it may ask for by number, and resumes anywhere in them. A stream comes in
the order that its maker gives it; to resume in its middle, it is opened at that batch.
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
"""More batches than a run can take: the length of a Grain data set that repeats is the largest."""


@dataclasses.dataclass(frozen=True)
class RandomAccessSource:
    """Rows that are fetched when they are wanted, so that they may be more than the memory holds.

    Attributes:
      rows: how many there are.
      fetch: `(k,) int row numbers -> (x, y)`, arrays of k rows. A pure function of the numbers.

    Raises:
      ValueError: `rows` is not positive, or `fetch` no function.
    """

    rows: int
    fetch: Callable[[np.ndarray], Any]

    def __post_init__(self):
        require_ints("RandomAccessSource", 1, rows=self.rows)
        if not callable(self.fetch):
            raise ValueError(
                f"Indexed: fetch is {self.fetch!r}; expected a function of row numbers: "
                "lambda rows: (x[rows], y[rows])."
            )


@dataclasses.dataclass(frozen=True)
class BatchStream:
    """Batches in the order in which they come.

    Attributes:
      steps: batches in an epoch.
      open: `(epoch, first) -> iterator` over the batches `(x, y)` of an epoch from number `first`
        on; more of them than `steps` are left. They may differ in the lengths of their axes, such
        as the number of steps: every shape is compiled once. With several processes, each opens
        its own share of every batch.
      batch_size: rows that smaller batches are filled up to, and masked; None takes the first
        batch's, and the largest one's of every other shape.

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
    """A stream from anything that yields batches.

    Args:
      source: an iterable of batches `(x, y)` of arrays or tensors, such as a list, a PyTorch
        `DataLoader` or a generator; or a function that makes one, called once an epoch. To resume
        in the middle of an epoch, the batches before are drawn and dropped, which is exact if they
        come in the same order again. An iterator that can be gone through only once lasts as long
        as it does.
      steps: batches in an epoch; None takes `len(source)`.
      batch_size: as for `BatchStream`.

    Raises:
      ValueError: there is neither a length nor `steps`; `source` is a function of arguments; in the
        run, an iterator that is spent cannot be begun again.
    """
    if callable(source):
        try:
            inspect.signature(source).bind()
        except TypeError as error:
            raise ValueError(
                f"from_iterable: source is a function that cannot be called alone, {error}; "
                "expected one without arguments: lambda: batches. For an order that depends on the "
                "epoch use data.BatchStream(steps, open)."
            ) from error
        except ValueError:  # a built-in function whose arguments are not known
            pass
    if steps is None:
        try:
            steps = len(source)  # type: ignore[arg-type]
        except TypeError:  # a DataLoader of an IterableDataset has __len__, but no length
            raise ValueError(
                f"from_iterable: {type(source).__name__} has no length; give steps=, the batches "
                "in an epoch."
            ) from None
    once = isinstance(source, Iterator)
    drawn = 0  # batches that a source for one use has given so far

    def count(batches):
        nonlocal drawn
        for batch in batches:
            drawn += 1
            yield batch

    def open(epoch, first):
        if not once:
            batches = source() if callable(source) else source
            return itertools.islice(iter(batches), first, None)
        ahead = epoch * steps + first - drawn
        if ahead < 0:
            raise ValueError(
                f"from_iterable: {type(source).__name__} has given {drawn} batches and cannot go "
                "back; give a function that makes one, or something that can be iterated again."
            )
        return itertools.islice(count(source), ahead, None)

    return BatchStream(steps, open, batch_size)


def from_grain(dataset: Any, *, steps: int | None = None) -> BatchStream:
    """A stream from a Grain `MapDataset`, `IterDataset` or `DataLoader` of batches `(x, y)`.

    Args:
      dataset: batched. A `MapDataset` is opened anywhere at once, and shuffles every epoch anew if
        it is made to; the others are drawn from the start of the epoch.
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
                "from_grain: the data set repeats without an end; expected steps=, the batches in "
                "an epoch."
            )
        length = steps

    def open(epoch, first):
        # Past its end a MapDataset begins again, with the shuffling of the next epoch.
        return (dataset[i] for i in range(epoch * length + first, (epoch + 1) * length))

    return BatchStream(length if steps is None else min(steps, length), open)


def from_hugging_face(
    dataset: Any,
    *,
    x: str,
    y: str,
    transform: Callable[[np.ndarray, np.ndarray], Any] = lambda x, y: (x, y),
) -> RandomAccessSource:
    """Rows of a Hugging Face `datasets.Dataset`, which stay on the disk until they are wanted.

    Args:
      dataset: a map-style dataset of one split.
      x, y: the names of its columns.
      transform: `(x, y) -> (x, y)`, of the fetched rows as arrays.

    Raises:
      ValueError: it has no such column.
    """
    for name in (x, y):
        if name not in dataset.column_names:
            raise ValueError(
                f"from_hugging_face: no column {name!r}; there are {dataset.column_names}."
            )
    columns = dataset.select_columns([x, y]).with_format("numpy")

    def fetch(rows):
        found = columns[rows]
        return transform(np.asarray(found[x]), np.asarray(found[y]))

    return RandomAccessSource(len(dataset), fetch)
