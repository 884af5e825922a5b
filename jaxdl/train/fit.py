"""Training over epochs. All of its mathematics is in `step`; here is only when what is called."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdl import losses, optim
from jaxdl.core import Module
from jaxdl.train import names, validate
from jaxdl.train.callbacks import Callback
from jaxdl.train.evaluate import eval_run, evaluated
from jaxdl.train.feed import RESIDENT_BYTES, Feed
from jaxdl.train.interrupt import interruptible
from jaxdl.train.loop import Program, looped_program, slow_when_looped, stepwise_program
from jaxdl.train.nonfinite import HALTS
from jaxdl.train.progress import progress
from jaxdl.train.run import History, Run
from jaxdl.train.state import TrainState, init_state
from jaxdl.train.step import Augment, inputs, make_train_step

__all__ = ["fit"]


def fit(
    model: Module,
    data: Any,
    *,
    loss: str | Callable,
    optimizer: str | optax.GradientTransformation,
    batch_size: int = 32,
    epochs: int | None = None,
    steps: int | None = None,
    eval_data: Any = None,
    metrics: names.Metrics | None = None,
    callbacks: Sequence[Callback] = (),
    augment: Augment | None = None,
    seed: int = 0,
    state: TrainState | None = None,
    on_nonfinite: str = "raise",
    steps_per_call: int | None = None,
    resident_bytes: int = RESIDENT_BYTES,
    check: bool = True,
    verbose: int = 1,
) -> tuple[TrainState, History]:
    """Trains a model by mini-batches. Lecture rows D08, V03.

    Every epoch goes once through the rows in an order that is a pure function of (seed, epoch),
    and takes ceil(N / batch_size) steps. The last batch is filled up and masked, so that loss and
    metrics are means over examples; batch statistics do see the rows that fill it up. Training is
    compiled once and evaluation once.

    Args:
      model: any `Module`.
      data: `(x, y)`: x an array (N, ...) or a tuple of them for a model of several inputs, y what
        the loss takes as target. NumPy or JAX arrays.
      loss: `(output, target) -> (N, ...)` values per example, or a name from `losses`.
      optimizer: an optax transformation, or a name from `optim`.
      batch_size: rows a step, at most N.
      epochs, steps: how long to train, from where `state` stands: one of the two, or one epoch.
      eval_data: `(x, y)` to evaluate on after every epoch.
      metrics: names from `metrics` or functions like the loss, in a sequence or a dict by name;
        None takes the accuracy where y holds integer labels. On the training data they are those
        of the outputs trained on, while the parameters change.
      callbacks: see `Callback`.
      augment: `(key, x) -> x`, applied to every training batch on the device.
      seed: of the parameters, of the steps' random numbers and of the order of the data.
      state: a state to go on from; it is copied, not consumed. With the same seed, a run in
        two parts is the run in one, bit for bit.
      on_nonfinite: when a loss or a parameter comes out infinite or NaN: "raise" a
        `NonFiniteError`; "skip" the step, counted in the history as `skipped`, the share of the
        epoch's steps; or "stop" and return the state before it. The last two look at every
        parameter in every step.
      steps_per_call: how many steps make one call of the device; None takes as many as fit in half
        a second, but single steps where a compiled loop would slow down a convolution.
      resident_bytes: data up to this size stay on the device; larger ones are fed in pieces.
      check: whether to check the data on the host first.
      verbose: 0 silent, 1 a progress bar on a terminal and else a line an epoch, 2 lines.

    Returns:
      `(state, history)`: a new state, and `{"loss": [...], "accuracy": [...], "eval_loss": [...],
      "seconds": [...], "compile_seconds": [...], ...}`, one number an epoch. After Ctrl-C they are
      those of the steps taken so far; the epoch begun counts as one.

    Raises:
      ValueError: an argument is not what is expected; the message says how to mend it.
      NonFiniteError: see `on_nonfinite`.

    Example:
      >>> state, history = train.fit(
      ...     model, digits.train, loss="cross_entropy", optimizer=optax.sgd(0.1),
      ...     batch_size=100, epochs=20, eval_data=digits.test)
    """
    validate.choice("fit", "verbose", verbose, (0, 1, 2))
    validate.choice("fit", "on_nonfinite", on_nonfinite, tuple(HALTS))
    validate.seed("fit", seed)
    given = {"epochs": epochs, "steps": steps, "steps_per_call": steps_per_call}
    validate.positive("fit", **{name: value for name, value in given.items() if value is not None})
    if epochs is not None and steps is not None:
        raise ValueError(f"fit: epochs is {epochs} and steps {steps}; expected one of the two.")
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise ValueError(f"fit: callbacks hold {callback!r}; expected each a train.Callback.")
    data = validate.unpacked(data, "data")
    validate.batch_size("fit", batch_size, validate.rows(data, "data"))
    loss, optimizer = losses.loss(loss), optim.optimizer(optimizer)
    measures = names.measures(metrics, data[1])

    x = jax.tree.map(lambda a: validate.spec(a, batch_size), data[0])
    make = functools.partial(init_state, model, optimizer, jax.random.key(seed), *inputs(x))
    if state is None:
        abstract = validate.taken(model, x, lambda: jax.eval_shape(make))
    else:
        abstract = state = jax.tree.map(jnp.copy, state)
    sets = {"data": data}
    if eval_data is not None:
        sets["eval_data"] = eval_data = validate.unpacked(eval_data, "eval_data")
        validate.rows(eval_data, "eval_data")
    if check:
        for name, part in sets.items():
            validate.batch(model, abstract.params, abstract.model_state, part, loss, name)
    state = make() if state is None else state

    feed = Feed(
        data, batch_size, seed=seed, resident_bytes=resident_bytes, steps_per_call=steps_per_call
    )
    evaluation = None
    if eval_data is not None:
        size = min(batch_size, validate.rows(eval_data, "eval_data"))
        eval_feed = Feed(eval_data, size, seed=None, resident_bytes=resident_bytes)
        evaluation = functools.partial(evaluated, eval_run(model, loss, measures), feed=eval_feed)
    guard = on_nonfinite != "raise"
    step = train_step(model, loss, optimizer, measures, augment, guard)
    if steps_per_call is None:
        looped = not slow_when_looped(step, state, feed.at(0, 1)[0])
    else:
        looped = steps_per_call > 1
    start = int(state.step)
    last = start + (steps or (epochs or 1) * feed.steps)
    with progress(verbose, -(-last // feed.steps)) as report, interruptible() as interrupted:
        run = Run(
            model=model,
            feed=feed,
            program=_program(step, HALTS[on_nonfinite], looped),
            callbacks=callbacks,
            state=state,
            step=start,
            evaluate=evaluation,
            on_nonfinite=on_nonfinite,
            calls=steps_per_call,
            report=report,
            interrupted=interrupted,
        )
        return run.train(last)


@functools.lru_cache(maxsize=32)
def train_step(
    model: Module,
    loss: Callable,
    optimizer: optax.GradientTransformation,
    measures: names.Measures,
    augment: Augment | None,
    guard: bool,
) -> Callable:
    """The step of these parts; asked for again, it is not traced again."""
    step = make_train_step(
        model, loss, optimizer, metrics=dict(measures), augment=augment, guard=guard
    )
    return jax.jit(step, inline=True)  # a compiled function is traced once


@functools.lru_cache(maxsize=32)
def _program(step: Callable, halt: str | None, looped: bool) -> Program:
    return looped_program(step, halt) if looped else stepwise_program(step, halt)
