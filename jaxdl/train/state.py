"""`TrainState`: the parameters, states and counters that a train step reads and writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdl import core, optim, tree
from jaxdl.core import Module, Tree
from jaxdl.train.precision import LossScale, first_scale

__all__ = ["TrainState", "init_state"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The state of training, a pytree; equal states continue equally, bit for bit.

    Attributes:
      params: the model's parameters.
      model_state: the model's state, such as running means.
      opt_state: the optimizer's state.
      key: a PRNG key, never changed; step t draws from `fold_in(key, t)`.
      step: () int32, the number of steps taken.
      loss_scale: a `LossScale` in float16, else None.
    """

    params: Tree
    model_state: Tree
    opt_state: Any
    key: jax.Array
    step: jax.Array
    loss_scale: LossScale | None = None

    def replace(self, **changes: Any) -> TrainState:
        """Returns the state with some of its fields changed."""
        return dataclasses.replace(self, **changes)


def check_state(who: str, state: Any, name: str = "state") -> None:
    """Raises a `ValueError` if `state` is no `TrainState`, or one that was donated."""
    if isinstance(state, TrainState):
        leaves = jax.tree.leaves(state)
        # JAX would raise only when a leaf is read, without naming the state.
        if any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in leaves):
            raise ValueError(
                f"{who}: {name} has been donated to a step; expected a copy made before it: "
                "jax.tree.map(jnp.copy, state)."
            )
        return
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[0], TrainState):
        fix = "fit returns a pair: state, history = train.fit(...)"
    else:
        fix = (
            "make one of parameters by train.init_state(model, optimizer, key, x).replace("
            "params=params, model_state=model_state)"
        )
    raise ValueError(
        f"{who}: {name} is a {type(state).__name__}; expected a train.TrainState: {fix}."
    )


def init_state(
    model: Module,
    optimizer: str | optax.GradientTransformation,
    key: jax.Array,
    *inputs: Any,
    precision: str = "float32",
) -> TrainState:
    """Returns the state before the first step.

    Args:
      model: any `Module`.
      optimizer: an optax transformation, or a name from `optim`.
      key: a PRNG key, `jax.random.key(seed)`. The parameters are those of `jaxdl.init(model, key,
        *inputs)`; the steps use a key derived from it.
      *inputs: inputs of the model, with the batch axis; only shapes and dtypes matter.
      precision: as for `make_train_step`. The parameters are always float32.

    Returns:
      A `TrainState` at step 0.

    Raises:
      ValueError: `model` is no `Module`, `key` is no PRNG key, or a layer rejects its input.
    """
    core.check_model("init_state", model)
    params, model_state = core.init(model, key, *inputs)
    return TrainState(
        params,
        model_state,
        opt_state=optim.init_state(optim.optimizer(optimizer), params),
        # Steps must not draw the random numbers of the initial parameters again.
        key=jax.random.fold_in(key, 0),
        step=jnp.zeros((), jnp.int32),
        loss_scale=first_scale(precision),
    )


def is_key(leaf: Any) -> bool:
    """Returns whether a leaf is an array of PRNG keys."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def as_numbers(leaf: Any) -> Any:
    """Returns a leaf that can be written to a file: PRNG keys become their uint32 data."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def rebuild(like: Any, leaves: Mapping[str, Any], prefix: str = "") -> Any:
    """Builds a tree like `like` from leaves by their paths, prefixed with `prefix`.

    The inverse of `as_numbers` over `tree.flatten`. The arrays are copies, which a step can donate.
    """
    values = [
        _from_numbers(leaves[prefix + path], leaf) for path, leaf in tree.flatten(like).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), values)


def _from_numbers(array: Any, like: Any) -> jax.Array:
    # A step may donate the array, which it must not do to memory of NumPy or Orbax.
    copy = jnp.array(array, copy=True)
    if not is_key(like):
        return copy
    kinds = {jax.random.key(0, impl=name).dtype: name for name in KEYS}
    return jax.random.wrap_key_data(copy, impl=kinds[like.dtype])


KEYS = ("threefry2x32", "rbg", "unsafe_rbg")
"""The PRNG implementations of JAX."""
