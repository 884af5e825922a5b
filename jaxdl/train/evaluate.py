"""Loss and metrics over a data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from jaxdl import _cache, losses
from jaxdl.core import Module, check_model
from jaxdl.nn.recurrent.stacked import reset_carry
from jaxdl.train import names, validation
from jaxdl.train.batches import RESIDENT_BYTES, Feed
from jaxdl.train.batches import feed as make_feed
from jaxdl.train.epoch import eval_program
from jaxdl.train.sharding import Placement
from jaxdl.train.state import TrainState, check_state
from jaxdl.train.step import carrying_eval_step
from jaxdl.train.totals import Totals

__all__ = ["Evaluation", "evaluate"]


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What, when and with which parameters `fit` evaluates, as `fit(eval_data=)` takes it.

    Attributes:
      data: data as for `fit`, whose metrics are `eval_loss`, ...; or a dict of several by name,
        whose metrics are `{name}_loss`, ...
      every: steps from one evaluation to the next, whose steps the history has as `eval_step`; None
        evaluates at the end of every epoch.
      params: `TrainState -> parameters` to evaluate with, such as averages of the weights:
        `lambda state: optim.averaged_params(state.opt_state)`. None takes those of the state.

    Raises:
      ValueError: `every` is no positive integer, or `data` an empty dict.
    """

    data: Any
    every: int | None = None
    params: Callable[[TrainState], Any] | None = None

    def __post_init__(self):
        if self.every is not None:
            validation.positive("Evaluation", every=self.every)
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
        """The data by the prefix of their metrics."""
        return self.data if isinstance(self.data, dict) else {"eval": self.data}

    def prepare(self, state: TrainState) -> TrainState:
        """Returns the state to evaluate."""
        if self.params is None:
            return state
        params = self.params(state)
        if jax.tree.structure(params) != jax.tree.structure(state.params):
            raise ValueError(
                f"Evaluation: params(state) returns a {type(params).__name__}; expected a tree "
                "like state.params."
            )
        return state.replace(params=params)


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
    """The loss and the metrics over a whole data set: weighted means over examples. Row V04.

    Args:
      model: any `Module`.
      state: a `TrainState`; its `params` and `model_state` are used.
      data: as for `fit`.
      loss, metrics: as for `fit`; without a loss there are only metrics, and those of one output
        are taken for binary classification by a logit.
      batch_size: rows at a time; the result does not depend on it, the last batch is masked.
      resident_bytes: data up to this size are put on the device as a whole.
      check: whether to check the data on the host first.

    Returns:
      `{"loss": ..., "accuracy": ...}`, the loss first.

    Raises:
      ValueError: the data, or a name, are not what is expected; the message says how to mend it.
    """
    check_model("evaluate", model)
    check_state("evaluate", state)
    feed = make_feed(
        "data",
        data,
        batch_size,
        seed=None,
        resident_bytes=resident_bytes,
        evaluates=True,
        few_shapes=True,
        who="evaluate",
    )
    measures = names.measures(metrics)
    loss = None if loss is None else losses.loss(loss)
    if check:
        feed.check = validation.batch(
            model, state.params, state.model_state, feed.sample, loss, "data", measures
        )
    values = evaluated(eval_run(model, loss, measures), state, feed)
    if not values:
        raise ValueError("evaluate: nothing to evaluate; expected loss= or metrics=.")
    return values


@_cache.per_model
def eval_run(
    model: Module,
    loss: Callable | None,
    measures: names.Measures | None,
    at: Placement | None = None,
) -> Callable:
    """The evaluation program of a model; asked for again, it is not compiled again."""
    step = carrying_eval_step(model, loss, metrics=None if measures is None else dict(measures))
    step = jax.jit(step, inline=True)  # a compiled function is traced once
    return eval_program(step, at)


def evaluated(run: Callable, state: TrainState, feed: Feed) -> dict[str, float]:
    """Runs an evaluation program over a feed and means its metrics."""
    totals, at = Totals(), 0
    state = state.replace(model_state=reset_carry(state.model_state, feed.batch_size))
    while at < feed.steps:
        rows, _, count = feed.at(at, feed.steps)
        state, log = run(state, rows, count)
        totals.add(log)  # batches from `count` on weigh nothing
        at += count
    return totals.means()
