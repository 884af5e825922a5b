"""Training over epochs. All of its mathematics is in `step`; here is only when what is called."""

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

from jaxdl import _cache, losses, optim
from jaxdl.core import Module, check_model
from jaxdl.nn.recurrent.stacked import carry_rows, reset_carry
from jaxdl.train import names, nonfinite, sharding, validation
from jaxdl.train.batches import RESIDENT_BYTES, Batches, Feed
from jaxdl.train.batches import feed as make_feed
from jaxdl.train.callbacks import Callback
from jaxdl.train.checkpoint import Checkpointer
from jaxdl.train.epoch import Program, looped_program, slow_when_looped, stepwise_program
from jaxdl.train.evaluate import Evaluation, eval_run, evaluated
from jaxdl.train.interrupt import interruptible
from jaxdl.train.logging import Logger, logging
from jaxdl.train.nonfinite import HALTS
from jaxdl.train.precision import DTYPES
from jaxdl.train.progress import progress
from jaxdl.train.resume import description, resumed
from jaxdl.train.run import History, Run
from jaxdl.train.sharding import Placement
from jaxdl.train.state import TrainState, check_state, init_state
from jaxdl.train.step import Augment, inputs, make_train_step

__all__ = ["fit"]


def fit(
    model: Module,
    data: Any,
    *,
    loss: str | Callable,
    optimizer: str | optax.GradientTransformation,
    batch_size: int | Batches | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    eval_data: Any = None,
    metrics: names.Metrics | None = None,
    callbacks: Sequence[Callback] = (),
    augment: Augment | None = None,
    seed: int = 0,
    state: TrainState | None = None,
    on_nonfinite: str = "raise",
    precision: str = "float32",
    checkpoint: Checkpointer | str | os.PathLike | None = None,
    resume: str | os.PathLike | bool = "auto",
    logger: Logger | Sequence[Logger] = (),
    mesh: jax.sharding.Mesh | None = None,
    param_sharding: Any = None,
    steps_per_call: int | None = None,
    resident_bytes: int = RESIDENT_BYTES,
    check: bool = True,
    verbose: int = 1,
) -> tuple[TrainState, History]:
    """Trains a model by mini-batches. Lecture rows D08, V03.

    Every epoch goes once through the rows in an order that is a pure function of (seed, epoch),
    and takes ceil(N / batch_size) steps. The last batch is filled up with rows of weight 0, so that
    loss and metrics are weighted means over examples; batch statistics do include these rows.
    Training is compiled once and evaluation once.

    Args:
      model: any `Module`.
      data: `(x, y)`: x an array (N, ...) or a tuple of them for a model of several inputs, y what
        the loss takes as target. `(x, y, weight)` weighs examples, (N,), or steps of sequences,
        (N, T), in the loss and in the metrics; see `data.weighted` for weights by class and labels
        to ignore. Arrays, or what becomes arrays of numbers: lists, data frames, PyTorch tensors;
        or rows fetched by number, `data.RandomAccessSource` or a PyTorch `Dataset`; or batches in
        their own order, a `data.BatchStream`, a `DataLoader` or a Grain data set.
      loss: `(output, target) -> (N, ...)` values per example, or a name from `losses`.
      optimizer: an optax transformation, or a name from `optim`.
      batch_size: rows a step, of all devices together, at most N; None is 32, or all rows if these
        are fewer, or a stream's own. `Batches` drops a short last batch or keeps the rows' order.
      epochs, steps: how long to train, from where `state` stands: one of the two, or one epoch. A
        resumed run goes on to where the first would have ended.
      eval_data: data to evaluate on after every epoch; or an `Evaluation` of several sets, after a
        number of steps, or with averaged parameters.
      metrics: names from `metrics`, functions like the loss or `metrics.DatasetMetric`s, in a
        sequence or a dict by name; None takes the accuracy where the loss is one of classes. On
        the training data they are those of the outputs trained on, while the parameters change.
      callbacks: see `Callback`.
      augment: `(key, x) -> x`, `(key, x, y) -> (x, y)` or `(key, x, y, weight) -> (x, y, weight)`,
        applied to every training batch on the device.
      seed: of the parameters, of the steps' random numbers and of the order of the data.
      state: a state to go on from, of this model and optimizer; it is copied, not consumed. With
        the same seed, a run in two parts is the run in one, bit for bit. To go on with another
        optimizer or rate, give `state.replace(opt_state=optimizer.init(state.params))`.
      on_nonfinite: when a loss or a parameter comes out infinite or NaN: "raise" a
        `NonFiniteError`; "skip" the step, counted in the history as `skipped`, the share of the
        epoch's steps; or "stop" and return the state before it. The last two look at every
        parameter in every step. float16 skips the steps that overflow, whatever this is.
      precision: as for `make_train_step`.
      checkpoint: a directory to save the run in, by default at the end of every epoch, or
        `Checkpointer`. Ctrl-C and SIGTERM then save before they end the run.
      resume: "auto" goes on from the newest whole checkpoint in the directory, if there is one;
        False begins anew, in a directory without one; the path of a checkpoint goes on from that.
        The run goes on as if it had never stopped, and must be set up alike.
      logger: where to write the numbers of every epoch, besides the history; with `checkpoint` they
        are in its log.jsonl too.
      mesh: the devices to train on, with an axis "data" that batches are split over; None takes all
        that there are, of every process.
      param_sharding: `PartitionSpec`s over the mesh for the parameters, a tree prefix; None puts
        all of them on every device.
      steps_per_call: how many steps make one call of the device; None takes as many as fit in half
        a second, but single steps where a compiled loop would slow down a convolution.
      resident_bytes: data up to this size stay on the device; larger ones are fed in pieces.
      check: whether to check the data on the host first.
      verbose: 0 silent, 1 a progress bar on a terminal and else a line an epoch, 2 lines.

    Returns:
      `(state, history)`: a new state, and `{"loss": [...], "accuracy": [...], "eval_loss": [...],
      "seconds": [...], "compile_seconds": [...], ...}`, one number an epoch, those of an
      `Evaluation(every=...)` one an evaluation. `seconds` are those of the steps and their data,
      `compile_seconds` of the first call, `eval_seconds` of the evaluation with its compilation;
      callbacks, loggers and checkpoints take the rest. After Ctrl-C the numbers are those of the
      steps taken so far; the epoch begun counts as one.

    Raises:
      ValueError: an argument is not what is expected, or the checkpoints are those of another run;
        the message says how to mend it.
      NonFiniteError: see `on_nonfinite`.
      CheckpointCorrupt: there are checkpoints, but none is as it was written.
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
    validation.choice("fit", "verbose", verbose, (0, 1, 2))
    validation.choice("fit", "on_nonfinite", on_nonfinite, tuple(HALTS))
    validation.seed("fit", seed)
    counts = {"epochs": epochs, "steps": steps, "steps_per_call": steps_per_call}
    validation.positive("fit", **{name: n for name, n in counts.items() if n is not None})
    if epochs is not None and steps is not None:
        raise ValueError(f"fit: epochs is {epochs} and steps {steps}; expected one of the two.")
    if isinstance(callbacks, Callback):
        raise ValueError(
            f"fit: callbacks is one {type(callbacks).__name__}; write callbacks=[...]."
        )
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise ValueError(f"fit: callbacks hold {callback!r}; expected each a train.Callback.")
    validation.choice("fit", "precision", precision, tuple(DTYPES))
    if precision == "float16" and on_nonfinite == "stop":
        raise ValueError(
            "fit: on_nonfinite is 'stop' and precision 'float16', which leaves out steps that "
            "overflow as it finds its scale; expected 'raise', for when it finds none, or 'skip'."
        )
    loss, optimizer = losses.loss(loss), optim.optimizer(optimizer)
    limits = {"resident_bytes": resident_bytes, "steps_per_call": steps_per_call}
    limits["parts"] = sharding.parts(mesh)
    feed = make_feed("data", data, batch_size, seed=seed, **limits)
    x = jax.tree.map(lambda a: validation.spec(a, feed.batch_size), feed.sample[0])
    make = functools.partial(
        init_state, model, optimizer, jax.random.key(seed), *inputs(x), precision=precision
    )
    abstract = validation.taken(model, x, lambda: jax.eval_shape(make))
    validation.trainable(model, abstract.params, abstract.model_state, x)
    if state is not None:
        if check:
            nonfinite.check_finite(state)
        if carry_rows(state.model_state) not in (None, feed.batch_size):
            state = state.replace(model_state=reset_carry(state.model_state, feed.batch_size))
        validation.same_state("fit", state, abstract)
        abstract = state = jax.tree.map(jnp.copy, state)
    at = sharding.placement("fit", mesh, param_sharding, optimizer, abstract)
    evaluation = eval_data if isinstance(eval_data, Evaluation | None) else Evaluation(eval_data)
    measures = names.measures(metrics)
    feeds, sets = {"data": feed}, {}
    for name, rows in evaluation.sets.items() if evaluation else ():
        where = "eval_data" if name == "eval" else f"eval_data {name!r}"
        feeds[where] = sets[name] = make_feed(
            where, rows, feed.batch_size, seed=None, evaluates=True, **limits
        )
    for name, part in feeds.items():
        if carry_rows(abstract.model_state) is not None:
            part.continue_rows(f"fit: {name}")
        sharding.check_batch(f"fit: {name}", part.batch_size, at)
        part.placement = at
        if check:
            part.check = validation.batch(
                model, abstract.params, abstract.model_state, part.sample, loss, name, measures
            )
    state = sharding.placed_state(make, state, at, abstract)

    guard = on_nonfinite != "raise"
    step = train_step(model, loss, optimizer, measures, augment, guard, precision)
    if jax.debug_nans.value:  # in a loop, the place that JAX names would be the loop
        looped = False
    elif steps_per_call is None:
        looped = not slow_when_looped(step, state, feed.at(0, 1)[0])
    else:
        looped = steps_per_call > 1
    program = _program(model, step, HALTS[on_nonfinite], looped, at)
    evaluate = None
    if evaluation is not None:
        run = eval_run(model, loss, measures, at)
        evaluate = functools.partial(_evaluate_sets, run, evaluation, sets)

    with contextlib.ExitStack() as stack:
        checkpoints = Checkpointer.of(checkpoint)
        if checkpoints is None and resume not in ("auto", True, False):
            raise ValueError(
                f"fit: resume is {str(resume)!r} without checkpoint=; expected the directory that "
                "the run saves in, too: checkpoint='run'."
            )
        setup, saved = {}, None
        if checkpoints is not None:
            stack.enter_context(checkpoints.writing())
            cut = batch_size if isinstance(batch_size, Batches) else Batches()
            setup = description(
                model,
                optimizer,
                state,
                feed.sample if isinstance(data, tuple | list) else (),
                loss=loss,
                metrics=_resolved(measures, model, loss, abstract, feed),
                augment=augment,
                seed=seed,
                on_nonfinite=on_nonfinite,
                precision=precision,
                batch_size=feed.batch_size,
                rows=feed.rows,
                steps_per_epoch=feed.steps,
                shuffle=cut.shuffle,
                drop_last=cut.drop_last,
            )
            saved = resumed(checkpoints, resume, state, setup)
        began = int(state.step) if saved is None else saved.record["began"]
        state = state if saved is None else saved.state
        last = began + (steps or (epochs or 1) * feed.steps)
        if int(state.step) > last:
            raise ValueError(
                f"fit: the checkpoint in {str(checkpoint)!r} is at step {int(state.step)}, past "
                f"the {last} asked for; expected a longer run, or resume=False in a new directory."
            )
        first = sharding.first_process()
        report = stack.enter_context(progress(verbose if first else 0, -(-last // feed.steps)))
        if saved is not None:
            report.say(f"goes on from step {int(state.step)}, {saved.path}")
        signals = [signal.SIGINT] if checkpoints is None else [signal.SIGINT, signal.SIGTERM]
        run = Run(
            model=model,
            feed=feed,
            program=program,
            callbacks=callbacks,
            state=state,
            step=int(state.step),
            began=began,
            evaluate=evaluate,
            evaluate_every=evaluation.every if evaluation else None,
            on_nonfinite=on_nonfinite,
            calls=steps_per_call,
            report=report,
            loggers=stack.enter_context(logging(logger, checkpoints)) if first else (),
            interrupted=stack.enter_context(interruptible(signals)),
            checkpoints=checkpoints,
            setup=setup,
            saved=saved,
        )
        return run.train(last)


def _resolved(
    measures: names.Measures | None, model: Module, loss: Callable, state: TrainState, feed: Feed
) -> tuple:
    """The functions of the metrics, which a resumed run must have alike."""
    x, y = jax.tree.map(lambda a: validation.spec(a, feed.batch_size), feed.sample[:2])
    output = jax.eval_shape(
        lambda p, s, x: model.apply(p, s, *inputs(x, p))[0], state.params, state.model_state, x
    )
    return names.resolve(measures, loss, output, y)


def _evaluate_sets(
    run: Callable, evaluation: Evaluation, sets: dict[str, Feed], state: TrainState
) -> dict[str, float]:
    """Returns the metrics of every set, by `{set}_{metric}`."""
    state, row = evaluation.prepare(state), {}
    for name, feed in sets.items():
        values = {f"{name}_{key}": value for key, value in evaluated(run, state, feed).items()}
        double = next((key for key in values if key in row), None)
        if double is not None:
            raise ValueError(f"Evaluation: two sets have a metric {double!r}; rename one of them.")
        row |= values
    return row


@_cache.per_model
def train_step(
    model: Module,
    loss: Callable,
    optimizer: optax.GradientTransformation,
    measures: names.Measures | None,
    augment: Augment | None,
    guard: bool,
    precision: str,
) -> Callable:
    """The step of these parts; asked for again, it is not traced again."""
    step = make_train_step(
        model,
        loss,
        optimizer,
        metrics=None if measures is None else dict(measures),
        augment=augment,
        guard=guard,
        precision=precision,
    )
    return jax.jit(step, inline=True)  # a compiled function is traced once


@_cache.per_model
def _program(
    model: Module, step: Callable, halt: str | None, looped: bool, at: Placement | None
) -> Program:
    """The program of a step; asked for again, it is not compiled again."""
    return (looped_program if looped else stepwise_program)(step, halt, at)
