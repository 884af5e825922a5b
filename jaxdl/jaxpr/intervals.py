"""How small and how great a value can be, whatever the input: of a sigmoid 0 and 1.

A factor that is always between 0 and 1 is a gate, however it is written: as `jax.nn.sigmoid`, as
(1 + tanh(z / 2)) / 2, as one slice of an array of which others are no gates.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.jaxpr.program import Atom, Constant, Operation, Program, Value, known

ELEMENTWISE = frozenset(
    """abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e
    bitcast_convert_type cbrt ceil clamp clz convert_element_type copy cos cosh digamma div eq
    eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma igammac integer_pow is_finite le
    le_to lgamma log log1p log2 logistic lt lt_to max min mul mulhi ne neg nextafter not
    one_minus_square or polygamma population_count pow reduce_precision
    regularized_incomplete_beta rem round rsqrt select_n shift_left shift_right_arithmetic
    shift_right_logical sign sin sinh sqrt square sub tan tanh xor zeta""".split()
)
STRUCTURAL = frozenset(
    """broadcast_in_dim concatenate copy copy_p convert_element_type dynamic_slice
    dynamic_update_slice expand_dims gather name optimization_barrier pad reduce_precision reshape
    rev scatter select_n sharding_constraint slice split squeeze stack tile transpose
    unstack""".split()
)
"""Operations that only move values: each output is one of the inputs, or 0."""
PARTLY_SUMS = {
    "custom_linear_solve": slice(-1, None),
    "select_and_gather_add": slice(0, 1),
    "select_and_scatter_add": slice(0, 1),
    "triangular_solve": slice(1, 2),
}
"""Operations that give weighted sums of some operands, as long as no other depends on x: which."""
SCATTERS = "scatter scatter-add scatter-max scatter-min scatter-mul scatter-sub".split()
INDICES = {
    **dict.fromkeys(("select_n", "cond"), slice(0, 1)),
    **dict.fromkeys(("gather", "ragged_dot_general", *SCATTERS), slice(1, 2)),
    "dynamic_slice": slice(1, None),
    "dynamic_update_slice": slice(2, None),
}
"""Which operands say where values are moved to or which of them is chosen."""

CHOOSING = {
    **dict.fromkeys(
        ("dynamic_slice", "gather", "reduce_max", "reduce_min", "sort", "top_k"), slice(0, 1)
    ),
    **dict.fromkeys(("concatenate", "stack"), slice(None)),
    "select_n": slice(1, None),
}
"""Operations whose first output is made of values of some operands, or of 0: which operands."""


class Bounds:
    """The bounds of a program's values.

    Args:
      program: the program.
      maker: of each value the operation that gives it.
      depends: the values that depend on the input.
      softmax: the operations that give a softmax.
      constants: values known before the program runs, or not yet.
    """

    def __init__(
        self,
        program: Program,
        maker: dict[Value, Operation],
        depends: set[Value],
        softmax: Container[Operation],
        constants: dict[Value, Any],
    ):
        self.program, self.maker, self.depends = program, maker, depends
        self.softmax, self.known = softmax, constants
        self._found: dict[Atom, tuple[Any, Any]] = {}

    def of(self, atom: Atom) -> tuple[Any, Any]:
        """The least and greatest of a value: numbers, or arrays that broadcast to it."""
        if atom not in self._found:
            self._found[atom] = self._work_out(atom)
        return self._found[atom]

    def _work_out(self, atom: Atom) -> tuple[Any, Any]:
        free = (np.float64(-np.inf), np.float64(np.inf))
        if isinstance(atom, Constant) or atom not in self.depends:
            value = self.constant(atom)
            return free if value is None else (value, value)
        operation = self.maker.get(atom)
        if self.program.shapes[atom].dtype == bool:
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
        if operation.name == "div" and self._is_share(*operation.inputs):
            return np.float64(0), np.float64(1)
        if operation.name in CHOOSING:
            parts = operation.inputs[CHOOSING[operation.name]]
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
            return np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
        if operation.name in STRUCTURAL and len(operation.inputs) == 1:
            low, high = self.of(operation.inputs[0])
            if np.all(np.isinf(low)) and np.all(np.isinf(high)):
                return free
            shape = self.program.shapes[operation.inputs[0]].shape  # pyright: ignore
            which = operation.outputs.index(atom)
            with jax.ensure_compile_time_eval():
                moved = [
                    operation(jnp.asarray(np.broadcast_to(end, shape), jnp.float32))[which]
                    for end in (low, high)
                ]
            return np.asarray(moved[0]), np.asarray(moved[1])
        return free

    def _differ(self, operation: Operation) -> bool:
        """Whether two compared values have no number in common, as a probability and infinity."""
        (low, high), (other_low, other_high) = map(self.of, operation.inputs)
        return bool(np.all(high < other_low) or np.all(low > other_high))

    def _is_share(self, part: Atom, total: Atom) -> bool:
        """Whether a value is divided by a sum of itself and others, none of them negative."""
        while (maker := self.maker.get(total)) is not None:  # pyright: ignore[reportArgumentType]
            if maker.name in ("reduce_sum", "scatter-add"):
                whole = maker.inputs[-1]
                return part == whole and bool(np.all(self.of(part)[0] >= 0))
            if maker.name not in (*STRUCTURAL, "add", "max"):
                return False
            depending = [atom for atom in maker.inputs if atom in self.depends]
            others = [self.of(atom)[0] for atom in maker.inputs if atom not in self.depends]
            if len(depending) != 1 or (maker.name == "add" and np.any(others[0] < 0)):
                return False
            (total,) = depending
        return False

    def constant(self, atom: Atom) -> np.ndarray | None:
        """A value that is known before the program runs."""
        if isinstance(atom, Constant):
            return np.asarray(atom.value, np.float64)
        if atom in self.known:
            value = self.known[atom]
            return np.asarray(value, np.float64) if known(value) else None
        operation = self.maker.get(atom)
        small = operation is not None and all(
            np.prod(self.program.shapes[v].shape, initial=1) < 1e6 for v in operation.outputs
        )
        if operation is None or not small or operation.name not in ELEMENTWISE | STRUCTURAL:
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
"""The bounds of an operation from those of its operands."""
