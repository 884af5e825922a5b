"""Intervals of input positions along one spatial axis, for every element of a value.

The ends of the intervals are arrays that broadcast to the value. Most of them vary along one axis
only, so the cost does not depend on channels and batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np


class Extent(NamedTuple):
    """Intervals low .. high of input positions, and the step between neighbours along each axis.

    The arrays have the rank of the value, and length 1 along axes that make no difference. Empty
    intervals are inf .. -inf.
    """

    low: np.ndarray
    high: np.ndarray
    step: tuple[Fraction, ...]


Extents = Sequence[Extent | None]
"""One for each value; None for values that do not depend on the input."""


def constant(low: float, high: float, rank: int) -> Extent:
    """Returns the extent of a value whose elements all have one interval."""
    one = (1,) * rank
    return Extent(np.full(one, low), np.full(one, high), (Fraction(0),) * rank)


def union(extents: Extents) -> Extent | None:
    """Returns the smallest intervals around those of several values of one shape."""
    known = [extent for extent in extents if extent is not None]
    if not known:
        return None
    rank = max(extent.low.ndim for extent in known)
    # Scalars are operands of elementwise operations, too.
    known = [e if e.low.ndim else constant(e.low.item(), e.high.item(), rank) for e in known]
    low, high = known[0].low, known[0].high
    for extent in known[1:]:
        low, high = np.minimum(low, extent.low), np.maximum(high, extent.high)
    return Extent(low, high, common_step(known))


def common_step(extents: Sequence[Extent]) -> tuple[Fraction, ...]:
    """Returns along each axis the first step that is not 0."""
    steps = zip(*(extent.step for extent in extents), strict=True)
    return tuple(next(filter(None, along), Fraction(0)) for along in steps)


def map_ends(extent: Extent, function: Callable[[np.ndarray], np.ndarray], step: Any) -> Extent:
    """Rearranges the ends of the intervals, with new steps."""
    return Extent(function(extent.low), function(extent.high), tuple(step))


def slide(
    extent: Extent,
    axis: int,
    sizes: tuple[int, int],
    *,
    taps: int = 1,
    stride: int = 1,
    before: int = 0,
    base_dilation: int = 1,
    dilation: int = 1,
) -> Extent:
    """Moves a window along an axis, from `sizes[0]` elements to `sizes[1]` windows.

    Windows that reach beyond the axis continue the intervals with their step.
    """
    n, count = sizes
    step = extent.step[axis]
    # All positions have one interval, so every window has it, too.
    if not step and extent.low.shape[axis] == 1:
        return extent
    low, high = (
        np.broadcast_to(end, [n if i == axis else m for i, m in enumerate(end.shape)])
        for end in (extent.low, extent.high)
    )
    ends = []
    for tap in range(taps):
        place = np.arange(count) * stride + tap * dilation - before
        index = place // base_dilation
        # A step of p / q is p pixels for q elements, also where single steps differ.
        over = np.where(index < 0, index // step.denominator, 0)
        over += np.maximum(-(-(index - n + 1) // step.denominator), 0)
        inside = np.clip(index - over * step.denominator, 0, n - 1)
        shape = [count if i == axis else 1 for i in range(low.ndim)]
        shift = (over * step.numerator).reshape(shape)
        empty = (place % base_dilation != 0).reshape(shape)
        ends.append(
            (
                np.where(empty, np.inf, np.take(low, inside, axis) + shift),
                np.where(empty, -np.inf, np.take(high, inside, axis) + shift),
            )
        )
    steps = list(extent.step)
    steps[axis] = step * stride / base_dilation
    lows, highs = zip(*ends, strict=True)
    return Extent(np.minimum.reduce(lows), np.maximum.reduce(highs), tuple(steps))


def reduce(extent: Extent, axes: Sequence[int], keep: bool = False) -> Extent:
    """Returns the union over all positions along some axes."""
    axes = tuple(axes)
    kept = [i for i in range(extent.low.ndim) if keep or i not in axes]
    step = [Fraction(0) if i in axes else extent.step[i] for i in kept]
    low, high = extent.low.min(axes, keepdims=keep), extent.high.max(axes, keepdims=keep)
    return Extent(low, high, tuple(step))


def stack(extents: Extents) -> Extent | None:
    """Returns the extent of values stacked along a new first axis."""
    whole = union(extents)
    if whole is None:
        return None
    nothing = constant(np.inf, -np.inf, whole.low.ndim)
    parts = [nothing if extent is None else extent for extent in extents]
    low = np.stack([np.broadcast_to(part.low, whole.low.shape) for part in parts])
    high = np.stack([np.broadcast_to(part.high, whole.low.shape) for part in parts])
    return Extent(low, high, (find_step(low, 0), *whole.step))


def find_step(low: np.ndarray, axis: int) -> Fraction:
    """Returns p / q if intervals q elements apart are p pixels apart, else 0."""
    low = np.moveaxis(low, axis, 0)
    # Enlarging by 64 is the most that occurs; searching on takes seconds for flattened images.
    for period in range(1, min(len(low) // 2, 64) + 1):
        with np.errstate(invalid="ignore"):  # inf - inf, of empty intervals
            change = low[period:] - low[:-period]
        if np.isfinite(change).all() and np.ptp(change) == 0:
            return Fraction(float(change.flat[0])) / period
    return Fraction(0)
