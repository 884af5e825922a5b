"""Equations of a jaxpr: inner jaxprs, evaluation, name scope and source line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax.extend import core

Literal = core.Literal
ClosedJaxpr = core.ClosedJaxpr  # pyright: ignore[reportPrivateImportUsage]
"""From JAX 0.12 the same class as `Jaxpr`, and no longer exported under this name."""


def stored_jaxprs(params: dict[str, Any]) -> Iterator[core.Jaxpr | ClosedJaxpr]:
    """Yields the jaxprs among an equation's parameters, under any name, closed or not."""
    kinds = (core.Jaxpr, ClosedJaxpr)
    leaves = jax.tree.leaves(params, is_leaf=lambda leaf: isinstance(leaf, kinds))
    return (leaf for leaf in leaves if isinstance(leaf, kinds))


def inner_jaxprs(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """Yields the jaxprs of an equation without their constants: loop bodies, branches."""
    for leaf in stored_jaxprs(params):
        yield leaf.jaxpr if isinstance(leaf, ClosedJaxpr) else leaf


def close_jaxpr(jaxpr: core.Jaxpr | ClosedJaxpr) -> ClosedJaxpr:
    """Returns a closed jaxpr; one that is not closed must have no constants."""
    return jaxpr if isinstance(jaxpr, ClosedJaxpr) else ClosedJaxpr(jaxpr, ())


def bind(equation: Any, *values: Any) -> Sequence[Any]:
    """Evaluates an equation on values of its inputs."""
    if equation.primitive.name.startswith("custom"):
        return bind_call(equation, *values)
    outputs = equation.primitive.bind(*values, **equation.params)
    return outputs if equation.primitive.multiple_results else [outputs]


def bind_call(equation: Any, *values: Any) -> list[Any]:
    """Evaluates an equation that calls a function, such as `custom_jvp_call`.

    Such primitives bind functions rather than jaxprs, in a form that differs between versions of
    JAX. A jaxpr of this one equation leaves the binding to JAX.
    """
    pairs = zip(equation.invars, values, strict=True)
    arguments = {variable: value for variable, value in pairs if not isinstance(variable, Literal)}
    (info, *_) = (inner.debug_info for inner in inner_jaxprs(equation.params))
    names = {"arg_names": ("",) * len(arguments), "result_paths": ("",) * len(equation.outvars)}
    jaxpr = core.Jaxpr(
        (),
        list(arguments),
        equation.outvars,
        [equation],
        equation.effects,
        info._replace(**names),
    )
    return core.jaxpr_as_fun(ClosedJaxpr(jaxpr, ()))(*arguments.values())


def output_activation(jaxpr: core.Jaxpr) -> str | None:
    """Returns "softmax" or "sigmoid" if the single output is one, else None."""
    if len(jaxpr.outvars) != 1:
        return None
    producers: dict[Any, Any] = {
        variable: equation for equation in jaxpr.eqns for variable in equation.outvars
    }
    equation = producers.get(jaxpr.outvars[0])
    if equation is None:
        return None
    inner = [part for part in inner_jaxprs(equation.params) if len(part.outvars) == 1]
    if len(inner) == 1 and len(equation.outvars) == 1:
        return output_activation(inner[0])
    if equation.primitive.name == "logistic":
        return "sigmoid"
    above = [producers.get(v) for v in equation.invars if not isinstance(v, Literal)]
    names = [None if one is None else one.primitive.name for one in above]
    return "softmax" if equation.primitive.name == "div" and names[0] == "exp" else None


def name_scope(equation: Any) -> str:
    """Returns the name scope "outer/inner" without names of transformations."""
    name = str(equation.source_info.name_stack)
    # From the inside out, for "vmap(jvp(dense_0))".
    while name != (inner := re.sub(r"\w+\(([^()]*)\)", r"\1", name)):
        name = inner
    return name


def has_batch_axis(equation: Any) -> bool:
    """Returns whether `jax.vmap` has added an axis, at any position of the output."""
    return "vmap(" in str(equation.source_info.name_stack)


def source_line(equation: Any) -> str | None:
    """Returns the line of the user's code, "file:line (function)", if it is known."""
    traceback = equation.source_info.traceback
    for frame in traceback.frames if traceback is not None else ():
        if not re.search(r"[/\\](jax|flax|equinox|jaxdl|haiku)[/\\]", frame.file_name):
            return f"{frame.file_name}:{frame.line_num} ({frame.function_name})"
    return None
