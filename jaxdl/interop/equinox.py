"""Conversion of Equinox networks to `Module`s and back.

An Equinox network takes one example without a batch axis; the `Module` takes a batch and maps the
network over it. Importing this module imports Equinox, which `import jaxdl` does not.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from jaxdl import tree
from jaxdl.core import Module, Tree

__all__ = ["from_equinox", "to_equinox"]


def from_equinox(
    make: eqx.Module | Callable[[jax.Array], Any],
    state: eqx.nn.State | None = None,
    *,
    axis_name: str = "batch",
) -> Module:
    """Wraps an Equinox network as a `Module`.

    `params` are the floating-point arrays of the network by attribute, in nested dicts:
    `network.layers[0].weight` is `params["layers"]["0"]["weight"]`. `state` contains its other
    arrays, and the values of its `eqx.nn.State` by the attribute of each index. With `train=True`
    the network is called without changes, and each example has its own `key` if `__call__` takes
    one; otherwise in `eqx.nn.inference_mode`. A network with state is called as
    `network(*inputs, state)` and returns `(output, state)`, like Equinox's own layers.

    Args:
      make: a network, whose values `init` returns for every key; or `key -> network`, called by
        every `init`, such as `eqx.nn.make_with_state(Net)`.
      state: the state of a network that `eqx.nn.make_with_state` returned.
      axis_name: name of the batch axis in the network's `eqx.nn.BatchNorm`s.

    Returns:
      A `Module`. Its `tap` is not called inside the network.

    Raises:
      ValueError: `make` is neither, its state is missing, or a `BatchNorm` has another axis name.

    Example:
      >>> model = from_equinox(lambda key: eqx.nn.MLP(4, 3, 16, depth=1, key=key))
      >>> state, history = train.fit(model, (x, y), loss="cross_entropy", optimizer="adam")
      >>> network, _ = to_equinox(model, state.params, state.model_state)
    """
    if isinstance(make, eqx.Module):
        build = None
        network, start = (make, state) if state is not None else _add_state(make)
    elif callable(make):
        build = make
        try:
            network, start = eqx.filter_eval_shape(lambda key: _build(make, key), jax.random.key(0))
        except TypeError as error:
            raise ValueError(
                f"from_equinox: make(key) raises {error}; expected a function of a key alone: "
                "lambda key: Net(..., key=key)."
            ) from error
    else:
        raise ValueError(
            f"from_equinox: got a {type(make).__name__}; expected an equinox.Module or a function "
            "key -> module."
        )
    for part in jax.tree.leaves(network, is_leaf=lambda part: isinstance(part, eqx.nn.BatchNorm)):
        if isinstance(part, eqx.nn.BatchNorm) and part.axis_name != axis_name:
            raise ValueError(
                f"from_equinox: a BatchNorm has axis_name {part.axis_name!r} and the batch "
                f"{axis_name!r}; expected the same. Pass axis_name={part.axis_name!r}."
            )
    adapter = _Adapter(network, start, build, axis_name)
    return Module(adapter.init, adapter.apply, "equinox", {"module": type(network)})


def to_equinox(model: Module, params: Tree, state: Tree) -> tuple[eqx.Module, eqx.nn.State]:
    """Returns the Equinox network of a model with the given parameters, and its state.

    Args:
      model: from `from_equinox`.
      params: parameters of the model, from `init` or from training.
      state: state of the model, from `init` or from training.

    Returns:
      `(network, state)`; the state is empty for a network without state.

    Raises:
      ValueError: the model is not from `from_equinox`, or the trees are those of another model.
    """
    adapter = getattr(model.apply, "__self__", None)
    if not isinstance(adapter, _Adapter):
        raise ValueError(f"to_equinox: model is a {model.kind}; expected one of from_equinox.")
    return adapter.insert(params, state)


def _build(make: Callable, key: jax.Array) -> tuple[eqx.Module, eqx.nn.State]:
    """Calls `make`, and returns the network and its state."""
    result = make(key)
    network = result[0] if isinstance(result, tuple) else result
    if not isinstance(network, eqx.Module):
        raise ValueError(
            f"from_equinox: make(key) returns a {type(network).__name__}; expected an "
            "equinox.Module, or one with its state."
        )
    return result if isinstance(result, tuple) else _add_state(network)


def _add_state(network: eqx.Module) -> tuple[eqx.Module, eqx.nn.State]:
    """Returns a network without state, and an empty state."""
    try:
        return eqx.nn.make_with_state(lambda: network)()
    except ValueError as error:
        raise ValueError(
            "from_equinox: the network has state; expected the state that "
            "eqx.nn.make_with_state returned, too: from_equinox(network, state)."
        ) from error


@dataclasses.dataclass(frozen=True, eq=False)
class _Adapter:
    """Provides `init` and `apply` for a network.

    Attributes:
      network: the network, with arrays or shapes.
      start: its state, with arrays or shapes.
      build: `key -> network`, or None if init returns the arrays of `network`.
      axis_name: name of the batch axis.
    """

    network: Any
    start: eqx.nn.State
    build: Callable | None
    axis_name: str

    def init(self, key, *inputs):
        pair = (self.network, self.start) if self.build is None else _build(self.build, key)
        return _extract(*pair)

    def apply(self, params, state, *inputs, train=False, key=None, tap=None):
        network, before = self.insert(params, state)
        if not train:
            network = eqx.nn.inference_mode(network)
        named = inspect.signature(type(network).__call__).parameters
        stateful = bool(jax.tree.leaves(before))
        keys = None
        if "key" in named and train and key is not None:
            keys = jax.random.split(key, jax.tree.leaves(inputs)[0].shape[0])

        def call(inputs, key):
            options = {"key": key} if "key" in named else {}
            if stateful and "state" in named:
                options["state"] = before
            elif stateful:
                inputs = (*inputs, before)
            output = network(*inputs, **options)
            return output if stateful else (output, before)

        # Layers average their state over the batch axis, so it is the same for all examples.
        mapped = jax.vmap(call, out_axes=(0, None), axis_name=self.axis_name)
        with jax.numpy_dtype_promotion("standard"):  # Equinox's batch norm mixes dtypes
            output, after = mapped(inputs, keys)
        return output, _extract(network, after)[1] if train else state

    def insert(self, params: Tree, state: Tree) -> tuple[Any, eqx.nn.State]:
        """Returns the network and its state with the arrays of the trees."""
        flat = {"params": tree.flatten(params), "state": tree.flatten(state)}
        leaves, structure = jax.tree.flatten(self.network, is_leaf=_is_index)
        for i, name, kind in _arrays(self.network):
            leaves[i] = _get(flat[kind], name, leaves[i], kind)
        network = jax.tree.unflatten(structure, leaves)
        values, structure = jax.tree.flatten(self.start)
        names = _state_names(self.network, self.start)
        values = [_get(flat["state"], names[i], v, "state") for i, v in enumerate(values)]
        return network, jax.tree.unflatten(structure, values)


def _extract(network: Any, start: eqx.nn.State) -> tuple[Tree, Tree]:
    """Returns all arrays of a network and of its state as `(params, state)`."""
    flat: dict[str, dict[str, Any]] = {"params": {}, "state": {}}
    leaves = jax.tree.leaves(network, is_leaf=_is_index)
    for i, name, kind in _arrays(network):
        flat[kind][name] = leaves[i]
    names = _state_names(network, start)
    flat["state"] |= {names[i]: value for i, value in enumerate(jax.tree.leaves(start))}
    params, state = (tree.unflatten(jax.tree.map(_strengthen, part)) for part in flat.values())
    return params, state


def _strengthen(leaf: Any) -> Any:
    """Removes the weak type of an array, which a checkpoint would not preserve."""
    weak = getattr(leaf, "weak_type", False)
    return jax.lax.convert_element_type(leaf, leaf.dtype) if weak else leaf


def _arrays(network: Any) -> Iterator[tuple[int, str, str]]:
    """Yields index, name and kind ("params" or "state") of every leaf that is an array."""
    paths = jax.tree_util.tree_leaves_with_path(network, is_leaf=_is_index)
    for i, (path, leaf) in enumerate(paths):
        if hasattr(leaf, "dtype") and hasattr(leaf, "shape"):
            yield i, _name(path), "params" if jnp.issubdtype(leaf.dtype, jnp.inexact) else "state"


def _state_names(network: Any, start: eqx.nn.State) -> Mapping[int, str]:
    """Returns the names of the leaves of a state, by index."""
    structure = jax.tree.structure(start)
    numbers = jax.tree.unflatten(structure, range(structure.num_leaves))
    names: dict[int, str] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(network, is_leaf=_is_index):
        if _is_index(leaf):
            for below, i in jax.tree_util.tree_leaves_with_path(numbers.get(leaf)):
                names.setdefault(i, _name((*path, *below)))
    return names


def _is_index(part: Any) -> bool:
    return isinstance(part, eqx.nn.StateIndex)


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _get(values: Mapping[str, Any], name: str, like: Any, kind: str) -> Any:
    """Returns the array of a name; raises unless it has the expected shape."""
    if name not in values or jnp.shape(values[name]) != jnp.shape(like):
        shown = list(jnp.shape(values[name])) if name in values else "missing"
        raise ValueError(
            f"from_equinox: {name} of {kind} is {shown}; expected {list(jnp.shape(like))}, the "
            "shape from this network's init."
        )
    return values[name]
