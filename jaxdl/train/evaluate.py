"""Loss and metrics over a data set, and predictions, in batches of one compilation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import _cache, losses
from jaxdl.core import Module
from jaxdl.train import names, validate
from jaxdl.train.distributed import Placement
from jaxdl.train.feed import RESIDENT_BYTES, Feed
from jaxdl.train.feed import feed as make_feed
from jaxdl.train.loop import eval_program
from jaxdl.train.state import TrainState
from jaxdl.train.step import inputs, make_eval_step
from jaxdl.train.totals import Totals

__all__ = ["evaluate", "predict", "predictor"]


def evaluate(
    model: Module,
    state: TrainState,
    data: Any,
    *,
    loss: str | Callable | None = None,
    metrics: names.Metrics | None = None,
    batch_size: int = 256,
    resident_bytes: int = RESIDENT_BYTES,
    check: bool = True,
) -> dict[str, float]:
    """The loss and the metrics over a whole data set: means over examples. Lecture row V04.

    Args:
      model: any `Module`.
      state: a `TrainState`; its `params` and `model_state` are used.
      data: as for `fit`.
      loss, metrics: as for `fit`; without a loss there are only metrics.
      batch_size: rows at a time; the result does not depend on it, the last batch is masked.
      resident_bytes: data up to this size are put on the device as a whole.
      check: whether to check the data on the host first.

    Returns:
      `{"loss": ..., "accuracy": ...}`, the loss first.

    Raises:
      ValueError: the data, or a name, are not what is expected; the message says how to mend it.
    """
    feed = make_feed(
        "data", data, batch_size, seed=None, resident_bytes=resident_bytes, parts=1, who="evaluate"
    )
    measures = names.measures(metrics, feed.sample[1])
    loss = None if loss is None else losses.loss(loss)
    if loss is None and not measures:
        raise ValueError("evaluate: nothing to evaluate; expected loss= or metrics=.")
    if check:
        validate.batch(model, state.params, state.model_state, feed.sample, loss, "data")
    return evaluated(eval_run(model, loss, measures), state, feed)


@_cache.per_model
def eval_run(
    model: Module,
    loss: Callable | None,
    measures: names.Measures,
    at: Placement | None = None,
) -> Callable:
    """The evaluation program of a model; asked for again, it is not compiled again."""
    step = make_eval_step(model, loss, metrics=dict(measures))
    step = jax.jit(step, inline=True)  # a compiled function is traced once
    return eval_program(step, at)


def evaluated(run: Callable, state: TrainState, feed: Feed) -> dict[str, float]:
    """Runs an evaluation program over a feed and means its metrics."""
    totals, at = Totals(), 0
    while at < feed.steps:
        rows, _, count = feed.at(at, feed.steps)
        totals.add(run(state, rows, count))  # batches from `count` on weigh nothing
        at += count
    return totals.means()


def predict(model: Module, state: TrainState, x: Any, *, batch_size: int = 256) -> Any:
    """The model's output for every row of x, in batches. Lecture row V04.

    Args:
      model: any `Module`.
      state: a `TrainState`.
      x: (N, ...), or a tuple of such arrays for a model of several inputs.
      batch_size: rows at a time; the last batch is filled up, so there is one compilation.

    Returns:
      The output, (N, ...), or a tree of such arrays.

    Raises:
      ValueError: x holds no rows, its arrays differ in length, or the model rejects it.
    """
    forward = functools.partial(_forward, model, state.params, state.model_state)
    return _in_batches("predict", forward, x, batch_size, 0)


def predict_many(model: Module, states: TrainState, x: Any, *, batch_size: int = 256) -> Any:
    """The outputs of every run of `train_many`; their mean is an ensemble's. Lecture row E09.

    The ensemble's answer is the mean of the probabilities, not of the scores:
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
    forward = functools.partial(_forward_many, model, states.params, states.model_state)
    return _in_batches("predict_many", forward, x, batch_size, 1)


def _in_batches(who: str, forward: Callable, x: Any, batch_size: int, axis: int) -> Any:
    """Joins the outputs along `axis`, where the rows are."""
    validate.positive(who, batch_size=batch_size)
    n = validate.rows((x,), "x")
    batch_size = min(batch_size, n)
    outputs = []
    for first in range(0, n, batch_size):
        rows = np.arange(first, first + batch_size).clip(max=n - 1)
        outputs.append(forward(jax.tree.map(lambda a, rows=rows: a[rows], x)))
    whole = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis), *outputs)
    return jax.tree.map(lambda joined: jax.lax.slice_in_dim(joined, 0, n, axis=axis), whole)


@functools.partial(jax.jit, static_argnums=0)
def _forward(model, params, model_state, x):
    return model.apply(params, model_state, *inputs(x))[0]


@functools.partial(jax.jit, static_argnums=0)
def _forward_many(model, params, model_state, x):
    runs = params, model_state
    return jax.lax.map(lambda run: model.apply(*run, *inputs(x))[0], runs)


def predictor(model: Module, state: TrainState) -> Callable[..., Any]:
    """The trained model as a plain function of its inputs, for `jit`, `grad` and `interpret`.

    Args:
      model: any `Module`.
      state: a `TrainState`.

    Returns:
      `f(x) -> output`, dropout off and statistics fixed.
    """
    params, model_state = state.params, state.model_state
    return lambda *x: model.apply(params, model_state, *x)[0]
