"""Compiled programs of `train_many`: initialization, training and evaluation of all runs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl import _cache, optim
from jaxdl.core import Module, Tree
from jaxdl.metrics.names import NamedMetrics
from jaxdl.train.epoch import EpochBatches, eval_loop, is_slow_in_loop, run_loop
from jaxdl.train.state import init_state
from jaxdl.train.step import Augment, carrying_eval_step, inputs, make_train_step

Optimizer = str | optax.GradientTransformation | Callable[..., optax.GradientTransformation]


@_cache.per_model
def compile_runs(
    model: Module,
    loss: Callable,
    optimizer: Optimizer,
    named: NamedMetrics | None,
    augment: Augment | None,
    batching: str,
) -> dict[str, Callable]:
    """Compiles the functions that initialize, train and evaluate all runs."""

    def over_runs(f, *args):
        return jax.vmap(f)(*args) if batching == "vmap" else jax.lax.map(lambda a: f(*a), args)

    @_cache.Compiled
    def init(x, keys, settings):
        def one(key, setting):
            transformation = make_optimizer(optimizer, setting)
            state = init_state(model, transformation, key, *inputs(x))
            if "initial_scale" not in setting:
                return state
            params = _scale_kernels(state.params, setting["initial_scale"])
            return state.replace(params=params, opt_state=optim.init_state(transformation, params))

        # Not over_runs: initialization is cheap, and lax.map compiles in half the time of vmap.
        return jax.lax.map(lambda run: one(*run), (keys, settings))

    by_name = None if named is None else dict(named)

    # Tracing a jitted function again finds its jaxpr in JAX's cache.
    @functools.partial(jax.jit, inline=True)
    def step(setting, state, batch):
        return make_train_step(
            model, loss, make_optimizer(optimizer, setting), metrics=by_name, augment=augment
        )(state, batch)

    @functools.partial(_cache.Compiled, donate_argnums=(0,))
    def train_in_loop(states, settings, data, orders, mask, count):
        def one(state, setting, order):
            rows = EpochBatches(data, order, mask)
            return run_loop(functools.partial(step, setting), None, None, state, rows, 0, count)[:2]

        return over_runs(one, states, settings, orders)

    take = jax.jit(lambda tree, i: jax.tree.map(lambda a: a[i], tree))
    stack = jax.jit(lambda *trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees))
    train_step = jax.jit(
        lambda state, setting, rows, i: step(setting, state, rows.batch(i)), donate_argnums=0
    )

    # For steps that are slow in a compiled loop, see `is_slow_in_loop`.
    def train_step_by_step(states, settings, data, orders, mask, count):
        ends, logs = [], []
        for run in range(orders.shape[0] if count else 1):
            state, setting, order = take((states, settings, orders), run)
            rows, log = EpochBatches(data, order, mask), []
            for i in range(max(count, 1)):
                state, pairs = train_step(state, setting, rows, np.int32(i))
                log.append(pairs)
            ends.append(state.replace(key=None))  # the key of a run never changes
            logs.append(jax.tree.map(lambda *values: np.stack(values), *jax.device_get(log)))
        if not count:  # the call was for compilation
            return states, logs
        log = jax.tree.map(lambda *values: np.stack(values), *logs)
        return stack(*ends).replace(key=states.key), log

    @_cache.Compiled
    def evaluate(states, rows):
        step = carrying_eval_step(model, loss, metrics=by_name)
        step = jax.jit(step, inline=True)

        def one(state):
            return eval_loop(step, state, rows, rows.order.shape[0])[1]

        return over_runs(one, states)

    def train_program(states, settings, data, orders, mask):
        """Returns the faster of the two training functions."""
        if batching == "vmap":
            return train_in_loop
        state, setting, order = jax.eval_shape(take, (states, settings, orders), 0)
        rows = EpochBatches(data, order, mask)
        slow = is_slow_in_loop(functools.partial(step, setting), state, rows)
        return train_step_by_step if slow else train_in_loop

    return {"init": init, "train_program": train_program, "evaluate": evaluate}


def make_optimizer(optimizer: Any, setting: Mapping[str, Any]) -> optax.GradientTransformation:
    """Returns the optimizer of a setting."""
    options = {name: value for name, value in setting.items() if name != "initial_scale"}
    if not options:
        return optim.optimizer(optimizer)
    factory: Any = optimizer
    if isinstance(optimizer, str):
        factory = optim.OPTIMIZERS.get(optimizer, optimizer)
    try:
        inspect.signature(factory).bind(**options)
    except TypeError as error:
        raise ValueError(
            f"train_many: hyper has {', '.join(options)}, which the optimizer does not take "
            f"({error}); expected a function of them: "
            "optimizer=lambda learning_rate: optax.sgd(learning_rate)."
        ) from error
    return optim.optimizer(factory(**options))


def _scale_kernels(params: Tree, scale: jax.Array) -> Tree:
    """Returns the parameters with their kernels multiplied."""

    def one(path, leaf):
        return leaf * scale.astype(leaf.dtype) if path[-1].key == "kernel" else leaf

    return jax.tree_util.tree_map_with_path(one, params)
