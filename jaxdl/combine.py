"""Composites: `serial`, `residual`, `frozen` and `scan_layers`."""

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
    """Runs layers one after another: y = f_n(... f_1(x)).

    If a layer takes lengths, such as `nn.rnn`, the model also takes `(x (N, T, ...), lengths (N,))`
    and passes the lengths to every such layer, so that padding does not change the output. This
    does not cover functions that reduce the steps, such as `lambda y: y.mean(1)`, and modules
    written by hand: they receive the padding as data.

    Args:
      *layers: layers, named by kind and a count as in Flax: `conv_0`, `relu_0`, `conv_1`. The first
        layer may take several inputs.
      **named: alternatively, layers by keyword, in order.

    Returns:
      A `Module` with the inputs of its first layer, and optionally lengths.

    Raises:
      ValueError: both positional and named layers are given, or none. When the model runs: several
        inputs for a first layer of one; with lengths, a layer that mixes steps without taking
        lengths, or that changes their number before a layer that takes them.
    """
    if bool(layers) == bool(named):
        raise ValueError(
            f"serial takes layers either by position or by keyword; got {len(layers)} and "
            f"{len(named)}: name all of them or none."
        )
    children = named or number_layers(layers)
    parts = {name: as_module(child) for name, child in children.items()}
    pairs = zip(children, layers or named.values(), strict=True)
    functions = {name for name, layer in pairs if not isinstance(layer, Module)}
    first, *rest = parts
    with_lengths = any(part.takes_lengths for part in parts.values())
    single = _takes_one(parts[first])

    def forward(call, *inputs):
        if len(inputs) == 2 and with_lengths and (single or parts[first].takes_lengths):
            return _with_lengths(call, parts, functions, *inputs)
        if len(inputs) > 1 and single:
            raise ValueError(
                f"serial: got {len(inputs)} inputs, but the first layer {first} takes one; "
                "expected x, or (x, lengths) if a layer takes lengths, such as nn.rnn. For a model "
                "with several inputs use jaxdl.compose."
            )
        x = call(first, *inputs)
        for name in rest:
            x = call(name, x)
        return x

    return dataclasses.replace(compose("serial", parts, forward), takes_lengths=with_lengths)


MIXING = {"conv", "conv_transpose", "max_pool", "avg_pool"} | {
    f"{norm}_norm" for norm in ("batch", "group", "instance")
}
"""Kinds of layers that would treat the padding of a sequence as data."""


def _with_lengths(
    call, parts: dict[str, Module], functions: set[str], x: jax.Array, lengths: jax.Array
):
    """Runs the layers one after another, with lengths for those that take them."""
    input_shape = x.shape
    for name, part in parts.items():
        shape = getattr(x, "shape", ())
        if part.takes_lengths:
            if shape[1:2] != input_shape[1:2]:
                raise ValueError(
                    f"serial: {name} takes lengths, but its input has shape {shape} and x "
                    f"{input_shape}; expected layers before it that keep the number of steps. To "
                    "change it, compute the new lengths in a jaxdl.compose."
                )
            x = call(name, x, lengths)
        elif (len(shape) > 2 and _kinds(part) & MIXING) or (
            name in functions and shape[:2] == input_shape[:2] and _mixes(part, x)
        ):
            raise ValueError(
                f"serial: {name} mixes the steps of an input {shape} and takes no lengths, so it "
                "would treat padding as data; expected layers that act on each step alone. Use "
                "jaxdl.compose to mask its input, or omit the lengths."
            )
        else:
            x = call(name, x)
    return x


def _mixes(function: Module, x: jax.Array) -> bool:
    """Tests whether earlier steps of a function's output depend on the last step of its input.

    The function runs on two rows of random numbers, before and after their last step is replaced
    by 100 and -100. The result is False if the output does not have the same steps.
    """
    if x.shape[1] < 2 or not jnp.issubdtype(x.dtype, jnp.floating):
        return False
    shape = (2, *x.shape[1:])
    rows = np.random.default_rng(0).normal(size=shape).astype(x.dtype)
    other = rows.copy()
    # Of both signs, because a ReLU or a maximum hides one of them.
    other[0, -1], other[1, -1] = 100, -100
    # The model may be traced here, but the comparison needs numbers. Errors of the function are not
    # reported by this check; they are raised where the model calls it.
    with jax.ensure_compile_time_eval(), contextlib.suppress(TypeError, ValueError):
        before, after = (function.apply({}, {}, jnp.asarray(a))[0] for a in (rows, other))
        if before.shape[:2] == shape[:2]:
            return not np.array_equal(before[:, :-1], after[:, :-1], equal_nan=True)
    return False


def _kinds(module: Module) -> set[str]:
    return {module.kind}.union(*map(_kinds, module.children.values()))


def _takes_one(layer: Module) -> bool:
    """Returns whether a layer takes exactly one input; composites and functions may take more."""
    parameters = inspect.signature(layer.init).parameters.values()
    return len(parameters) == 2 and all(p.kind is not p.VAR_POSITIONAL for p in parameters)


def number_layers(layers: Iterable[Module | Callable]) -> dict[str, Module | Callable]:
    """Names layers by kind and a count: `conv_0`, `relu_0`, `conv_1`."""
    children: dict[str, Module | Callable] = {}
    counts: collections.Counter[str] = collections.Counter()
    for layer in map(as_module, layers):
        children[f"{layer.kind}_{counts[layer.kind]}"] = layer
        counts[layer.kind] += 1
    return children


def residual(block: Module | Callable, shortcut: Module | Callable | None = None) -> Module:
    """Adds a block's input to its output: y = x + block(x), or shortcut(x) + block(x).

    He et al. 2016 (arXiv 1512.03385), eq. 1 and 2.

    Args:
      block: the residual function F. Without `shortcut` it must keep the shape of its input.
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
                "shapes. Pass a projection as shortcut=, e.g. conv(features, 1, stride=...)."
            )
        return skip + y

    module = compose("residual", children, forward)
    return dataclasses.replace(module, takes_lengths=block.takes_lengths)


def frozen(module: Module, params: Tree | None = None, state: Tree | None = None) -> Module:
    """Excludes a module from training: parameters, running statistics and dropout.

    Its parameters are moved to the state, as `{"params": ..., "state": ...}`, so that no optimizer
    updates or decays them. The module always runs with `train=False`, and no gradient of its
    parameters is computed.

    Args:
      module: the module to freeze.
      params, state: trained values, which init returns; None for new random ones. For a module
        with state, such as running statistics, pass both or neither.

    Returns:
      A `Module` without parameters. If an input has fewer than 32 bits, floating-point parameters
      are cast to its dtype.

    Raises:
      ValueError: at init, `params` or `state` do not fit the module, or one of them is missing.
    """
    module = as_module(module)

    def init(key, *inputs):
        expected = jax.eval_shape(module.init, key, *inputs)
        if (params is None) != (state is None) and (params is None or expected[1]):
            passed, missing = ("state", "params") if params is None else ("params", "state")
            raise ValueError(
                f"frozen: {passed} without {missing}; expected both, because {module.kind} has "
                f"both. Pass {missing}= too, from the same training."
            )
        values = module.init(key, *inputs) if params is None else (params, state or {})
        shapes = [{p: jnp.shape(leaf) for p, leaf in flatten(part).items()} for part in expected]
        for name, part, required in zip(("params", "state"), values, shapes, strict=True):
            actual = {p: jnp.shape(leaf) for p, leaf in flatten(part).items()}
            wrong = [p for p in actual | required if actual.get(p) != required.get(p)]
            if wrong:
                raise ValueError(
                    f"frozen: {name} {wrong[0]} has shape {actual.get(wrong[0], 'none')}; expected "
                    f"{required.get(wrong[0], 'none')} for {module.kind}."
                )
        return {}, {"params": values[0]} | ({"state": values[1]} if values[1] else {})

    def apply(params, state, *inputs, train=False, key=None, tap=None):
        fixed = jax.lax.stop_gradient(state["params"])
        # Mixed precision casts `params`, but not the state, so the cast is done here.
        floats = [a.dtype for a in jax.tree.leaves(inputs) if jnp.issubdtype(a.dtype, jnp.floating)]
        if any(jnp.finfo(dtype).bits < 32 for dtype in floats):
            fixed = cast(fixed, floats[0])
        return module.apply(fixed, state.get("state", {}), *inputs, tap=tap)[0], state

    return Module(init, apply, "frozen", {"module": module.kind}, module.children)


def scan_layers(block: Module, n: int) -> Module:
    """Applies `n` copies of a block, each with separate parameters, with `jax.lax.scan`.

    Parameters and state have a leading axis of length n. Compile time does not grow with n. With a
    tap the loop is unrolled, and paths begin with the number of the copy: `3/dense_0`.

    Args:
      block: `(x, *rest) -> x` that keeps shape and dtype; every copy receives the same `rest`.
      n: the number of copies, >= 1.

    Raises:
      ValueError: n is not a positive integer, or the block changes its input's shape or dtype.
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
                f"{y.dtype}{list(y.shape)}; expected a block that keeps shape and dtype. "
                "Put layers that change them outside of scan_layers."
            )
        return y, state

    def apply(params, state, x, *rest, train=False, key=None, tap=None):
        keys = None if key is None else jax.random.split(key, n)
        if tap is None:

            def body(x, copy):
                params, state, key = copy
                return step(x, rest, params, state, train=train, key=key)

            return jax.lax.scan(body, x, (params, state, keys), length=n)
        # A tap inside of a scan would receive tracers of the loop's body, so the loop is unrolled.
        states = []
        for i in range(n):
            p, s, k = jax.tree.map(lambda leaf, i=i: leaf[i], (params, state, keys))
            with jax.named_scope(str(i)):
                x, s = step(x, rest, p, s, train=train, key=k, tap=below(tap, str(i)))
            x = tap(str(i), x)
            states.append(s)
        return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

    return Module(init, apply, "scan_layers", {"n": n}, {"block": block}, block.takes_lengths)
