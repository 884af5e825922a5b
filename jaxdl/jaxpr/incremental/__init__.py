"""A function run again on inputs that differ from x in a box: only what the change reaches.

A window that covers an image changes, after a convolution, the cells around it and no others. So
the function runs once on x; of each change, every operation is computed for a box of cells, cut
from the values of x with those that changed put in. Where the boxes have grown to most of an array,
or an operation mixes all cells, the rest is computed whole. The numbers are those of f itself, up
to rounding. Nakandala, Kumar and Papakonstantinou 2019 (doi:10.1145/3299869.3319874), sec. 4, for
convolutional networks; here for any function, by its jaxpr.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from jaxdl.jaxpr.incremental import rules
from jaxdl.jaxpr.incremental.box import Box, Window, whole, within
from jaxdl.jaxpr.incremental.sliding import applied
from jaxdl.jaxpr.program import Atom, Value, read, trace

__all__ = ["Box", "rerun", "within"]


def rerun(f: Callable[[Any], Any], x: Any, changes: Any) -> tuple[Any, Callable[[Any, Any], Any]]:
    """Returns f(x), and the function from i and new values of the i-th boxes to f's output.

    Args:
      f: any function of x.
      x: its input, a tree of arrays.
      changes: the `Box` of each array, all with the same number of changes.
    """
    leaves, structure = jax.tree.flatten(x)
    starts = structure.flatten_up_to(changes)
    count = len(starts[0].starts)
    if all(box.share(leaf.shape) > rules.MOST for box, leaf in zip(starts, leaves, strict=True)):
        put = [
            Window(leaf, box, whole(leaf.shape, count))
            for leaf, box in zip(leaves, starts, strict=True)
        ]

        def replaced(i, patches):
            parts = structure.flatten_up_to(patches)
            return f(structure.unflatten([w(i, part) for w, part in zip(put, parts, strict=True)]))

        return f(x), replaced
    program, tree = trace(f, x)
    known: dict[Value, Any] = dict(program.constants) | dict(
        zip(program.inputs, leaves, strict=True)
    )
    boxes: dict[Atom, Box] = dict(zip(program.inputs, starts, strict=True))
    steps = []
    for operation in program.operations:
        values = [read(known, atom) for atom in operation.inputs]
        outs = applied(operation, values)
        known |= zip(operation.outputs, outs, strict=True)
        if any(atom in boxes for atom in operation.inputs):
            have = [boxes.get(atom) for atom in operation.inputs]
            change = rules.planned(operation, have, values, outs)
            takes = _takes(operation.inputs, values, have, change.wants, change.fill)
            steps.append((takes, operation.outputs, change.compute))
            boxes |= zip(operation.outputs, change.outs, strict=True)
    results = [read(known, atom) for atom in program.outputs]
    have = [boxes.get(atom) for atom in program.outputs]
    wants = [box and whole(value.shape, count) for box, value in zip(have, results, strict=True)]
    ends = _takes(program.outputs, results, have, wants)

    def again(i, patches):
        env = dict(zip(program.inputs, structure.flatten_up_to(patches), strict=True))
        for takes, outputs, compute in steps:
            env |= zip(outputs, compute(*(take(i, env) for take in takes)), strict=True)
        return jax.tree.unflatten(tree, [take(i, env) for take in ends])

    return jax.tree.unflatten(tree, results), again


def _takes(atoms, values, have, wants, fill=0):
    """For each atom the function from i and the patches to the cells that are wanted of it."""

    def take(atom, value, window, i, env):
        return value if window is None else window(i, env.get(atom))

    found = []
    for atom, value, box, want in zip(atoms, values, have, wants, strict=True):
        window = None if want is None else Window(value, box, want, fill if not found else 0)
        found.append(functools.partial(take, atom, value, window))
    return found
