"""Detection of ReLUs in a graph by the values that they compute.

Elementwise functions of one value are evaluated on a few numbers. A function that equals max(z, 0)
or clip(z, 0, c) there is a ReLU, unless it is part of another function:

- of a larger elementwise one: softplus, CELU, hard swish, PReLU as max(z, 0) + a min(z, 0);
- of a symmetric one, up to a constant: hard sigmoid and hard tanh, max(1 - |z|, 0);
- as the bound of a sum of squares, or of the operand of a root or denominator: variances,
  distances.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.jaxpr.graph import Atom, Constant, JaxprGraph, Operation, Value, is_concrete
from jaxdl.jaxpr.primitives.kinds import ADDITIONS, DATA_MOVEMENT, ELEMENTWISE

KINKED = frozenset("abs clamp ge gt le lt max min select_n sign sqrt".split())
"""Every ReLU contains one of these; sqrt(z * z) has a kink."""
LONGEST = 24
"""The maximal number of operations that are evaluated as one function."""
ROOTS = ("sqrt", "rsqrt", "cbrt", "pow")
TOTALS = ("reduce_sum", "reduce_window_sum", "cumsum")
POSITIVE = np.array([2.0**-10, 0.25, 0.5, 1, 1.5, 2, 3, 5, 6, 7, 12, 40, 96, 1024])
POINTS = np.concatenate([-POSITIVE[::-1], [0], POSITIVE])
"""Symmetric around 0; these numbers and their squares are exact in bfloat16."""


class Relu(NamedTuple):
    """A ReLU, output = clip(sign * input, 0, cap), and the operations between."""

    input: Value
    output: Value
    sign: int
    cap: float
    parts: frozenset[Operation]


class Elementwise:
    """The elementwise functions of one value in a graph.

    Args:
      graph: the graph, with all calls inlined.
      active: the inputs that are explained.
      constants: the known values of other inputs.

    Attributes:
      depends: the values that depend on `active`.
      maker: the operation that computes each value.
      parent: for each elementwise function of another value, the nearest such value.
    """

    def __init__(self, graph: JaxprGraph, active: set[Value], constants: dict[Value, Any]):
        self.graph = graph
        self.depends = graph.dependents(active)
        self.maker = {value: op for op in graph.operations for value in op.outputs}
        self.users: dict[Value, list[Operation]] = {}  # of operations that reach an output
        used = {atom for atom in graph.outputs if isinstance(atom, Value)}
        for operation in reversed(graph.operations):
            if not used.isdisjoint(operation.outputs):
                values = {atom for atom in operation.inputs if isinstance(atom, Value)}
                used |= values
                for value in values:
                    self.users.setdefault(value, []).append(operation)
        self.users |= {value: [] for value in used - set(self.users)}
        self.uniform: dict[Atom, Any] = {}
        self.constants = graph.constants | constants
        self.parent: dict[Value, Value] = {}
        for operation in graph.operations:
            self._set_parent(operation)

    def relus(self) -> Iterator[Relu]:
        """Yields the ReLUs in the order of the operations."""
        outputs = set()
        for value in filter(self.users.__contains__, self.parent):
            for start in self.ancestors(value):
                parts = self.between(start, value)
                if parts is None:
                    break
                clip = self._as_clip(start, value, parts)
                if clip is not None and not self._is_part(start, value):
                    outputs.add(value)
                    yield Relu(start, value, *clip, parts)
                    break
                if start in outputs:
                    break

    def ancestors(self, value: Value) -> Iterator[Value]:
        """Yields the values that determine a value elementwise, the nearest first."""
        while value in self.parent:
            value = self.parent[value]
            yield value

    def between(self, start: Value, end: Value) -> frozenset[Operation] | None:
        """Returns the operations from an ancestor to a value, or None if too many."""
        parts: set[Operation] = set()
        stack = [end]
        while stack:
            value = stack.pop()
            if value == start or self.maker[value] in parts:
                continue
            parts.add(self.maker[value])
            if len(parts) > LONGEST:
                return None
            stack += self.varying(self.maker[value])
        return frozenset(parts)

    def varying(self, operation: Operation) -> list[Value]:
        """Returns the operands that depend on the input."""
        return [a for a in operation.inputs if isinstance(a, Value) and a in self.depends]

    def evaluate(self, start: Value, end: Value, points: np.ndarray) -> np.ndarray | None:
        """Evaluates `end` at values of `start`; returns None if a constant is unknown."""
        parts = self.between(start, end)
        if parts is None:
            return None
        env: dict[Atom, Any] = {start: points.astype(self.graph.shapes[start].dtype)}
        for operation in sorted(parts, key=lambda part: part.outputs[0]):
            operands = [env[a] if a in env else self.constant(a) for a in operation.inputs]
            if any(operand is None for operand in operands):
                return None
            env[operation.outputs[0]] = _bind(operation, operands, points.shape)
        return env[end]

    def _set_parent(self, operation: Operation) -> None:
        values, out = self.varying(operation), operation.outputs[0] if operation.outputs else None
        shapes = self.graph.shapes
        if operation.name not in ELEMENTWISE or not values or out is None:
            return
        if any(shapes[value].shape != shapes[out].shape for value in values):
            return
        first, *others = (dict.fromkeys((value, *self.ancestors(value))) for value in values)
        common = (value for value in first if all(value in other for other in others))
        nearest = next(common, None)
        if nearest is not None:
            self.parent[out] = nearest

    def constant(self, atom: Atom) -> Any:
        """Returns the value of a constant with equal elements, else None."""
        if atom not in self.uniform:
            self.uniform[atom] = self._find_constant(atom)
        return self.uniform[atom]

    def _find_constant(self, atom: Atom) -> Any:
        if isinstance(atom, Constant) or atom in self.constants:
            value = atom.value if isinstance(atom, Constant) else self.constants[atom]
            if not is_concrete(value) or not np.size(value):
                return None
            value = np.asarray(value).ravel()
            return value[0] if np.all(value == value[0]) else None
        operation = self.maker.get(atom)
        if atom in self.depends or operation is None:
            return None
        operands = [self.constant(a) for a in operation.inputs]
        if any(operand is None for operand in operands):
            return None
        if operation.name in ELEMENTWISE:
            return _bind(operation, operands, ())
        return operands[0] if operation.name in DATA_MOVEMENT and len(operands) == 1 else None

    def _as_clip(
        self, start: Value, end: Value, parts: frozenset[Operation]
    ) -> tuple[int, float] | None:
        """Returns sign and cap if `end` is clip(sign * start, 0, cap)."""
        dtype = self.graph.shapes[end].dtype
        if self.graph.shapes[start].dtype != dtype or not jnp.issubdtype(dtype, jnp.floating):
            return None
        if KINKED.isdisjoint(part.name for part in parts):
            return None
        large = float(jnp.finfo(dtype).max) / 4  # to tell a cap from no cap
        values = self.evaluate(start, end, np.array([-large, *POINTS, large]))
        if values is None:
            return None
        for sign, top in ((1, float(values[-1])), (-1, float(values[0]))):
            cap = top if top < large else np.inf
            expected = np.clip(sign * POINTS, 0, cap).astype(dtype)
            if cap > 0 and np.array_equal(values[1:-1], expected):
                return sign, cap
        return None

    def _is_part(self, start: Value, end: Value) -> bool:
        """Returns whether a ReLU is only part of another function."""
        stack = [end]
        for value in stack:
            if self._is_symmetric(start, value):
                return True
            for operation in self.users[value]:
                out = operation.outputs[0]
                if out not in self.parent:
                    continue
                if end in self.ancestors(out) or self._is_function_of_relu(start, out):
                    stack.append(out)
                    continue
                around = set(self.ancestors(end)).intersection(operation.inputs)
                if not (
                    around and operation.name in ("add", "add_any")
                ):  # not in z + relu(z), a shortcut
                    return True
        return self._is_bound(end) or self._sums_squares(start)

    def _is_function_of_relu(self, start: Value, value: Value) -> bool:
        """Returns whether a value depends on max(start, 0) alone: relu(z) * relu(z)."""
        if start not in self.ancestors(value):
            return False
        values = self.evaluate(start, value, POINTS)
        clipped = self.evaluate(start, value, POINTS.clip(0))
        return values is not None and clipped is not None and np.array_equal(values, clipped)

    def _is_symmetric(self, start: Value, value: Value) -> bool:
        """Returns whether a value is an even function, or an odd one up to a constant."""
        if not self.graph.is_inexact(value):
            return False
        for origin in (start, *self.ancestors(start)):
            values = self.evaluate(origin, value, POINTS)
            if values is None or not np.all(np.isfinite(values)):
                return False
            values = values.astype(np.float64)
            # exp and tanh round, so symmetry is exact only up to a few units in the last place.
            error = 8 * float(jnp.finfo(self.graph.shapes[value].dtype).eps)
            error *= np.max(np.abs(values))
            mirrored = min(np.ptp(values - values[::-1]), np.ptp(values + values[::-1]))
            if mirrored <= error < np.ptp(values):
                return True
        return False

    def _is_bound(self, value: Value) -> bool:
        """Returns whether a value is used only in roots and denominators."""
        stack = [value]
        for value in stack:
            if value in self.graph.outputs:
                return False
            for op in self.users[value]:
                root = op.name in ROOTS and op.inputs[0] == value
                if root or (op.name == "div" and op.inputs[1] == value):
                    continue
                if op.name not in ELEMENTWISE | DATA_MOVEMENT or self.varying(op) != [value]:
                    return False
                stack.append(op.outputs[0])
        return True

    def _sums_squares(self, value: Value) -> bool:
        """Returns whether a value has a sum of squares as a term."""

        def squares(op: Operation) -> bool:
            twice = op.name == "mul" and op.inputs[0] == op.inputs[1]
            return twice or op.name in ("square", "integer_pow")

        def totals(op: Operation) -> bool:
            if op.name == "dot_general" and op.inputs[0] == op.inputs[1]:
                return True
            return op.name in TOTALS and any(map(squares, self._terms(op.inputs[0])))

        return any(map(totals, self._terms(value)))

    def _terms(self, atom: Atom) -> Iterator[Operation]:
        """Yields the operations whose weighted sum a value is, and those between."""
        stack, visited = [atom], set()
        for atom in stack:
            operation = self.maker.get(atom) if isinstance(atom, Value) else None
            if operation is None or operation in visited or atom not in self.depends:
                continue
            visited.add(operation)
            yield operation
            values = self.varying(operation)
            if (
                operation.name in (*ADDITIONS, "neg")
                or operation.name in DATA_MOVEMENT
                or (operation.name == "mul" and len(values) == 1)
                or (operation.name == "div" and values == [operation.inputs[0]])
            ):
                stack += values


def _bind(operation: Operation, operands: list[Any], shape: tuple[int, ...]) -> np.ndarray:
    """Evaluates an elementwise operation on another shape, also during tracing."""
    # NaN is a valid result here, for example of a logarithm at a negative point.
    with jax.ensure_compile_time_eval(), jax.debug_nans(False), jax.debug_infs(False):
        kinds = [variable.aval.dtype for variable in operation.equation.invars]
        arrays = [
            jnp.asarray(np.broadcast_to(np.asarray(operand, kind), shape))
            for operand, kind in zip(operands, kinds, strict=True)
        ]
        return np.asarray(operation(*arrays)[0])
