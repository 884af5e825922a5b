"""A training run in progress: calls of the program, and what happens between epochs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

from jaxdl.core import Module
from jaxdl.train import nonfinite
from jaxdl.train.callbacks import Callback, Context, Stop
from jaxdl.train.evaluate import means
from jaxdl.train.feed import Feed
from jaxdl.train.loop import Log, Program
from jaxdl.train.progress import Silent
from jaxdl.train.state import TrainState

History = dict[str, list[float]]
CALL_SECONDS = 0.5
"""How long a call of the device may take, so that progress shows and Ctrl-C is heard."""


@dataclasses.dataclass
class Run:
    """What `fit` has settled, and where the run stands.

    Attributes:
      model, feed, program, callbacks: what is run.
      state: the state now; `step` is its step, on the host.
      evaluate: a state's `eval_` metrics, or None.
      on_nonfinite: as for `fit`.
      calls: steps in a call, or None to settle it by the clock.
      report, interrupted: whom to tell, and whom to ask.
      history: one number an epoch.
      stopped: why the run ends early, or None.
      pace: steps in the next call, or None before the first.
    """

    model: Module
    feed: Feed
    program: Program
    callbacks: Sequence[Callback]
    state: TrainState
    step: int
    evaluate: Callable[[TrainState], dict[str, float]] | None
    on_nonfinite: str
    calls: int | None
    report: Silent
    interrupted: Callable[[], bool]
    history: History = dataclasses.field(default_factory=dict)
    stopped: str | None = None
    pace: int | None = None

    def train(self, last: int) -> tuple[TrainState, History]:
        """Trains up to step `last`."""
        try:
            self._tell("on_fit_begin")
            while self.step < last and self.stopped is None:
                self._epoch(min(last, (self.step // self.feed.steps + 1) * self.feed.steps))
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

    def _epoch(self, end: int) -> None:
        logs, seconds = [], {"seconds": 0.0, "compile_seconds": 0.0}
        number = self.step // self.feed.steps + 1
        while self.step < end and self.stopped is None:
            logs.append(self._call(end, seconds))
            self.report.steps(number, self.step - (number - 1) * self.feed.steps, self.feed.steps)
        row = means(logs)
        if self.evaluate is not None:
            row |= {f"eval_{name}": value for name, value in self.evaluate(self.state).items()}
        row |= seconds
        self._record(row)
        if self.evaluate is not None:
            row |= self._tell("on_eval_end")
        row |= self._tell("on_epoch_end")
        self.report.epoch(number, row)

    def _call(self, end: int, seconds: dict[str, float]) -> Log:
        """One call of the program, of as many steps as keep the pace."""
        compiling = self.pace is None
        # A loop of no steps compiles like any other.
        wanted = self.pace if self.pace is not None else int(not self.program.looped)
        began = time.perf_counter()
        rows, first, count = self.feed.at(self.step, min(wanted, end - self.step))
        self.state, wait = self.program.run(self.state, rows, first, count)
        self.feed.ahead(self.step, end)
        log = wait()
        spent = time.perf_counter() - began
        taken = len(log["loss"][0])
        if compiling:
            seconds["compile_seconds"] += spent
            self.report.compiled(spent)
            self.pace = self.calls or 1
        else:
            seconds["seconds"] += spent
            self.pace = self.calls or max(1, int(CALL_SECONDS * taken / spent))
        self._settle(log, taken)
        return log

    def _settle(self, log: Log, taken: int) -> None:
        """Counts the steps of a call, and ends the run where there is a reason."""
        before, self.step = self.step, self.step + taken
        if self.on_nonfinite == "raise":
            nonfinite.check(self.state, log["loss"][0], before, self.feed.steps)
        elif self.on_nonfinite == "stop" and taken and log["skipped"][0][-1] > 0:
            self.step -= 1
            self.state = self.state.replace(step=self.state.step - 1)
            self.stopped = f"step {self.step} is infinite or NaN; the state is the one before it"
        if self.interrupted():
            self.stopped = "interrupted"

    def _record(self, row: dict[str, float]) -> None:
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)

    def _tell(self, event: str) -> dict[str, float]:
        """Calls every callback; returns, and records, what they add to the epoch."""
        added = {}
        for callback in self.callbacks:
            answer = getattr(callback, event)(self.context)
            if isinstance(answer, Stop):
                self.stopped = answer.reason
            elif answer:
                self._record(dict(answer))
                added |= answer
        return added
