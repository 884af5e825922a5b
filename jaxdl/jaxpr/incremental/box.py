"""Boxes of array cells, one for each change, and windows cut out of arrays."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


@dataclasses.dataclass(frozen=True, eq=False)
class Box:
    """A box of cells for each of K changes: the same size, at different positions.

    Positions are concrete NumPy arrays, so that the smallest sufficient size is known in tracing.

    Attributes:
      starts: (K, axes) integers; cells before 0 or past the end are padding.
      sizes: one for each axis.
    """

    starts: np.ndarray
    sizes: tuple[int, ...]

    @property
    def ends(self) -> np.ndarray:
        """(K, axes): one past the last cell."""
        return self.starts + np.asarray(self.sizes, int)

    def share(self, shape: Sequence[int]) -> float:
        """Returns the fraction of an array of this shape that a box covers."""
        return math.prod(self.sizes) / max(math.prod(shape), 1)

    def extend(self, axes: Sequence[int], shape: Sequence[int]) -> Box:
        """Returns the box with the full length of some axes."""
        starts, sizes = self.starts.copy(), list(self.sizes)
        for axis in axes:
            starts[:, axis], sizes[axis] = 0, shape[axis]
        return Box(starts, tuple(sizes))

    def select(self, axes: Sequence[int]) -> Box:
        """Returns the box along some of the axes, in this order."""
        return Box(self.starts[:, list(axes)], tuple(self.sizes[axis] for axis in axes))

    def replace(self, axes: Sequence[int], other: Box) -> Box:
        """Returns the box with some axes replaced by the axes of another box."""
        starts, sizes = self.starts.copy(), list(self.sizes)
        for i, axis in enumerate(axes):
            starts[:, axis], sizes[axis] = other.starts[:, i], other.sizes[i]
        return Box(starts, tuple(sizes))

    def equals(self, other: Box) -> bool:
        """Returns whether sizes and all positions are equal."""
        return self.sizes == other.sizes and bool((self.starts == other.starts).all())

    def of(self, array: Any, i: Any) -> Any:
        """Returns the cells of the i-th box; axes of length 1 are broadcast."""
        one = [axis for axis, n in enumerate(array.shape) if n == 1]
        box = self.extend(one, array.shape)
        return _slice(array, box.starts, box.sizes, i)


@dataclasses.dataclass(frozen=True, eq=False)
class Change:
    """The recomputation of one operation.

    Attributes:
      required: the cells of each input that are needed; None for the whole of an unchanged input.
      outs: the cells of each output that change.
      compute: the function from the required cells to the changed cells of the outputs.
      fill: the value of padding around the first input.
    """

    required: Sequence[Box | None]
    outs: Sequence[Box]
    compute: Callable[..., Sequence[jax.Array]]
    fill: Any = 0


def whole(shape: Sequence[int], count: int) -> Box:
    """Returns `count` boxes that cover all of an array."""
    return Box(np.zeros((count, len(shape)), int), tuple(shape))


def within(starts: np.ndarray, ends: np.ndarray, shape: Sequence[int]) -> Box:
    """Returns the smallest box from starts to ends (K, axes), clipped to shape."""
    last = np.asarray(shape, int)
    starts, ends = np.clip(starts, 0, last), np.clip(ends, 0, last)
    # One size for all changes, because compiled slices need static sizes.
    sizes = np.minimum(last, np.maximum(1, (ends - starts).max(0, initial=1)))
    return Box(np.minimum(starts, last - sizes), tuple(map(int, sizes)))


def hull(boxes: Sequence[Box], shape: Sequence[int]) -> Box:
    """Returns the smallest box around several boxes."""
    starts = np.min([box.starts for box in boxes], axis=0)
    return within(starts, np.max([box.ends for box in boxes], axis=0), shape)


class Window:
    """Cuts the required cells out of an array in which some cells have changed.

    Args:
      array: the values before the change.
      changed: the cells that change, or None.
      required: the cells to return.
      fill: the value of padding.
    """

    def __init__(self, array: jax.Array, changed: Box | None, required: Box, fill: Any = 0):
        around = required
        if changed is not None:
            starts = np.minimum(required.starts, changed.starts)
            ends = np.maximum(required.ends, changed.ends)
            around = Box(starts, tuple(map(int, (ends - starts).max(0))))
        low = np.maximum(0, -around.starts.min(0))
        high = np.maximum(0, around.ends.max(0) - np.asarray(array.shape, int))
        if low.any() or high.any():
            pads = [(int(lo), int(hi), 0) for lo, hi in zip(low, high, strict=True)]
            array = lax.pad(array, jnp.asarray(fill, array.dtype), pads)
        self._array, self._around, self._low = array, around, low
        self._changed, self._required = changed, required

    def __call__(self, i: Any, patch: jax.Array | None) -> jax.Array:
        """Returns the required cells of the i-th box, with the patch as its changed cells."""
        around, required, changed = self._around, self._required, self._changed
        if changed is None:
            return _slice(self._array, required.starts + self._low, required.sizes, i)
        assert patch is not None
        if changed.equals(required):
            return patch
        if not changed.equals(around):
            cells = _slice(self._array, around.starts + self._low, around.sizes, i)
            start = _index(changed.starts - around.starts, i)
            patch = lax.dynamic_update_slice(cells, patch, start)
        if around.equals(required):
            return patch
        return _slice(patch, required.starts - around.starts, required.sizes, i)


def _slice(array, starts, sizes, i):
    # Static slices fuse with their consumers; dynamic ones are needed only if positions differ.
    if not _vary(starts):
        first = map(int, starts[0] if len(starts) else np.zeros(len(sizes)))
        return array[tuple(slice(low, low + n) for low, n in zip(first, sizes, strict=True))]
    return lax.dynamic_slice(array, _index(starts, i), sizes)


def _index(starts, i):
    if not _vary(starts):
        return tuple(starts[0])
    return tuple(jnp.asarray(starts, jnp.int32)[i])


def _vary(starts) -> bool:
    return bool((starts != starts[:1]).any())
