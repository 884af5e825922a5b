"""`layer=`: the value that a function computes at a named place, and the rest of the function."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.core import suggest
from jaxdl.interpret import _input
from jaxdl.jaxpr import reading
from jaxdl.jaxpr.program import Program, Value, read, trace


def split(
    caller: str, f: Callable[[Any], Any], x: Any, layer: str | None
) -> tuple[Callable[[Any], Any], Any]:
    """Returns `(f, x)`, or with a place the function from the value there on, and that value.

    All that does not depend on the value, a shortcut around it for example, keeps what x gives it.
    The value has the examples on its first axis, also where f is a `jax.vmap`.

    Args:
      caller: the public function's name, for messages.
      f, x: a function and its inputs.
      layer: None; or a path of jaxdl, Flax's names, or those of `jax.named_scope`, e.g.
        "block_1/conv_0". The end of a path is enough where it is the only one.

    Raises:
      ValueError: no place is called so, several are, or what it gives is not one array of numbers.
    """
    if layer is None:
        return f, x
    program, tree = trace(f, x, custom=False)
    value = place(caller, program, layer)
    axis = batch_axis(caller, f, x, program, value, layer)
    env = program.run(jax.tree.leaves(x))
    after = program.reached([value])

    def rest(given):
        known = dict(env) | {value: jnp.moveaxis(given, 0, axis)}
        for operation in program.operations:
            if value not in operation.outputs and not after.isdisjoint(operation.outputs):
                found = operation(*(read(known, atom) for atom in operation.inputs))
                known |= zip(operation.outputs, found, strict=True)
        return jax.tree.unflatten(tree, [read(known, atom) for atom in program.outputs])

    return rest, jnp.moveaxis(env[value], axis, 0)


def located(
    caller: str, f: Callable[[Any], Any], x: Any, layer: str | None
) -> tuple[Callable[[Any], Any], Any]:
    """Returns `split`, or without a place f and x of the floating-point arrays, checked."""
    if layer is None:
        return _input.separate(caller, f, x)
    rest, value = split(caller, f, jax.tree.map(jnp.asarray, x), layer)
    return rest, _input.checked(caller, value)


def arrays(caller: str, f: Callable[[Any], Any], x: Any, layer: str | None) -> tuple[Any, Any]:
    """Returns x as arrays, and the shapes of what `located` explains of it.

    Raises:
      ValueError: as `located`.
    """
    x = _input.checked(caller, x) if layer is None else jax.tree.map(jnp.asarray, x)
    return x, jax.eval_shape(lambda x: located(caller, f, x, layer)[1], x)


def intermediate(f: Callable[[Any], Any], x: Any, layer: str) -> jax.Array:
    """The value that f computes at a named place.

    Args:
      f: any function of x.
      x: its input, a tree of arrays.
      layer: a path of jaxdl, Flax's names, or those of `jax.named_scope`, e.g. "block_1/conv_0"; the
        end of a path is enough where it is the only one.

    Returns:
      The array.

    Raises:
      ValueError: no place is called so, several are, or it gives not one array that depends on x.
    """
    return split("intermediate", f, x, layer)[1]


def place(caller: str, program: Program, layer: str) -> Value:
    """Returns the value that leaves the operations named `layer`."""
    if not isinstance(layer, str):
        raise ValueError(
            f"{caller}: layer is {layer!r}; expected one path as a string, e.g. 'conv_1'."
        )
    names = _names(operation.scope for operation in program.operations)
    ends = _ending(names, layer)
    if not ends:
        raise ValueError(
            f"{caller}: no layer {layer!r} in the function; {_advice(program, names, layer)}"
        )
    if layer not in names and len(ends) > 1:
        raise ValueError(
            f"{caller}: layer={layer!r} may be {' or '.join(sorted(ends))}; say which."
        )
    name = layer if layer in names else ends[0]
    inside = [op for op in program.operations if f"{op.scope}/".startswith(f"{name}/")]
    made = {value for operation in inside for value in operation.outputs}
    taken = {atom for op in program.operations if op not in inside for atom in op.inputs}
    active = program.reached(program.inputs)
    values = sorted(made & (taken | set(program.outputs)) & active)
    floating = [value for value in values if program.floating(value)]
    if len(floating) != 1:
        shapes = ", ".join(
            f"{program.shapes[v].dtype}{list(program.shapes[v].shape)}" for v in floating or values
        )
        raise ValueError(
            f"{caller}: layer={layer!r} gives {len(floating)} arrays of floating-point numbers that "
            f"depend on x (it gives {shapes or 'none'}); expected one. Name the value by `with "
            "jax.named_scope(...)` around the line that computes it, and each call of a shared "
            "layer by a name of its own."
        )
    return floating[0]


def batch_axis(
    caller: str, f: Callable[[Any], Any], x: Any, program: Program, value: Value, layer: str
) -> int:
    """Returns the axis of the examples of a value: the first, or inside of `jax.vmap` any one.

    Raises:
      ValueError: several axes are as long as the batch, and f takes no other batch to compare.
    """
    (maker,) = (op for op in program.operations if value in op.outputs)
    if not any(map(reading.batched, (maker.equation, *maker.calls))):
        return 0
    (n, *_) = (leaf.shape[0] for leaf in jax.tree.leaves(x))
    shape = program.shapes[value].shape
    axes = [axis for axis, size in enumerate(shape) if size == n]
    if len(axes) < 2:
        return axes[0] if axes else 0
    more = jax.tree.map(lambda a: jax.ShapeDtypeStruct((n + 1, *a.shape[1:]), a.dtype), x)
    try:
        longer, _ = trace(f, more, custom=False)
    except Exception as error:
        raise ValueError(
            f"{caller}: layer={layer!r} is inside of jax.vmap and gives {shape} for {n} examples, so the "
            "axis of the examples is unclear. Pass another number of examples."
        ) from error
    other = longer.shapes[place(caller, longer, layer)].shape
    return next(axis for axis in axes if other[axis] == n + 1)


def _advice(program: Program, names: Collection[str], layer: str) -> str:
    """Returns what to write instead of a path that is not there."""
    for operation in program.operations:
        if _ending(_names(_scopes_within(operation.equation, operation.scope)), layer):
            return (
                f"it is inside of {operation.name!r}, where it has no one value. Name what "
                f"{operation.name!r} gives by `with jax.named_scope({layer!r}):` around it."
            )
    return (
        f"{suggest(layer, names, 'places')} Name a value by `with jax.named_scope({layer!r}):` around "
        "the lines that compute it; networks of flax.nnx have names through "
        "jaxdl.interop.flax.from_nnx."
    )


def _scopes_within(equation: Any, scope: str) -> Iterator[str]:
    """Yields the paths of the operations in an equation's functions: a loop's body, branches."""
    for jaxpr in reading.inner_jaxprs(equation.params):
        for inner in jaxpr.eqns:
            here = "/".join(filter(None, (scope, reading.scope(inner))))
            yield here
            yield from _scopes_within(inner, here)


def _names(scopes: Iterable[str]) -> dict[str, None]:
    names: dict[str, None] = {}
    for scope in filter(None, scopes):
        parts = scope.split("/")
        names |= {"/".join(parts[: i + 1]): None for i in range(len(parts))}
    return names


def _ending(names: Iterable[str], layer: str) -> list[str]:
    return [name for name in names if f"/{name}".endswith(f"/{layer}")]
