"""Predictions for any number of rows, in batches of a few compiled sizes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxdl import _cache
from jaxdl._foreign import comes_from
from jaxdl.core import Module, check_model
from jaxdl.data import convert
from jaxdl.data.source import BatchStream, RandomAccessSource
from jaxdl.nn.recurrent.stacked import carries, reset_carry, with_carries
from jaxdl.train import data_validation, validation
from jaxdl.train.batches import power_of_two
from jaxdl.train.state import TrainState, check_state
from jaxdl.train.step import inputs

__all__ = ["predict", "predict_many", "predictor"]


def predict(model: Module, state: TrainState, x: Any, *, batch_size: int = 256) -> Any:
    """Returns the model's output for every row of x, computed in batches.

    To limit compilations, batches have `batch_size` rows or, where x has fewer, the next power of
    two. Short batches are padded with copies of the last row.

    Args:
      model: any `Module`.
      state: a `TrainState`.
      x: (N, ...), a tuple of such arrays for a model of several inputs, or
        `data.RandomAccessSource`, whose targets are not used.
      batch_size: rows at a time, at most.

    Returns:
      The output, (N, ...), or a tree of such arrays.

    Raises:
      ValueError: x has no rows, its arrays differ in length, the model rejects it, or the output
        does not have one row for each row of x; or `state` is no `TrainState`.
    """
    check_model("predict", model)
    check_state("predict", state)
    return _in_batches("predict", model, _forward(model), state, x, batch_size, 0)


def predict_many(model: Module, states: TrainState, x: Any, *, batch_size: int = 256) -> Any:
    """Returns the outputs of every run of `train_many`.

    The prediction of an ensemble is the mean of the probabilities, not of the scores:
    `jax.nn.softmax(train.predict_many(model, states, x)).mean(0)`.

    Args:
      model: any `Module`.
      states: a `TrainState` with a leading axis over the runs.
      x, batch_size: as for `predict`.

    Returns:
      The outputs, (runs, N, ...), or a tree of such arrays.

    Raises:
      ValueError: as for `predict`.
    """
    check_model("predict_many", model)
    check_state("predict_many", states, "states")
    return _in_batches("predict_many", model, _forward_many(model), states, x, batch_size, 1)


def predictor(model: Module, state: TrainState) -> Callable[..., Any]:
    """Returns the trained model as a function of its inputs, for `jit`, `grad` and `interpret`.

    Args:
      model: any `Module`.
      state: a `TrainState`.

    Returns:
      `f(x) -> output`, with dropout off and statistics fixed.

    Raises:
      ValueError: `state` is no `TrainState`.
    """
    check_model("predictor", model)
    check_state("predictor", state)

    def predict(*x):
        model_state = reset_carry(state.model_state, _rows(x))
        return model.apply(state.params, model_state, *inputs(x, state.params))[0]

    return predict


@_cache.per_model
def _forward(model: Module) -> Callable[..., Any]:
    return _cache.Compiled(functools.partial(_apply, model))


@_cache.per_model
def _forward_many(model: Module) -> Callable[..., Any]:
    # One run after another: side by side, the memory would grow with the number of runs.
    return _cache.Compiled(
        lambda params, model_state, x: jax.lax.map(
            lambda run: _apply(model, run[0], run[1], x), (params, model_state)
        )
    )


def _apply(model: Module, params: Any, model_state: Any, x: Any) -> tuple[Any, Any]:
    """Returns the output, with one row for each row of x, and the carries of stateful layers."""

    def apply(x):
        n = _rows(x)
        output, new = model.apply(params, model_state, *inputs(x, params))
        for leaf in jax.tree.leaves(output):
            if leaf.shape[:1] != (n,):
                raise ValueError(
                    f"the output is {validation.show(leaf)} for {n} rows; expected ({n}, ...)"
                )
        return output, carries(new)

    if all(leaf.ndim == 1 for leaf in jax.tree.leaves(x)):
        # One example of N features looks like N rows; tracing N + 1 rows distinguishes them.
        jax.eval_shape(apply, jax.tree.map(lambda a: validation.spec(a, len(a) + 1), x))
    return apply(x)


def _rows(x: Any) -> int:
    return jax.tree.leaves(x)[0].shape[0]


def _in_batches(
    who: str,
    model: Module,
    forward: Callable,
    state: TrainState,
    x: Any,
    batch_size: int,
    axis: int,
) -> Any:
    """Runs `forward(params, model_state, x)` on batches and joins the outputs along `axis`."""
    validation.validate_positive(who, batch_size=batch_size)
    if isinstance(x, BatchStream) or comes_from(x, "torch.utils.data"):
        raise ValueError(
            f"{who}: x is a {type(x).__name__}; expected arrays, or "
            "data.RandomAccessSource for rows fetched by number. Call "
            f"train.{who}(model, state, x) for each batch's x."
        )

    def of_one_run(a):
        return jax.ShapeDtypeStruct(a.shape[axis:], a.dtype)

    params, one_state = jax.tree.map(of_one_run, (state.params, state.model_state))
    if isinstance(x, RandomAccessSource):
        n, fetch = x.rows, lambda rows: convert.as_arrays(x.fetch(rows)[0], "x")
    else:
        # Slicing on the device would compile once for each number of rows.
        x = jax.tree.map(
            lambda a: a if _has_placement(a) else np.asarray(a), convert.as_arrays(x, "x")
        )
        n, fetch = validation.count_rows((x,), "x"), lambda rows: jax.tree.map(lambda a: a[rows], x)
    size = min(batch_size, power_of_two(n))
    model_state = reset_carry(state.model_state, size)
    outputs = []
    for first in range(0, n, size):
        batch = fetch(np.arange(first, first + size).clip(max=n - 1))
        for leaf in jax.tree.leaves(batch):
            if not isinstance(leaf, Tracer):
                convert.check_range(leaf, f"{who}: x")
        try:
            output, carried = forward(state.params, model_state, batch)
        except (AttributeError, TypeError, ValueError) as error:
            whole = batch if isinstance(x, RandomAccessSource) else x
            raise ValueError(f"{who}: {_explain(forward, state, whole, error)}") from error
        data_validation.validate_ids_again(model, params, one_state, batch, who)
        outputs.append(output)
        model_state = with_carries(model_state, carried)
    return jax.tree.map(lambda *parts: _join(parts, n, axis), *outputs)


def _has_placement(a: Any) -> bool:
    """Returns whether an array is traced, or was placed on its devices by the caller."""
    return isinstance(a, Tracer) or (isinstance(a, jax.Array) and a.committed)


def _join(parts: tuple[jax.Array, ...], n: int, axis: int) -> jax.Array:
    """Joins outputs along their rows, without the padding of the last batch."""
    if len(parts) == 1 and parts[0].shape[axis] == n:
        return parts[0]
    if any(isinstance(part, Tracer) or not part.is_fully_replicated for part in parts):
        return jax.lax.slice_in_dim(jnp.concatenate(parts, axis), 0, n, axis=axis)
    # On the host: on the device every number of parts would compile.
    whole = np.concatenate([np.asarray(part) for part in parts], axis)
    whole = whole[(slice(None),) * axis + (slice(n),)]
    return jax.device_put(whole, parts[0].sharding if parts[0].committed else None)


def _explain(forward: Callable, state: TrainState, x: Any, error: Exception) -> str:
    """Returns why a model rejects x, and what to pass instead."""

    def rejection(x):
        try:
            model_state = reset_carry(state.model_state, _rows(x))
            jax.eval_shape(lambda x: forward(state.params, model_state, x), x)
        except (AttributeError, TypeError, ValueError) as error:
            return error
        return None

    if isinstance(x, tuple) and len(x) > 1 and rejection(x[0]) is None:
        return (
            f"x is a tuple of {len(x)} arrays, {validation.show(x)}, which are several inputs, and "
            "the model takes one. Pass x alone, without y."
        )
    if not rejection(jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape), a.dtype), x)):
        return (
            f"x is {validation.show(x)}, one example without a batch axis; expected (N, ...). "
            "Pass x[None]."
        )
    error = rejection(x) or error  # with the shapes of x, not those of a padded batch
    words = str(error).removesuffix(".")
    return f"the model does not take x, {validation.show(x)}: {words}.{validation.suggest_fix(x)}"
