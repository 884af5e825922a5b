"""Rules of operations: the extents of results from those of operands."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from jaxdl.jaxpr.graph import JaxprGraph, Operation, build_graph
from jaxdl.jaxpr.primitives import readers
from jaxdl.jaxpr.primitives.kinds import (
    ARG_REDUCTIONS,
    COMPLEX_PARTS,
    ELEMENTWISE,
    IDENTITIES,
    REDUCTIONS,
    WINDOW_REDUCTIONS,
)
from jaxdl.jaxpr.receptive_field.extent import (
    Extent,
    Extents,
    common_step,
    constant,
    find_step,
    map_ends,
    reduce,
    slide,
    stack,
    union,
)


def propagate(graph: JaxprGraph, inputs: Extents) -> list[Extent | None]:
    """Returns the extents of a graph's outputs from those of its inputs."""
    known = {v: e for v, e in zip(graph.inputs, inputs, strict=True) if e is not None}
    for operation in graph.operations:
        operands = [known.get(atom) for atom in operation.inputs]  # pyright: ignore
        if any(operand is not None for operand in operands):
            results = zip(operation.outputs, _apply(operation, operands), strict=True)
            known |= {value: extent for value, extent in results if extent is not None}
    return [known.get(atom) for atom in graph.outputs]  # pyright: ignore


def _apply(operation: Operation, operands: Extents) -> Extents:
    """Returns the extents of an operation's outputs."""
    name = operation.name
    if name in RULES:
        return RULES[name](operation.equation, operands)
    extents = [operand for operand in operands if operand is not None]
    # Units that all depend on the same positions still do after any movement.
    if name != "while" and all(not any(e.step) and e.low.size == 1 for e in extents):
        low, high = min(e.low.min() for e in extents), max(e.high.max() for e in extents)
        return [constant(low, high, len(v.aval.shape)) for v in operation.equation.outvars]
    raise ValueError(
        f"receptive_field: {name} ({operation.line}) moves values along a spatial axis in a way "
        "that is not known. Pass a layer before it as layer=."
    )


def _shapes(equation: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return equation.invars[0].aval.shape, equation.outvars[0].aval.shape


def _elementwise(equation: Any, operands: Extents) -> Extents:
    return [union(operands)] * len(equation.outvars)


def _reduction(equation: Any, operands: Extents) -> Extents:
    return [reduce(operands[0], readers().axes(equation))]  # pyright: ignore


def _convolution(equation: Any, operands: Extents) -> Extents:
    extent, kernel = operands
    if extent is None or kernel is not None:
        raise ValueError(
            "receptive_field: a convolution has a kernel that depends on x; expected kernels that "
            "are parameters. Pass a layer before it as layer=."
        )
    conv, (before, after) = readers().convolution(equation), _shapes(equation)
    source, window, target = conv.dimension_numbers
    sizes = equation.invars[1].aval.shape
    for i, (old, new) in enumerate(zip(source[2:], target[2:], strict=True)):
        extent = slide(
            extent,
            old,
            (before[old], after[new]),
            taps=sizes[window[2 + i]],
            stride=conv.strides[i],
            before=conv.padding[i][0],
            base_dilation=conv.lhs_dilation[i],
            dilation=conv.rhs_dilation[i],
        )
    channels, groups = source[1], conv.feature_groups
    if extent.low.shape[channels] > 1:
        extent = map_ends(extent, lambda end: np.moveaxis(end, channels, -1), extent.step)
        grouped = (*extent.low.shape[:-1], groups, before[channels] // groups)
        each = after[target[1]] // groups
        low = np.repeat(extent.low.reshape(grouped).min(-1), each, -1)
        high = np.repeat(extent.high.reshape(grouped).max(-1), each, -1)
        low, high = (np.moveaxis(end, -1, channels) for end in (low, high))
        extent = Extent(low, high, extent.step)
    order = [source[target.index(axis)] for axis in range(len(target))]
    step = (extent.step[axis] for axis in order)
    return [map_ends(extent, lambda end: np.transpose(end, order), step)]


def _window(equation: Any, operands: Extents) -> Extents:
    window, (before, after) = readers().window(equation), _shapes(equation)
    (extent,) = operands[:1]
    for axis, sizes in enumerate(zip(before, after, strict=True)):
        extent = slide(
            extent,  # pyright: ignore
            axis,
            sizes,
            taps=window.sizes[axis],
            stride=window.strides[axis],
            before=window.padding[axis][0],
            base_dilation=window.base_dilation[axis],
            dilation=window.dilation[axis],
        )
    return [extent]


def _pad(equation: Any, operands: Extents) -> Extents:
    extent, (before, after) = operands[0], _shapes(equation)
    if extent is None:
        return [constant(operands[1].low, operands[1].high, len(after))]  # pyright: ignore
    for axis, (first, _, interior) in enumerate(readers().padding(equation)):
        sizes = (before[axis], after[axis])
        extent = slide(extent, axis, sizes, before=first, base_dilation=interior + 1)
    return [extent]


def _slice(equation: Any, operands: Extents) -> Extents:
    (extent,), part, (before, after) = operands, readers().static_slice(equation), _shapes(equation)
    for axis, sizes in enumerate(zip(before, after, strict=True)):
        first, stride = part.starts[axis], part.strides[axis]
        extent = slide(extent, axis, sizes, stride=stride, before=-first)  # pyright: ignore
    return [extent]


def _split(equation: Any, operands: Extents) -> Extents:
    (extent,), (axis,), first, parts = operands, readers().axes(equation), 0, []
    for variable in equation.outvars:
        sizes = (equation.invars[0].aval.shape[axis], variable.aval.shape[axis])
        parts.append(slide(extent, axis, sizes, before=-first))  # pyright: ignore
        first += sizes[1]
    return parts


def _concatenate(equation: Any, operands: Extents) -> Extents:
    (axis,) = readers().axes(equation)
    rank = len(equation.outvars[0].aval.shape)
    nothing = constant(np.inf, -np.inf, rank)
    parts = [nothing if operand is None else operand for operand in operands]
    sizes = [variable.aval.shape[axis] for variable in equation.invars]
    first = parts[0]
    # Equal channels stay at length 1, which keeps the cost independent of their number.
    if all(np.array_equal(p.low, first.low) and np.array_equal(p.high, first.high) for p in parts):
        if first.low.shape[axis] == 1 and not first.step[axis]:
            return [first]

    def join(ends):
        shape = np.broadcast_shapes(*(np.delete(end.shape, axis) for end in ends))
        full = [(*shape[:axis], size, *shape[axis:]) for size in sizes]
        return np.concatenate(list(map(np.broadcast_to, ends, full)), axis)

    low, high = join([part.low for part in parts]), join([part.high for part in parts])
    return [Extent(low, high, common_step(parts))]


def _dot(equation: Any, operands: Extents) -> Extents:
    dot = readers().dot_general(equation)
    rank = len(equation.outvars[0].aval.shape)
    batches, terms, done = len(dot.batch[0]), [], len(dot.batch[0])
    for side, variable in enumerate(equation.invars):
        contracted, batch, extent = dot.contracting[side], dot.batch[side], operands[side]
        shape = variable.aval.shape
        free = [i for i in range(len(shape)) if i not in (*contracted, *batch)]
        if extent is not None:
            # The values of the other matrix are not read, so every contracted position counts.
            extent = reduce(extent, contracted, keep=True)
            order = [*batch, *free, *contracted]
            places = [*range(batches), *range(done, done + len(free))]
            step = [Fraction(0)] * rank
            for place, axis in zip(places, order, strict=False):
                step[place] = extent.step[axis]

            def spread(end, order=order, places=places):
                sizes = np.transpose(end, order).shape
                full = [1] * rank
                for place, size in zip(places, sizes, strict=False):
                    full[place] = size
                return np.transpose(end, order).reshape(full)

            terms.append(map_ends(extent, spread, step))
        done += len(free)
    return [union(terms)]


def _transpose(equation: Any, operands: Extents) -> Extents:
    (extent,), order = operands, readers().axes(equation)
    step = (extent.step[axis] for axis in order)  # pyright: ignore
    return [map_ends(extent, lambda end: np.transpose(end, order), step)]  # pyright: ignore


def _broadcast(equation: Any, operands: Extents) -> Extents:
    extent, places, (before, after) = operands[0], readers().axes(equation), _shapes(equation)
    full, step = [1] * len(after), [Fraction(0)] * len(after)
    for axis, place in enumerate(places):
        full[place] = extent.low.shape[axis]  # pyright: ignore
        # A repeated axis of length 1 has no step.
        if before[axis] == after[place]:
            step[place] = extent.step[axis]  # pyright: ignore
    return [map_ends(extent, lambda end: end.reshape(full), step)]  # pyright: ignore


def _reshape(equation: Any, operands: Extents) -> Extents:
    """Axes that stay keep their intervals; merged and split ones are laid out in full."""
    extent, (before, after) = operands[0], _shapes(equation)
    assert extent is not None
    same = [a == b for a, b in zip(before, after, strict=False)]
    head = same.index(False) if False in same else len(same)
    tails = [a == b for a, b in zip(before[:head:-1], after[:head:-1], strict=False)]
    tail = tails.index(False) if False in tails else len(tails)
    old, new = before[head : len(before) - tail], after[head : len(after) - tail]

    def lay_out(end):
        first, last = end.shape[:head], end.shape[len(before) - tail :]
        if all(size == 1 for size in end.shape[head : len(before) - tail]):
            return end.reshape(*first, *[1] * len(new), *last)
        return np.broadcast_to(end, (*first, *old, *last)).reshape(*first, *new, *last)

    low, high = lay_out(extent.low), lay_out(extent.high)
    step = [*extent.step[:head], *[Fraction(0)] * len(new), *extent.step[len(before) - tail :]]
    for axis in range(head, head + len(new)):
        if low.shape[axis] > 1:
            if all(np.all(end == np.take(end, [0], axis)) for end in (low, high)):
                low, high = np.take(low, [0], axis), np.take(high, [0], axis)
            else:
                step[axis] = find_step(low, axis)
    return [Extent(low, high, tuple(step))]


def _squeeze(equation: Any, operands: Extents) -> Extents:
    (extent,), rank = operands, len(equation.invars[0].aval.shape)
    axes = tuple(axis % rank for axis in readers().axes(equation))
    return [reduce(extent, axes)]  # pyright: ignore


def _scan(equation: Any, operands: Extents) -> Extents:
    """Propagates through a `scan` step by step."""
    loop = readers().scan(equation)
    body, consts, end = build_graph(loop.body), loop.num_consts, loop.num_consts + loop.num_carry
    carry, steps = list(operands[consts:end]), []
    for i in range(loop.length)[:: -1 if loop.reverse else 1]:
        xs = [
            None if e is None else reduce(slide(e, 0, (loop.length, 1), before=-i), (0,))
            for e in operands[end:]
        ]
        results = propagate(body, [*operands[:consts], *carry, *xs])
        carry = results[: loop.num_carry]
        steps.append(results[loop.num_carry :])
    ordered = steps[::-1] if loop.reverse else steps
    return [*carry, *(stack(outputs) for outputs in zip(*ordered, strict=True))]


def _cond(equation: Any, operands: Extents) -> Extents:
    # Only the run decides on the branch, so the field covers all of them.
    branches = (build_graph(branch) for branch in readers().branches(equation))
    results = [propagate(branch, operands[1:]) for branch in branches]
    return [union(outputs) for outputs in zip(*results, strict=True)]


Rule = Callable[[Any, Extents], Extents]
RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE | COMPLEX_PARTS | IDENTITIES, _elementwise),
    **dict.fromkeys(("name", "sharding_constraint"), _elementwise),
    **dict.fromkeys((*REDUCTIONS, *ARG_REDUCTIONS), _reduction),
    **dict.fromkeys(WINDOW_REDUCTIONS, _window),
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "cond": _cond,
    "conv_general_dilated": _convolution,
    "dot_general": _dot,
    "optimization_barrier": lambda _, operands: operands,
    "pad": _pad,
    "reshape": _reshape,
    "scan": _scan,
    "slice": _slice,
    "split": _split,
    "squeeze": _squeeze,
    "transpose": _transpose,
}
"""How each primitive maps the extents of its operands to those of its outputs."""
