"""Training of many runs at once: seeds and hyper-parameters with one compilation."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import losses
from jaxdl.core import Module, check_model, init
from jaxdl.data import convert
from jaxdl.data.source import BatchStream, RandomAccessSource
from jaxdl.metrics.names import Metrics, name_metrics
from jaxdl.train import data_validation, validation
from jaxdl.train.batches import Batches, epoch_batches
from jaxdl.train.callbacks import open_reporter
from jaxdl.train.checkpoint import Checkpointer
from jaxdl.train.epoch import EpochBatches, MetricAccumulator
from jaxdl.train.evaluate import Evaluation
from jaxdl.train.logging import Logger, open_loggers
from jaxdl.train.options import AugmentedData, Execution, explain_grouped_options
from jaxdl.train.resume import describe_setup, restore_run
from jaxdl.train.state import TrainState, check_state
from jaxdl.train.step import inputs
from jaxdl.train.sweep_programs import Optimizer, compile_runs, make_optimizer

__all__ = ["grid", "train_many"]

Loggers = Logger | Sequence[Logger] | Callable[[dict[str, float]], Logger]


def grid(**values: Sequence[float]) -> dict[str, list[float]]:
    """Returns every combination of hyper-parameters for `train_many(hyper=...)`.

    Args:
      **values: a sequence of values for each name.

    Returns:
      A dict of lists of one length, the last name changing fastest.

    Raises:
      ValueError: the values of a name are no sequence of numbers.

    Example:
      >>> train.grid(learning_rate=[0.1, 0.01], momentum=[0.5, 0.9])
      {'learning_rate': [0.1, 0.1, 0.01, 0.01], 'momentum': [0.5, 0.9, 0.5, 0.9]}
    """
    combinations = list(itertools.product(*_as_lists("grid", values).values()))
    return {name: [c[i] for c in combinations] for i, name in enumerate(values)}


@explain_grouped_options
def train_many(
    model: Module,
    data: Any,
    *,
    seeds: Sequence[int],
    loss: str | Callable,
    optimizer: Optimizer,
    hyper: Mapping[str, Sequence[float]] | None = None,
    batch_size: int | None = None,
    epochs: int = 1,
    eval_data: Any = None,
    metrics: Metrics | None = None,
    states: TrainState | None = None,
    batching: str = "auto",
    checkpoint: Checkpointer | str | os.PathLike | None = None,
    callbacks: Loggers = (),
    execution: Execution | None = None,
    verbose: int = 1,
) -> tuple[TrainState, dict[str, np.ndarray]]:
    """Trains a model for every seed and every setting of the hyper-parameters.

    Each run equals `fit` with its seed and setting. All runs share one compilation and one copy of
    the data on the device.

    Args:
      model, loss, metrics, verbose: as for `fit`.
      data: `(x, y)` or `(x, y, weight)` of arrays, or of values that `fit` converts to arrays; or
        `AugmentedData` of these. `RandomAccessSource` and `BatchStream` are not supported.
      seeds: one seed for each run.
      epochs: the number of epochs.
      batch_size: rows a step, at most N; None is 32, or N if that is less.
      eval_data: data like `data`, evaluated after every epoch; no `Evaluation`.
      optimizer: an optax transformation; or, with `hyper`, a function of the hyper-parameters that
        makes one, `lambda learning_rate: optax.sgd(learning_rate)`, or its name in `optim`.
      hyper: `{"learning_rate": [0.1, 0.01], ...}`, sequences of one length, which are passed to
        `optimizer` by keyword; `grid` makes every combination. `initial_scale` is not passed but
        multiplies the initial kernels.
      states: initial states with a leading axis over the runs, as this function returns them; None
        calls `init_state`. A run continues with the epoch of its step.
      batching: "vmap" trains all runs at once, "map" one after another; "auto" is "map" on a CPU,
        where one run already uses all cores, and "vmap" elsewhere.
      checkpoint: a directory in which to save all runs after every epoch, or `Checkpointer`. The
        same call resumes from the newest valid checkpoint, bit for bit.
      callbacks: loggers, which receive the means over the runs, `loss`, and the numbers of each
        run, `loss/0`, `loss/1`, ...; or functions of a run's settings,
        `{"seed": 5, "learning_rate": 0.1}`, that make a logger for this run alone:
        `lambda run: train.TensorBoard(f"runs/{run['seed']}")`.
      execution: `check`, as for `fit`.

    Returns:
      `(states, history)` with a leading axis over the runs, ordered by seed and then by setting.
      `history` has arrays: (runs, epochs) for `loss`, `accuracy`, `eval_loss`, ...; and (runs,) for
      `seed` and each hyper-parameter. The state of run i is `jax.tree.map(lambda a: a[i], states)`.
      A run that diverges becomes NaN and does not stop the others.

    Raises:
      ValueError: an argument is invalid, or the checkpoints are of other runs; the message
        explains how to fix it.
      CheckpointCorrupt: there are checkpoints, but all are damaged.
      OSError: a checkpoint could not be written.

    Example:
      >>> states, history = train.train_many(
      ...     model, digits.train, seeds=range(4), loss="cross_entropy",
      ...     optimizer=optax.sgd, hyper={"learning_rate": [0.01, 0.1, 1.0]}, epochs=5)
      >>> history["loss"].shape
      (12, 5)
    """
    check_model("train_many", model)
    execution = Execution() if execution is None else execution
    execution.restrict("train_many", "check")
    data, augment = AugmentedData.split(data)
    if states is not None:
        check_state("train_many", states, "states")
    validation.validate_positive("train_many", epochs=epochs)
    validation.validate_one_of("train_many", "batching", batching, ("auto", "vmap", "map"))
    validation.validate_one_of("train_many", "verbose", verbose, (0, 1, 2))
    run_settings = _list_settings(seeds, hyper, optimizer)
    checkpoints = Checkpointer.from_argument(checkpoint)
    if checkpoints is not None and (checkpoints.every or checkpoints.monitor):
        raise ValueError(
            f"train_many: the checkpoints have every={checkpoints.every} and monitor="
            f"{checkpoints.monitor!r}; expected neither: all runs are saved together, at the end "
            "of every epoch."
        )
    for name, part in (("data", data), ("eval_data", eval_data)):
        if isinstance(convert.as_source(part, name), RandomAccessSource | BatchStream | Evaluation):
            raise ValueError(
                f"train_many: {name} is {type(part).__name__}; expected (x, y) or (x, y, weight) "
                "of arrays, which stay on the device whole: fetch the rows first, or call fit for "
                "each seed."
            )
    if isinstance(batch_size, Batches):
        raise ValueError(
            f"train_many: batch_size is {batch_size}; expected the number of rows: pass "
            f"batch_size={batch_size.size}, or call fit for each seed."
        )
    data = validation.as_xy(data, "data")
    n = validation.count_rows(data, "data")
    batch_size = validation.choose_batch_size("train_many", batch_size, n)
    sets = {"data": data}
    if eval_data is not None:
        sets["eval_data"] = eval_data = validation.as_xy(eval_data, "eval_data")
    if batching == "auto":
        batching = "map" if jax.default_backend() == "cpu" else "vmap"
    x = jax.tree.map(lambda a: validation.spec(a, batch_size), data[0])
    if execution.check:
        key = jax.random.key(0)
        with validation.annotate_errors(model, x):
            params, state = jax.eval_shape(lambda key: init(model, key, *inputs(x)), key)
        validation.validate_trainable(model, params, state, x)
        validation.validate_stateless("train_many", state)
        for name, part in sets.items():
            validation.count_rows(part, name)
            change = augment if name == "data" else None
            data_validation.validate_batch(
                model, params, state, part, losses.loss(loss), name, augment=change
            )

    loss, named = losses.loss(loss), name_metrics(metrics)
    columns = {name: np.array([run[name] for run in run_settings]) for name in run_settings[0]}
    run_seeds = columns.pop("seed")
    # Arrays and not constants, so that all settings share one compilation.
    settings = {name: jnp.asarray(values, jnp.float32) for name, values in columns.items()}
    runs = compile_runs(model, loss, optimizer, named, augment, batching)
    keys = jax.vmap(jax.random.key)(jnp.asarray(run_seeds))
    first = jax.tree.map(lambda a: a[:batch_size], data[0])
    make_states = functools.partial(runs["init"], first, keys, settings)
    like = jax.eval_shape(make_states)
    running = None if states is None else _copy_states(states, like)
    evaluation = None if eval_data is None else _eval_rows(eval_data, batch_size)
    steps = -(-n // batch_size)

    with contextlib.ExitStack() as stack:
        loggers = stack.enter_context(_logging(callbacks, checkpoints, run_settings))
        history: dict[str, list[list[float]]] = {}
        setup, saved, done = {}, None, 0
        if checkpoints is not None:
            stack.enter_context(checkpoints.writing())
            setup = describe_setup(
                model,
                make_optimizer(optimizer, {name: values[0] for name, values in columns.items()}),
                jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), like),
                data,
                loss=loss,
                metrics=named,
                augment=augment,
                batch_size=batch_size,
                rows=n,
                seeds=list(seeds),
                **{name: values.tolist() for name, values in columns.items()},
            )
            saved = restore_run(checkpoints, checkpoints.resume, _with_epochs(like, 0), setup)
        if saved is not None:
            done, history = int(saved.state.step), saved.record["history"]
            running = saved.state.replace(step=jnp.asarray(saved.extra["steps"]))
            if done > epochs:
                raise ValueError(
                    f"train_many: epochs is {epochs} and the checkpoint {str(saved.path)!r} is of "
                    f"{done}; expected at least {done}, or another directory."
                )
        running = make_states() if running is None else running
        report = stack.enter_context(open_reporter(verbose, epochs))
        report.show_message(f"{len(run_settings)} runs; the lines show their means")
        # One copy for all runs and epochs.
        data, train = jax.device_put(data), None
        before = np.asarray(running.step) // steps - done  # epochs of each run before this call
        for epoch in range(done, epochs):
            batches = [
                epoch_batches(n, batch_size, seed, int(offset) + epoch)
                for seed, offset in zip(run_seeds.tolist(), before, strict=True)
            ]
            orders = jnp.asarray(np.stack([order for order, _ in batches]))
            args = settings, data, orders, batches[0][1]
            if train is None:  # a call of 0 steps compiles the same program
                started = time.perf_counter()
                train = runs["train_program"](running, *args)
                running, _ = jax.block_until_ready(train(running, *args, 0))
                report.show_compilation(time.perf_counter() - started)
            started = time.perf_counter()
            running, log = train(running, *args, steps)
            row, seconds = _average_per_run(log), time.perf_counter() - started
            if evaluation is not None:
                log = runs["evaluate"](running, evaluation)
                row |= {f"eval_{name}": values for name, values in _average_per_run(log).items()}
            for name, values in row.items():
                history.setdefault(name, []).append(values)
            means = {name: float(np.mean(values)) for name, values in row.items()}
            report.show_epoch(epoch + 1, means | {"seconds": seconds})
            for log_epoch in loggers:
                log_epoch((epoch + 1) * steps, row, means)
            if checkpoints is not None:
                # The entries that every checkpoint of a run has, see `validate_setup`.
                record = {"began": 0, "totals": {}, "seconds": {}}
                record |= {"setup": setup, "history": history}
                checkpoints.save(_with_epochs(running, epoch + 1), record, {"steps": running.step})
    stacked = {name: np.stack(values, axis=1) for name, values in history.items()}
    return running, stacked | {"seed": run_seeds} | jax.device_get(settings)


def _with_epochs(states: TrainState, epochs: int) -> TrainState:
    """Returns the states with one step for `Checkpointer`, which counts the epochs of this call."""
    return states.replace(step=jnp.int32(epochs))


@contextlib.contextmanager
def _logging(
    callbacks: Any, checkpoints: Checkpointer | None, run_settings: Sequence[Mapping[str, Any]]
) -> Iterator[list[Callable]]:
    """Yields functions `(step, row, means)` that log an epoch; closes the loggers at the end."""
    items: list[Any] = list(callbacks) if isinstance(callbacks, tuple | list) else [callbacks]
    makers, shared = [], []
    for item in items:
        (makers if callable(item) and not hasattr(item, "log") else shared).append(item)

    def log_all(logger, step, row, means):
        parts = {f"{name}/{i}": v for name, values in row.items() for i, v in enumerate(values)}
        logger.log(step, means | parts)

    def log_one(logger, i, step, row, means):
        logger.log(step, {name: values[i] for name, values in row.items()})

    with contextlib.ExitStack() as stack:
        shared = stack.enter_context(open_loggers(shared, checkpoints, "train_many"))
        calls = [functools.partial(log_all, logger) for logger in shared]
        for maker in makers:
            # A dict for each call: the maker may pass it on to a service that changes it.
            own: list[Any] = [maker(dict(run)) for run in run_settings]
            own = list(stack.enter_context(open_loggers(own, None, "train_many")))
            calls += [functools.partial(log_one, logger, i) for i, logger in enumerate(own)]
        yield calls


def _copy_states(states: TrainState, like: TrainState) -> TrainState:
    """Checks initial states and returns a copy of them, which training may consume."""
    actual, expected = (
        {jax.tree_util.keystr(path): (leaf.shape, leaf.dtype) for path, leaf in leaves}
        for leaves in map(jax.tree.leaves_with_path, (states, like))
    )
    differing = [path for path in actual | expected if actual.get(path) != expected.get(path)]
    if differing:
        path = differing[0]
        raise ValueError(
            f"train_many: {len(differing)} entries of the states differ: {path} is "
            f"{actual.get(path, 'missing')}, expected {expected.get(path, 'none')}: a leading axis "
            "over the runs, of this model and optimizer."
        )
    return jax.tree.map(jnp.copy, states)


def _as_lists(who: str, values: Mapping[str, Any]) -> dict[str, list[float]]:
    """Returns the hyper-parameters as lists of numbers."""
    if not isinstance(values, Mapping):
        raise ValueError(
            f"{who}: hyper is a {type(values).__name__}; expected a dict of sequences, "
            "{'learning_rate': [0.1, 0.01]}; train.grid makes every combination."
        )
    lists = {}
    for name, sequence in values.items():
        try:
            lists[name] = [float(value) for value in sequence]
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{who}: {name} is {sequence!r}; expected a sequence of numbers: [0.1, 0.01]."
            ) from error
    return lists


def _list_settings(
    seeds: Sequence[int], hyper: Mapping[str, Sequence[float]] | None, optimizer: Optimizer
) -> list[dict[str, Any]]:
    """Returns a dict for each run: every seed with every setting."""
    if not hasattr(seeds, "__iter__"):
        fix = f"seeds=range({seeds})" if isinstance(seeds, int | np.integer) else "range(3)"
        raise ValueError(f"train_many: seeds is {seeds!r}; expected a sequence of them: {fix}.")
    seeds = list(seeds)
    for seed in seeds:
        validation.validate_seed("train_many", seed)
    settings = _as_lists("train_many", {} if hyper is None else hyper)
    lengths = {name: len(values) for name, values in settings.items()}
    if not seeds or 0 in lengths.values() or len(set(lengths.values())) > 1:
        raise ValueError(
            f"train_many: {len(seeds)} seeds and hyper of lengths {lengths}; expected at least one "
            "seed and sequences of one length; train.grid makes every combination."
        )
    make_optimizer(optimizer, dict.fromkeys(settings, 0.1))
    indices = range(next(iter(lengths.values()), 1))
    return [
        {"seed": int(seed)} | {name: values[i] for name, values in settings.items()}
        for seed, i in itertools.product(seeds, indices)
    ]


def _eval_rows(data: Any, batch_size: int) -> EpochBatches:
    n = validation.count_rows(data, "eval_data")
    return EpochBatches(jax.device_put(data), *epoch_batches(n, min(batch_size, n), None, 0))


def _average_per_run(log: Any) -> dict[str, list[float]]:
    """Returns the means of each run, from a log with a leading axis over the runs."""
    log = jax.device_get(log)
    runs = len(log["loss"].total)
    rows = []
    for i in range(runs):
        metrics = MetricAccumulator()
        metrics.add(jax.tree.map(lambda a, i=i: a[i], log))
        rows.append(metrics.compute())
    return {name: [row[name] for row in rows] for name in rows[0]}
