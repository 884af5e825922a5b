"""`layer=`: splits a function at the value of a named layer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.core import suggest
from jaxdl.interpret import _input
from jaxdl.jaxpr import equations
from jaxdl.jaxpr.graph import JaxprGraph, Value, read, trace_graph


def intermediate(f: Callable[[Any], Any], x: Any, layer: str) -> jax.Array:
    """Returns the value that f computes at a named layer.

    Args:
      f: any function of x.
      x: its input, a tree of arrays.
      layer: a path in jaxdl, Flax or `jax.named_scope`, e.g. "layer3_1/conv2". The end of a path is
        enough if no other path ends so.

    Returns:
      The array.

    Raises:
      ValueError: there is no such layer, or several, or its value is not one array that depends on
        x.
    """
    return split("intermediate", f, x, layer)[1]


def select(
    caller: str, f: Callable[[Any], Any], x: Any, layer: str | None
) -> tuple[Callable[[Any], Any], Any]:
    """Returns f and x, or with `layer` the rest of f and the value of the layer.

    Args:
      caller: the public function's name, for messages.
      f: a function.
      x: a batch.
      layer: None for the floating-point arrays of x, or as for `split`.

    Raises:
      ValueError: as `split`; or the value is not floating-point.
    """
    if layer is None:
        return _input.separate(f, x)
    rest, value = split(caller, f, jax.tree.map(jnp.asarray, x), layer)
    return rest, _input.as_batch(caller, value)


def eval_shape(caller: str, f: Callable[[Any], Any], x: Any, layer: str | None) -> Any:
    """Returns the shapes of the explained input that `select` returns.

    Raises:
      ValueError: as `select`.
    """
    return jax.eval_shape(lambda x: select(caller, f, x, layer)[1], x)


def split(
    caller: str, f: Callable[[Any], Any], x: Any, layer: str
) -> tuple[Callable[[Any], Any], Any]:
    """Returns the rest of f, as a function of a layer's value, and that value.

    Values that do not depend on the layer, such as a shortcut around it, are those of x. The batch
    axis of the layer's value is moved to the front if f is a `jax.vmap`.

    Args:
      caller: the public function's name, for messages.
      f, x: a function and its input.
      layer: a path, as for `intermediate`.

    Raises:
      ValueError: there is no such layer, or several, or its value is not one array.
    """
    # Custom derivatives are kept: the rest of f is differentiated later.
    program, tree = trace_graph(f, x, custom=False)
    value = find_value(caller, program, layer)
    axis = find_batch_axis(caller, f, x, program, value, layer)
    env = program.run(jax.tree.leaves(x))
    after = program.dependents([value])

    def rest(layer_value):
        # Only operations that depend on the layer run again.
        known = dict(env) | {value: jnp.moveaxis(layer_value, 0, axis)}
        for operation in program.operations:
            if value not in operation.outputs and not after.isdisjoint(operation.outputs):
                outputs = operation(*(read(known, atom) for atom in operation.inputs))
                known |= zip(operation.outputs, outputs, strict=True)
        return jax.tree.unflatten(tree, [read(known, atom) for atom in program.outputs])

    return rest, jnp.moveaxis(env[value], axis, 0)


def find_value(caller: str, program: JaxprGraph, layer: str) -> Value:
    """Returns the output of the operations named `layer`.

    Raises:
      ValueError: as `split`.
    """
    if not isinstance(layer, str):
        raise ValueError(
            f"{caller}: layer is {layer!r}; expected one path as a string, e.g. 'conv_1'."
        )
    names = _expand_scopes(operation.scope for operation in program.operations)
    ends = _match_ends(names, layer)
    if not ends:
        raise ValueError(
            f"{caller}: no layer {layer!r} in the function; {_suggest_layer(program, names, layer)}"
        )
    if layer not in names and len(ends) > 1:
        raise ValueError(
            f"{caller}: layer={layer!r} can be {' or '.join(sorted(ends))}. Pass one whole path."
        )
    name = layer if layer in names else ends[0]
    inside = [op for op in program.operations if f"{op.scope}/".startswith(f"{name}/")]
    # The output of a layer is used outside of it, or returned by f.
    outputs = {value for operation in inside for value in operation.outputs}
    used = {atom for op in program.operations if op not in inside for atom in op.inputs}
    active = program.dependents(program.inputs)
    values = sorted(outputs & (used | set(program.outputs)) & active)
    floating = [value for value in values if program.is_inexact(value)]
    if len(floating) != 1:
        shapes = ", ".join(
            f"{program.shapes[v].dtype}{list(program.shapes[v].shape)}" for v in floating or values
        )
        raise ValueError(
            f"{caller}: layer={layer!r} returns {len(floating)} arrays of floating-point numbers "
            f"that depend on x ({shapes or 'none'}); expected one. Put `with jax.named_scope(...)` "
            "around the line that computes the value, with another name for each call of a shared "
            "layer."
        )
    return floating[0]


def find_batch_axis(
    caller: str, f: Callable[[Any], Any], x: Any, program: JaxprGraph, value: Value, layer: str
) -> int:
    """Returns the batch axis of a value: the first, or inside of `jax.vmap` any one.

    Raises:
      ValueError: several axes are as long as the batch, and f takes no other batch size, which
        would show the axis.
    """
    (producer,) = (op for op in program.operations if value in op.outputs)
    if not any(map(equations.has_batch_axis, (producer.equation, *producer.calls))):
        return 0
    (n, *_) = (leaf.shape[0] for leaf in jax.tree.leaves(x))
    shape = program.shapes[value].shape
    axes = [axis for axis, size in enumerate(shape) if size == n]
    if len(axes) < 2:
        return axes[0] if axes else 0
    # The batch axis is the one that grows with the batch.
    more = jax.tree.map(lambda a: jax.ShapeDtypeStruct((n + 1, *a.shape[1:]), a.dtype), x)
    try:
        longer, _ = trace_graph(f, more, custom=False)
    except Exception as error:
        raise ValueError(
            f"{caller}: layer={layer!r} is inside of jax.vmap and has shape {shape} for {n} "
            "examples, so its batch axis is ambiguous. Pass another number of examples."
        ) from error
    other = longer.shapes[find_value(caller, longer, layer)].shape
    return next(axis for axis in axes if other[axis] == n + 1)


def _suggest_layer(program: JaxprGraph, names: Collection[str], layer: str) -> str:
    """Returns advice for a path that does not exist."""
    for operation in program.operations:
        scopes = _find_inner_scopes(operation.equation, operation.scope)
        if _match_ends(_expand_scopes(scopes), layer):
            return (
                f"it is inside of {operation.name!r}, where it has several values. Put "
                f"`with jax.named_scope({layer!r}):` around the {operation.name!r}."
            )
    return (
        f"{suggest(layer, names, 'layers')} Put `with jax.named_scope({layer!r}):` around the "
        "lines that compute the value. Networks of flax.nnx have names through "
        "jaxdl.interop.flax.from_nnx."
    )


def _find_inner_scopes(equation: Any, scope: str) -> Iterator[str]:
    """Yields the paths of the operations in an equation's loop body or branches."""
    for jaxpr in equations.inner_jaxprs(equation.params):
        for inner in jaxpr.eqns:
            path = "/".join(filter(None, (scope, equations.name_scope(inner))))
            yield path
            yield from _find_inner_scopes(inner, path)


def _expand_scopes(scopes: Iterable[str]) -> dict[str, None]:
    """Returns all scopes and those around them: "a/b" gives "a" and "a/b"."""
    names: dict[str, None] = {}
    for scope in filter(None, scopes):
        parts = scope.split("/")
        names |= {"/".join(parts[: i + 1]): None for i in range(len(parts))}
    return names


def _match_ends(names: Iterable[str], layer: str) -> list[str]:
    return [name for name in names if f"/{name}".endswith(f"/{layer}")]
