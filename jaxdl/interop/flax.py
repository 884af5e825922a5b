"""Conversion of Flax networks (Linen and NNX) to `Module`s and back, with the same trees.

Importing this module imports Flax, which `import jaxdl` does not.
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

from jaxdl.core import Module, Tap, Tree, check_model, named_key

__all__ = ["from_linen", "from_nnx", "to_linen"]

TRAIN = ("train", "training", "is_training")
NOT_TRAIN = ("deterministic", "use_running_average")
_context: contextvars.ContextVar[tuple[tuple[str | int, ...], Tap | None]] = contextvars.ContextVar(
    "_context", default=((), None)
)
"""Path of the NNX submodule that is being called, and the tap of its network."""


def from_linen(module: linen.Module, *, rngs: Collection[str] = ("dropout",)) -> Module:
    """Wraps a Linen network as a `Module`.

    `params` is the collection of that name, and `state` has the other collections by name:
    `{"params": params, **state}` are Flax's variables. The train mode is passed as the argument
    `train`, `training` or `is_training` of `__call__`, or inverted as `deterministic` or
    `use_running_average`; a network without such an argument ignores it. Tap paths are Linen's,
    e.g. `Block_0/Conv_1`.

    Args:
      module: a Linen module, unbound.
      rngs: names of the random streams during training.

    Returns:
      A `Module`; with `train=True`, `apply` returns the collections that the network changed.

    Raises:
      ValueError: `module` is not a Linen module.
    """
    if not isinstance(module, linen.Module):
        raise ValueError(
            f"from_linen: got a {type(module).__name__}; expected an instance of "
            "flax.linen.Module. For flax.nnx use from_nnx."
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
        with linen.intercept_methods(_make_interceptor(tap)) if tap else contextlib.nullcontext():
            output, changed = module.apply(
                {"params": params, **state},
                *inputs,
                **mode(train),
                rngs=streams,
                mutable=list(state) if train else [],
            )
        return output, {**state, **changed}

    return Module(init, apply, "linen", {"module": type(module)})


def _make_interceptor(tap: Tap) -> Callable:
    """Returns a Linen interceptor that passes every submodule's output through the tap."""

    def intercept(call, args, kwargs, context):
        output = call(*args, **kwargs)
        path = "/".join(context.module.path)
        return tap(path, output) if path and context.method_name == "__call__" else output

    return intercept


def from_nnx(make: nnx.Module | Callable[[nnx.Rngs], nnx.Module]) -> Module:
    """Wraps an NNX network as a `Module`.

    `params` is the pure dict of the network's `nnx.Param`s, and `state` that of its other variables
    except the random streams, which are reseeded from `key` in each call. `nnx.update(network,
    params)` writes a tree back to a network. The train mode is set by `network.train()` and
    `network.eval()`. Tap paths are names of attributes, e.g. `block/layers/0`; a shared submodule
    has its first path. They are also the names of `layer=` in `jaxdl.interpret`.

    Args:
      make: `rngs -> network`, called by every `init`; or a network, whose current values `init`
        returns for every key.

    Returns:
      A `Module`; the network itself is not modified.

    Raises:
      ValueError: `make` is neither.
    """
    if isinstance(make, linen.Module):
        raise ValueError(
            f"from_nnx: got a {type(make).__name__} of flax.linen; expected a flax.nnx.Module. For "
            "flax.linen use from_linen."
        )
    if isinstance(make, nnx.Module):
        network, build = make, None
    elif callable(make):
        build = make
        network = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
        if not isinstance(network, nnx.Module):
            raise ValueError(
                f"from_nnx: make(rngs) returns {network!r}; expected a flax.nnx.Module."
            )
    else:
        raise ValueError(
            f"from_nnx: got a {type(make).__name__}; expected a flax.nnx.Module or a "
            "function rngs -> module."
        )
    graph, params, streams, rest = nnx.split(_add_scopes(network), nnx.Param, nnx.RngState, ...)
    values = nnx.to_pure_dict(params), nnx.to_pure_dict(rest)

    def init(key, *inputs):
        if build is None:
            return values
        # NNX folds counts into the key, which JAX's key-reuse checker does not recognise.
        _, params, _, rest = nnx.split(build(nnx.Rngs(key)), nnx.Param, nnx.RngState, ...)
        return nnx.to_pure_dict(params), nnx.to_pure_dict(rest)

    def apply(new_params, state, *inputs, train=False, key=None, tap=None):
        trees = [jax.tree.map(lambda a: a, tree) for tree in (params, rest)]
        nnx.replace_by_pure_dict(trees[0], new_params)
        nnx.replace_by_pure_dict(trees[1], state)
        fresh = jax.tree.map(_make_concrete, streams)
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


def _make_concrete(leaf: Any) -> Any:
    """Replaces the shape of a random stream by a placeholder, which `apply` reseeds."""
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key(0)
    return jax.numpy.zeros(leaf.shape, leaf.dtype)


def _tags(streams: nnx.State) -> set[str]:
    return {leaf.tag for leaf in jax.tree.leaves(streams, is_leaf=lambda v: hasattr(v, "tag"))}


def _add_scopes(network: nnx.Module) -> nnx.Module:
    """Returns a copy that calls each submodule in a `jax.named_scope` of its path."""
    copy = nnx.merge(*nnx.split(network))
    for path, part in list(nnx.iter_modules(copy)):
        if path and callable(part):
            part.__class__ = _make_scoped_class(type(part), path)
    return copy


@functools.cache
def _make_scoped_class(cls: type, path: tuple[str | int, ...]) -> type:
    @functools.wraps(cls.__call__)
    def call(self, *args, **kwargs):
        outer, tap = _context.get()
        # Scopes nest, so a submodule adds only its path relative to the caller.
        inner = path[len(outer) :] if path[: len(outer)] == outer else path
        token = _context.set((path, tap))
        try:
            with jax.named_scope("/".join(map(str, inner))):
                output = cls.__call__(self, *args, **kwargs)
        finally:
            _context.reset(token)
        return tap("/".join(map(str, path)), output) if tap else output

    return type(cls.__name__, (cls,), {"__call__": call})


class Linen(linen.Module):
    """A `Module` as a Linen module, see `to_linen`."""

    model: Module

    @linen.compact
    def __call__(self, *inputs: Any, train: bool = False) -> Any:
        if self.is_initializing():
            trees = self.model.init(self.make_rng("params"), *inputs)
            self._write("params", trees[0])
            self._write("batch_stats", trees[1])
        trees = [dict(self.variables.get(name, {})) for name in ("params", "batch_stats")]
        key = self.make_rng("dropout") if train and self.has_rng("dropout") else None
        output, state = self.model.apply(*trees, *inputs, train=train, key=key)
        if train and not self.is_initializing():
            self._write("batch_stats", state)
        return output

    def _write(self, collection: str, values: Tree) -> None:
        for name, value in values.items():
            self.put_variable(collection, name, value)


def to_linen(model: Module) -> linen.Module:
    """Wraps a `Module` as a Linen module, which other Linen modules can contain.

    Its variables are `{"params": params, "batch_stats": state}` with the trees of the `Module`;
    without state there is no `batch_stats`. `__call__` takes the inputs and `train`. In training,
    random layers use the stream "dropout", and running statistics are updated in `batch_stats`,
    which must be mutable. `flax.nnx.bridge.ToNNX` converts the result to NNX.

    Args:
      model: any `Module`.

    Returns:
      A `flax.linen.Module`. `from_linen` inverts the conversion, with the state in a collection.

    Raises:
      ValueError: `model` is not a `Module`.

    Example:
      >>> network = to_linen(model)
      >>> logits = network.apply({"params": params, "batch_stats": state}, x)
    """
    check_model("to_linen", model)
    return Linen(model)
