"""`at=`: the value that a function computes at a named place, and the rest of the function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.core import suggest
from jaxdl.interpret import _input
from jaxdl.interpret._program import Program, Value, read, trace


def split(
    caller: str, f: Callable[[Any], Any], x: Any, at: str | None
) -> tuple[Callable[[Any], Any], Any]:
    """f and x, or with a place: the function from the value there to the output, and the value.

    All that does not depend on the value, a shortcut around it for example, keeps what x gives it.

    Args:
      caller: the public function's name, for messages.
      f, x: a function and its inputs.
      at: None; or a path of jaxdl, Flax's names, or those of `jax.named_scope`, e.g.
        "block_1/conv_0". The end of a path is enough where it is the only one.

    Raises:
      ValueError: no place is called so, several are, or what it gives is not one array of numbers.
    """
    if at is None:
        return f, x
    program, tree = trace(f, x, custom=False)
    value = place(caller, program, at)
    env = program.run(jax.tree.leaves(x))
    after = program.reached([value])

    def rest(given):
        known = dict(env) | {value: given}
        for operation in program.operations:
            if value not in operation.outputs and not after.isdisjoint(operation.outputs):
                found = operation(*(read(known, atom) for atom in operation.inputs))
                known |= zip(operation.outputs, found, strict=True)
        return jax.tree.unflatten(tree, [read(known, atom) for atom in program.outputs])

    return rest, env[value]


def located(
    caller: str, f: Callable[[Any], Any], x: Any, at: str | None
) -> tuple[Callable[[Any], Any], Any]:
    """Returns `split`, or without a place f and x of the floating-point arrays, checked."""
    if at is None:
        return _input.separate(caller, f, x)
    rest, value = split(caller, f, jax.tree.map(jnp.asarray, x), at)
    return rest, _input.checked(caller, value)


def intermediate(f: Callable[[Any], Any], x: Any, at: str) -> jax.Array:
    """The value that f computes at a named place.

    Args:
      f: any function of x.
      x: its input, a tree of arrays.
      at: a path of jaxdl, Flax's names, or those of `jax.named_scope`, e.g. "block_1/conv_0"; the
        end of a path is enough where it is the only one.

    Returns:
      The array.

    Raises:
      ValueError: no place is called so, several are, or it gives not one array that depends on x.
    """
    return split("intermediate", f, x, at)[1]


def place(caller: str, program: Program, at: str) -> Value:
    """The value that leaves the operations named `at`."""
    names = _names(program)
    ends = [name for name in names if f"/{name}".endswith(f"/{at}")]
    if not ends:
        raise ValueError(
            f"{caller}: no place {at!r} in the function; {suggest(at, names, 'places')} What runs "
            "inside of a loop (jax.lax.scan) has no one value to name."
        )
    if at not in names and len(ends) > 1:
        raise ValueError(f"{caller}: at={at!r} may be {' or '.join(sorted(ends))}; say which.")
    name = at if at in names else ends[0]
    inside = [op for op in program.operations if f"{op.scope}/".startswith(f"{name}/")]
    made = {value for operation in inside for value in operation.outputs}
    taken = {atom for op in program.operations if op not in inside for atom in op.inputs}
    active = program.reached(program.inputs)
    found = [
        value
        for value in sorted(made & (taken | set(program.outputs)))
        if value in active and program.floating(value)
    ]
    if len(found) != 1:
        shapes = ", ".join(str(program.shapes[value].shape) for value in found) or "none"
        raise ValueError(
            f"{caller}: at={at!r} gives {len(found)} arrays that depend on x ({shapes}); expected "
            "one: name the value by `with jax.named_scope(...)` around the line that computes it."
        )
    return found[0]


def _names(program: Program) -> dict[str, None]:
    names: dict[str, None] = {}
    for operation in program.operations:
        parts = operation.scope.split("/") if operation.scope else []
        names |= {"/".join(parts[: i + 1]): None for i in range(len(parts))}
    return names
