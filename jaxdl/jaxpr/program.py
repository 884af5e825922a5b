"""A function as the list of its operations: to find a value in it by name, or walk it backwards.

`trace` reads what JAX recorded of a function, with every inner call (`jit`, `checkpoint`,
`custom_jvp`) written out. Loops and conditions stay as they are, and keep their bodies.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxdl.jaxpr import reading

Value = int
"""The number of a value in its program."""


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
    """A number written into the program."""

    value: Any


Atom = Value | Constant


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
    """One application of a primitive."""

    equation: Any
    inputs: tuple[Atom, ...]
    outputs: tuple[Value, ...]
    scope: str
    calls: tuple[Any, ...]
    """The equations that called what it stands in, the outermost first."""

    @property
    def name(self) -> str:
        return self.equation.primitive.name

    @property
    def line(self) -> str:
        """The place in the user's source: its own, or of the nearest call that has one."""
        lines = map(reading.line, (self.equation, *reversed(self.calls)))
        return next(filter(None, lines), "an unknown line")

    def __call__(self, *values: Any) -> Sequence[Any]:
        own = cast(values, (variable.aval for variable in self.equation.invars))
        if self.name.startswith("custom"):
            return reading.apply(self.equation, *own)
        return self._bind(own, self.equation.params)

    def wide(self, *values: Any) -> Sequence[Any]:
        """The operation on other types of numbers than it was recorded with, float32 at least."""
        if any(True for _ in reading.stored_jaxprs(self.equation.params)):
            return self(*values)  # what it stores has its types written in
        return self._bind(values, reading.primitives().widened(self.equation))

    def _bind(self, values: Sequence[Any], params: dict[str, Any]) -> Sequence[Any]:
        result = self.equation.primitive.bind(*values, **params)
        return result if self.equation.primitive.multiple_results else [result]


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """Operations in order, from inputs to outputs."""

    inputs: tuple[Value, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[Atom, ...]
    constants: dict[Value, Any]
    shapes: dict[Value, jax.ShapeDtypeStruct]

    def run(self, values: Sequence[Any]) -> dict[Value, Any]:
        """All values, from those of the inputs."""
        env = dict(self.constants) | dict(zip(self.inputs, self.cast(values), strict=True))
        for operation in self.operations:
            found = operation(*(read(env, atom) for atom in operation.inputs))
            env |= zip(operation.outputs, found, strict=True)
        return env

    def cast(self, values: Sequence[Any]) -> list[Any]:
        """Values of the inputs in the inputs' own types."""
        return cast(values, (self.shapes.get(value) for value in self.inputs))

    def floating(self, atom: Atom) -> bool:
        """Whether a value is of real or complex numbers, not of integers or truth values."""
        return isinstance(atom, Value) and jnp.issubdtype(self.shapes[atom].dtype, jnp.inexact)

    def reached(self, start: Iterable[Value], stopped: bool = False) -> set[Value]:
        """The values that depend on some of `start`, and those themselves.

        Args:
          start: values.
          stopped: whether `jax.lax.stop_gradient` ends the dependence.
        """
        found = set(start)
        for operation in self.operations:
            if stopped and operation.name == "stop_gradient":
                continue
            if any(isinstance(atom, Value) and atom in found for atom in operation.inputs):
                found |= set(operation.outputs)
        return found


def known(value: Any) -> bool:
    """Whether a constant has its value already while the program is read."""
    return not isinstance(value, Tracer)


def cast(values: Iterable[Any], like: Iterable[Any]) -> list[Any]:
    """Values in the types of others, where they have another."""
    types = (getattr(other, "dtype", None) for other in like)
    return [
        value if getattr(value, "dtype", dtype) == dtype else value.astype(dtype)
        for value, dtype in zip(values, types, strict=True)
    ]


def read(env: dict[Value, Any], atom: Atom) -> Any:
    return atom.value if isinstance(atom, Constant) else env[atom]


def trace(f: Callable[..., Any], *args: Any, custom: bool = True) -> tuple[Program, Any]:
    """The program of `f(*args)`, over the leaves of the arguments, and the outputs' tree.

    With `custom`, in which no operation keeps a derivative of its own, it is a program to be read:
    layers are in it in their plain forms.
    """
    make = reading.written if custom else reading.traced
    closed, shape = make(f, *args)
    return program(closed, custom), jax.tree.structure(shape)


def program(closed: Any, custom: bool | Callable[[tuple[Any, ...]], bool] = True) -> Program:
    """The program of a closed jaxpr, with its inner calls written out.

    Args:
      closed: a closed jaxpr.
      custom: whether calls with a derivative of their own are written out too; a program that will
        be differentiated keeps them. Or a function that decides it for each call, from its equation
        and those of the calls around it, the outermost first.
    """
    opens = custom if callable(custom) else lambda calls: custom
    fresh = itertools.count()
    operations: list[Operation] = []
    constants: dict[Value, Any] = {}
    shapes: dict[Value, jax.ShapeDtypeStruct] = {}

    def new(var) -> Value:
        number = next(fresh)
        if hasattr(var.aval, "shape"):  # tokens have none
            shapes[number] = jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype)
        return number

    def write(closed, arguments: Sequence[Atom], scope: str, calls: tuple) -> list[Atom]:
        jaxpr = closed.jaxpr
        env: dict[Any, Atom] = dict(zip(jaxpr.invars, arguments, strict=True))
        for var, value in zip(jaxpr.constvars, closed.consts, strict=True):
            env[var] = number = new(var)
            constants[number] = value

        def atom(of) -> Atom:
            return Constant(of.val) if isinstance(of, reading.Literal) else env[of]

        for equation in jaxpr.eqns:
            inputs = [atom(var) for var in equation.invars]
            here = "/".join(filter(None, (scope, reading.scope(equation))))
            inner = reading.primitives().called(equation, opens((*calls, equation)))
            if inner is not None:
                found = write(inner, inputs, here, (*calls, equation))
                env |= zip(equation.outvars, found, strict=True)
                continue
            outputs = tuple(new(var) for var in equation.outvars)
            env |= zip(equation.outvars, outputs, strict=True)
            operations.append(Operation(equation, tuple(inputs), outputs, here, calls))
        return [atom(var) for var in jaxpr.outvars]

    inputs = tuple(new(var) for var in closed.jaxpr.invars)
    outputs = write(closed, inputs, "", ())
    return Program(inputs, tuple(operations), tuple(outputs), constants, shapes)
