"""Walking through jaxprs, by what every supported JAX has.

All that rests on the form of JAX's programs is here and, where it is what a primitive stores, in
`jaxdl._primitives`: a new JAX with another form concerns only these two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core

Literal = core.Literal
ClosedJaxpr = core.ClosedJaxpr  # pyright: ignore[reportPrivateImportUsage]
"""From JAX 0.12 the same as `Jaxpr`, and no longer exported under this name."""
plain = jax.make_user_context(default_value=False)
"""Whether layers are to be written as what they are, not as what is fast here. Caches heed it."""


def primitives():
    """Imports `jaxdl._primitives`, which is checked against the running JAX at its first import.

    Raises:
      ImportError: this version of JAX stores the parameters of a primitive in another form.
    """
    from jaxdl import _primitives

    return _primitives


def traced(f: Callable[..., Any], *args: Any) -> tuple[ClosedJaxpr, Any]:
    """The program of `f(*args)` as it runs, and its output's shapes."""
    return jax.make_jaxpr(f, return_shape=True)(*args)


def written(f: Callable[..., Any], *args: Any) -> tuple[ClosedJaxpr, Any]:
    """The program of `f(*args)` to be read, not run, and its output's shapes.

    A layer's main operation is in it as itself: a convolution as one, though on a CPU some are
    computed as sums of products.
    """
    with plain(True):
        return traced(f, *args)


def stored_jaxprs(params: dict[str, Any]) -> Iterator[core.Jaxpr | ClosedJaxpr]:
    """Yields the jaxprs that an equation stores under any name, each in the form that it has."""
    kinds = (core.Jaxpr, ClosedJaxpr)
    leaves = jax.tree.leaves(params, is_leaf=lambda leaf: isinstance(leaf, kinds))
    return (leaf for leaf in leaves if isinstance(leaf, kinds))


def inner_jaxprs(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """Yields the jaxprs of an equation without their constants: a loop's body, branches."""
    for leaf in stored_jaxprs(params):
        yield leaf.jaxpr if isinstance(leaf, ClosedJaxpr) else leaf


def closed(jaxpr: core.Jaxpr | ClosedJaxpr) -> ClosedJaxpr:
    return jaxpr if isinstance(jaxpr, ClosedJaxpr) else ClosedJaxpr(jaxpr, ())


def apply(equation: Any, *values: Any) -> list[Any]:
    """What an equation that calls a function gives for values of its inputs."""
    pairs = zip(equation.invars, values, strict=True)
    held = {variable: value for variable, value in pairs if not isinstance(variable, Literal)}
    (info, *_) = (inner.debug_info for inner in inner_jaxprs(equation.params))
    names = {"arg_names": ("",) * len(held), "result_paths": ("",) * len(equation.outvars)}
    jaxpr = core.Jaxpr(
        (),
        list(held),
        equation.outvars,
        [equation],
        equation.effects,
        info._replace(**names),
    )
    return core.jaxpr_as_fun(ClosedJaxpr(jaxpr, ()))(*held.values())


def scope(equation: Any) -> str:
    """The names around an equation, "outer/inner", without those of transformations."""
    name = str(equation.source_info.name_stack)
    while name != (plain := re.sub(r"\w+\(([^()]*)\)", r"\1", name)):
        name = plain
    return name


def batched(equation: Any) -> bool:
    """Whether `jax.vmap` has added an axis to an equation, at any place in its output."""
    return "vmap(" in str(equation.source_info.name_stack)


def line(equation: Any) -> str | None:
    """The place in the user's source, "file:line (function)", where it is known."""
    traceback = equation.source_info.traceback
    for frame in traceback.frames if traceback is not None else ():
        if not re.search(r"[/\\](jax|flax|equinox|jaxdl|haiku)[/\\]", frame.file_name):
            return f"{frame.file_name}:{frame.line_num} ({frame.function_name})"
    return None
