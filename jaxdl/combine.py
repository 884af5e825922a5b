"""Composites that everybody needs: one after another, around a shortcut, many of a kind."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp

from jaxdl.core import Module, Tree, as_module, below, compose
from jaxdl.tree import cast, flatten

__all__ = ["frozen", "residual", "serial", "stack"]


def serial(*layers: Module | Callable, **named: Module | Callable) -> Module:
    """Layers one after another: y = f_n(... f_1(x)).

    Args:
      *layers: children named by kind and a count, as Flax numbers them: `conv_0`, `relu_0`,
        `conv_1`. The first may take several inputs.
      **named: instead, children by keyword, in order.

    Raises:
      ValueError: both positional and named layers are given, or none.
    """
    if bool(layers) == bool(named):
        raise ValueError(
            f"serial takes layers either by position or by keyword; got {len(layers)} and "
            f"{len(named)}: name all of them or none."
        )
    children = named or numbered(layers)
    first, *rest = children

    def forward(call, *inputs):
        x = call(first, *inputs)
        for name in rest:
            x = call(name, x)
        return x

    return compose("serial", children, forward)


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
    children = {"block": block} | ({} if shortcut is None else {"shortcut": shortcut})

    def forward(call, x):
        y = call("block", x)
        skip = x if shortcut is None else call("shortcut", x)
        if skip.shape != y.shape:
            raise ValueError(
                f"residual: block gives {y.shape}, the shortcut {skip.shape}; expected equal "
                "shapes: give shortcut= a projection, e.g. conv(features, 1, stride=...)."
            )
        return skip + y

    return compose("residual", children, forward)


def frozen(module: Module, params: Tree | None = None, state: Tree | None = None) -> Module:
    """A module that training leaves as it is: parameters, running statistics and dropout.

    Its parameters lie in the state, as `{"params": ..., "state": ...}`, so that no optimizer
    updates or decays them; it runs with `train=False` always, and no gradient is computed for it.

    Args:
      module: the part to freeze.
      params, state: its trained values, which init then returns; None draws new ones.

    Returns:
      A `Module` without parameters. Floating-point parameters are cast to an input of fewer bits.

    Raises:
      ValueError: in init, `params` or `state` are another module's.
    """
    module = as_module(module)

    def init(key, *inputs):
        expected = jax.eval_shape(module.init, key, *inputs)
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


def stack(block: Module, n: int) -> Module:
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
        raise ValueError(f"stack: n is {n!r}; expected a positive integer.")

    def init(key, x, *rest):
        params, state = jax.vmap(lambda k: block.init(k, x, *rest))(jax.random.split(key, n))
        return params, state

    def step(x, rest, params, state, **options):
        y, state = block.apply(params, state, x, *rest, **options)
        if jnp.shape(y) != jnp.shape(x) or y.dtype != x.dtype:
            raise ValueError(
                f"stack: {block.kind} maps {x.dtype}{list(x.shape)} to {y.dtype}{list(y.shape)}; "
                "expected a block that keeps shape and dtype: put layers that change them outside."
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

    return Module(init, apply, "stack", {"n": n}, {"block": block})
