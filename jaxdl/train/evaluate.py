"""Evaluation: the loss and the metrics of a whole data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from jaxdl import _cache, losses
from jaxdl.core import Module, check_model
from jaxdl.metrics.names import Metrics, NamedMetrics, name_metrics
from jaxdl.nn.recurrent.stacked import reset_carry
from jaxdl.train import data_validation, validation
from jaxdl.train.batches import BatchSource, make_batch_source
from jaxdl.train.epoch import MetricAccumulator, compile_eval
from jaxdl.train.options import Execution, explain_grouped_options
from jaxdl.train.sharding import Sharding
from jaxdl.train.state import TrainState, check_state
from jaxdl.train.step import carrying_eval_step

__all__ = ["Evaluation", "evaluate"]


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """Data, interval and parameters of an evaluation; `fit(eval_data=)` takes it.

    Attributes:
      data: data as for `fit`, with metrics named `eval_loss`, ...; or a dict of several data sets,
        with metrics named `{name}_loss`, ...
      every: steps between evaluations, which `history["eval_step"]` lists; None evaluates at the
        end of every epoch.
      params: `TrainState -> parameters` to evaluate with, such as averages of the weights:
        `lambda state: optim.averaged_params(state.opt_state)`. None is `state.params`.

    Raises:
      ValueError: `every` is no positive integer, or `data` an empty dict.
    """

    data: Any
    every: int | None = None
    params: Callable[[TrainState], Any] | None = None

    def __post_init__(self):
        if self.every is not None:
            validation.validate_positive("Evaluation", every=self.every)
        if self.params is not None and not callable(self.params):
            raise ValueError(
                f"Evaluation: params is a {type(self.params).__name__}; expected a function of the "
                "state: lambda state: optim.averaged_params(state.opt_state)."
            )
        if isinstance(self.data, dict) and not (
            self.data and all(isinstance(name, str) and name for name in self.data)
        ):
            raise ValueError(
                f"Evaluation: data is a dict of {list(self.data)}; expected data by name: "
                "{'val': (x, y), 'test': (x, y)}."
            )

    @property
    def sets(self) -> dict[str, Any]:
        """The data sets by the prefix of their metrics."""
        return self.data if isinstance(self.data, dict) else {"eval": self.data}

    def prepare(self, state: TrainState) -> TrainState:
        """Returns a state with the parameters to evaluate."""
        if self.params is None:
            return state
        params = self.params(state)
        if jax.tree.structure(params) != jax.tree.structure(state.params):
            raise ValueError(
                f"Evaluation: params(state) returns a {type(params).__name__}; expected a tree "
                "like state.params."
            )
        return state.replace(params=params)


@explain_grouped_options
def evaluate(
    model: Module,
    state: TrainState,
    data: Any,
    *,
    loss: str | Callable | None = None,
    metrics: Metrics | None = None,
    batch_size: int = 256,
    execution: Execution | None = None,
) -> dict[str, float]:
    """Computes the loss and the metrics of a whole data set, weighted means over examples.

    Args:
      model: any `Module`.
      state: a `TrainState`; its `params` and `model_state` are used.
      data: as for `fit`.
      loss, metrics: as for `fit`. Without a loss only the metrics are computed, and a single output
        is the logit of a binary classification.
      batch_size: rows at a time; the result does not depend on it.
      execution: `check` and `resident_bytes`, as for `fit`.

    Returns:
      `{"loss": ..., "accuracy": ...}`, the loss first.

    Raises:
      ValueError: the data or a name are invalid; the message explains how to fix it.
    """
    check_model("evaluate", model)
    check_state("evaluate", state)
    execution = Execution() if execution is None else execution
    execution.restrict("evaluate", "check", "resident_bytes")
    feed = make_batch_source(
        "data",
        data,
        batch_size,
        seed=None,
        resident_bytes=execution.resident_bytes,
        evaluates=True,
        few_shapes=True,
        who="evaluate",
    )
    named = name_metrics(metrics)
    loss = None if loss is None else losses.loss(loss)
    if execution.check:
        feed.check = data_validation.validate_batch(
            model, state.params, state.model_state, feed.sample, loss, "data", named
        )
    values = run_evaluation(compile_evaluation(model, loss, named), state, feed)
    if not values:
        raise ValueError("evaluate: nothing to evaluate; expected loss= or metrics=.")
    return values


@_cache.per_model
def compile_evaluation(
    model: Module,
    loss: Callable | None,
    named: NamedMetrics | None,
    placement: Sharding | None = None,
) -> Callable:
    """Returns the compiled evaluation of a model; the same parts are compiled once."""
    step = carrying_eval_step(model, loss, metrics=None if named is None else dict(named))
    step = jax.jit(step, inline=True)  # tracing it again finds its jaxpr in JAX's cache
    return compile_eval(step, placement)


def run_evaluation(run: Callable, state: TrainState, feed: BatchSource) -> dict[str, float]:
    """Evaluates all batches of a feed and returns the metrics."""
    metrics, step = MetricAccumulator(), 0
    # The first rows of the evaluation data continue no training batch.
    state = state.replace(model_state=reset_carry(state.model_state, feed.batch_size))
    while step < feed.steps:
        rows, _, count = feed.get(step, feed.steps)
        state, log = run(state, rows, count)
        metrics.add(log)  # batches from `count` on have weight 0
        step += count
    return metrics.compute()
