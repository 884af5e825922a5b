"""Loss and metrics over a data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxdl import _cache, losses
from jaxdl.core import Module
from jaxdl.train import names, validate
from jaxdl.train.distributed import Placement
from jaxdl.train.feed import RESIDENT_BYTES, Feed
from jaxdl.train.feed import feed as make_feed
from jaxdl.train.loop import eval_program
from jaxdl.train.state import TrainState, check_state
from jaxdl.train.step import make_eval_step
from jaxdl.train.totals import Totals

__all__ = ["evaluate"]


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
    check_state("evaluate", state)
    feed = make_feed(
        "data",
        data,
        batch_size,
        seed=None,
        resident_bytes=resident_bytes,
        parts=1,
        few_shapes=True,
        who="evaluate",
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
