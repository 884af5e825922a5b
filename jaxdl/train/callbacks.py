"""What `fit` calls at the end of every epoch: early stopping, saving, the learning rate's log."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdl.core import Module, suggest
from jaxdl.train.state import TrainState, rebuild

__all__ = ["Callback", "Context", "EarlyStopping", "LRLogger", "SaveCheckpoint", "Stop"]


@dataclasses.dataclass(frozen=True)
class Context:
    """Where a run stands; for reading.

    Attributes:
      model: the model.
      state: the `TrainState` now. The next step consumes its arrays: keep a copy,
        `jax.tree.map(jnp.copy, context.state)`, not the state.
      history: `{"loss": (...), ...}`, one value an epoch so far.
      epoch: epochs completed since step 0, or begun in a run of `steps`.
      steps_per_epoch: batches in an epoch.
    """

    model: Module
    state: TrainState
    history: Mapping[str, Sequence[float]]
    epoch: int
    steps_per_epoch: int


@dataclasses.dataclass(frozen=True)
class Stop:
    """Returned by a callback: ends the run after this epoch, and says why."""

    reason: str


class Callback:
    """What a run may be told to do between epochs; override what is wanted.

    There is no hook for every step: a step's outcome is not on the host, and to wait for it costs
    more than the step. Write a loop over `make_train_step` instead.
    """

    def on_fit_begin(self, context: Context) -> None:
        """Before the first step: forget any earlier run here."""

    def on_eval_end(self, context: Context) -> Stop | Mapping[str, float] | None:
        """After the evaluation of an epoch, if there is one; the returns of `on_epoch_end`."""

    def on_epoch_end(self, context: Context) -> Stop | Mapping[str, float] | None:
        """After an epoch. A dict is added to the epoch's history; a `Stop` ends the run."""

    def on_fit_end(self, context: Context) -> TrainState | None:
        """After the run; a state that is returned is what `fit` returns."""

    def on_exception(self, context: Context, error: BaseException) -> None:
        """When the run fails, before the error goes on to the caller."""

    def saved(self) -> Any:
        """What a checkpoint must hold so that a resumed run goes on alike: a tree of arrays and
        numbers, or None."""

    def resume(self, saved: Mapping[str, Any], context: Context) -> None:
        """After `on_fit_begin` of a resumed run: the leaves of `saved()` by their paths."""


class _Monitor:
    """The best value of an entry of the history, looked at once for each value."""

    def __init__(self, who: str, name: str, mode: str, min_delta: float = 0.0):
        self.who, self.name, self.min_delta = who, name, min_delta
        self._sign = sign(who, name, mode)
        self.reset()

    def reset(self) -> None:
        self.best, self.best_epoch, self.seen, self.since = math.nan, 0, 0, 0

    def improved(self, context: Context, required: bool) -> bool | None:
        """Whether a new value is better than all before; None where there is no new one."""
        values = context.history.get(self.name, ())
        if required:
            monitored(self.who, self.name, context)
        if len(values) == self.seen:
            return None
        self.seen, value = len(values), values[-1]
        # The comparison is false for NaN: a NaN is no improvement, and anything improves on one.
        if math.isnan(value) or self._sign * (value - self.best) >= -self.min_delta:
            self.since += 1
            return False
        self.best, self.best_epoch, self.since = value, context.epoch, 0
        return True

    def saved(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch}

    def resume(self, saved: Mapping[str, Any], context: Context) -> None:
        values = context.history.get(self.name, ())
        self.best, self.best_epoch, self.seen = saved["best"], saved["best_epoch"], len(values)
        self.since = len(values) - (values.index(self.best) + 1 if self.best in values else 0)


class EarlyStopping(Callback):
    """Ends a run that has not improved for `patience` epochs. Lecture row E04.

    Args:
      monitor: the entry of the history to watch.
      patience: the epochs without an improvement after which it ends, >= 1; with
        `Evaluation(every=...)`, the evaluations.
      min_delta: what counts as an improvement, >= 0.
      mode: "min", "max", or "auto", which knows by the name: smaller is better for losses and
        errors, larger for accuracies, AUC, F1 and their like.
      restore_best: whether `fit` returns the state of the best epoch rather than the last.

    Attributes:
      best: the best value, and `best_epoch` its epoch, counted from 1.

    Raises:
      ValueError: an argument is out of range, or "auto" does not know the name; in the run, the
        history has no such entry.
    """

    def __init__(
        self,
        monitor: str = "eval_loss",
        *,
        patience: int = 5,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = True,
    ):
        if patience < 1 or min_delta < 0:
            raise ValueError(
                f"EarlyStopping: patience is {patience} and min_delta {min_delta}; expected at "
                "least 1 and at least 0."
            )
        self.monitor, self.patience, self.restore_best = monitor, patience, restore_best
        self._watch = _Monitor("EarlyStopping", monitor, mode, min_delta)

    @property
    def best(self) -> float:
        return self._watch.best

    @property
    def best_epoch(self) -> int:
        return self._watch.best_epoch

    def on_fit_begin(self, context):
        self._watch.reset()
        self._state = None

    def on_eval_end(self, context):
        return self._look(context, required=False)

    def on_epoch_end(self, context):
        return self._look(context, required=not self._watch.seen)

    def _look(self, context: Context, required: bool) -> Stop | None:
        improved = self._watch.improved(context, required)
        if improved and self.restore_best:
            self._state = jax.tree.map(jnp.copy, context.state)
        if improved is False and self._watch.since >= self.patience:
            return Stop(
                f"{self.monitor} has not improved on {self.best:.4g} of epoch {self.best_epoch} "
                f"for {self._watch.since} values"
            )
        return None

    def on_fit_end(self, context):
        return self._state

    def saved(self):
        return self._watch.saved() | {"state": self._state}

    def resume(self, saved, context):
        self._watch.resume(saved, context)
        if any(path.startswith("state/") for path in saved):
            self._state = rebuild(context.state, saved, "state/")


class SaveCheckpoint(Callback):
    """Calls `save(state, context)` after every epoch, or after every best one.

    Args:
      save: your function; it must be done with the state's arrays, or have copied them, when it
        returns.
      when: "last", every epoch; or "best", each value of `monitor` that is better than all before.
      monitor, mode: as for `EarlyStopping`, for "best".

    Raises:
      ValueError: `when` or `mode` is unknown; in the run, the history has no such entry.
    """

    def __init__(
        self,
        save: Callable[[TrainState, Context], Any],
        *,
        when: str = "last",
        monitor: str = "eval_loss",
        mode: str = "auto",
    ):
        if when not in ("last", "best"):
            raise ValueError(f"Save: when is {when!r}; expected 'last' or 'best'.")
        if not callable(save):
            raise ValueError(
                f"Save: save is {save!r}; expected a function (state, context): to a file by "
                "lambda state, context: save_weights('best.safetensors', state.params)."
            )
        self.save, self.when = save, when
        self._watch = _Monitor("SaveCheckpoint", monitor, mode)

    def on_fit_begin(self, context):
        self._watch.reset()

    def on_eval_end(self, context):
        if self.when == "best" and self._watch.improved(context, required=False):
            self.save(context.state, context)

    def on_epoch_end(self, context):
        if self.when == "last" or self._watch.improved(context, required=not self._watch.seen):
            self.save(context.state, context)

    def saved(self):
        return self._watch.saved()

    def resume(self, saved, context):
        self._watch.resume(saved, context)


class LRLogger(Callback):
    """Puts the learning rate of the epoch's last step into the history, as `learning_rate`.

    Args:
      schedule: the optax schedule that the optimizer was given, a function of the step; without
        one, the rate is read from the state of an `optax.inject_hyperparams` optimizer.

    Raises:
      ValueError: in the run, there is no schedule and the optimizer's state holds no rate.
    """

    def __init__(self, schedule: Callable[[int], Any] | None = None):
        if schedule is not None and not callable(schedule):
            raise ValueError(
                f"LRLogger: schedule is {schedule!r}; expected a function of the step, as the "
                "optimizer has it; a constant rate needs no logging."
            )
        self.schedule = schedule

    def on_epoch_end(self, context):
        if self.schedule is not None:
            rate = self.schedule(int(context.state.step) - 1)
        else:
            found = optax.tree.get_all_with_path(context.state.opt_state, "learning_rate")
            if not found:
                raise ValueError(
                    "LRLogger: the optimizer's state holds no learning_rate; pass the schedule, "
                    "LRLogger(schedule), or make the optimizer by optax.inject_hyperparams."
                )
            rate = found[0][1]
        return {"learning_rate": float(rate)}


def monitored(who: str, name: str, context: Context) -> float:
    """The last value of an entry of the history."""
    if not context.history.get(name):
        raise ValueError(
            f"{who}: monitor is {name!r}; {suggest(name, list(context.history), 'history holds')}"
            + (" Give fit eval_data= to have it." if name.startswith("eval_") else "")
        )
    return context.history[name][-1]


LARGER = frozenset(
    "acc accuracy ap auc auprc auroc average bleu dice f1 fscore iou kappa map mcc miou ndcg "
    "precision psnr r2 recall reward rouge score sensitivity specificity ssim top".split()
)
SMALLER = frozenset(
    "brier cer deviation distance divergence ece error fid kl loss mae mape mse msle nll "
    "perplexity ppl rmse seconds skipped wer".split()
)


NEGATED = frozenset("1 anti inverse inverted minus neg negative non not one".split())


def sign(who: str, monitor: str, mode: str) -> int:
    """1 if smaller is better, -1 if larger is.

    Raises:
      ValueError: `mode` is unknown, or "auto" and the name says neither.
    """
    if mode not in ("min", "max", "auto"):
        raise ValueError(f"{who}: mode is {mode!r}; expected 'min', 'max' or 'auto'.")
    if mode != "auto":
        return -1 if mode == "max" else 1
    words = re.split(r"[^a-z0-9]+", monitor.lower())
    words += [word.rstrip("0123456789") for word in words]
    smaller, larger = (not known.isdisjoint(words) for known in (SMALLER, LARGER))
    if smaller == larger or not NEGATED.isdisjoint(words):
        raise ValueError(
            f"{who}: monitor is {monitor!r}, whose better direction is not known by its name; give "
            "mode='max' if larger is better, or mode='min'."
        )
    return -1 if larger else 1
