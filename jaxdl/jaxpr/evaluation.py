"""Evaluation of jaxprs, with other constants or from known inputs alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jax.extend import core

from jaxdl.jaxpr.equations import ClosedJaxpr, Literal, bind, close_jaxpr, stored_jaxprs

jaxpr_as_fun = core.jaxpr_as_fun


def called_with_constants(equation: Any) -> ClosedJaxpr | None:
    """Returns the function of a `jit` call if it, or a call within it, has constants."""
    if equation.primitive.name not in ("jit", "pjit", "closed_call"):
        return None
    (inner,) = map(close_jaxpr, stored_jaxprs(equation.params))
    return inner if collect_constants(inner) else None


def collect_constants(jaxpr: ClosedJaxpr) -> list[Any]:
    """Returns the arrays that a jaxpr closes over, including those of its `jit` calls."""
    inner = filter(None, map(called_with_constants, jaxpr.eqns))
    return [*jaxpr.consts, *(value for call in inner for value in collect_constants(call))]


def has_fixed_constants(jaxpr: ClosedJaxpr) -> bool:
    """Returns whether loops or branches have constants, not among those collected."""

    def count(jaxpr):
        jaxpr = close_jaxpr(jaxpr)
        inner = (part for equation in jaxpr.eqns for part in stored_jaxprs(equation.params))
        return len(jaxpr.consts) + sum(map(count, inner))

    # `collect_constants` looks into calls only, so any surplus is within loops or branches.
    return count(jaxpr) > len(collect_constants(jaxpr))


def evaluate(jaxpr: ClosedJaxpr, values: Iterator[Any], *inputs: Any) -> list[Any]:
    """Evaluates a jaxpr with other values for its constants.

    Args:
      jaxpr: a closed jaxpr.
      values: an iterator over one value for each of `collect_constants(jaxpr)`, in this order.
      inputs: the inputs of the jaxpr.
    """

    def compute(equation, *arguments):
        inner = called_with_constants(equation)
        return evaluate(inner, values, *arguments) if inner else bind(equation, *arguments)

    return interpret(jaxpr, compute, [next(values) for _ in jaxpr.consts], inputs)


def evaluate_known(jaxpr: ClosedJaxpr, first: list[Any]) -> list[Any]:
    """Computes the outputs of a jaxpr that depend on its first inputs alone.

    Args:
      jaxpr: a closed jaxpr.
      first: the values of the first inputs; the others are unknown.

    Returns:
      The outputs, None where they are unknown. Only equations that they need are computed.
    """
    needed, equations = set(filter(_is_variable, jaxpr.jaxpr.outvars)), []
    for equation in reversed(jaxpr.jaxpr.eqns):
        if needed.intersection(equation.outvars):
            equations.append(equation)
            needed.update(filter(_is_variable, equation.invars))
    known = dict(zip(jaxpr.jaxpr.constvars, jaxpr.consts, strict=True))
    known |= dict(zip(jaxpr.jaxpr.invars, first, strict=False))

    def read(atom):
        return known.get(atom) if _is_variable(atom) else atom.val

    for equation in reversed(equations):
        values = [read(atom) for atom in equation.invars]
        if all(value is not None for value in values):
            known |= dict(zip(equation.outvars, bind(equation, *values), strict=True))
    return [read(atom) for atom in jaxpr.jaxpr.outvars]


def _is_variable(atom: Any) -> bool:
    return isinstance(atom, core.Var)


def interpret(
    jaxpr: ClosedJaxpr, compute: Callable[..., Any], constants: Sequence[Any], inputs: Sequence[Any]
) -> list[Any]:
    """Evaluates a jaxpr with `compute(equation, *values)` for each equation."""
    variables = [*jaxpr.jaxpr.constvars, *jaxpr.jaxpr.invars]
    env = dict(zip(variables, [*constants, *inputs], strict=True))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else env[atom]

    for equation in jaxpr.eqns:
        outputs = compute(equation, *map(read, equation.invars))
        env |= zip(equation.outvars, outputs, strict=True)
    return [read(atom) for atom in jaxpr.jaxpr.outvars]
