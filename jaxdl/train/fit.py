"""`fit`: trains a model over epochs of mini-batches, with evaluation and checkpoints."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxdl import _cache, losses, optim
from jaxdl.core import Module, check_model
from jaxdl.metrics.names import Metrics, NamedMetrics, name_metrics, resolve_metrics
from jaxdl.nn.recurrent.stacked import carry_rows, reset_carry
from jaxdl.train import data_validation, sharding, validation
from jaxdl.train.batches import Batches, BatchSource, make_batch_source
from jaxdl.train.callbacks import Callback, open_reporter
from jaxdl.train.checkpoint import Checkpointer
from jaxdl.train.epoch import CompiledSteps, compile_loop, compile_single, is_slow_in_loop
from jaxdl.train.evaluate import Evaluation, compile_evaluation, run_evaluation
from jaxdl.train.logging import Logger, open_loggers
from jaxdl.train.options import STOP_ON, AugmentedData, Execution, Steps, explain_grouped_options
from jaxdl.train.resume import describe_setup, restore_run
from jaxdl.train.run import History, Progress, RunConfig, catch_signals, check_finite, train
from jaxdl.train.sharding import Sharding
from jaxdl.train.state import TrainState, check_state, init_state
from jaxdl.train.step import Augment, inputs, make_train_step

__all__ = ["fit"]


@explain_grouped_options
def fit(
    model: Module,
    data: Any,
    *,
    loss: str | Callable,
    optimizer: str | optax.GradientTransformation,
    batch_size: int | Batches | None = None,
    epochs: int | Steps = 1,
    eval_data: Any = None,
    metrics: Metrics | None = None,
    callbacks: Sequence[Callback | Logger] = (),
    checkpoint: Checkpointer | str | os.PathLike | None = None,
    seed: int = 0,
    state: TrainState | None = None,
    execution: Execution | None = None,
    verbose: int = 1,
) -> tuple[TrainState, History]:
    """Trains a model by mini-batch gradient descent.

    Every epoch visits each row once, in an order that is a pure function of (seed, epoch), and
    takes ceil(N / batch_size) steps. The last batch is padded with rows of weight 0: loss and
    metrics are exact weighted means over examples, while batch statistics include the padding.
    Training is compiled once and evaluation once.

    Args:
      model: any `Module`.
      data: `(x, y)`: x an array (N, ...), or a tuple of arrays for a model of several inputs, and y
        the target of the loss. `(x, y, weight)` weights examples, (N,), or steps of sequences,
        (N, T), in loss and metrics; see `data.add_weights` for class weights and ignored labels.
        Lists, data frames and PyTorch tensors are converted. Other sources: rows by number,
        `data.RandomAccessSource` or a PyTorch `Dataset`; or ready batches, `data.BatchStream`, a
        `DataLoader` or a Grain data set. `AugmentedData` adds an augmentation to any of them.
      loss: `(output, target) -> (N, ...)` values per example, or a name from `losses`; or a
        `losses.ModelLoss`, such as those of `defend`, which runs the model on inputs of its own.
      optimizer: an optax transformation, or a name from `optim`.
      batch_size: rows a step on all devices together, at most N; None is 32, or N if that is less,
        or the stream's own size. `Batches` also sets shuffling and whether a short last batch is
        dropped.
      epochs: how long to train from the step of `state` on; `Steps(n)` counts steps instead. A
        resumed run ends where the first run would have ended.
      eval_data: data to evaluate on after every epoch; or an `Evaluation` for several sets, for
        other intervals, or for averaged parameters.
      metrics: names from `metrics`, functions like the loss or `metrics.DatasetMetric`s, in a
        sequence or a dict by name; None takes the accuracy for a classification loss. On training
        data they are computed during the step, while the parameters change.
      callbacks: `Callback`s, and loggers such as `TensorBoard`, which receive the metrics of every
        epoch. With `checkpoint`, log.jsonl in its directory has them too.
      checkpoint: a directory in which to save the run after every epoch and from which to resume
        it; `Checkpointer` sets how often. After Ctrl-C and SIGTERM the run is saved first.
      seed: determines the parameters, the random numbers of the steps and the order of the data.
      state: a state of this model and optimizer to continue from; it is copied, not consumed. With
        the same seed, two runs of n and m steps equal one of n + m steps, bit for bit. For another
        optimizer or rate pass `state.replace(opt_state=optimizer.init(state.params))`.
      execution: devices, precision, the policy for non-finite values, and checks.
      verbose: 0 for silence, 1 for a progress bar on a terminal and else a line an epoch, 2 for
        lines.

    Returns:
      `(state, history)`: a new state, and `{"loss": [...], "accuracy": [...], "eval_loss": [...],
      "seconds": [...], "compile_seconds": [...], ...}`, one number an epoch, or one an evaluation
      with `Evaluation(every=...)`. `seconds` covers the steps and their data, `compile_seconds` the
      first call, `eval_seconds` evaluation with its compilation; callbacks, loggers and checkpoints
      are not included. After Ctrl-C the unfinished epoch counts as one.

    Raises:
      ValueError: an argument is invalid, or the checkpoints are of another run; the message
        explains how to fix it.
      NonFiniteError: see `Execution.on_nonfinite`.
      CheckpointCorrupt: there are checkpoints, but all are damaged.
      OSError: a checkpoint could not be written.
      SystemExit: 143, after SIGTERM, where there is a `checkpoint`.

    Example:
      >>> state, history = train.fit(
      ...     model, digits.train, loss="cross_entropy", optimizer=optax.sgd(0.1),
      ...     batch_size=100, epochs=20, eval_data=digits.test)
    """
    check_model("fit", model)
    if state is not None:
        check_state("fit", state)
    execution = Execution() if execution is None else execution
    validation.validate_one_of("fit", "verbose", verbose, (0, 1, 2))
    validation.validate_seed("fit", seed)
    if not isinstance(epochs, Steps):
        validation.validate_positive("fit", epochs=epochs)
    callbacks, loggers = _split_callbacks(callbacks)
    data, augment = AugmentedData.split(data)
    loss, optimizer = losses.loss(loss), optim.optimizer(optimizer)
    named = name_metrics(metrics)
    mesh = sharding.resolve_mesh("fit", execution.mesh)
    feed = _make_feed("data", data, batch_size, mesh, execution, seed=seed)

    # The state, and where it is placed.
    x = jax.tree.map(lambda a: validation.spec(a, feed.batch_size), feed.sample[0])
    make = functools.partial(
        init_state,
        model,
        optimizer,
        jax.random.key(seed),
        *inputs(x),
        precision=execution.precision,
    )
    # Shapes only, so that a model that rejects the data fails before anything is computed.
    with validation.annotate_errors(model, x):
        abstract = jax.eval_shape(make)
    validation.validate_trainable(model, abstract.params, abstract.model_state, x)
    if state is not None:
        if execution.check:
            check_finite(state)
        if carry_rows(state.model_state) not in (None, feed.batch_size):
            state = state.replace(model_state=reset_carry(state.model_state, feed.batch_size))
        validation.validate_state("fit", state, abstract)
        # The compiled steps donate their state; that of the caller must stay valid.
        abstract = state = jax.tree.map(jnp.copy, state)
    placement = sharding.make_sharding("fit", mesh, execution.param_sharding, optimizer, abstract)

    # The evaluation sets; all data are checked before the first compilation.
    evaluation = eval_data if isinstance(eval_data, Evaluation | None) else Evaluation(eval_data)
    feeds, eval_sets = {"data": feed}, {}
    for name, rows in evaluation.sets.items() if evaluation else ():
        argument = "eval_data" if name == "eval" else f"eval_data {name!r}"
        eval_sets[name] = feeds[argument] = _make_feed(
            argument, rows, feed.batch_size, mesh, execution, seed=None, evaluates=True
        )
    for name, part in feeds.items():
        if carry_rows(abstract.model_state) is not None:
            part.require_continued_rows(f"fit: {name}")
        sharding.validate_batch_size(f"fit: {name}", part.batch_size, mesh)
        if execution.check:
            part.check = data_validation.validate_batch(
                model,
                abstract.params,
                abstract.model_state,
                part.sample,
                loss,
                name,
                named,
                augment if part is feed else None,
            )
    state = sharding.place_state(make, state, placement, abstract)

    step = build_step(
        model,
        loss,
        optimizer,
        named,
        augment,
        execution.on_nonfinite != "raise",
        execution.precision,
    )
    steps = _compile_steps(
        model,
        step,
        STOP_ON[execution.on_nonfinite],
        _uses_loop(execution, step, state, feed),
        placement,
    )
    evaluate = None
    if evaluation is not None:
        run_eval = compile_evaluation(model, loss, named, placement)
        evaluate = functools.partial(_evaluate_sets, run_eval, evaluation, eval_sets)

    with contextlib.ExitStack() as stack:
        checkpoints = Checkpointer.from_argument(checkpoint)
        setup, saved = {}, None
        if checkpoints is not None:
            stack.enter_context(checkpoints.writing())
            batches = batch_size if isinstance(batch_size, Batches) else Batches()
            # Everything that would change the result of a resumed run.
            setup = describe_setup(
                model,
                optimizer,
                state,
                # Other sources are not read again to compare their rows.
                feed.sample if isinstance(data, tuple | list) else (),
                loss=loss,
                metrics=_resolve_for(named, model, loss, abstract, feed),
                augment=augment,
                seed=seed,
                on_nonfinite=execution.on_nonfinite,
                precision=execution.precision,
                batch_size=feed.batch_size,
                rows=feed.rows,
                steps_per_epoch=feed.steps,
                shuffle=batches.shuffle,
                drop_last=batches.drop_last,
            )
            saved = restore_run(checkpoints, checkpoints.resume, state, setup)
        start = int(state.step)
        progress = Progress(state, start, start) if saved is None else Progress.restore(saved)
        count = epochs.count if isinstance(epochs, Steps) else epochs * feed.steps
        # From the first step of the whole run, so that a resumed one ends where it would have
        # ended.
        last = progress.start + count
        if progress.step > last:
            raise ValueError(
                f"fit: the checkpoint in {str(checkpoint)!r} is at step {progress.step}, past "
                f"step {last}, where this run ends; expected a longer run, or a new directory."
            )
        first_process = sharding.is_process0()
        report = stack.enter_context(
            open_reporter(verbose if first_process else 0, -(-last // feed.steps))
        )
        if saved is not None:
            report.show_message(f"resumed at step {progress.step} from {saved.path}")
        # Without checkpoints there is nothing to save, and SIGTERM may end the process at once.
        signals = [signal.SIGINT] if checkpoints is None else [signal.SIGINT, signal.SIGTERM]
        loggers = stack.enter_context(open_loggers(loggers if first_process else (), checkpoints))
        config = RunConfig(
            model=model,
            feed=feed,
            steps=steps,
            callbacks=callbacks,
            evaluate=evaluate,
            evaluate_every=evaluation.every if evaluation else None,
            on_nonfinite=execution.on_nonfinite,
            steps_per_call=execution.steps_per_call,
            report=report,
            loggers=loggers,
            interrupted=stack.enter_context(catch_signals(signals)),
            checkpoints=checkpoints,
            setup=setup,
        )
        return train(config, progress, last, saved)


def _split_callbacks(callbacks: Any) -> tuple[list[Callback], list[Logger]]:
    """Returns the callbacks and the loggers of a sequence of both."""
    if not isinstance(callbacks, Sequence) or isinstance(callbacks, str):
        raise ValueError(
            f"fit: callbacks is one {type(callbacks).__name__}; write callbacks=[...]."
        )
    for item in callbacks:
        if isinstance(item, type) or not (
            isinstance(item, Callback) or (hasattr(item, "log") and hasattr(item, "close"))
        ):
            raise ValueError(
                f"fit: callbacks contains {item!r}; expected a train.Callback, or a logger with "
                "log(step, values) and close() such as train.TensorBoard(directory)."
            )
    own = [item for item in callbacks if isinstance(item, Callback)]
    return own, [item for item in callbacks if not isinstance(item, Callback)]


def _make_feed(
    name: str,
    data: Any,
    batch_size: int | Batches | None,
    mesh: Mesh | None,
    execution: Execution,
    **options: Any,
) -> BatchSource:
    return make_batch_source(
        name,
        data,
        batch_size,
        mesh=mesh,
        resident_bytes=execution.resident_bytes,
        steps_per_call=execution.steps_per_call,
        **options,
    )


def _uses_loop(execution: Execution, step: Callable, state: TrainState, feed: BatchSource) -> bool:
    """Returns whether the steps of a call are one loop of the device."""
    if jax.debug_nans.value:  # in a loop, JAX would name the loop and not the operation
        return False
    if execution.steps_per_call is None:
        return not is_slow_in_loop(step, state, feed.get(0, 1)[0])
    return execution.steps_per_call > 1


def _resolve_for(
    named: NamedMetrics | None, model: Module, loss: Callable, state: TrainState, feed: BatchSource
) -> tuple:
    """Returns the functions of the metrics, which must be the same in a resumed run."""
    x, y = jax.tree.map(lambda a: validation.spec(a, feed.batch_size), feed.sample[:2])
    output = jax.eval_shape(
        lambda p, s, x: model.apply(p, s, *inputs(x, p))[0], state.params, state.model_state, x
    )
    return resolve_metrics(named, loss, output, y)


def _evaluate_sets(
    run: Callable, evaluation: Evaluation, sets: dict[str, BatchSource], state: TrainState
) -> dict[str, float]:
    """Returns the metrics of every set, by `{set}_{metric}`."""
    state, row = evaluation.prepare(state), {}
    for name, feed in sets.items():
        values = {f"{name}_{key}": value for key, value in run_evaluation(run, state, feed).items()}
        double = next((key for key in values if key in row), None)
        if double is not None:
            raise ValueError(f"Evaluation: two sets have a metric {double!r}; rename one of them.")
        row |= values
    return row


@_cache.per_model
def build_step(
    model: Module,
    loss: Callable,
    optimizer: optax.GradientTransformation,
    named: NamedMetrics | None,
    augment: Augment | None,
    skip_nonfinite: bool,
    precision: str,
) -> Callable:
    """Returns the train step of these parts; the same parts are traced once."""
    step = make_train_step(
        model,
        loss,
        optimizer,
        metrics=None if named is None else dict(named),
        augment=augment,
        skip_nonfinite=skip_nonfinite,
        precision=precision,
    )
    # Tracing a jitted function again finds its jaxpr in JAX's cache.
    return jax.jit(step, inline=True)


@_cache.per_model
def _compile_steps(
    model: Module, step: Callable, stop_on: str | None, looped: bool, placement: Sharding | None
) -> CompiledSteps:
    """Returns the compiled steps; the same parts are compiled once."""
    return (compile_loop if looped else compile_single)(step, stop_on, placement)
