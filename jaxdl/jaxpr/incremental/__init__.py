"""Incremental evaluation: recomputes only the cells that a change reaches.

A window that covers part of an image changes only nearby cells after a convolution. The function
therefore runs once on x. For each change, every operation is computed on a box of cells, cut out of
the values for x with the changed cells written into it. An operation is computed whole if its box
has grown to most of the array, or if it mixes all cells. Results equal those of f up to rounding.

Nakandala, Kumar and Papakonstantinou 2019 (doi:10.1145/3299869.3319874), sec. 4, do this for
convolutional networks; here the jaxpr makes it possible for any function.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from jaxdl.jaxpr.graph import Atom, Value, read, trace_graph
from jaxdl.jaxpr.incremental import rules
from jaxdl.jaxpr.incremental.box import Box, Window, whole, within
from jaxdl.jaxpr.incremental.sliding import evaluate

__all__ = ["Box", "rerun", "within"]


def rerun(f: Callable[[Any], Any], x: Any, changes: Any) -> tuple[Any, Callable[[Any, Any], Any]]:
    """Returns f(x), and a function that recomputes f for one change.

    Args:
      f: any function of x.
      x: its input, a tree of arrays.
      changes: the `Box` of each array, all with the same number of changes.

    Returns:
      The output, and `recompute(i, patches)`: f's output with new values in the i-th box of each
      array.
    """
    leaves, structure = jax.tree.flatten(x)
    boxes = structure.flatten_up_to(changes)
    count = len(boxes[0].starts)
    if all(box.share(leaf.shape) > rules.MOST for box, leaf in zip(boxes, leaves, strict=True)):
        windows = [
            Window(leaf, box, whole(leaf.shape, count))
            for leaf, box in zip(leaves, boxes, strict=True)
        ]

        def run_whole(i, patches):
            parts = structure.flatten_up_to(patches)
            values = [window(i, part) for window, part in zip(windows, parts, strict=True)]
            return f(structure.unflatten(values))

        return f(x), run_whole
    graph, tree = trace_graph(f, x)
    env: dict[Value, Any] = dict(graph.constants) | dict(zip(graph.inputs, leaves, strict=True))
    changed_boxes: dict[Atom, Box] = dict(zip(graph.inputs, boxes, strict=True))
    steps = []
    for operation in graph.operations:
        values = [read(env, atom) for atom in operation.inputs]
        outs = evaluate(operation, values)
        env |= zip(operation.outputs, outs, strict=True)
        if any(atom in changed_boxes for atom in operation.inputs):
            changed = [changed_boxes.get(atom) for atom in operation.inputs]
            change = rules.plan(operation, changed, values, outs)
            gather = _gather(operation.inputs, values, changed, change.required, change.fill)
            steps.append((gather, operation.outputs, change.compute))
            changed_boxes |= zip(operation.outputs, change.outs, strict=True)
    results = [read(env, atom) for atom in graph.outputs]
    changed = [changed_boxes.get(atom) for atom in graph.outputs]
    required = [
        box and whole(value.shape, count) for box, value in zip(changed, results, strict=True)
    ]
    gather_results = _gather(graph.outputs, results, changed, required)

    def recompute(i, patches):
        env = dict(zip(graph.inputs, structure.flatten_up_to(patches), strict=True))
        for gather, outputs, compute in steps:
            env |= zip(outputs, compute(*(get(i, env) for get in gather)), strict=True)
        return jax.tree.unflatten(tree, [get(i, env) for get in gather_results])

    return jax.tree.unflatten(tree, results), recompute


def _gather(atoms, values, changed, required, fill=0):
    """Returns for each atom a function from i and the patches to its required cells."""

    def get(atom, value, window, i, env):
        return value if window is None else window(i, env.get(atom))

    functions = []
    for atom, value, box, cells in zip(atoms, values, changed, required, strict=True):
        padding = fill if not functions else 0  # only the first operand may be padded
        window = None if cells is None else Window(value, box, cells, padding)
        functions.append(functools.partial(get, atom, value, window))
    return functions
