"""One step of training, and one of evaluation, as pure functions over a state and a batch.

All the mathematics of training is here: `fit` only calls the step, many times. For a batch of n
real rows with losses l_1 .. l_n the step descends L = (l_1 + ... + l_n) / n. A metric is a pair
(sum, weight), so that those of batches of different sizes add up to the mean over the data.
Lecture rows D03, D08.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdl import losses, optim
from jaxdl.core import Module
from jaxdl.metrics import Mean, mean
from jaxdl.train import names
from jaxdl.train.precision import DTYPES, lowered, raised
from jaxdl.train.state import TrainState

__all__ = ["make_eval_step", "make_train_step"]

Batch = tuple[Any, ...]
"""`(x, y)` or `(x, y, mask)`; x is an array, or a tuple of arrays for a model of several inputs;
mask is (N,) bool, true at the real rows, or None."""
Augment = Callable[[jax.Array, Any], Any]


def make_train_step(
    model: Module,
    loss: str | Callable,
    optimizer: str | optax.GradientTransformation,
    *,
    metrics: names.Metrics = (),
    augment: Augment | None = None,
    guard: bool = False,
    precision: str = "float32",
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Mean]]]:
    """A pure function `step(state, batch) -> (state, metrics)`, to be jitted by its caller.

    Args:
      model: any `Module`.
      loss: `(output, target) -> (N, ...)` values per example, or a name from `losses`.
      optimizer: an optax transformation, or a name from `optim`.
      metrics: functions like `loss` or names from `metrics`, in a sequence, or a dict by name.
        They see the output that the loss sees.
      augment: `(key, x) -> x`, applied to the batch before the model.
      guard: whether a step whose loss, parameters or model state come out infinite or NaN leaves
        params, model_state and opt_state as they were. `step` counts it all the same, since the
        batch is spent; the metrics gain `skipped`.
      precision: "float32"; or "bfloat16" or "float16" to compute the network and its gradient in
        these, with parameters, loss and update in float32. A step in float16 needs a state of
        `init_state(..., precision="float16")`, whose loss scale it adjusts; steps whose gradient
        overflowed are left out as `guard` leaves them out, and counted as `skipped`.

    Returns:
      The step. Its metrics are `{"loss": (sum, weight), ...}`, float32 sums over the real rows.

    Raises:
      ValueError: a name is unknown; in the step, the loss is not per example, or the state has no
        loss scale.
    """
    if precision not in DTYPES:
        raise ValueError(
            f"make_train_step: precision is {precision!r}; expected one of {tuple(DTYPES)}."
        )
    loss_fn, optimizer = losses.loss(loss), optim.optimizer(optimizer)
    measures = names.measures(metrics)

    def step(state, batch):
        x, y, mask = batch if len(batch) == 3 else (*batch, None)
        key, augment_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        if augment is not None:
            x = augment(augment_key, x)

        scale = state.loss_scale
        if (scale is None) == (precision == "float16"):
            raise ValueError(
                f"the step's precision is {precision!r} and the state's loss_scale {scale}; make "
                "the state by init_state(..., precision=...) with the step's precision."
            )

        def objective(params):
            output, model_state = model.apply(
                lowered(params, precision),
                state.model_state,
                *inputs(lowered(x, precision)),
                train=True,
                key=key,
            )
            output = raised(output, precision)
            cost = _mean(loss_fn(output, y), mask, "loss", x)
            value = cost.value if scale is None else cost.value * scale.value
            return value, (cost, output, model_state)

        def differentiate(params):
            gradient, aux = jax.grad(objective, has_aux=True)(params)
            if scale is not None:
                gradient = jax.tree.map(lambda g: g / scale.value, gradient)
            return gradient, aux

        gradient, (cost, output, model_state) = differentiate(state.params)
        params, opt_state = optim.update_params(
            optimizer,
            gradient,
            state.opt_state,
            state.params,
            value=cost.value,
            value_fn=lambda params: objective(params)[1][0].value,
            grad_fn=lambda params, i: differentiate(params)[0],
        )
        new = state.replace(
            params=params, model_state=model_state, opt_state=opt_state, step=state.step + 1
        )
        means = {"loss": cost} | _measure(measures, output, y, mask, x)
        if scale is not None:
            finite = all_finite(gradient)
            new, means = _guarded(state, new, jnp.where(finite, cost.value, jnp.nan), means)
            return new.replace(loss_scale=scale.adjusted(finite)), means
        return _guarded(state, new, cost.value, means) if guard else (new, means)

    return step


def make_eval_step(
    model: Module, loss: str | Callable | None, *, metrics: names.Metrics = ()
) -> Callable[[TrainState, Batch], dict[str, Mean]]:
    """A pure function `step(state, batch) -> metrics`, with dropout off and statistics fixed.

    Args:
      model, loss, metrics: as for `make_train_step`; `loss` may be None.

    Returns:
      The step; its metrics are `{"loss": (sum, weight), ...}`, the loss first.

    Raises:
      ValueError: a name is unknown; in the step, a loss or metric is not per example.
    """
    measures = names.measures(metrics)
    if loss is not None:
        measures = (("loss", losses.loss(loss)), *measures)

    def step(state, batch):
        x, y, mask = batch if len(batch) == 3 else (*batch, None)
        output, _ = model.apply(state.params, state.model_state, *inputs(x))
        return _measure(measures, output, y, mask, x)

    return step


def inputs(x: Any) -> tuple:
    """What `model.apply` is given: a tuple is several inputs, anything else is one."""
    return x if isinstance(x, tuple) else (x,)


def _mean(values: jax.Array, mask: jax.Array | None, name: str, x: Any) -> Mean:
    """The mean of (N, ...) values over the real rows, in the making."""
    n = jax.tree.leaves(x)[0].shape[0]
    if values.shape[:1] != (n,):
        raise ValueError(
            f"{name} gives {values.dtype}{list(values.shape)} for a batch of {n}; expected one "
            f"value or more per example, ({n}, ...): leave the reduction to the step."
        )
    wide = jnp.float64 if values.dtype == jnp.float64 else jnp.float32
    return mean(values.astype(wide), mask)


def _measure(
    measures: Sequence[tuple[str, Callable]], output: Any, y: Any, mask: Any, x: Any
) -> dict[str, Mean]:
    return {name: _mean(f(output, y), mask, name, x) for name, f in measures}


def _guarded(
    old: TrainState, new: TrainState, loss: jax.Array, means: Mapping[str, Mean]
) -> tuple[TrainState, dict[str, Mean]]:
    ok = jnp.isfinite(loss) & all_finite((new.params, new.model_state))
    kept = jax.tree.map(
        lambda a, b: jnp.where(ok, a, b),
        (new.params, new.model_state, new.opt_state),
        (old.params, old.model_state, old.opt_state),
    )
    new = new.replace(params=kept[0], model_state=kept[1], opt_state=kept[2])
    means = {name: jax.tree.map(lambda v: jnp.where(ok, v, 0), m) for name, m in means.items()}
    one = jnp.ones((), jnp.float32)
    return new, means | {"skipped": Mean(jnp.where(ok, 0, one), one)}


def all_finite(tree: Any) -> jax.Array:
    """Whether every floating-point value of a tree is finite."""
    finite = [
        jnp.all(jnp.isfinite(leaf))
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    return jnp.all(jnp.stack(finite)) if finite else jnp.asarray(True)
