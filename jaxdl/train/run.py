"""The training loop: calls of the compiled steps, epochs, callbacks, errors and signals."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdl import _cache, tree
from jaxdl.core import Module
from jaxdl.nn.recurrent.stacked import reset_carry
from jaxdl.train import sharding
from jaxdl.train.batches import BatchSource
from jaxdl.train.callbacks import Callback, Context, Reporter, Stop
from jaxdl.train.checkpoint import Checkpointer
from jaxdl.train.checkpoint_format import RestoredRun
from jaxdl.train.epoch import CompiledSteps, Log, MetricAccumulator
from jaxdl.train.logging import Logger
from jaxdl.train.state import TrainState
from jaxdl.train.step import all_finite

__all__ = ["NonFiniteError"]

History = dict[str, list[float]]
NO_SECONDS = {"seconds": 0.0, "compile_seconds": 0.0}
CALL_SECONDS = 0.5
"""Length of a call of the device: short enough for the progress bar and for Ctrl-C."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The parts of a run that do not change.

    Attributes:
      model, feed, steps, callbacks: the model, its batches, the compiled steps and the callbacks.
      evaluate: computes the metrics of a state on the evaluation data, or None.
      evaluate_every: steps between evaluations; None evaluates at the end of every epoch.
      on_nonfinite, steps_per_call: as for `Execution`.
      report, loggers: the progress bar and the metric loggers.
      interrupted: returns the signal that was received, or 0.
      checkpoints: where the run is saved, or None.
      setup: the fingerprint of the run, which a resumed run must match.
    """

    model: Module
    feed: BatchSource
    steps: CompiledSteps
    callbacks: Sequence[Callback]
    evaluate: Callable[[TrainState], dict[str, float]] | None
    evaluate_every: int | None
    on_nonfinite: str
    steps_per_call: int | None
    report: Reporter
    loggers: Sequence[Logger]
    interrupted: Callable[[], int]
    checkpoints: Checkpointer | None
    setup: Mapping[str, Any]


@dataclasses.dataclass
class Progress:
    """The parts of a run that change from call to call, all on the host except the state.

    Attributes:
      state: the state; `step` is its step.
      start: the step at which the run began.
      history: one number an epoch.
      metrics, seconds: of the current epoch.
      stop_reason: why the run ends early, or None.
      signal: the signal that ends it, or 0.
      saved_step: the step of the last checkpoint, or None.
      steps_per_call: steps of the next call; None before the first, which compiles.
    """

    state: TrainState
    step: int
    start: int
    history: History = dataclasses.field(default_factory=dict)
    metrics: MetricAccumulator = dataclasses.field(default_factory=MetricAccumulator)
    seconds: dict[str, float] = dataclasses.field(default_factory=lambda: dict(NO_SECONDS))
    stop_reason: str | None = None
    signal: int = 0
    saved_step: int | None = None
    steps_per_call: int | None = None

    @classmethod
    def restore(cls, saved: RestoredRun) -> Progress:
        """Returns the progress that a checkpoint contains."""
        record, step = saved.record, int(saved.state.step)
        return cls(
            saved.state,
            step,
            record["began"],
            history={name: list(values) for name, values in record["history"].items()},
            metrics=MetricAccumulator(record["totals"], _read_arrays(saved.extra)),
            seconds=dict(record["seconds"]),
            stop_reason=record["stopped"],
            saved_step=step,
        )

    def record(self, row: Mapping[str, float]) -> None:
        """Appends values to the history."""
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)


def train(
    config: RunConfig, progress: Progress, last: int, saved: RestoredRun | None
) -> tuple[TrainState, History]:
    """Trains up to step `last`.

    Args:
      config: the run.
      progress: its first state, or that of a checkpoint; it is updated.
      last: the step at which the run ends.
      saved: the checkpoint that callbacks resume from, or None.

    Returns:
      `(state, history)`.
    """
    try:
        _begin(config, progress, saved)
        steps = config.feed.steps
        while progress.step < last and progress.stop_reason is None:
            first, number = progress.step, progress.step // steps + 1
            end = min(last, number * steps)
            if first % steps == 0:
                # The first batch of an epoch does not continue the last one of the epoch before.
                model_state = reset_carry(progress.state.model_state)
                progress.state = progress.state.replace(model_state=model_state)
            started = time.perf_counter()
            rows, i, count = config.feed.get(first, _plan_call(config, progress, end))
            progress.state, wait = config.steps.run(progress.state, rows, i, count)
            config.feed.prefetch(first, end)  # while the device computes
            log = wait()
            _after_call(config, progress, log, time.perf_counter() - started)
            config.report.show_steps(number, progress.step - (number - 1) * steps, steps)
            # The first call compiles and may run no step.
            every = config.evaluate_every
            if every and progress.step > first and progress.step % every == 0:
                _evaluate_within(config, progress, number)
            if progress.step < end and (progress.signal or _is_due(config, progress)):
                _save(config, progress)  # with the sums of the unfinished epoch
            if progress.step < end and progress.stop_reason is None:
                continue
            if progress.step == end or progress.signal != signal.SIGTERM:
                _finish_epoch(config, progress, number)
        _save(config, progress)
        # Asked again, because the signal may have arrived during the last save.
        if signal.SIGTERM in (progress.signal, config.interrupted()):
            raise SystemExit(128 + signal.SIGTERM)
        if progress.stop_reason is not None:
            reason = f"stopped after step {progress.step}: {progress.stop_reason}"
            config.report.show_message(reason)
        for callback in config.callbacks:
            progress.state = callback.on_fit_end(_context(config, progress)) or progress.state
        return progress.state, progress.history
    except BaseException as error:
        for callback in config.callbacks:
            callback.on_exception(_context(config, progress), error)
        raise


def _context(config: RunConfig, progress: Progress) -> Context:
    """Returns the read-only view of a run that callbacks receive."""
    # Tuples, so that a callback cannot change the history.
    history = {name: tuple(values) for name, values in progress.history.items()}
    steps = config.feed.steps
    return Context(config.model, progress.state, history, -(-progress.step // steps), steps)


def _begin(config: RunConfig, progress: Progress, saved: RestoredRun | None) -> None:
    """Notifies the callbacks of the start and restores their state from a checkpoint."""
    _notify(config, progress, "on_fit_begin", {})
    for i, callback in enumerate(config.callbacks if saved is not None else ()):
        prefix, extra = f"{i}/", saved.extra if saved is not None else {}
        leaves = {p[len(prefix) :]: v for p, v in extra.items() if p.startswith(prefix)}
        if leaves:
            callback.load_state_dict(leaves, _context(config, progress))


def _plan_call(config: RunConfig, progress: Progress, end: int) -> int:
    """Returns the number of steps of the next call, which ends at checkpoints and evaluations."""
    count = progress.steps_per_call
    if count is None:
        # A loop of no steps compiles like any other, so the first call measures compilation alone.
        count = int(not config.steps.looped)
    for every in (config.checkpoints and config.checkpoints.every, config.evaluate_every):
        end = min(end, (progress.step // every + 1) * every) if every else end
    return min(count, end - progress.step)


def _after_call(config: RunConfig, progress: Progress, log: Log, seconds: float) -> None:
    """Counts the steps of a call, and ends the run where there is a reason."""
    taken, first = len(log["loss"][0]), progress.step
    progress.step += taken
    if progress.steps_per_call is None:
        progress.seconds["compile_seconds"] += seconds
        config.report.show_compilation(seconds)
        # One step next: the time of the first call is that of the compilation.
        steps_per_call = 1
    else:
        progress.seconds["seconds"] += seconds
        steps_per_call = max(1, int(CALL_SECONDS * taken / seconds))
    if config.on_nonfinite == "raise":
        check_log(progress.state, log, first, config.feed.steps)
    elif config.on_nonfinite == "stop" and taken and log["skipped"][0][-1] > 0:
        # The skipped step was counted, and the state before it has one step less.
        progress.step -= 1
        progress.state = progress.state.replace(step=progress.state.step - 1)
        progress.stop_reason = (
            f"step {progress.step} is infinite or NaN; the state is the one before it"
        )
    # All processes must run the same steps, or their collectives would wait for ever.
    progress.steps_per_call, progress.signal = sharding.reduce_over_processes(
        config.steps_per_call or steps_per_call, config.interrupted()
    )
    if progress.signal:
        progress.stop_reason = "interrupted"
    progress.metrics.add(log)


def _evaluate_within(config: RunConfig, progress: Progress, number: int) -> None:
    """Evaluates in the middle of epoch `number`."""
    assert config.evaluate is not None
    row = _time(config.evaluate, progress.state)
    progress.record({"eval_step": progress.step} | row)
    row |= _notify(config, progress, "on_eval_end", row)
    shown = (item for item in row.items() if not item[0].endswith("seconds"))
    values = "  ".join(f"{name} {value:.4g}" for name, value in shown)
    config.report.show_message(f"step {progress.step} (epoch {number})  {values}")
    for logger in config.loggers:
        logger.log(progress.step, row)


def _finish_epoch(config: RunConfig, progress: Progress, number: int) -> None:
    """Computes the metrics of an epoch, evaluates, logs and saves."""
    row, seconds = progress.metrics.compute(), progress.seconds
    progress.metrics, progress.seconds = MetricAccumulator(), dict(NO_SECONDS)
    evaluate = None if config.evaluate_every else config.evaluate
    if evaluate is not None:
        row |= _time(evaluate, progress.state)
    row |= seconds
    progress.record(row)
    if evaluate is not None:
        row |= _notify(config, progress, "on_eval_end", row)
    row |= _notify(config, progress, "on_epoch_end", row)
    config.report.show_epoch(number, row)
    for logger in config.loggers:
        logger.log(progress.step, row)
    if _is_due(config, progress):
        _save(config, progress)


def _is_due(config: RunConfig, progress: Progress) -> bool:
    """Returns whether a checkpoint is due at this step."""
    if config.checkpoints is None or progress.step == progress.start:
        return False
    return progress.step % (config.checkpoints.every or config.feed.steps) == 0


def _save(config: RunConfig, progress: Progress) -> None:
    if config.checkpoints is None or progress.saved_step == progress.step:
        return
    record = {
        "setup": dict(config.setup),
        "began": progress.start,
        "history": progress.history,
        # Sums and not means: a resumed run adds the rest of the epoch to them.
        "totals": progress.metrics.sums,
        "seconds": progress.seconds,
        # After a signal the run continues when it is started again.
        "stopped": None if progress.signal else progress.stop_reason,
    }
    extra: dict[str, Any] = {str(i): c.state_dict() for i, c in enumerate(config.callbacks)}
    extra["totals"] = {
        name: dict(enumerate(arrays)) for name, arrays in progress.metrics.arrays.items()
    }
    config.checkpoints.save(progress.state, record, extra)
    progress.saved_step = progress.step


def _notify(
    config: RunConfig, progress: Progress, event: str, row: Mapping[str, float]
) -> dict[str, float]:
    """Calls every callback; returns and records the values that they add to the row."""
    added: dict[str, float] = {}
    for callback in config.callbacks:
        answer = getattr(callback, event)(_context(config, progress))
        if isinstance(answer, Stop):
            progress.stop_reason = answer.reason
        elif answer is not None:
            numbers = _as_floats(callback, answer)
            double = next((name for name in numbers if name in row or name in added), None)
            if double is not None:
                raise ValueError(
                    f"{type(callback).__name__} returns {double!r}, which the history has already; "
                    "rename it."
                )
            progress.record(numbers)
            added |= numbers
    return added


def _as_floats(callback: Callback, answer: Any) -> dict[str, float]:
    """Returns the values that a callback adds to the history, as floats."""
    try:
        if any(isinstance(value, str) for value in answer.values()):
            raise TypeError
        return {name: float(value) for name, value in answer.items()}
    except (AttributeError, TypeError, ValueError):
        raise ValueError(
            f"{type(callback).__name__} returns {answer!r}; expected None, a train.Stop, or a dict "
            "of numbers for the history."
        ) from None


def _time(
    evaluate: Callable[[TrainState], dict[str, float]], state: TrainState
) -> dict[str, float]:
    start = time.perf_counter()
    values = evaluate(state)
    return values | {"eval_seconds": time.perf_counter() - start}


def _read_arrays(extra: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Returns the arrays of metrics of whole data sets, from the paths of a checkpoint."""
    arrays: dict[str, dict[int, Any]] = {}
    for path, leaf in extra.items():
        if path.startswith("totals/"):
            name, i = path.removeprefix("totals/").rsplit("/", 1)
            arrays.setdefault(name, {})[int(i)] = leaf
    return {name: tuple(parts[i] for i in sorted(parts)) for name, parts in arrays.items()}


class NonFiniteError(FloatingPointError):
    """Raised when a loss or a parameter becomes infinite or NaN.

    Attributes:
      step: the step, counted from 0.
      metric: "loss", or "parameters" where the loss was finite.
      path: the first parameter or running statistic that is not finite, or None.
    """

    def __init__(self, step: int, epoch: int, metric: str, value: str, path: str | None):
        self.step, self.metric, self.path = step, metric, path
        where = f"the first bad parameter is {path}" if path else "the parameters are finite"
        cause = "Lower the learning rate or clip the gradient (optax.clip_by_global_norm)"
        if step == 0 and metric == "loss":  # no update came before it
            cause = (
                "The learning rate is not the cause, since this is the first step: look for a log "
                "or a division of 0 in model or loss, or for ids beyond an embedding's rows; "
                "JAX_DEBUG_NANS=1 names the place. Fix it"
            )
        super().__init__(
            f"{metric} {value} at step {step} (epoch {epoch}); {where}. {cause}, or set "
            "on_nonfinite='skip' to skip such steps or 'stop' to get the state before it."
        )


def _is_finite(values: Any) -> jax.Array:
    return _cache.Compiled(all_finite)(values)


def check_finite(state: TrainState) -> None:
    """Raises if a state to continue from is not finite."""
    if _is_finite((state.params, state.model_state)):
        return
    leaves = tree.flatten(state.params) | tree.flatten(state.model_state)
    # One call checks all leaves; single leaves are checked only to name the first bad one.
    path = next(path for path, leaf in leaves.items() if not _is_finite(leaf))
    raise ValueError(
        f"fit: {path} of state is NaN or infinite; expected finite parameters. Continue from an "
        "earlier state or checkpoint."
    )


def check_log(state: TrainState, log: Log, first: int, steps_per_epoch: int) -> None:
    """Raises if a loss of the steps from `first` on, or the state after them, is not finite."""
    losses = log["loss"][0]
    scale = state.loss_scale
    # At scale 1 the gradient overflows without scaling, so a smaller scale cannot help.
    if scale is not None and log["skipped"][0][-1:].any() and scale.value <= 1:
        raise NonFiniteError(first + len(losses) - 1, 0, "gradient", "overflows unscaled", None)
    bad = np.flatnonzero(~np.isfinite(losses))
    if not bad.size and _is_finite((state.params, state.model_state)):
        return
    step = first + (int(bad[0]) if bad.size else len(losses) - 1)
    leaves = tree.flatten(state.params) | tree.flatten(state.model_state)
    path = next((path for path, leaf in leaves.items() if not _is_finite(leaf)), None)
    metric, value = ("loss", f"is {losses[bad[0]]}") if bad.size else ("parameters", "overflowed")
    raise NonFiniteError(step, step // steps_per_epoch + 1, metric, value, path)


@contextlib.contextmanager
def catch_signals(signals: Sequence[int]) -> Iterator[Callable[[], int]]:
    """Yields a function that returns the signal that was received, or 0.

    The running call of the device can finish. A second Ctrl-C raises `KeyboardInterrupt` at once.
    The previous handlers are restored at the end. Python handles signals in the main thread only;
    in other threads the function always returns 0.
    """
    received = 0

    def handle(number, frame):
        nonlocal received
        if received == number == signal.SIGINT:
            raise KeyboardInterrupt
        received = number

    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    before = {number: signal.signal(number, handle) for number in signals}
    try:
        yield lambda: received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
