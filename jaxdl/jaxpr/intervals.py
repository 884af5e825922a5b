"""Interval arithmetic on graphs: lower and upper bounds of values for any input.

LRP uses the bounds to recognise gates, factors between 0 and 1, in any form: `jax.nn.sigmoid`,
(1 + tanh(z / 2)) / 2, or one slice of an array whose other slices are no gates.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.jaxpr.graph import Atom, Constant, JaxprGraph, Operation, Value, is_concrete
from jaxdl.jaxpr.primitives.kinds import DATA_MOVEMENT, ELEMENTWISE, SELECTED_OPERANDS


class Bounds:
    """The bounds of the values of a graph.

    Args:
      graph: the graph.
      maker: the operation that computes each value.
      depends: the values that depend on the input.
      softmax: the operations whose output is a softmax.
      constants: arrays that the function closes over, concrete or traced.
    """

    def __init__(
        self,
        graph: JaxprGraph,
        maker: dict[Value, Operation],
        depends: set[Value],
        softmax: Container[Operation],
        constants: dict[Value, Any],
    ):
        self.graph, self.maker, self.depends = graph, maker, depends
        self.softmax, self.constants = softmax, constants
        self._bounds: dict[Atom, tuple[Any, Any]] = {}

    def of(self, atom: Atom) -> tuple[Any, Any]:
        """Returns the lower and upper bound of a value, which broadcast to it."""
        if atom not in self._bounds:
            self._bounds[atom] = self._compute(atom)
        return self._bounds[atom]

    def _compute(self, atom: Atom) -> tuple[Any, Any]:
        free = (np.float64(-np.inf), np.float64(np.inf))
        if isinstance(atom, Constant) or atom not in self.depends:
            value = self.constant(atom)
            return free if value is None else (value, value)
        operation = self.maker.get(atom)
        if self.graph.shapes[atom].dtype == bool:
            never = operation is not None and operation.name == "eq" and self._differ(operation)
            return np.float64(0), np.float64(not never)
        if operation is None:
            return free
        if operation in self.softmax or operation.name == "logistic":
            return np.float64(0), np.float64(1)
        if operation.name == "exp":
            return np.float64(0), np.float64(np.inf)
        if operation.name in ("tanh", "erf"):
            return np.float64(-1), np.float64(1)
        if operation.name == "div" and self._is_fraction(*operation.inputs):
            return np.float64(0), np.float64(1)
        if operation.name in SELECTED_OPERANDS:
            parts = operation.inputs[SELECTED_OPERANDS[operation.name]]
            if operation.name == "select_n" and not np.any(self.of(operation.inputs[0])[1]):
                parts = parts[:1]
            ends = [self.of(part) for part in parts]
            low, high = (
                np.array([end[k].min() if k == 0 else end[k].max() for end in ends]) for k in (0, 1)
            )
            return np.minimum(low.min(), 0), high.max()
        if operation.name in MONOTONE:
            pairs = [self.of(a) for a in operation.inputs]
            if all(np.all(np.isinf(low)) and np.all(np.isinf(high)) for low, high in pairs):
                return free
            with np.errstate(invalid="ignore"):
                low, high = MONOTONE[operation.name](*pairs)
            # inf - inf and 0 * inf are NaN: nothing is known there.
            return np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
        if operation.name in DATA_MOVEMENT and len(operation.inputs) == 1:
            low, high = self.of(operation.inputs[0])
            if np.all(np.isinf(low)) and np.all(np.isinf(high)):
                return free
            shape = self.graph.shapes[operation.inputs[0]].shape  # pyright: ignore
            index = operation.outputs.index(atom)
            with jax.ensure_compile_time_eval():
                moved = [
                    operation(jnp.asarray(np.broadcast_to(end, shape), jnp.float32))[index]
                    for end in (low, high)
                ]
            return np.asarray(moved[0]), np.asarray(moved[1])
        return free

    def _differ(self, operation: Operation) -> bool:
        """Returns whether the intervals of two compared values are disjoint."""
        (low, high), (other_low, other_high) = map(self.of, operation.inputs)
        return bool(np.all(high < other_low) or np.all(low > other_high))

    def _is_fraction(self, part: Atom, total: Atom) -> bool:
        """Returns whether `total` is a sum of non-negative terms that include `part`."""
        while (maker := self.maker.get(total)) is not None:  # pyright: ignore[reportArgumentType]
            if maker.name in ("reduce_sum", "scatter-add"):
                whole = maker.inputs[-1]
                return part == whole and bool(np.all(self.of(part)[0] >= 0))
            if maker.name not in (*DATA_MOVEMENT, "add", "max"):
                return False
            depending = [atom for atom in maker.inputs if atom in self.depends]
            others = [self.of(atom)[0] for atom in maker.inputs if atom not in self.depends]
            if len(depending) != 1 or (maker.name == "add" and np.any(others[0] < 0)):
                return False
            (total,) = depending
        return False

    def constant(self, atom: Atom) -> np.ndarray | None:
        """Returns a constant value if it is known during tracing, else None."""
        if isinstance(atom, Constant):
            return np.asarray(atom.value, np.float64)
        if atom in self.constants:
            value = self.constants[atom]
            return np.asarray(value, np.float64) if is_concrete(value) else None
        operation = self.maker.get(atom)
        small = operation is not None and all(
            np.prod(self.graph.shapes[v].shape, initial=1) < 1e6 for v in operation.outputs
        )
        # Bounds of large constants are rarely needed, and evaluating them copies the arrays.
        if operation is None or not small or operation.name not in ELEMENTWISE | DATA_MOVEMENT:
            return None
        values = [self.constant(a) for a in operation.inputs]
        if any(value is None for value in values):
            return None
        kinds = [variable.aval.dtype for variable in operation.equation.invars]
        with jax.ensure_compile_time_eval():
            cast = [jnp.asarray(v, kind) for v, kind in zip(values, kinds, strict=True)]
            return np.asarray(operation(*cast)[operation.outputs.index(atom)], np.float64)


def _times(a, b):
    ends = np.stack(np.broadcast_arrays(*(x * y for x in a for y in b)))
    return ends.min(0), ends.max(0)


MONOTONE: dict[str, Callable[..., tuple[Any, Any]]] = {
    "add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "sub": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "mul": _times,
    "div": lambda a, b: (
        _times(a, (1 / b[0], 1 / b[1]))
        if np.all(b[0] == b[1]) and np.all(b[0] != 0)
        else (-np.inf, np.inf)
    ),
    "neg": lambda a: (-a[1], -a[0]),
    "select_n": lambda _, *cases: (
        functools.reduce(np.minimum, (low for low, _ in cases)),
        functools.reduce(np.maximum, (high for _, high in cases)),
    ),
    "max": lambda a, b: (np.maximum(a[0], b[0]), np.maximum(a[1], b[1])),
    "min": lambda a, b: (np.minimum(a[0], b[0]), np.minimum(a[1], b[1])),
    "clamp": lambda low, a, high: (
        np.clip(a[0], low[0], high[0]),
        np.clip(a[1], low[1], high[1]),
    ),
}
"""The bounds of an operation's output from those of its operands."""
