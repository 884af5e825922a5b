"""Boxes: which cells of an array each of many changes of the input reaches."""

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
    """For each of K changes the cells from `starts[k]` on, as many along each axis for all.

    Starts are known while a program is made, so that sizes are the smallest that suffice.

    Attributes:
      starts: (K, axes) integers; cells before 0 or past the end are padding.
      sizes: one for each axis.
    """

    starts: np.ndarray
    sizes: tuple[int, ...]

    @property
    def ends(self) -> np.ndarray:
        return self.starts + np.asarray(self.sizes, int)

    def share(self, shape: Sequence[int]) -> float:
        """The part of an array of this shape that a box has."""
        return math.prod(self.sizes) / max(math.prod(shape), 1)

    def widened(self, axes: Sequence[int], shape: Sequence[int]) -> Box:
        """With the whole of some axes."""
        starts, sizes = self.starts.copy(), list(self.sizes)
        for axis in axes:
            starts[:, axis], sizes[axis] = 0, shape[axis]
        return Box(starts, tuple(sizes))

    def picked(self, axes: Sequence[int]) -> Box:
        """Some of the axes, in that order."""
        return Box(self.starts[:, list(axes)], tuple(self.sizes[axis] for axis in axes))

    def replaced(self, axes: Sequence[int], by: Box) -> Box:
        """With some axes those of another box."""
        starts, sizes = self.starts.copy(), list(self.sizes)
        for i, axis in enumerate(axes):
            starts[:, axis], sizes[axis] = by.starts[:, i], by.sizes[i]
        return Box(starts, tuple(sizes))

    def same(self, other: Box) -> bool:
        return self.sizes == other.sizes and bool((self.starts == other.starts).all())

    def of(self, array: Any, i: Any) -> Any:
        """The cells of the i-th box; an axis of one cell is broadcast to all."""
        one = [axis for axis, n in enumerate(array.shape) if n == 1]
        box = self.widened(one, array.shape)
        return _slice(array, box.starts, box.sizes, i)


@dataclasses.dataclass(frozen=True, eq=False)
class Change:
    """What a change makes of one operation.

    Attributes:
      wants: the cells that are needed of each input, or None for all of one that does not change.
      outs: the cells of each output that change.
      compute: from those of the inputs to those of the outputs.
      fill: what stands in the padding of the first input.
    """

    wants: Sequence[Box | None]
    outs: Sequence[Box]
    compute: Callable[..., Sequence[jax.Array]]
    fill: Any = 0


def whole(shape: Sequence[int], count: int) -> Box:
    return Box(np.zeros((count, len(shape)), int), tuple(shape))


def within(starts: np.ndarray, ends: np.ndarray, shape: Sequence[int]) -> Box:
    """The smallest box that has the cells from starts to ends (K, axes), as far as they exist."""
    last = np.asarray(shape, int)
    starts, ends = np.clip(starts, 0, last), np.clip(ends, 0, last)
    sizes = np.minimum(last, np.maximum(1, (ends - starts).max(0, initial=1)))
    return Box(np.minimum(starts, last - sizes), tuple(map(int, sizes)))


def hull(boxes: Sequence[Box], shape: Sequence[int]) -> Box:
    """The smallest box around several."""
    starts = np.min([box.starts for box in boxes], axis=0)
    return within(starts, np.max([box.ends for box in boxes], axis=0), shape)


class Window:
    """The cells of a box of an array, of which those of another box have changed.

    Args:
      array: the values before the change.
      have: where it changes, or None where it does not.
      want: the cells asked for.
      fill: what stands in the padding.
    """

    def __init__(self, array: jax.Array, have: Box | None, want: Box, fill: Any = 0):
        around = want
        if have is not None:
            starts = np.minimum(want.starts, have.starts)
            ends = np.maximum(want.ends, have.ends)
            around = Box(starts, tuple(map(int, (ends - starts).max(0))))
        low = np.maximum(0, -around.starts.min(0))
        high = np.maximum(0, around.ends.max(0) - np.asarray(array.shape, int))
        if low.any() or high.any():
            pads = [(int(lo), int(hi), 0) for lo, hi in zip(low, high, strict=True)]
            array = lax.pad(array, jnp.asarray(fill, array.dtype), pads)
        self._array, self._around, self._low = array, around, low
        self._have, self._want = have, want

    def __call__(self, i: Any, patch: jax.Array | None) -> jax.Array:
        """The cells of the i-th box, with the changed ones from the patch."""
        around, want, have = self._around, self._want, self._have
        if have is None:
            return _slice(self._array, want.starts + self._low, want.sizes, i)
        assert patch is not None
        if have.same(want):
            return patch
        if not have.same(around):
            cells = _slice(self._array, around.starts + self._low, around.sizes, i)
            patch = lax.dynamic_update_slice(cells, patch, _at(have.starts - around.starts, i))
        if around.same(want):
            return patch
        return _slice(patch, want.starts - around.starts, want.sizes, i)


def _slice(array, starts, sizes, i):
    if not _vary(starts):
        first = map(int, starts[0] if len(starts) else np.zeros(len(sizes)))
        return array[tuple(slice(at, at + n) for at, n in zip(first, sizes, strict=True))]
    return lax.dynamic_slice(array, _at(starts, i), sizes)


def _at(starts, i):
    if not _vary(starts):
        return tuple(starts[0])
    return tuple(jnp.asarray(starts, jnp.int32)[i])


def _vary(starts) -> bool:
    return bool((starts != starts[:1]).any())
