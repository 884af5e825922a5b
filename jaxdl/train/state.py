"""The state of a training run: everything that a step reads and writes."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdl import core
from jaxdl.core import Module, Tree

__all__ = ["TrainState", "init_state"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """A pytree; two equal states continue alike, bit for bit.

    Attributes:
      params: the model's parameters.
      model_state: the model's state, such as running means.
      opt_state: the optimizer's state.
      key: a PRNG key, never changed; step t draws from `fold_in(key, t)`.
      step: () int32, the number of steps taken.
    """

    params: Tree
    model_state: Tree
    opt_state: Any
    key: jax.Array
    step: jax.Array

    def replace(self, **changes: Any) -> TrainState:
        """The state with some of its fields changed."""
        return dataclasses.replace(self, **changes)


def init_state(
    model: Module, optimizer: optax.GradientTransformation, key: jax.Array, *inputs: Any
) -> TrainState:
    """The state before the first step.

    Args:
      model: any `Module`.
      optimizer: an optax transformation.
      key: a PRNG key, `jax.random.key(seed)`. The parameters are those of `jaxdl.init(model, key,
        *inputs)`; the steps draw from a key derived from it.
      *inputs: what the model will be given, with the batch axis; only shapes and dtypes matter.

    Returns:
      A `TrainState` at step 0.

    Raises:
      ValueError: `key` is no PRNG key, or a layer rejects its input.
    """
    params, model_state = core.init(model, key, *inputs)
    return TrainState(
        params,
        model_state,
        opt_state=jax.jit(optimizer.init)(params),
        key=jax.random.fold_in(key, 0),
        step=jnp.zeros((), jnp.int32),
    )
