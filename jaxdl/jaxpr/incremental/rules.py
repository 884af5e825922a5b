"""How far a change reaches through each operation, and what it takes to compute it there.

A rule says which cells of each input an operation needs, which cells of its outputs change, and how
the second come from the first. Operations without a rule take and change everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdl.jaxpr.incremental import box as boxes
from jaxdl.jaxpr.incremental.box import Box, Change
from jaxdl.jaxpr.incremental.sliding import applied, convolution, padding, pooling, slicing
from jaxdl.jaxpr.program import Operation
from jaxdl.jaxpr.reading import primitives

Rule = Callable[[Operation, Sequence[Any], Sequence[tuple[int, ...]], Sequence[Any]], Change | None]
"""`(operation, have, input shapes, outputs) -> Change`, or None where it has to be all of it."""

MOST = 0.5
"""The share of an array above which computing all of it is as fast."""


def planned(
    operation: Operation, have: Sequence[Box | None], values: Sequence[Any], outs
) -> Change:
    """The change of an operation.

    Args:
      operation: some of whose inputs change.
      have: the cells of each input that change, or None.
      values: the inputs before the change.
      outs: the outputs before the change.
    """
    shapes = [jnp.shape(value) for value in values]
    few = all(
        box is None or box.share(shape) <= MOST for box, shape in zip(have, shapes, strict=True)
    )
    if few and operation.name in RULES:
        change = RULES[operation.name](operation, have, shapes, outs)
        if change is not None:
            return change
    count = next(len(box.starts) for box in have if box is not None)
    return Change(
        [box and boxes.whole(shape, count) for box, shape in zip(have, shapes, strict=True)],
        [boxes.whole(out.shape, count) for out in outs],
        lambda *values: applied(operation, values),
    )


def _elementwise(operation, have, shapes, outs):
    shape = outs[0].shape
    spread = [[a for a, n in enumerate(own) if n == 1 != shape[a]] for own in shapes]
    changed = [box.widened(axes, shape) for box, axes in zip(have, spread, strict=True) if box]
    box = boxes.hull(changed, shape)
    wants = [
        box.widened(axes, own) if own else None for own, axes in zip(shapes, spread, strict=True)
    ]
    return Change(wants, [box], operation)


def _reduction(operation, have, shapes, outs):
    axes = primitives().axes(operation.equation)
    box = have[0].widened(axes, shapes[0])
    kept = [axis for axis in range(len(shapes[0])) if axis not in axes]
    return Change([box], [box.picked(kept)], operation)


def _transpose(operation, have, shapes, outs):
    order = primitives().axes(operation.equation)
    return Change(have, [have[0].picked(order)], operation)


def _squeeze(operation, have, shapes, outs):
    gone = primitives().axes(operation.equation)
    kept = [axis for axis in range(len(shapes[0])) if axis not in gone]
    return Change(have, [have[0].picked(kept)], lambda x: [lax.squeeze(x, gone)])


def _reverse(operation, have, shapes, outs):
    axes = list(primitives().axes(operation.equation))
    starts = have[0].starts.copy()
    starts[:, axes] = (np.asarray(shapes[0], int) - have[0].ends)[:, axes]
    return Change(have, [Box(starts, have[0].sizes)], operation)


def _broadcast(operation, have, shapes, outs):
    axes, shape = primitives().axes(operation.equation), outs[0].shape
    spread = [i for i, axis in enumerate(axes) if shapes[0][i] != shape[axis]]
    box = have[0]
    out = boxes.whole(shape, len(box.starts))
    kept = [i for i in range(len(axes)) if i not in spread]
    out = out.replaced([axes[i] for i in kept], box.picked(kept))
    return Change([box], [out], lambda x: [lax.broadcast_in_dim(x, out.sizes, axes)])


def _concatenate(operation, have, shapes, outs):
    (axis,), shape = primitives().axes(operation.equation), outs[0].shape
    box = boxes.hull([box.widened([axis], shape) for box in have if box], shape)
    return Change([box.widened([axis], shape) for shape in shapes], [box], operation)


def _split(operation, have, shapes, outs):
    (axis,) = primitives().axes(operation.equation)
    box = have[0].widened([axis], shapes[0])
    return Change([box], [box.widened([axis], out.shape) for out in outs], operation)


def _product(operation, have, shapes, outs):
    if all(have):
        return None
    side = 0 if have[0] is not None else 1
    summed, batches = primitives().dot_general(operation.equation)
    box = have[side].widened(summed[side], shapes[side])
    batch = box.picked(batches[side])
    wants: list[Box | None] = [box, box]
    other = boxes.whole(shapes[1 - side], len(box.starts)).replaced(batches[1 - side], batch)
    wants[1 - side] = other if batches[0] else None
    free = [
        [axis for axis in range(len(shape)) if axis not in (*contracted, *shared)]
        for shape, contracted, shared in zip(shapes, summed, batches, strict=True)
    ]
    first = len(batches[0]) + (len(free[0]) if side else 0)
    out = boxes.whole(outs[0].shape, len(box.starts)).replaced(range(len(batches[0])), batch)
    out = out.replaced(range(first, first + len(free[side])), box.picked(free[side]))
    return Change(wants, [out], operation)


def _reshape(operation, have, shapes, outs):
    shape, new = shapes[0], outs[0].shape
    if primitives().reshape_order(operation.equation) is not None:
        return None
    want, out = have[0], boxes.whole(new, len(have[0].starts))
    for before, after in _groups(shape, new):
        # The cells of a group, in order, are rows of so many: of its first axis each.
        rows, new_rows = (
            math.prod(s[i] for i in axes[1:]) for s, axes in ((shape, before), (new, after))
        )
        if rows % new_rows and new_rows % rows:
            want = want.widened(before, shape)
            continue
        want = want.widened(before[1:], shape)
        starts, ends = (a[:, before[:1]] * rows for a in (want.starts, want.ends))
        cut = boxes.within(starts // new_rows, -(ends // -new_rows), [new[after[0]]])
        out = out.replaced(after[:1], cut)
        sizes = (cut.sizes[0] * new_rows // rows,)
        want = want.replaced(before[:1], Box(cut.starts * new_rows // rows, sizes))
    return Change([want], [out], lambda x: [lax.reshape(x, out.sizes)])


def _groups(shape, new) -> list[tuple[list[int], list[int]]]:
    """Axes of one shape and axes of another that hold the same cells in the same order."""
    axes, news = ([i for i, n in enumerate(s) if n != 1] for s in (shape, new))
    groups = []
    while axes and news:
        before, after = [axes.pop(0)], [news.pop(0)]
        while (n := math.prod(shape[i] for i in before)) != (m := math.prod(new[i] for i in after)):
            before, axes = (before + axes[:1], axes[1:]) if n < m else (before, axes)
            after, news = (after + news[:1], news[1:]) if m < n else (after, news)
        groups.append((before, after))
    return groups


ELEMENTWISE = (
    "abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp clz complex conj "
    "convert_element_type copy copy_p cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 "
    "floor ge gt imag integer_pow is_finite le lgamma log log1p logistic lt max min mul ne neg "
    "nextafter not or population_count pow real reduce_precision rem round rsqrt select_n "
    "shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient "
    "sub tan tanh xor"
)
REDUCTIONS = (
    "argmax argmin reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum reduce_xor"
)
RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE.split(), _elementwise),
    **dict.fromkeys(REDUCTIONS.split(), _reduction),
    "conv_general_dilated": convolution,
    "reduce_window_sum": pooling(0),
    "reduce_window_max": pooling(-np.inf),
    "reduce_window_min": pooling(np.inf),
    "slice": slicing,
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
