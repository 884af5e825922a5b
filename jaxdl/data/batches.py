"""Mini-batches in an order that is a pure function of (seed, epoch).

There is no state between epochs, so a run resumes from any step without replaying earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxdl._check import require_ints

__all__ = ["batches", "one_hot", "permutation"]


def permutation(n: int, *, seed: int, epoch: int) -> np.ndarray:
    """Returns the order of n rows in an epoch, drawn by Philox with the key (seed, epoch).

    Args:
      n: number of rows, >= 0.
      seed: integer in 0 .. 2^64 - 1.
      epoch: integer in 0 .. 2^64 - 1.

    Returns:
      (n,) int32 indices, the same on every machine.

    Raises:
      ValueError: an argument is negative or not an integer.
    """
    require_ints("permutation", 0, n=n, seed=seed, epoch=epoch)
    # Both in the key: with a sum such as seed + epoch, neighbouring seeds would share orders.
    key = np.array([seed, epoch], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(n).astype(np.int32)


def batches(
    data: Any, batch_size: int, *, seed: int | None, epoch: int = 0, drop_last: bool = False
) -> Iterator[Any]:
    """Yields the mini-batches of an epoch: every row once, shuffled.

    Args:
      data: a tree of arrays with a common first axis, such as a `Split` or a tuple `(x, y)`.
      batch_size: rows in a batch.
      seed: determines the order, together with `epoch`; None keeps the order of the data.
      epoch: number of the epoch.
      drop_last: whether to drop a last batch that is smaller.

    Yields:
      Trees like `data` with `batch_size` rows; the last one may have fewer.

    Raises:
      ValueError: the arrays differ in length or are empty; `batch_size` is not in 1 .. N.
    """
    lengths = {len(leaf) for leaf in jax.tree.leaves(data)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"batches: arrays of lengths {sorted(lengths)}; expected one length above 0."
        )
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
    """Encodes labels as rows of zeros with a 1 at the label.

    Args:
      labels: (N,) integers in 0 .. classes - 1.
      classes: length of a row.

    Returns:
      (N, classes) float32.

    Raises:
      ValueError: a label is not an integer or is out of range.
    """
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"one_hot: labels are {labels.dtype}; expected integers.")
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"one_hot: labels are in {labels.min()} .. {labels.max()}; expected 0 .. {classes - 1}."
        )
    return (labels[..., None] == np.arange(classes)).astype(np.float32)
