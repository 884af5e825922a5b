"""Composites that everybody needs: one after another, around a shortcut, many of a kind."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.core import Module, Tree, as_module, below, compose
from jaxdl.tree import cast, flatten

__all__ = ["frozen", "residual", "scan_layers", "serial"]


def serial(*layers: Module | Callable, **named: Module | Callable) -> Module:
    """Layers one after another: y = f_n(... f_1(x)).

    Args:
      *layers: children named by kind and a count, as Flax numbers them: `conv_0`, `relu_0`,
        `conv_1`. The first may take several inputs.
      **named: instead, children by keyword, in order.

    Returns:
      A `Module` of what its first layer takes. Where that is one input and a layer takes lengths,
      such as `nn.rnn`, also of `(x (N, T, ...), lengths (N,))`: every layer that takes
      lengths is given them, and padding changes nothing. What it cannot know are functions that
      end the steps, such as `lambda y: y.mean(1)`, and modules by hand: these see the padding.

    Raises:
      ValueError: both positional and named layers are given, or none. In the model, several inputs
        for a first layer of one; with lengths, a layer or a function that mixes steps without
        taking lengths, or changes their number before a layer that takes them.
    """
    if bool(layers) == bool(named):
        raise ValueError(
            f"serial takes layers either by position or by keyword; got {len(layers)} and "
            f"{len(named)}: name all of them or none."
        )
    children = named or numbered(layers)
    parts = {name: as_module(child) for name, child in children.items()}
    made = zip(children, layers or named.values(), strict=True)
    functions = {name for name, layer in made if not isinstance(layer, Module)}
    first, *rest = parts
    with_lengths = any(part.takes_lengths for part in parts.values())
    single = _takes_one(parts[first])

    def forward(call, *inputs):
        if len(inputs) == 2 and with_lengths and (single or parts[first].takes_lengths):
            return _with_lengths(call, parts, functions, *inputs)
        if len(inputs) > 1 and single:
            raise ValueError(
                f"serial: {len(inputs)} inputs, and its first layer {first} takes one; expected x, "
                "or (x, lengths) if a layer takes lengths, such as nn.rnn. For a model of "
                "several inputs use jaxdl.compose."
            )
        x = call(first, *inputs)
        for name in rest:
            x = call(name, x)
        return x

    return dataclasses.replace(compose("serial", parts, forward), takes_lengths=with_lengths)


MIXING = {"conv", "conv_transpose", "max_pool", "avg_pool"} | {
    f"{norm}_norm" for norm in ("batch", "group", "instance")
}
"""Kinds of layers that would read the padding of a sequence as data."""


def _with_lengths(
    call, parts: dict[str, Module], functions: set[str], x: jax.Array, lengths: jax.Array
):
    """The layers one after another, each with lengths that takes them."""
    whole = x.shape
    for name, part in parts.items():
        shape = getattr(x, "shape", ())
        if part.takes_lengths:
            if shape[1:2] != whole[1:2]:
                raise ValueError(
                    f"serial: {name} takes lengths, and its input is {shape} where x is {whole}; "
                    "expected layers before it that keep the number of steps. Where it changes, "
                    "compute the new lengths in a jaxdl.compose."
                )
            x = call(name, x, lengths)
        elif (len(shape) > 2 and _kinds(part) & MIXING) or (
            name in functions and shape[:2] == whole[:2] and _mixes(part, x)
        ):
            raise ValueError(
                f"serial: {name} mixes the steps of {shape} and takes no lengths, so that it "
                "would read padding as data; expected layers that act on each step alone. Use "
                "jaxdl.compose to mask its input, or leave the lengths out."
            )
        else:
            x = call(name, x)
    return x


def _mixes(function: Module, x: jax.Array) -> bool:
    """Whether steps of a function's output change with the last step of its input, a later one.

    Seen from two rows of numbers, whose last step becomes large, and small in the second row.
    Functions that end in other steps, such as means over them, are left to the caller.
    """
    if x.shape[1] < 2 or not jnp.issubdtype(x.dtype, jnp.floating):
        return False
    shape = (2, *x.shape[1:])
    rows = np.random.default_rng(0).normal(size=shape).astype(x.dtype)
    other = rows.copy()
    other[0, -1], other[1, -1] = 100, -100
    with jax.ensure_compile_time_eval(), contextlib.suppress(TypeError, ValueError):
        before, after = (function.apply({}, {}, jnp.asarray(a))[0] for a in (rows, other))
        if before.shape[:2] == shape[:2]:
            return not np.array_equal(before[:, :-1], after[:, :-1], equal_nan=True)
    return False


def _kinds(module: Module) -> set[str]:
    return {module.kind}.union(*map(_kinds, module.children.values()))


def _takes_one(layer: Module) -> bool:
    """Whether a layer takes one input; composites and functions may take several."""
    parameters = inspect.signature(layer.init).parameters.values()
    return len(parameters) == 2 and all(p.kind is not p.VAR_POSITIONAL for p in parameters)


def numbered(layers: Iterable[Module | Callable]) -> dict[str, Module | Callable]:
    """Layers named by kind and a count: `conv_0`, `relu_0`, `conv_1`."""
    children: dict[str, Module | Callable] = {}
    counts: collections.Counter[str] = collections.Counter()
    for layer in map(as_module, layers):
        children[f"{layer.kind}_{counts[layer.kind]}"] = layer
        counts[layer.kind] += 1
    return children


def residual(block: Module | Callable, shortcut: Module | Callable | None = None) -> Module:
    """y = x + block(x), or shortcut(x) + block(x). He et al. 2016 (arXiv 1512.03385), eq. 1 and 2.

    Args:
      block: the residual function F; with no `shortcut` it must keep its input's shape.
      shortcut: a projection of x to block's output shape, e.g. `conv(features, 1, stride=2)`.

    Raises:
      ValueError: the two terms differ in shape.
    """
    block = as_module(block)
    children = {"block": block} | ({} if shortcut is None else {"shortcut": shortcut})

    def forward(call, x, *lengths):
        y = call("block", x, *lengths)
        skip = x if shortcut is None else call("shortcut", x)
        if skip.shape != y.shape:
            raise ValueError(
                f"residual: block gives {y.shape}, the shortcut {skip.shape}; expected equal "
                "shapes: give shortcut= a projection, e.g. conv(features, 1, stride=...)."
            )
        return skip + y

    module = compose("residual", children, forward)
    return dataclasses.replace(module, takes_lengths=block.takes_lengths)


def frozen(module: Module, params: Tree | None = None, state: Tree | None = None) -> Module:
    """A module that training leaves as it is: parameters, running statistics and dropout.

    Its parameters lie in the state, as `{"params": ..., "state": ...}`, so that no optimizer
    updates or decays them; it runs with `train=False` always, and no gradient is computed for it.

    Args:
      module: the part to freeze.
      params, state: its trained values, which init then returns; None draws new ones. A module
        with state, such as running statistics, takes both or none.

    Returns:
      A `Module` without parameters. Floating-point parameters are cast to an input of fewer bits.

    Raises:
      ValueError: in init, `params` or `state` are another module's, or one of them lacks.
    """
    module = as_module(module)

    def init(key, *inputs):
        expected = jax.eval_shape(module.init, key, *inputs)
        if (params is None) != (state is None) and (params is None or expected[1]):
            has, lacks = ("state", "params") if params is None else ("params", "state")
            raise ValueError(
                f"frozen: {has} without {lacks}, which {module.kind} has too; expected the values "
                f"of one training: give {lacks}= with {has}=."
            )
        values = module.init(key, *inputs) if params is None else (params, state or {})
        shapes = [{p: jnp.shape(leaf) for p, leaf in flatten(part).items()} for part in expected]
        for name, part, wanted in zip(("params", "state"), values, shapes, strict=True):
            given = {p: jnp.shape(leaf) for p, leaf in flatten(part).items()}
            wrong = [p for p in given | wanted if given.get(p) != wanted.get(p)]
            if wrong:
                raise ValueError(
                    f"frozen: {name} {wrong[0]} has shape {given.get(wrong[0], 'none')}; expected "
                    f"{wanted.get(wrong[0], 'none')}, as {module.kind} has it."
                )
        return {}, {"params": values[0]} | ({"state": values[1]} if values[1] else {})

    def apply(params, state, *inputs, train=False, key=None, tap=None):
        fixed = jax.lax.stop_gradient(state["params"])
        floats = [a.dtype for a in jax.tree.leaves(inputs) if jnp.issubdtype(a.dtype, jnp.floating)]
        if any(jnp.finfo(dtype).bits < 32 for dtype in floats):
            fixed = cast(fixed, floats[0])
        return module.apply(fixed, state.get("state", {}), *inputs, tap=tap)[0], state

    return Module(init, apply, "frozen", {"module": module.kind}, module.children)


def scan_layers(block: Module, n: int) -> Module:
    """`n` copies of a shape-preserving block, each with parameters of its own, as one scan.

    Parameters and state have a leading axis of length n. Compile time does not grow with n. When
    tapped, the copies are unrolled and their paths begin with the copy's number: `3/dense_0`.

    Args:
      block: `(x, *rest) -> x` of the same shape and dtype; `rest` is given to every copy.
      n: the number of copies, >= 1.

    Raises:
      ValueError: n is no positive integer, or the block changes its input's shape or dtype.
    """
    block = as_module(block)
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"scan_layers: n is {n!r}; expected a positive integer.")

    def init(key, x, *rest):
        params, state = jax.vmap(lambda k: block.init(k, x, *rest))(jax.random.split(key, n))
        return params, state

    def step(x, rest, params, state, **options):
        y, state = block.apply(params, state, x, *rest, **options)
        if jnp.shape(y) != jnp.shape(x) or y.dtype != x.dtype:
            raise ValueError(
                f"scan_layers: {block.kind} maps {x.dtype}{list(x.shape)} to "
                f"{y.dtype}{list(y.shape)}; expected a block that keeps shape and dtype. Put layers "
                "that change them outside of scan_layers."
            )
        return y, state

    def apply(params, state, x, *rest, train=False, key=None, tap=None):
        keys = None if key is None else jax.random.split(key, n)
        if tap is None:

            def body(x, copy):
                params, state, key = copy
                return step(x, rest, params, state, train=train, key=key)

            return jax.lax.scan(body, x, (params, state, keys), length=n)
        states = []
        for i in range(n):
            p, s, k = jax.tree.map(lambda leaf, i=i: leaf[i], (params, state, keys))
            with jax.named_scope(str(i)):
                x, s = step(x, rest, p, s, train=train, key=k, tap=below(tap, str(i)))
            x = tap(str(i), x)
            states.append(s)
        return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

    return Module(init, apply, "scan_layers", {"n": n}, {"block": block}, block.takes_lengths)
