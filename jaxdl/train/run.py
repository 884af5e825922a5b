"""A training run in progress: calls of the program, and what happens between epochs."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxdl.core import Module
from jaxdl.nn.recurrent.stacked import reset_carry
from jaxdl.train import nonfinite, sharding
from jaxdl.train.batches import Feed
from jaxdl.train.callbacks import Callback, Context, Stop
from jaxdl.train.checkpoint import Checkpointer
from jaxdl.train.checkpoint_format import RestoredRun
from jaxdl.train.epoch import Log, Program
from jaxdl.train.logging import Logger
from jaxdl.train.progress import Silent
from jaxdl.train.state import TrainState
from jaxdl.train.totals import Totals

History = dict[str, list[float]]
NONE_SPENT = {"seconds": 0.0, "compile_seconds": 0.0}
CALL_SECONDS = 0.5
"""How long a call of the device may take, so that progress shows and Ctrl-C is heard."""


@dataclasses.dataclass
class Run:
    """What `fit` has settled, and where the run stands.

    Attributes:
      model, feed, program, callbacks: what is run.
      state: the state now; `step` is its step, on the host.
      began: the step that the whole run began at.
      evaluate: a state's metrics on the evaluation data, or None.
      evaluate_every: steps between evaluations, or None for the ends of epochs.
      on_nonfinite: as for `fit`.
      calls: steps in a call, or None to settle it by the clock.
      report, loggers: whom to tell.
      interrupted: the signal that has come, or 0.
      checkpoints: where the run is saved, or None.
      setup: how the run was set up, for `resume.check`.
      saved: the checkpoint that it goes on from, or None.
      history: one number an epoch.
      totals, seconds: of the epoch begun.
      stopped: why the run ends early, or None.
      signal: the signal that ended it, or 0.
      saved_step: the step of the last checkpoint, or None.
      pace: steps in the next call, or None before the first.
    """

    model: Module
    feed: Feed
    program: Program
    callbacks: Sequence[Callback]
    state: TrainState
    step: int
    began: int
    evaluate: Callable[[TrainState], dict[str, float]] | None
    evaluate_every: int | None
    on_nonfinite: str
    calls: int | None
    report: Silent
    loggers: Sequence[Logger]
    interrupted: Callable[[], int]
    checkpoints: Checkpointer | None
    setup: Mapping[str, Any]
    saved: RestoredRun | None
    history: History = dataclasses.field(default_factory=dict)
    totals: Totals = dataclasses.field(default_factory=Totals)
    seconds: dict[str, float] = dataclasses.field(default_factory=lambda: dict(NONE_SPENT))
    stopped: str | None = None
    signal: int = 0
    saved_step: int | None = None
    pace: int | None = None

    def train(self, last: int) -> tuple[TrainState, History]:
        """Trains up to step `last`."""
        try:
            self._begin()
            while self.step < last and self.stopped is None:
                self._epoch(min(last, (self.step // self.feed.steps + 1) * self.feed.steps))
            self._save()
            if signal.SIGTERM in (self.signal, self.interrupted()):
                raise SystemExit(128 + signal.SIGTERM)
            if self.stopped is not None:
                self.report.say(f"stopped after step {self.step}: {self.stopped}")
            for callback in self.callbacks:
                self.state = callback.on_fit_end(self.context) or self.state
            return self.state, self.history
        except BaseException as error:
            for callback in self.callbacks:
                callback.on_exception(self.context, error)
            raise

    @property
    def context(self) -> Context:
        """Where the run stands, for callbacks."""
        history = {name: tuple(values) for name, values in self.history.items()}
        steps = self.feed.steps
        return Context(self.model, self.state, history, -(-self.step // steps), steps)

    def _begin(self) -> None:
        """Before the first step: where a checkpoint stood, if there is one."""
        if self.saved is not None:
            record = self.saved.record
            self.history = {name: list(values) for name, values in record["history"].items()}
            self.totals = Totals(record["totals"], _collected(self.saved.extra))
            self.seconds = dict(record["seconds"])
            self.stopped, self.saved_step = record["stopped"], self.step
        self._tell("on_fit_begin", {})
        if self.saved is not None:
            for i, callback in enumerate(self.callbacks):
                of = f"{i}/"
                leaves = {p[len(of) :]: v for p, v in self.saved.extra.items() if p.startswith(of)}
                if leaves:
                    callback.resume(leaves, self.context)

    def _epoch(self, end: int) -> None:
        number = self.step // self.feed.steps + 1
        if self.step % self.feed.steps == 0:
            fresh = reset_carry(self.state.model_state)
            self.state = self.state.replace(model_state=fresh)
        while self.step < end and self.stopped is None:
            before = self.step
            self.totals.add(self._call(end))
            self.report.steps(number, self.step - (number - 1) * self.feed.steps, self.feed.steps)
            # The first call compiles and may take no step.
            if self.evaluate_every and self.step > before and not self.step % self.evaluate_every:
                self._evaluate_within(number)
            if self.step < end and (self.signal or self._due):
                self._save()  # with the totals of the epoch begun
        if self.signal == signal.SIGTERM and self.step < end:
            return
        row, seconds = self.totals.means(), self.seconds
        self.totals, self.seconds = Totals(), dict(NONE_SPENT)
        evaluate = None if self.evaluate_every else self.evaluate
        if evaluate is not None:
            row |= _timed(evaluate, self.state)
        row |= seconds
        self._record(row)
        if evaluate is not None:
            row |= self._tell("on_eval_end", row)
        row |= self._tell("on_epoch_end", row)
        self.report.epoch(number, row)
        for logger in self.loggers:
            logger.log(self.step, row)
        if self._due:
            self._save()

    def _evaluate_within(self, number: int) -> None:
        """Evaluates after a number of steps, wherever the epoch is."""
        assert self.evaluate is not None
        row = _timed(self.evaluate, self.state)
        self._record({"eval_step": self.step} | row)
        row |= self._tell("on_eval_end", row)
        shown = (item for item in row.items() if not item[0].endswith("seconds"))
        values = "  ".join(f"{name} {value:.4g}" for name, value in shown)
        self.report.say(f"step {self.step} (epoch {number})  {values}")
        for logger in self.loggers:
            logger.log(self.step, row)

    def _call(self, end: int) -> Log:
        """One call of the program, of as many steps as keep the pace."""
        compiling = self.pace is None
        # A loop of no steps compiles like any other.
        wanted = self.pace if self.pace is not None else int(not self.program.looped)
        stop = end
        for every in (self.checkpoints and self.checkpoints.every, self.evaluate_every):
            stop = min(stop, (self.step // every + 1) * every) if every else stop
        began = time.perf_counter()
        rows, first, count = self.feed.at(self.step, min(wanted, stop - self.step))
        self.state, wait = self.program.run(self.state, rows, first, count)
        self.feed.ahead(self.step, end)
        log = wait()
        spent = time.perf_counter() - began
        taken = len(log["loss"][0])
        if compiling:
            self.seconds["compile_seconds"] += spent
            self.report.compiled(spent)
            pace = 1
        else:
            self.seconds["seconds"] += spent
            pace = max(1, int(CALL_SECONDS * taken / spent))
        self._settle(log, taken, self.calls or pace)
        return log

    def _settle(self, log: Log, taken: int, pace: int) -> None:
        """Counts the steps of a call, and ends the run where there is a reason."""
        before, self.step = self.step, self.step + taken
        if self.on_nonfinite == "raise":
            nonfinite.check(self.state, log, before, self.feed.steps)
        elif self.on_nonfinite == "stop" and taken and log["skipped"][0][-1] > 0:
            self.step -= 1
            self.state = self.state.replace(step=self.state.step - 1)
            self.stopped = f"step {self.step} is infinite or NaN; the state is the one before it"
        self.pace, self.signal = sharding.agreed(pace, self.interrupted())
        if self.signal:
            self.stopped = "interrupted"

    @property
    def _due(self) -> bool:
        """Whether a checkpoint is due at this step."""
        if self.checkpoints is None or self.step == self.began:
            return False
        return self.step % (self.checkpoints.every or self.feed.steps) == 0

    def _save(self) -> None:
        if self.checkpoints is None or self.saved_step == self.step:
            return
        record = {
            "setup": dict(self.setup),
            "began": self.began,
            "history": self.history,
            "totals": self.totals.sums,
            "seconds": self.seconds,
            "stopped": None if self.signal else self.stopped,
        }
        extra: dict[str, Any] = {str(i): c.saved() for i, c in enumerate(self.callbacks)}
        extra["totals"] = {
            name: dict(enumerate(arrays)) for name, arrays in self.totals.collected.items()
        }
        self.checkpoints.save(self.state, record, extra)
        self.saved_step = self.step

    def _record(self, row: dict[str, float]) -> None:
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)

    def _tell(self, event: str, row: Mapping[str, float]) -> dict[str, float]:
        """Calls every callback; returns, and records, what they add to the row of the epoch."""
        added: dict[str, float] = {}
        for callback in self.callbacks:
            answer = getattr(callback, event)(self.context)
            if isinstance(answer, Stop):
                self.stopped = answer.reason
            elif answer is not None:
                numbers = _numbers(callback, answer)
                double = next((name for name in numbers if name in row or name in added), None)
                if double is not None:
                    raise ValueError(
                        f"{type(callback).__name__} returns {double!r}, which the history has "
                        "already; rename it."
                    )
                self._record(numbers)
                added |= numbers
        return added


def _numbers(callback: Callback, answer: Any) -> dict[str, float]:
    """What a callback adds to the history, as floats."""
    try:
        if any(isinstance(value, str) for value in answer.values()):
            raise TypeError
        return {name: float(value) for name, value in answer.items()}
    except (AttributeError, TypeError, ValueError):
        raise ValueError(
            f"{type(callback).__name__} returns {answer!r}; expected None, a train.Stop, or a dict "
            "of numbers for the history."
        ) from None


def _timed(
    evaluate: Callable[[TrainState], dict[str, float]], state: TrainState
) -> dict[str, float]:
    began = time.perf_counter()
    values = evaluate(state)
    return values | {"eval_seconds": time.perf_counter() - began}


def _collected(extra: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """What the metrics of a whole data set had read, by the paths of a checkpoint."""
    arrays: dict[str, dict[int, Any]] = {}
    for path, leaf in extra.items():
        if path.startswith("totals/"):
            name, i = path.removeprefix("totals/").rsplit("/", 1)
            arrays.setdefault(name, {})[int(i)] = leaf
    return {name: tuple(parts[i] for i in sorted(parts)) for name, parts in arrays.items()}
