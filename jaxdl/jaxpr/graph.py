"""Dataflow graphs of jaxprs: operations on numbered values, calls inlined.

`trace_graph` reads the jaxpr of a function. Calls (`jit`, `checkpoint`, `custom_jvp`) are inlined;
loops and conditions stay single operations that contain jaxprs.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxdl.jaxpr import equations, tracing
from jaxdl.jaxpr.convolution import convolve
from jaxdl.jaxpr.primitives import readers

Value = int
"""The number of a value in its graph."""


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
    """A literal number in the jaxpr."""

    value: Any


Atom = Value | Constant


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
    """One application of a primitive.

    Attributes:
      equation: the equation of the jaxpr.
      inputs, outputs: its values in the graph.
      scope: its name scope, "outer/inner".
      calls: the equations of the inlined calls around it, the outermost first.
    """

    equation: Any
    inputs: tuple[Atom, ...]
    outputs: tuple[Value, ...]
    scope: str
    calls: tuple[Any, ...]

    @property
    def name(self) -> str:
        """The name of the primitive."""
        return self.equation.primitive.name

    @property
    def is_grouped_convolution(self) -> bool:
        """Whether this is a convolution of groups of channels, such as a depthwise one."""
        if self.name != "conv_general_dilated":
            return False
        return readers().convolution(self.equation).feature_groups > 1

    @property
    def line(self) -> str:
        """The line of the user's code: its own, or that of the nearest call that has one."""
        lines = map(equations.source_line, (self.equation, *reversed(self.calls)))
        return next(filter(None, lines), "an unknown line")

    def __call__(self, *values: Any) -> Sequence[Any]:
        """Evaluates the operation in the dtypes that it was traced with."""
        # Values may have been widened since tracing, and inner jaxprs have fixed dtypes.
        own = cast(values, (variable.aval for variable in self.equation.invars))
        if self.name.startswith("custom"):
            return equations.bind_call(self.equation, *own)
        return self._bind(own, self.equation.params)

    def promote_and_call(self, *values: Any) -> Sequence[Any]:
        """Evaluates the operation in the dtypes of the values, at least float32."""
        if any(True for _ in equations.stored_jaxprs(self.equation.params)):
            return self(*values)  # an inner jaxpr has fixed dtypes
        return self._bind(values, readers().widen_params(self.equation))

    def _bind(self, values: Sequence[Any], params: dict[str, Any]) -> Sequence[Any]:
        # Of other convolutions, compiling the fast form for one call takes longer than it saves.
        y = convolve(self.equation, *values) if self.is_grouped_convolution else None
        if y is not None:
            return [y]
        result = self.equation.primitive.bind(*values, **params)
        return result if self.equation.primitive.multiple_results else [result]


@dataclasses.dataclass(frozen=True, eq=False)
class JaxprGraph:
    """The operations of a jaxpr in topological order, and its values.

    Attributes:
      inputs, outputs: values.
      operations: the operations in order.
      constants: the arrays that the function closes over.
      shapes: shape and dtype of each value.
    """

    inputs: tuple[Value, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[Atom, ...]
    constants: dict[Value, Any]
    shapes: dict[Value, jax.ShapeDtypeStruct]

    def run(self, values: Sequence[Any]) -> dict[Value, Any]:
        """Computes all values of the graph from those of the inputs."""
        env = dict(self.constants) | dict(zip(self.inputs, self.cast(values), strict=True))
        for operation in self.operations:
            outputs = operation(*(read(env, atom) for atom in operation.inputs))
            env |= zip(operation.outputs, outputs, strict=True)
        return env

    def cast(self, values: Sequence[Any]) -> list[Any]:
        """Converts values to the dtypes of the inputs."""
        return cast(values, (self.shapes.get(value) for value in self.inputs))

    def is_inexact(self, atom: Atom) -> bool:
        """Returns whether a value is real or complex, not an integer or boolean."""
        return isinstance(atom, Value) and jnp.issubdtype(self.shapes[atom].dtype, jnp.inexact)

    def dependents(self, sources: Iterable[Value], stopped: bool = False) -> set[Value]:
        """Returns the sources and all values that depend on them.

        Args:
          sources: values.
          stopped: whether `jax.lax.stop_gradient` ends the dependence.
        """
        result = set(sources)
        for operation in self.operations:
            if stopped and operation.name == "stop_gradient":
                continue
            if any(isinstance(atom, Value) and atom in result for atom in operation.inputs):
                result |= set(operation.outputs)
        return result


def is_concrete(value: Any) -> bool:
    """Returns whether the value of a constant is known while the program is traced."""
    return not isinstance(value, Tracer)


def cast(values: Iterable[Any], like: Iterable[Any]) -> list[Any]:
    """Converts values to the dtypes of others, where they differ."""
    types = (getattr(other, "dtype", None) for other in like)
    return [
        value if getattr(value, "dtype", dtype) == dtype else value.astype(dtype)
        for value, dtype in zip(values, types, strict=True)
    ]


def read(env: dict[Value, Any], atom: Atom) -> Any:
    """Returns the value of an atom."""
    return atom.value if isinstance(atom, Constant) else env[atom]


def trace_graph(f: Callable[..., Any], *args: Any, custom: bool = True) -> tuple[JaxprGraph, Any]:
    """Traces `f(*args)` to a graph over the leaves of the arguments.

    Args:
      f: the function.
      *args: its arguments.
      custom: whether calls with a custom derivative are inlined too, and layers appear as
        standard primitives. This suits analysis, not differentiation.

    Returns:
      The graph and the tree structure of the output.
    """
    make = tracing.make_standard_jaxpr if custom else tracing.make_jaxpr
    closed, shape = make(f, *args)
    return build_graph(closed, custom), jax.tree.structure(shape)


def build_graph(closed: Any, custom: bool | Callable[[tuple[Any, ...]], bool] = True) -> JaxprGraph:
    """Returns the graph of a closed jaxpr, with its inner calls inlined.

    Args:
      closed: a closed jaxpr.
      custom: whether calls with a custom derivative are inlined too, which loses the
        derivative; or a function that decides this for each call, from the equations of the calls
        around it and its own, the outermost first.
    """
    inlines_custom = custom if callable(custom) else lambda calls: custom
    numbers = itertools.count()
    operations: list[Operation] = []
    constants: dict[Value, Any] = {}
    shapes: dict[Value, jax.ShapeDtypeStruct] = {}

    def new_value(var) -> Value:
        number = next(numbers)
        if hasattr(var.aval, "shape"):  # tokens have none
            shapes[number] = jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype)
        return number

    def inline(closed, arguments: Sequence[Atom], scope: str, calls: tuple) -> list[Atom]:
        jaxpr = closed.jaxpr
        env: dict[Any, Atom] = dict(zip(jaxpr.invars, arguments, strict=True))
        for var, value in zip(jaxpr.constvars, closed.consts, strict=True):
            env[var] = number = new_value(var)
            constants[number] = value

        def to_atom(var) -> Atom:
            return Constant(var.val) if isinstance(var, equations.Literal) else env[var]

        for equation in jaxpr.eqns:
            inputs = [to_atom(var) for var in equation.invars]
            # An inner jaxpr has only its own part of the scope: the call's part comes first.
            own_scope = "/".join(filter(None, (scope, equations.name_scope(equation))))
            inner = readers().called_function(equation, inlines_custom((*calls, equation)))
            if inner is not None:
                results = inline(inner, inputs, own_scope, (*calls, equation))
                env |= zip(equation.outvars, results, strict=True)
                continue
            outputs = tuple(new_value(var) for var in equation.outvars)
            env |= zip(equation.outvars, outputs, strict=True)
            operations.append(Operation(equation, tuple(inputs), outputs, own_scope, calls))
        return [to_atom(var) for var in jaxpr.outvars]

    inputs = tuple(new_value(var) for var in closed.jaxpr.invars)
    outputs = inline(closed, inputs, "", ())
    return JaxprGraph(inputs, tuple(operations), tuple(outputs), constants, shapes)
