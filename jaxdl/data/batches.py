"""Mini-batches in an order that is a pure function of (seed, epoch). Lecture row D08.

Nothing is remembered between epochs, so a run goes on from any step without replaying the ones
before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxdl._check import require_ints

__all__ = ["batches", "one_hot", "permutation"]


def permutation(n: int, *, seed: int, epoch: int) -> np.ndarray:
    """The order of n rows in an epoch: a permutation drawn by Philox keyed with (seed, epoch).

    Args:
      n: the number of rows, >= 0.
      seed, epoch: integers in 0 .. 2^64 - 1.

    Returns:
      (n,) int32 indices, the same on every machine.

    Raises:
      ValueError: an argument is negative or no integer.
    """
    require_ints("permutation", 0, n=n, seed=seed, epoch=epoch)
    key = np.array([seed, epoch], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(n).astype(np.int32)


def batches(
    data: Any, batch_size: int, *, seed: int | None, epoch: int = 0, drop_last: bool = False
) -> Iterator[Any]:
    """The mini-batches of an epoch: every row once, shuffled.

    Args:
      data: a tree of arrays with a common first axis, such as a `Split` or a tuple `(x, y)`.
      batch_size: rows in a batch.
      seed, epoch: they alone give the order; `seed=None` keeps the order of the data.
      drop_last: whether to leave out a last, smaller batch.

    Yields:
      Trees like `data` of `batch_size` rows, the last one perhaps of fewer.

    Raises:
      ValueError: the arrays differ in length or are empty; `batch_size` is not in 1 .. N.
    """
    lengths = {len(leaf) for leaf in jax.tree.leaves(data)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"batches: arrays of lengths {sorted(lengths)}; expected one, above 0.")
    (n,) = lengths
    if not 1 <= batch_size <= n:
        raise ValueError(f"batches: batch_size is {batch_size} for {n} rows; expected 1 .. {n}.")
    order = np.arange(n) if seed is None else permutation(n, seed=seed, epoch=epoch)
    stop = n - n % batch_size if drop_last else n
    return (
        jax.tree.map(lambda leaf, rows=order[i : i + batch_size]: leaf[rows], data)
        for i in range(0, stop, batch_size)
    )


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Rows of 0 with a 1 at the label. Lecture rows S24, V08.

    Args:
      labels: (N,) integers in 0 .. classes - 1.
      classes: the length of a row.

    Returns:
      (N, classes) float32.

    Raises:
      ValueError: a label is no integer or out of range.
    """
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"one_hot: labels are {labels.dtype}; expected integers.")
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"one_hot: labels lie in {labels.min()} .. {labels.max()}; expected 0 .. {classes - 1}."
        )
    return (labels[..., None] == np.arange(classes)).astype(np.float32)
