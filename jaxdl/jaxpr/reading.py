"""Walking through jaxprs, by what every supported JAX has.

All that rests on the form of JAX's programs is here and, where it is what a primitive stores, in
`jaxdl.jaxpr.primitives`: a new JAX with another form concerns only these two.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from jaxdl.jaxpr.platform import select_platform

Literal = core.Literal
jaxpr_as_fun = core.jaxpr_as_fun
ClosedJaxpr = core.ClosedJaxpr  # pyright: ignore[reportPrivateImportUsage]
"""From JAX 0.12 the same as `Jaxpr`, and no longer exported under this name."""


def primitives():
    """Imports `jaxdl.jaxpr.primitives`, which checks the running JAX at its first import.

    Raises:
      ImportError: this version of JAX stores the parameters of a primitive in another form.
    """
    from jaxdl.jaxpr import primitives

    return primitives


def traced(f: Callable[..., Any], *args: Any) -> tuple[ClosedJaxpr, Any]:
    """The program of `f(*args)` as it runs, and its output's shapes."""
    program, shape = _make_jaxpr(f, *args)
    return select_platform(program, jax.default_backend()), shape


def written(f: Callable[..., Any], *args: Any) -> tuple[ClosedJaxpr, Any]:
    """The program of `f(*args)` to be read, not run, and its output's shapes.

    A layer's main operation is in it as itself: a convolution as one, though on a CPU some are
    computed as sums of products.
    """
    program, shape = _make_jaxpr(f, *args)
    return select_platform(program, None), shape


def _make_jaxpr(f: Callable[..., Any], *args: Any) -> tuple[ClosedJaxpr, Any]:
    # JAX caches by the function's identity, but what f closes over may have changed since.
    return jax.make_jaxpr(lambda *args: f(*args), return_shape=True)(*args)


def stored_jaxprs(params: dict[str, Any]) -> Iterator[core.Jaxpr | ClosedJaxpr]:
    """Yields the jaxprs that an equation stores under any name, each in the form that it has."""
    kinds = (core.Jaxpr, ClosedJaxpr)
    leaves = jax.tree.leaves(params, is_leaf=lambda leaf: isinstance(leaf, kinds))
    return (leaf for leaf in leaves if isinstance(leaf, kinds))


def inner_jaxprs(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """Yields the jaxprs of an equation without their constants: a loop's body, branches."""
    for leaf in stored_jaxprs(params):
        yield leaf.jaxpr if isinstance(leaf, ClosedJaxpr) else leaf


def last_function(jaxpr: core.Jaxpr) -> str | None:
    """Returns "softmax" or "sigmoid" where the single output is one, else None."""
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
        return last_function(inner[0])
    if equation.primitive.name == "logistic":
        return "sigmoid"
    above = [producers.get(v) for v in equation.invars if not isinstance(v, Literal)]
    names = [None if one is None else one.primitive.name for one in above]
    return "softmax" if equation.primitive.name == "div" and names[0] == "exp" else None


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


def called_with_constants(equation: Any) -> ClosedJaxpr | None:
    """Returns the function of a `jit` call that has arrays of its own, or inner calls that have."""
    if equation.primitive.name not in ("jit", "pjit", "closed_call"):
        return None
    (inner,) = map(closed, stored_jaxprs(equation.params))
    return inner if constants(inner) else None


def constants(jaxpr: ClosedJaxpr) -> list[Any]:
    """Returns the arrays that a program closes over, also within its calls of `jit`."""
    inner = filter(None, map(called_with_constants, jaxpr.eqns))
    return [*jaxpr.consts, *(value for call in inner for value in constants(call))]


def fixed_constants(jaxpr: ClosedJaxpr) -> bool:
    """Returns whether a program has arrays besides its `constants`: within loops and branches."""

    def count(jaxpr):
        jaxpr = closed(jaxpr)
        inner = (part for equation in jaxpr.eqns for part in stored_jaxprs(equation.params))
        return len(jaxpr.consts) + sum(map(count, inner))

    return count(jaxpr) > len(constants(jaxpr))


def evaluate(jaxpr: ClosedJaxpr, values: Iterator[Any], *inputs: Any) -> list[Any]:
    """Evaluates a program with other values in place of its `constants`.

    Args:
      jaxpr: a program.
      values: an iterator over one value for each of its constants, in their order.
      inputs: the program's inputs.
    """

    def compute(equation, *arguments):
        inner = called_with_constants(equation)
        return evaluate(inner, values, *arguments) if inner else bind(equation, *arguments)

    return interpret(jaxpr, compute, [next(values) for _ in jaxpr.consts], inputs)


def evaluate_known(jaxpr: ClosedJaxpr, first: list[Any]) -> list[Any]:
    """Computes the outputs of a program that depend on its first inputs alone.

    Args:
      jaxpr: the program.
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
    """Evaluates a program by `compute(equation, *values)`, which gives an equation's outputs."""
    variables = [*jaxpr.jaxpr.constvars, *jaxpr.jaxpr.invars]
    env = dict(zip(variables, [*constants, *inputs], strict=True))
    read = lambda atom: atom.val if isinstance(atom, Literal) else env[atom]  # noqa: E731
    for equation in jaxpr.eqns:
        outputs = compute(equation, *map(read, equation.invars))
        env |= zip(equation.outvars, outputs, strict=True)
    return [read(atom) for atom in jaxpr.jaxpr.outvars]


def bind(equation: Any, *values: Any) -> Sequence[Any]:
    """Applies an equation to values of its inputs."""
    if equation.primitive.name.startswith("custom"):
        return apply(equation, *values)
    outputs = equation.primitive.bind(*values, **equation.params)
    return outputs if equation.primitive.multiple_results else [outputs]


def fast_in_loops(f: Callable[..., Any]) -> Callable[..., Any]:
    """Returns f with its convolutions in the layout that is fast inside of loops on a CPU.

    XLA:CPU gives a convolution the layout of its fast kernels only outside of loops. Gradients of
    convolutions have another, and in a loop they take up to five times as long.
    """
    if jax.default_backend() != "cpu":
        return f

    def run(*args):
        program, shape = traced(f, *args)
        outputs = _channels_last(program, *jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return run


def _channels_last(jaxpr: ClosedJaxpr, *inputs: Any) -> list[Any]:
    kinds = (core.Jaxpr, ClosedJaxpr)

    def rewritten(inner):
        if not isinstance(inner, kinds) or inner.effects or not _convolves(inner):
            return inner
        whole = closed(inner)
        like = [
            jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)
            for aval in whole.in_avals
        ]
        whole = jax.make_jaxpr(lambda *values: _channels_last(whole, *values))(*like)
        return whole if isinstance(inner, ClosedJaxpr) else whole.jaxpr

    def compute(equation, *values):
        if equation.primitive.name == "conv_general_dilated":
            other = primitives().channels_last(equation)
            return other(*values) if other else bind(equation, *values)
        is_leaf = lambda leaf: isinstance(leaf, kinds)  # noqa: E731
        params = jax.tree.map(rewritten, equation.params, is_leaf=is_leaf)
        return bind(equation.replace(params=params), *values)

    return interpret(jaxpr, compute, jaxpr.consts, inputs)


def _convolves(jaxpr: core.Jaxpr | ClosedJaxpr) -> bool:
    return any(
        equation.primitive.name == "conv_general_dilated"
        or any(map(_convolves, inner_jaxprs(equation.params)))
        for equation in jaxpr.eqns
    )


def peak_bytes(jaxpr: core.Jaxpr) -> int:
    """Estimates the memory that a program needs for values of its own, in bytes.

    It is that of the values alive at one time, in the program's order, without its inputs. XLA
    needs less where it fuses operations.
    """
    used = [[*equation.outvars, *equation.invars] for equation in jaxpr.eqns]
    used.append(list(jaxpr.outvars))
    last = {id(atom): i for i, atoms in enumerate(used) for atom in atoms}
    live, peak, made = 0, 0, dict.fromkeys(map(id, [*jaxpr.constvars, *jaxpr.invars]), 0)
    for i, equation in enumerate(jaxpr.eqns):
        made |= {id(variable): _bytes(variable) for variable in equation.outvars}
        outputs = sum(map(_bytes, equation.outvars))
        inner = max(map(peak_bytes, inner_jaxprs(equation.params)), default=0)
        peak = max(peak, live + max(outputs, inner))
        over = {id(atom) for atom in used[i] if last[id(atom)] == i}
        live += outputs - sum(made.get(atom, 0) for atom in over)
    return peak


def _bytes(variable: Any) -> int:
    if not hasattr(variable.aval, "shape"):  # a token
        return 0
    # XLA keeps what a mask is computed from rather than the mask, whose values have one byte.
    return math.prod(variable.aval.shape) * max(variable.aval.dtype.itemsize, 4)


class _Identity:
    """Equal only to itself; keeps its object alive, so that no other takes its address."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def fingerprint(jaxpr: ClosedJaxpr) -> tuple[Any, ...]:
    """Returns a hashable description of a program, without the values of its `constants`.

    Programs with equal fingerprints give equal outputs for equal constants and inputs. Doubt makes
    them differ: a parameter without a value to compare, a callback for example, equals only itself.
    Names, source lines and the derivative rules of `custom_jvp` and `custom_vjp` are left out:
    the fingerprint is that of the values alone, not of their derivatives.
    """
    return _describe(jaxpr.jaxpr, {}, called_with_constants)


def _describe(
    jaxpr: core.Jaxpr, memo: dict[int, Any], called: Callable[[Any], ClosedJaxpr | None]
) -> tuple[Any, ...]:
    numbers: dict[Any, int] = {}

    def name(variable):
        return numbers.setdefault(variable, len(numbers)), variable.aval

    def read(atom):
        if isinstance(atom, Literal):
            return _frozen(atom.val, memo), atom.aval
        return numbers[atom]

    def params(equation):
        call = called(equation)
        if call is not None:
            return _describe(call.jaxpr, memo, called)
        if equation.primitive.name in ("custom_jvp_call", "custom_vjp_call"):
            return tuple(_frozen(inner, memo) for inner in stored_jaxprs(equation.params))
        return tuple((key, _frozen(value, memo)) for key, value in sorted(equation.params.items()))

    inputs = tuple(map(name, jaxpr.constvars)), tuple(map(name, jaxpr.invars))
    equations = tuple(
        (e.primitive, tuple(map(read, e.invars)), params(e), tuple(map(name, e.outvars)))
        for e in jaxpr.eqns
    )
    return inputs, equations, tuple(map(read, jaxpr.outvars))


def _frozen(value: Any, memo: dict[int, Any]) -> Any:
    """Returns a value as one that is hashed and compared by all that it contains."""
    if isinstance(value, core.Jaxpr | ClosedJaxpr):
        if id(value) not in memo:  # one object, however often the function is called
            inner = closed(value)
            own = tuple(_frozen(constant, memo) for constant in inner.consts)
            # Constants within loops and branches are no arguments, so they belong to the program.
            memo[id(value)] = (*_describe(inner.jaxpr, memo, lambda _: None), own)
        return memo[id(value)]
    if isinstance(value, tuple | list):
        return type(value), *(_frozen(item, memo) for item in value)
    if isinstance(value, dict):
        return dict, *((key, _frozen(item, memo)) for key, item in value.items())
    if isinstance(value, float | complex):
        return type(value), repr(value)  # -0.0 equals 0.0, and nan not itself
    if isinstance(value, np.ndarray | np.generic):
        return str(value.dtype), value.shape, value.tobytes()
    try:
        hash(value)
    except TypeError:
        return _Identity(value)
    return type(value), value


def split_numbers(jaxpr: ClosedJaxpr) -> tuple[str, list[str]]:
    """Returns a program's text without its constants, and these: scalars, and digests of arrays."""
    values = [np.asarray(value) for value in constants(jaxpr)]
    numbers = [
        str(v.item()) if v.size == 1 else f"array-{hashlib.sha256(v.tobytes()).hexdigest()[:8]}"
        for v in values
    ]
    scalar = re.compile(r"(?<![\w.])-?(?:\d|inf|nan)[\w.+-]*(?=:\w+\[\])")
    return scalar.sub("number", text := str(jaxpr)), scalar.findall(text) + numbers


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
