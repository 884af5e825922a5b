"""Callbacks between epochs (early stopping, saving, learning rate) and the progress bar."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdl.core import Module, suggest
from jaxdl.train.state import TrainState, rebuild

__all__ = ["Callback", "Context", "EarlyStopping", "LRLogger", "SaveCheckpoint", "Stop"]


@dataclasses.dataclass(frozen=True)
class Context:
    """A read-only view of a run, passed to callbacks.

    Attributes:
      model: the model.
      state: the current `TrainState`. The next step consumes its arrays: to keep it, copy it by
        `jax.tree.map(jnp.copy, context.state)`.
      history: `{"loss": (...), ...}`, one value for each epoch so far.
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
    """Returned by a callback to end the run after this epoch, for a reason."""

    reason: str


class Callback:
    """Base class of callbacks, called between epochs; override the methods you need.

    There is no hook for every step: its metrics are still on the device, and waiting for them costs
    more than the step. Write a loop over `make_train_step` instead.
    """

    def on_fit_begin(self, context: Context) -> None:
        """Runs before the first step; reset what an earlier run left in the callback."""

    def on_eval_end(self, context: Context) -> Stop | Mapping[str, float] | None:
        """Runs after an evaluation; returns the same as `on_epoch_end`."""

    def on_epoch_end(self, context: Context) -> Stop | Mapping[str, float] | None:
        """Runs after an epoch; a returned dict is added to the history, a `Stop` ends the run."""

    def on_fit_end(self, context: Context) -> TrainState | None:
        """Runs after training; a returned state replaces the one that `fit` returns."""

    def on_exception(self, context: Context, error: BaseException) -> None:
        """Runs when the run fails, before the error is raised."""

    def state_dict(self) -> Any:
        """Returns what to save in a checkpoint: a tree of arrays and numbers, or None."""

    def load_state_dict(self, leaves: Mapping[str, Any], context: Context) -> None:
        """Restores the leaves of `state_dict()`, by path, after `on_fit_begin` of a resumed run."""


class _Monitor:
    """Tracks the best value of an entry of the history; each value counts once."""

    def __init__(self, who: str, name: str, mode: str, min_delta: float = 0.0):
        self.who, self.name, self.min_delta = who, name, min_delta
        self._sign = sign(who, name, mode)
        self.reset()

    def reset(self) -> None:
        self.best, self.best_epoch, self.seen, self.since = math.nan, 0, 0, 0

    def update(self, context: Context, required: bool) -> bool | None:
        """Returns whether the newest value is better than all before, None if it was seen."""
        values = context.history.get(self.name, ())
        if required:
            get_monitor(self.who, self.name, context)
        # With `Evaluation(every=...)` an epoch may bring no new value.
        if len(values) == self.seen:
            return None
        self.seen, value = len(values), values[-1]
        # Comparisons with NaN are false: with `best` NaN, any number is an improvement.
        if math.isnan(value) or self._sign * (value - self.best) >= -self.min_delta:
            self.since += 1
            return False
        self.best, self.best_epoch, self.since = value, context.epoch, 0
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, leaves: Mapping[str, Any], context: Context) -> None:
        values = context.history.get(self.name, ())
        self.best, self.best_epoch, self.seen = leaves["best"], leaves["best_epoch"], len(values)
        # Not saved, because the history determines it.
        self.since = len(values) - (values.index(self.best) + 1 if self.best in values else 0)


class EarlyStopping(Callback):
    """Ends a run that has not improved for `patience` epochs.

    Args:
      monitor: the entry of the history to watch.
      patience: number of epochs without an improvement after which the run ends, >= 1; with
        `Evaluation(every=...)`, number of evaluations.
      min_delta: smallest change that counts as an improvement, >= 0.
      mode: "min", "max", or "auto", which decides by the name: smaller is better for losses and
        errors, larger for accuracies, AUC, F1 and similar scores.
      restore_best: whether `fit` returns the state of the best epoch instead of the last.

    Attributes:
      best: the best value.
      best_epoch: its epoch, counted from 1.

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
        return self._update(context, required=False)

    def on_epoch_end(self, context):
        return self._update(context, required=not self._watch.seen)

    def _update(self, context: Context, required: bool) -> Stop | None:
        improved = self._watch.update(context, required)
        if improved and self.restore_best:
            # A copy, because the next step consumes the arrays of the state.
            self._state = jax.tree.map(jnp.copy, context.state)
        if improved is False and self._watch.since >= self.patience:
            return Stop(
                f"{self.monitor} has not improved on {self.best:.4g} of epoch {self.best_epoch} "
                f"for {self._watch.since} values"
            )
        return None

    def on_fit_end(self, context):
        return self._state

    def state_dict(self):
        return self._watch.state_dict() | {"state": self._state}

    def load_state_dict(self, leaves, context):
        self._watch.load_state_dict(leaves, context)
        if any(path.startswith("state/") for path in leaves):
            self._state = rebuild(context.state, leaves, "state/")


class SaveCheckpoint(Callback):
    """Calls `save(state, context)` after every epoch, or after every new best one.

    Args:
      save: a function that writes the state's arrays, or copies them, before it returns.
      when: "last" saves after every epoch; "best" when `monitor` is better than all values before.
      monitor: as for `EarlyStopping`, for "best".
      mode: as for `EarlyStopping`, for "best".

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
            raise ValueError(f"SaveCheckpoint: when is {when!r}; expected 'last' or 'best'.")
        if not callable(save):
            raise ValueError(
                f"SaveCheckpoint: save is {save!r}; expected a function (state, context), such as "
                "lambda state, context: save_weights('best.safetensors', state.params)."
            )
        self.save, self.when = save, when
        self._watch = _Monitor("SaveCheckpoint", monitor, mode)

    def on_fit_begin(self, context):
        self._watch.reset()

    def on_eval_end(self, context):
        if self.when == "best" and self._watch.update(context, required=False):
            self.save(context.state, context)

    def on_epoch_end(self, context):
        if self.when == "last" or self._watch.update(context, required=not self._watch.seen):
            self.save(context.state, context)

    def state_dict(self):
        return self._watch.state_dict()

    def load_state_dict(self, leaves, context):
        self._watch.load_state_dict(leaves, context)


class LRLogger(Callback):
    """Adds the learning rate of an epoch's last step to the history, as `learning_rate`.

    Args:
      schedule: the optax schedule of the optimizer, a function of the step. None reads the rate
        from the state of an `optax.inject_hyperparams` optimizer.

    Raises:
      ValueError: in the run, there is no schedule and the optimizer's state has no rate.
    """

    def __init__(self, schedule: Callable[[int], Any] | None = None):
        if schedule is not None and not callable(schedule):
            raise ValueError(
                f"LRLogger: schedule is {schedule!r}; expected a function of the step. "
                "A constant rate needs no logging."
            )
        self.schedule = schedule

    def on_epoch_end(self, context):
        if self.schedule is not None:
            rate = self.schedule(int(context.state.step) - 1)
        else:
            rates = optax.tree.get_all_with_path(context.state.opt_state, "learning_rate")
            if not rates:
                raise ValueError(
                    "LRLogger: the optimizer's state has no learning_rate; pass the schedule, "
                    "LRLogger(schedule), or create the optimizer by optax.inject_hyperparams."
                )
            rate = rates[0][1]
        return {"learning_rate": float(rate)}


def get_monitor(who: str, name: str, context: Context) -> float:
    """Returns the last value of an entry of the history."""
    if not context.history.get(name):
        known = suggest(name, list(context.history), "history entries")
        fix = " Pass eval_data= to fit to get it." if name.startswith("eval_") else ""
        raise ValueError(f"{who}: monitor is {name!r}; {known}{fix}")
    return context.history[name][-1]


LARGER = frozenset(
    "acc accuracy ap auc auprc auroc average bleu dice f1 fscore iou kappa map mcc miou ndcg "
    "precision psnr r2 recall reward rouge score sensitivity specificity ssim top".split()
)
SMALLER = frozenset(
    "brier cer deviation distance divergence ece error fid kl loss mae mape mse msle nll "
    "perplexity ppl rmse seconds skipped wer".split()
)
# A word that inverts the meaning ("neg_loss", "one_minus_accuracy") makes "auto" an error.
NEGATED = frozenset("1 anti inverse inverted minus neg negative non not one".split())


def sign(who: str, monitor: str, mode: str) -> int:
    """Returns 1 if smaller values are better, -1 if larger ones are.

    Raises:
      ValueError: `mode` is unknown, or it is "auto" and the name is not known.
    """
    if mode not in ("min", "max", "auto"):
        raise ValueError(f"{who}: mode is {mode!r}; expected 'min', 'max' or 'auto'.")
    if mode != "auto":
        return -1 if mode == "max" else 1
    words = re.split(r"[^a-z0-9]+", monitor.lower())
    # "top5" and "recall10" count as "top" and "recall".
    words += [word.rstrip("0123456789") for word in words]
    smaller, larger = (not known.isdisjoint(words) for known in (SMALLER, LARGER))
    if smaller == larger or not NEGATED.isdisjoint(words):
        raise ValueError(
            f"{who}: monitor is {monitor!r}, and the name does not show which direction is "
            "better; pass mode='max' if larger is better, or mode='min'."
        )
    return -1 if larger else 1


class Reporter:
    """Base class of progress reports; prints nothing."""

    def show_compilation(self, seconds: float) -> None:
        """Reports that the training program is compiled."""

    def show_steps(self, epoch: int, done: int, total: int) -> None:
        """Reports that `done` of the epoch's `total` steps are done."""

    def show_epoch(self, epoch: int, row: Mapping[str, float]) -> None:
        """Reports the metrics and times of a complete epoch."""

    def show_message(self, text: str) -> None:
        """Reports anything else."""


class LineReporter(Reporter):
    """Prints one line for each epoch."""

    def __init__(self, last: int):
        self.last = last

    def show_compilation(self, seconds):
        if seconds >= 0.1:  # below, the program came from the cache
            self.show_message(f"compiled in {seconds:.1f} s")

    def show_epoch(self, epoch, row):
        values = "  ".join(
            f"{name} {value:.4g}" for name, value in row.items() if not name.endswith("seconds")
        )
        self.show_message(f"epoch {epoch}/{self.last}  {row['seconds']:.2f} s  {values}")

    def show_message(self, text):
        print(text, flush=True)


class BarReporter(LineReporter):
    """Prints lines, and below them a bar over the steps of the current epoch."""

    def __init__(self, last: int, bar: Any, task: Any):
        super().__init__(last)
        self._bar, self._task = bar, task

    def show_steps(self, epoch, done, total):
        self._bar.update(
            self._task, completed=done, total=total, description=f"epoch {epoch}/{self.last}"
        )

    def show_message(self, text):
        self._bar.console.print(text, highlight=False)


@contextlib.contextmanager
def open_reporter(verbose: int, last: int) -> Iterator[Reporter]:
    """Yields the reporter of a run that ends with epoch `last`.

    Args:
      verbose: 0 silent, 1 a progress bar on a terminal and otherwise lines, 2 lines.
      last: number of the last epoch.
    """
    if verbose == 0:
        yield Reporter()
    elif verbose == 2 or not sys.stdout.isatty():
        yield LineReporter(last)
    else:
        import rich.progress as rich

        columns = (
            rich.TextColumn("{task.description}"),
            rich.BarColumn(),
            rich.MofNCompleteColumn(),
            rich.TimeRemainingColumn(),
        )
        with rich.Progress(*columns, transient=True) as bar:
            yield BarReporter(last, bar, bar.add_task("compiling", total=None))
