"""Flax networks as `Module`s: `train.fit` trains them, taps see into them, trees go back unchanged.

Importing this imports Flax, which `import jaxdl` does not.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any

import jax
from flax import linen, nnx

from jaxdl.core import Module, Tap, named_key

__all__ = ["from_linen", "from_nnx"]

TRAIN = ("train", "training", "is_training")
NOT_TRAIN = ("deterministic", "use_running_average")
_context: contextvars.ContextVar[tuple[tuple[str | int, ...], Tap | None]] = contextvars.ContextVar(
    "_context", default=((), None)
)
"""The path of the NNX part that is called at present, and the tap of its network."""


def from_linen(module: linen.Module, *, rngs: Collection[str] = ("dropout",)) -> Module:
    """A Linen network as a `Module`.

    `params` is the collection of that name, and `state` holds the other collections by name:
    `{"params": params, **state}` are Flax's variables, and `variables` split so are ours. The
    train mode is passed under the name that the network's `__call__` gives it: `train`, `training`
    or `is_training`, or, turned around, `deterministic` or `use_running_average`; a network without
    such an argument is called the same in both. Tap paths are Linen's, e.g. `Block_0/Conv_1`.

    Args:
      module: a Linen module, unbound.
      rngs: the names of the random streams to feed while training.

    Returns:
      A `Module`; `apply` returns the collections that the network changed when `train` is true.

    Raises:
      ValueError: `module` is no Linen module.
    """
    if not isinstance(module, linen.Module):
        raise ValueError(
            f"from_linen: got a {type(module).__name__}; expected an instance of "
            "flax.linen.Module (for flax.nnx there is from_nnx)."
        )
    signature = inspect.signature(type(module).__call__).parameters

    def mode(train) -> dict[str, Any]:
        named = {name: train for name in TRAIN} | {name: not train for name in NOT_TRAIN}
        return {name: value for name, value in named.items() if name in signature}

    def init(key, *inputs):
        streams: Any = {name: named_key(key, name) for name in ("params", *rngs)}
        state = dict(module.init(streams, *inputs, **mode(False)))
        params = state.pop("params", {})
        state.pop("intermediates", None)
        return params, state

    def apply(params, state, *inputs, train=False, key=None, tap=None):
        streams: Any = {}
        if train and key is not None:
            streams = {name: named_key(key, name) for name in rngs}
        with linen.intercept_methods(_tapped(tap)) if tap else contextlib.nullcontext():
            output, changed = module.apply(
                {"params": params, **state},
                *inputs,
                **mode(train),
                rngs=streams,
                mutable=list(state) if train else [],
            )
        return output, {**state, **changed}

    return Module(init, apply, "linen", {"module": type(module)})


def _tapped(tap: Tap) -> Callable:
    """A Linen interceptor that gives every submodule's output to the tap."""

    def intercept(call, args, kwargs, context):
        output = call(*args, **kwargs)
        path = "/".join(context.module.path)
        return tap(path, output) if path and context.method_name == "__call__" else output

    return intercept


def from_nnx(make: nnx.Module | Callable[[nnx.Rngs], nnx.Module]) -> Module:
    """An NNX network as a `Module`.

    `params` is the pure dict of the network's `nnx.Param`s, and `state` that of its other variables
    but for the random streams, which are reseeded from `key` at each call. `nnx.update(network,
    params)` puts a tree back. The train mode is set by `network.train()` and `network.eval()`.
    Tap paths are the attributes' names, e.g. `block/layers/0`; a shared part has its first one. The
    same names are those of `layer=` in `jaxdl.interpret`.

    Args:
      make: `rngs -> network`, called anew by every init; or a network, whose values at this moment
        init returns whatever the key.

    Returns:
      A `Module`; the network itself is never changed.

    Raises:
      ValueError: `make` is neither.
    """
    if isinstance(make, linen.Module):
        raise ValueError(
            f"from_nnx: got a {type(make).__name__} of flax.linen; expected a flax.nnx.Module: use "
            "from_linen."
        )
    if isinstance(make, nnx.Module):
        network, build = make, None
    elif callable(make):
        build = make
        network = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
        if not isinstance(network, nnx.Module):
            raise ValueError(f"from_nnx: make(rngs) gave {network!r}; expected a flax.nnx.Module.")
    else:
        raise ValueError(
            f"from_nnx: got a {type(make).__name__}; expected a flax.nnx.Module or a "
            "function rngs -> module."
        )
    graph, params, streams, rest = nnx.split(_named(network), nnx.Param, nnx.RngState, ...)
    values = nnx.to_pure_dict(params), nnx.to_pure_dict(rest)

    def init(key, *inputs):
        if build is None:
            return values
        # NNX folds counts into the key itself, which the checker of reused keys cannot follow.
        _, params, _, rest = nnx.split(build(nnx.Rngs(key)), nnx.Param, nnx.RngState, ...)
        return nnx.to_pure_dict(params), nnx.to_pure_dict(rest)

    def apply(new_params, state, *inputs, train=False, key=None, tap=None):
        trees = [jax.tree.map(lambda a: a, tree) for tree in (params, rest)]
        nnx.replace_by_pure_dict(trees[0], new_params)
        nnx.replace_by_pure_dict(trees[1], state)
        fresh = jax.tree.map(_concrete, streams)
        copy = nnx.merge(graph, trees[0], fresh, trees[1])
        copy.train() if train else copy.eval()
        if key is not None:
            keys: dict[str, Any] = {tag: named_key(key, tag) for tag in _tags(streams)}
            nnx.reseed(copy, **keys)
        token = _context.set(((), tap))
        try:
            output = copy(*inputs)
        finally:
            _context.reset(token)
        after = nnx.state(copy, nnx.Not(nnx.Any(nnx.Param, nnx.RngState)))
        return output, nnx.to_pure_dict(after) if train else state

    return Module(init, apply, "nnx", {"module": type(network)})


def _concrete(leaf: Any) -> Any:
    """Random streams of a network that was only shaped get a key; `apply` reseeds them if given."""
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key(0)
    return jax.numpy.zeros(leaf.shape, leaf.dtype)


def _tags(streams: nnx.State) -> set[str]:
    return {leaf.tag for leaf in jax.tree.leaves(streams, is_leaf=lambda v: hasattr(v, "tag"))}


def _named(network: nnx.Module) -> nnx.Module:
    """Returns a copy in which the call of each part has its path as a `jax.named_scope`."""
    copy = nnx.merge(*nnx.split(network))
    for path, part in list(nnx.iter_modules(copy)):
        if path and callable(part):
            part.__class__ = _named_class(type(part), path)
    return copy


@functools.cache
def _named_class(cls: type, path: tuple[str | int, ...]) -> type:
    @functools.wraps(cls.__call__)
    def call(self, *args, **kwargs):
        outer, tap = _context.get()
        # A scope is added to that of the caller, so it is the path from there.
        inner = path[len(outer) :] if path[: len(outer)] == outer else path
        token = _context.set((path, tap))
        try:
            with jax.named_scope("/".join(map(str, inner))):
                output = cls.__call__(self, *args, **kwargs)
        finally:
            _context.reset(token)
        return tap("/".join(map(str, path)), output) if tap else output

    return type(cls.__name__, (cls,), {"__call__": call})
