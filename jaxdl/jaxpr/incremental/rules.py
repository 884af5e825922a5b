"""Incremental rules of operations: required cells, changed cells, computation.

Operations without a rule require all of their inputs and change all of their outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdl.jaxpr.graph import Operation
from jaxdl.jaxpr.incremental import box as boxes
from jaxdl.jaxpr.incremental.box import Box, Change
from jaxdl.jaxpr.incremental.sliding import (
    convolution,
    evaluate,
    padding,
    pooling,
    strided_slice,
)
from jaxdl.jaxpr.primitives import readers
from jaxdl.jaxpr.primitives.kinds import (
    ARG_REDUCTIONS,
    COMPLEX_PARTS,
    ELEMENTWISE,
    IDENTITIES,
    REDUCTIONS,
    RESHAPING_CASTS,
)

Rule = Callable[[Operation, Sequence[Any], Sequence[tuple[int, ...]], Sequence[Any]], Change | None]
"""`(operation, changed, input shapes, outputs) -> Change`, or None to compute all of it."""

MOST = 0.5
"""The fraction of an array above which computing all of it is as fast."""


def plan(
    operation: Operation, changed: Sequence[Box | None], values: Sequence[Any], outs
) -> Change:
    """Returns the `Change` of an operation.

    Args:
      operation: an operation with changed inputs.
      changed: the cells of each input that change, or None.
      values: the inputs before the change.
      outs: the outputs before the change.
    """
    shapes = [jnp.shape(value) for value in values]
    is_small = all(
        box is None or box.share(shape) <= MOST for box, shape in zip(changed, shapes, strict=True)
    )
    if is_small and operation.name in RULES:
        change = RULES[operation.name](operation, changed, shapes, outs)
        if change is not None:
            return change
    count = next(len(box.starts) for box in changed if box is not None)
    return Change(
        [box and boxes.whole(shape, count) for box, shape in zip(changed, shapes, strict=True)],
        [boxes.whole(out.shape, count) for out in outs],
        lambda *values: evaluate(operation, values),
    )


def _elementwise(operation, changed, shapes, outs):
    shape = outs[0].shape
    spread = [[a for a, n in enumerate(own) if n == 1 != shape[a]] for own in shapes]
    reached = [box.extend(axes, shape) for box, axes in zip(changed, spread, strict=True) if box]
    box = boxes.hull(reached, shape)
    required = [
        box.extend(axes, own) if own else None for own, axes in zip(shapes, spread, strict=True)
    ]
    return Change(required, [box], operation)


def _reduction(operation, changed, shapes, outs):
    axes = readers().axes(operation.equation)
    box = changed[0].extend(axes, shapes[0])
    kept = [axis for axis in range(len(shapes[0])) if axis not in axes]
    return Change([box], [box.select(kept)], operation)


def _transpose(operation, changed, shapes, outs):
    order = readers().axes(operation.equation)
    return Change(changed, [changed[0].select(order)], operation)


def _squeeze(operation, changed, shapes, outs):
    removed = readers().axes(operation.equation)
    kept = [axis for axis in range(len(shapes[0])) if axis not in removed]
    return Change(changed, [changed[0].select(kept)], lambda x: [lax.squeeze(x, removed)])


def _reverse(operation, changed, shapes, outs):
    axes = list(readers().axes(operation.equation))
    starts = changed[0].starts.copy()
    starts[:, axes] = (np.asarray(shapes[0], int) - changed[0].ends)[:, axes]
    return Change(changed, [Box(starts, changed[0].sizes)], operation)


def _broadcast(operation, changed, shapes, outs):
    axes, shape = readers().axes(operation.equation), outs[0].shape
    spread = [i for i, axis in enumerate(axes) if shapes[0][i] != shape[axis]]
    box = changed[0]
    out = boxes.whole(shape, len(box.starts))
    kept = [i for i in range(len(axes)) if i not in spread]
    out = out.replace([axes[i] for i in kept], box.select(kept))
    # Not the operation itself, whose output shape is that of the whole array.
    return Change([box], [out], lambda x: [lax.broadcast_in_dim(x, out.sizes, axes)])


def _concatenate(operation, changed, shapes, outs):
    (axis,), shape = readers().axes(operation.equation), outs[0].shape
    box = boxes.hull([box.extend([axis], shape) for box in changed if box], shape)
    return Change([box.extend([axis], shape) for shape in shapes], [box], operation)


def _split(operation, changed, shapes, outs):
    (axis,) = readers().axes(operation.equation)
    box = changed[0].extend([axis], shapes[0])
    return Change([box], [box.extend([axis], out.shape) for out in outs], operation)


def _product(operation, changed, shapes, outs):
    if all(changed):
        return None
    side = 0 if changed[0] is not None else 1
    summed, batches = readers().dot_general(operation.equation)
    box = changed[side].extend(summed[side], shapes[side])
    batch = box.select(batches[side])
    required: list[Box | None] = [box, box]
    other = boxes.whole(shapes[1 - side], len(box.starts)).replace(batches[1 - side], batch)
    required[1 - side] = other if batches[0] else None
    free = [
        [axis for axis in range(len(shape)) if axis not in (*contracted, *shared)]
        for shape, contracted, shared in zip(shapes, summed, batches, strict=True)
    ]
    first = len(batches[0]) + (len(free[0]) if side else 0)
    out = boxes.whole(outs[0].shape, len(box.starts)).replace(range(len(batches[0])), batch)
    out = out.replace(range(first, first + len(free[side])), box.select(free[side]))
    return Change(required, [out], operation)


def _reshape(operation, changed, shapes, outs):
    shape, new = shapes[0], outs[0].shape
    if readers().reshape_order(operation.equation) is not None:
        return None
    required, out = changed[0], boxes.whole(new, len(changed[0].starts))
    for before, after in _groups(shape, new):
        # The number of cells in a row: below one index of the first axis of a group.
        rows, new_rows = (
            math.prod(s[i] for i in axes[1:]) for s, axes in ((shape, before), (new, after))
        )
        # Neither row divides the other: a box would not map to a box.
        if rows % new_rows and new_rows % rows:
            required = required.extend(before, shape)
            continue
        required = required.extend(before[1:], shape)
        starts, ends = (a[:, before[:1]] * rows for a in (required.starts, required.ends))
        cut = boxes.within(starts // new_rows, -(ends // -new_rows), [new[after[0]]])
        out = out.replace(after[:1], cut)
        sizes = (cut.sizes[0] * new_rows // rows,)
        required = required.replace(before[:1], Box(cut.starts * new_rows // rows, sizes))
    return Change([required], [out], lambda x: [lax.reshape(x, out.sizes)])


def _groups(shape, new) -> list[tuple[list[int], list[int]]]:
    """Returns pairs of axes of two shapes with the same cells in the same order."""
    axes, news = ([i for i, n in enumerate(s) if n != 1] for s in (shape, new))
    groups = []
    while axes and news:
        before, after = [axes.pop(0)], [news.pop(0)]
        while (n := math.prod(shape[i] for i in before)) != (m := math.prod(new[i] for i in after)):
            before, axes = (before + axes[:1], axes[1:]) if n < m else (before, axes)
            after, news = (after + news[:1], news[1:]) if m < n else (after, news)
        groups.append((before, after))
    return groups


RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (ELEMENTWISE - RESHAPING_CASTS) | COMPLEX_PARTS | IDENTITIES,
        _elementwise,
    ),
    **dict.fromkeys((*REDUCTIONS, *ARG_REDUCTIONS), _reduction),
    "conv_general_dilated": convolution,
    "reduce_window_sum": pooling(0),
    "reduce_window_max": pooling(-np.inf),
    "reduce_window_min": pooling(np.inf),
    "slice": strided_slice,
    "pad": padding,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "rev": _reverse,
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "split": _split,
    "dot_general": _product,
    "reshape": _reshape,
}
