"""The learning-rate range test, and a diagnosis of a training history."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxdl import losses
from jaxdl.core import Module, check_model
from jaxdl.train import data_validation, validation
from jaxdl.train.batches import epoch_batches
from jaxdl.train.epoch import EpochBatches, run_loop
from jaxdl.train.options import Execution, explain_grouped_options
from jaxdl.train.state import TrainState, check_state, init_state
from jaxdl.train.step import inputs, make_train_step

__all__ = ["Diagnosis", "RangeTest", "diagnose", "lr_find"]


class RangeTest(NamedTuple):
    """The result of a range test.

    Attributes:
      learning_rates: (steps,) the rate of each step.
      losses: (steps,) the loss of each batch before its step; NaN after a divergence.
      smoothed: (steps,) the exponential moving average of `losses`.
      suggestion: a tenth of the rate at which `smoothed` is lowest.
    """

    learning_rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float


@explain_grouped_options
def lr_find(
    model: Module,
    data: Any,
    *,
    loss: str | Callable,
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.sgd,
    batch_size: int | None = None,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
    smoothing: float = 0.9,
    seed: int = 0,
    state: TrainState | None = None,
    execution: Execution | None = None,
) -> RangeTest:
    """Trains with a learning rate that grows in every step, and records the losses.

    Smith 2017, "Cyclical learning rates" (arXiv 1506.01186), sec. 3.3. Step t of T has the rate
    lowest (highest / lowest)^(t / (T - 1)). The smoothed loss is m_t / (1 - s^(t+1)) with
    m_t = s m_{t-1} + (1 - s) l_t.

    Args:
      model, data, loss, batch_size: as for `fit`.
      optimizer: a function from a learning rate, here a schedule, to a transformation, such as
        `optax.sgd`.
      lowest, highest: the first and the last rate, 0 < lowest < highest.
      steps: T, at least 2.
      smoothing: s in [0, 1).
      seed: determines the parameters and the order of the data.
      state: a state whose parameters to begin with; None initializes them.
      execution: `check`, as for `fit`.

    Returns:
      A `RangeTest`. Training is about to diverge at the rate of the lowest loss; a tenth of it is a
      good first choice.

    Raises:
      ValueError: an argument is invalid, or every loss is NaN.
    """
    check_model("lr_find", model)
    execution = Execution() if execution is None else execution
    execution.restrict("lr_find", "check")
    if state is not None:
        check_state("lr_find", state)
    if not 0 < lowest < highest or not 0 <= smoothing < 1 or steps < 2:
        raise ValueError(
            f"lr_find: lowest is {lowest}, highest {highest}, smoothing {smoothing} and steps "
            f"{steps}; expected 0 < lowest < highest, smoothing in [0, 1) and at least 2 steps."
        )
    if not callable(optimizer):
        raise ValueError(
            f"lr_find: optimizer is {optimizer!r}; expected a function that makes one from a "
            "learning rate: optimizer=optax.sgd, not called."
        )
    data = validation.as_xy(data, "data")
    n = validation.count_rows(data, "data")
    batch_size = validation.choose_batch_size("lr_find", batch_size, n)
    transformation = optimizer(
        lambda step: lowest * (highest / lowest) ** (step / (steps - 1))  # optax's, in the rate
    )
    x = jax.tree.map(lambda a: validation.spec(a, batch_size), data[0])
    with validation.annotate_errors(model, x):
        fresh = init_state(model, transformation, jax.random.key(seed), *inputs(x))
    validation.validate_stateless("lr_find", fresh.model_state)
    if state is not None:
        fresh = fresh.replace(
            params=state.params,
            model_state=state.model_state,
            opt_state=transformation.init(state.params),
        )
    loss = losses.loss(loss)
    if execution.check:
        data_validation.validate_batch(model, fresh.params, fresh.model_state, data, loss, "data")
    step = make_train_step(model, loss, transformation)
    _, log, _ = jax.jit(lambda s, r: run_loop(step, None, None, s, r, 0, steps))(
        fresh, _rows(data, n, batch_size, steps, seed)
    )
    total, weight = (np.asarray(part, np.float64) for part in log["loss"])
    rates = lowest * (highest / lowest) ** (np.arange(steps) / (steps - 1))
    return _analyze(rates, total / weight, smoothing)


def _rows(data: Any, n: int, batch_size: int, steps: int, seed: int) -> EpochBatches:
    """Returns the rows of the batches of the test, which may span several epochs."""
    per_epoch = -(-n // batch_size)
    epochs = [epoch_batches(n, batch_size, seed, epoch) for epoch in range(-(-steps // per_epoch))]
    order = np.concatenate([order for order, _ in epochs])[:steps]
    mask = epochs[0][1]
    if mask is not None:
        mask = np.concatenate([mask] * len(epochs))[:steps]
    # Only these rows go to the device: a short test needs few rows of a large data set.
    selected = jax.tree.map(lambda a: np.asarray(a)[order.reshape(-1)], data)
    return EpochBatches(selected, np.arange(order.size, dtype=np.int32).reshape(order.shape), mask)


def _analyze(rates: np.ndarray, values: np.ndarray, smoothing: float) -> RangeTest:
    smoothed, average = np.full_like(values, np.nan), 0.0
    for t, value in enumerate(values):
        average = smoothing * average + (1 - smoothing) * value
        smoothed[t] = average / (1 - smoothing ** (t + 1))
    if not np.isfinite(smoothed).any():
        raise ValueError(
            "lr_find: the loss is NaN from the first step; expected a model and data whose loss is "
            "finite at the initial parameters."
        )
    # After a divergence the average is NaN or infinite.
    lowest = np.nanargmin(np.where(np.isfinite(smoothed), smoothed, np.nan))
    return RangeTest(rates, values, smoothed, float(rates[lowest] / 10))


class Diagnosis(NamedTuple):
    """The main problem of a run.

    Attributes:
      problem: "training", "overfitting", or "none".
      advice: what to try next.
    """

    problem: str
    advice: str


def diagnose(
    history: Mapping[str, Sequence[float]], *, goal: float = 0.05, gap: float = 0.05
) -> Diagnosis:
    """Names the main problem of a run: the training error, or overfitting.

    The training error comes first: a model with a large training error does not overfit, however
    large its error on other data is, and regularization would make it worse.

    Args:
      history: from `fit`, with `accuracy` and `eval_accuracy`; the last epoch is used.
      goal: the largest training error, 1 - accuracy, that is small enough.
      gap: by how much the error on the evaluation data may exceed the training error.

    Returns:
      A `Diagnosis`.

    Raises:
      ValueError: the history has no accuracy.
    """
    for name in ("accuracy", "eval_accuracy"):
        if not history.get(name):
            raise ValueError(
                f"diagnose: the history has {', '.join(history) or 'nothing'}; expected "
                f"{name!r}: fit with metrics=['accuracy'] and eval_data=."
            )
    error, eval_error = 1 - history["accuracy"][-1], 1 - history["eval_accuracy"][-1]
    # The order of the two checks matters: see the docstring.
    if math.isnan(error) or error > goal:
        return Diagnosis(
            "training",
            f"the error on the training data is {error:.1%}, above {goal:.1%}: train longer, or "
            "change the learning rate, the optimizer, the activation or the model's size.",
        )
    if not eval_error - error <= gap:
        return Diagnosis(
            "overfitting",
            f"the error is {error:.1%} on the training data and {eval_error:.1%} on other data: "
            "stop early, decay the weights, use dropout, augment the data or collect more.",
        )
    return Diagnosis("none", f"the errors are {error:.1%} and {eval_error:.1%}, close to equal.")
