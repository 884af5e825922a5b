"""Train and eval steps: pure functions of a state and a batch.

For a batch of n examples with losses l_i and weights w_i the train step descends
L = sum_i w_i l_i / sum_i w_i. Metrics are `Average`s, pairs (total, count) that add up over
batches.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl import losses, optim
from jaxdl.core import Module, Tree, check_model
from jaxdl.jaxpr.equations import Literal
from jaxdl.jaxpr.tracing import make_jaxpr
from jaxdl.losses import match_weight
from jaxdl.metrics import Average, DatasetMetric, mean
from jaxdl.metrics.names import Metrics, name_metrics, resolve_metrics
from jaxdl.nn.recurrent.stacked import carries
from jaxdl.train.precision import DTYPES, cast_back, cast_down
from jaxdl.train.state import TrainState

__all__ = ["make_eval_step", "make_train_step"]

Batch = tuple[Any, ...]
"""`(x, y)` or `(x, y, weight)`; x is an array, or a tuple of arrays for a model of several inputs;
weight is (N,) or (N, T), floats or bools over leading axes of the loss's values, or None."""
Augment = Callable[..., Any]
"""`(key, x) -> x`, `(key, x, y) -> (x, y)` or `(key, x, y, weight) -> (x, y, weight)`."""


def make_train_step(
    model: Module,
    loss: str | Callable,
    optimizer: str | optax.GradientTransformation,
    *,
    metrics: Metrics | None = (),
    augment: Augment | None = None,
    skip_nonfinite: bool = False,
    precision: str = "float32",
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Average]]]:
    """Returns a pure function `step(state, batch) -> (state, metrics)`, not yet jitted.

    Args:
      model: any `Module`.
      loss: `(output, target) -> (N, ...)` values per example, a name from `losses`, or a
        `losses.ModelLoss`.
      optimizer: an optax transformation, or a name from `optim`.
      metrics: names from `metrics`, functions like `loss` or `metrics.DatasetMetric`s, in a
        sequence or a dict by name, computed from the output of the loss. None chooses the accuracy
        for a classification loss.
      augment: `(key, x) -> x`, `(key, x, y) -> (x, y)` or `(key, x, y, weight) -> (x, y, weight)`,
        applied to the batch before the model; `weight` is None where there are no weights.
      skip_nonfinite: whether a step that makes the loss, a parameter or the model state infinite or
        NaN keeps params, model_state and opt_state unchanged. `state.step` counts such a step too,
        since its batch is used up; the metrics contain `skipped`.
      precision: "float32"; or "bfloat16" or "float16" to compute the network and its gradient in
        that dtype, with parameters, loss and update in float32. A step in float16 needs a state of
        `init_state(..., precision="float16")` and adjusts its loss scale; it skips steps whose
        gradient overflows and counts them as `skipped`.

    Returns:
      The step. Its metrics are `{"loss": Average, ...}`, float32 sums over the examples, and a
      `metrics.Collection` for each `DatasetMetric`.

    Raises:
      ValueError: a name is unknown; in the step, the loss or a metric does not return one value or
        more per example, or broadcasts output and target, the weights do not fit, or the state has
        no loss scale.
    """
    check_model("make_train_step", model)
    if precision not in DTYPES:
        raise ValueError(
            f"make_train_step: precision is {precision!r}; expected one of {tuple(DTYPES)}."
        )
    loss_fn, optimizer = losses.loss(loss), optim.optimizer(optimizer)
    named = name_metrics(metrics)
    augment = None if augment is None else normalize_augment(augment)

    def step(state, batch):
        x, y, weight = _parts(batch)
        # A function of the step alone, so that a resumed run draws the same numbers.
        key, augment_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        if augment is not None:
            x, y, weight = augment(augment_key, x, y, weight)

        scale = state.loss_scale
        if (scale is None) == (precision == "float16"):
            raise ValueError(
                f"the step's precision is {precision!r} and the state's loss_scale {scale}; make "
                "the state by init_state(..., precision=...) with the step's precision."
            )

        def apply(params, model_state, x, *, train=False, key=None):
            output, model_state = model.apply(
                # Cast inside of the differentiated function: the gradient arrives in float32.
                cast_down(params, precision),
                model_state,
                *cast_down(inputs(x, state.params), precision),
                train=train,
                key=key,
            )
            return cast_back(output, precision), model_state

        def objective(params):
            parts = params, state.model_state, x
            if isinstance(loss_fn, losses.ModelLoss):
                output, values, model_state = loss_fn.compute(apply, *parts, y, key)
            else:
                (output, model_state), values = apply(*parts, train=True, key=key), None
            cost = _average("loss", loss_fn, output, y, weight, values)
            # A batch whose weights are all 0 has loss and gradient 0, not NaN.
            value = cost.total / jnp.where(cost.count == 0, 1, cost.count)
            scaled = value if scale is None else value * scale.value
            # With the output, so that metrics need no second forward pass.
            return scaled, (value, cost, output, model_state)

        def unscale(gradient):
            return gradient if scale is None else jax.tree.map(lambda g: g / scale.value, gradient)

        differentiate = jax.grad(objective, has_aux=True)
        gradient, (value, cost, output, model_state) = differentiate(state.params)
        # Before the optimizer, whose clipping and moments must not depend on the scale.
        gradient = unscale(gradient)
        params, opt_state = optim.update_params(
            optimizer,
            gradient,
            state.opt_state,
            state.params,
            value=value,
            value_fn=lambda params: objective(params)[1][0],
            grad_fn=lambda params, i: unscale(differentiate(params)[0]),
        )
        new = state.replace(
            params=params, model_state=model_state, opt_state=opt_state, step=state.step + 1
        )
        functions = resolve_metrics(named, loss_fn, output, y)
        means = {"loss": cost} | _measure(functions, output, y, weight)
        if scale is not None:
            finite = all_finite(gradient)
            new, means = _skip_nonfinite(state, new, jnp.where(finite, value, jnp.nan), means)
            return new.replace(loss_scale=scale.adjust(finite)), means
        return _skip_nonfinite(state, new, value, means) if skip_nonfinite else (new, means)

    return step


def make_eval_step(
    model: Module, loss: str | Callable | None, *, metrics: Metrics | None = ()
) -> Callable[[TrainState, Batch], dict[str, Average]]:
    """Returns a pure function `step(state, batch) -> metrics`, with dropout off.

    Args:
      model, loss, metrics: as for `make_train_step`; `loss` may be None.

    Returns:
      The step; its metrics are `{"loss": Average, ...}`, the loss first.

    Raises:
      ValueError: a name is unknown; in the step, a loss or metric is not per example.
    """
    step = carrying_eval_step(model, loss, metrics=metrics)
    return lambda state, batch: step(state, batch)[1]


def carrying_eval_step(
    model: Module, loss: str | Callable | None, *, metrics: Metrics | None = ()
) -> Callable[[TrainState, Batch], tuple[Tree, dict[str, Average]]]:
    """Returns an eval step that returns `(carries, metrics)`, with stateful layers' carries."""
    check_model("make_eval_step", model)
    named = name_metrics(metrics)
    loss_fn = None if loss is None else losses.loss(loss)

    def step(state, batch):
        x, y, weight = _parts(batch)
        output, model_state = model.apply(state.params, state.model_state, *inputs(x, state.params))
        functions = resolve_metrics(named, loss_fn, output, y)
        if loss_fn is not None:
            functions = (("loss", loss_fn), *functions)
        return carries(model_state), _measure(functions, output, y, weight)

    return step


def inputs(x: Any, params: Tree | None = None) -> tuple:
    """Returns the inputs of `model.apply` as a tuple; x is one input, or a tuple of several.

    Data of half precision, which saves memory, is cast to float32, unless `params` have half
    precision too.
    """
    x = x if isinstance(x, tuple) else (x,)
    return x if any(map(_is_half, jax.tree.leaves(params))) else jax.tree.map(_widen, x)


def _is_half(leaf: Any) -> bool:
    return leaf.dtype in (jnp.bfloat16, jnp.float16)


def _widen(leaf: Any) -> Any:
    if not _is_half(leaf):
        return leaf
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape, jnp.float32)
    return leaf.astype(jnp.float32)


def _parts(batch: Any) -> tuple[Any, Any, Any]:
    """Returns `(x, y, weight)` of a batch, the weight None where there is none."""
    if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
        kind = f"{len(batch)} parts" if isinstance(batch, tuple | list) else type(batch).__name__
        raise ValueError(f"the step's batch is {kind}; expected (x, y) or (x, y, weight).")
    x, y, weight = batch if len(batch) == 3 else (*batch, None)
    return x, y, weight


def normalize_augment(augment: Augment) -> Augment:
    """Converts an augmentation of any signature to `(key, x, y, weight) -> (x, y, weight)`."""
    count = count_arguments(augment)

    def apply(key, x, y, weight):
        if count == 2:
            return augment(key, x), y, weight
        if count == 3 and weight is not None and weight.ndim > 1:
            raise ValueError(
                f"augment changes x and y, and the weights are {weight.dtype}{list(weight.shape)}; "
                "expected (key, x, y, weight) -> (x, y, weight), which changes the weights too."
            )
        result = augment(key, x, y) if count == 3 else augment(key, x, y, weight)
        parts = ("x", "y", "weight")[: count - 1]
        if not isinstance(result, tuple) or len(result) != len(parts):
            raise ValueError(
                f"augment(key, {', '.join(parts)}) returns {type(result).__name__}; expected the "
                f"tuple ({', '.join(parts)})."
            )
        return (*result, weight)[:3]

    return apply


def count_arguments(augment: Augment) -> int:
    """Returns the number of arguments of an augmentation: 2, or 3 and 4 if it changes targets."""
    try:
        parameters = inspect.signature(augment).parameters.values()
    except (TypeError, ValueError):  # a built-in function
        parameters = ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [p for p in parameters if p.kind in kinds]
    required = sum(p.default is p.empty for p in positional)
    if required == 1:
        raise ValueError(
            f"augment is {augment!r}, a function of one value; expected (key, x) -> x, "
            "(key, x, y) -> (x, y) or (key, x, y, weight) -> (x, y, weight)."
        )
    return 4 if len(positional) > 3 and positional[3].name == "weight" else max(2, required)


def _measure(
    functions: Sequence[tuple[str, Callable]], output: Any, y: Any, weight: Any
) -> dict[str, Any]:
    return {
        name: f.collect(output, y, weight)
        if isinstance(f, DatasetMetric)
        else _average(name, f, output, y, weight)
        for name, f in functions
    }


def _average(
    name: str,
    f: Callable,
    output: Any,
    y: Any,
    weight: jax.Array | None,
    values: jax.Array | None = None,
) -> Average:
    """Computes the weighted average of a loss or a metric over a batch, of f or of its values."""
    values = f(output, y) if values is None else values
    n = jax.tree.leaves(output)[0].shape[0]
    if jnp.shape(values)[:1] != (n,):
        fix = "leave the reduction to the step"
        if losses.task(f) == "multiclass":  # the model returned scores (N,)
            fix = (
                "give the model an output for each class; for one output use "
                "'binary_cross_entropy', or optax.losses.hinge_loss with labels -1 and 1"
            )
        shape = f"{values.dtype}{list(jnp.shape(values))} for a batch of {n}"
        raise ValueError(
            f"{name} returns {shape}; expected one value or more per example, ({n}, ...): {fix}."
        )
    check_broadcast(name, f, output, y, values)
    if weight is not None:
        weight = match_weight("weight", weight, values)
    # Sums of a batch in half precision would overflow or lose digits.
    wide = jnp.float64 if values.dtype == jnp.float64 else jnp.float32
    return mean(values.astype(wide), weight)


def check_broadcast(name: str, f: Callable, output: Any, y: Any, values: Any) -> None:
    """Raises if a loss or a metric broadcasts output and target against each other.

    NumPy broadcasts (N, 1) and (N,) to (N, N), which pairs every output with every target.

    Raises:
      ValueError: the values have the broadcast shape, or the function accepts an output and a
        target of different numbers of rows.
    """
    shapes = [part.shape for part in (output, y) if hasattr(part, "shape")]
    broadcast = False
    if len(shapes) == 2 and shapes[0] != shapes[1]:
        with contextlib.suppress(ValueError):  # shapes that do not broadcast
            broadcast = values.shape == np.broadcast_shapes(*shapes)
    if broadcast or _accepts_other_rows(f, output, y):
        raise ValueError(
            f"{name} broadcasts the output {_shapes(output)} and the target {_shapes(y)} against "
            "each other; expected equal shapes: add or drop an axis of size 1 of the target, "
            "y[:, None] or y[:, 0]."
        )


def _accepts_other_rows(f: Callable, output: Any, y: Any) -> bool:
    """Returns whether f accepts output and target of different lengths, and reads both."""

    def resize(tree, rows):
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct((rows, *a.shape[1:]), a.dtype), tree)

    def attempt(output, y):
        nonlocal failed
        try:
            return f(output, y)
        except Exception:  # a failed trace would keep the arrays that f closes over alive
            failed = True

    failed = False
    jaxpr = make_jaxpr(attempt, resize(output, 5), resize(y, 7))[0].jaxpr
    if failed:
        return False
    read = {v for equation in jaxpr.eqns for v in equation.invars if not isinstance(v, Literal)}
    outputs = len(jax.tree.leaves(output))
    parts = jaxpr.invars[:outputs], jaxpr.invars[outputs:]
    return not any(read.isdisjoint(part) for part in parts)


def _shapes(tree: Any) -> str:
    return " and ".join(str(leaf.shape) for leaf in jax.tree.leaves(tree))


def _skip_nonfinite(
    old: TrainState, new: TrainState, loss: jax.Array, means: Mapping[str, Average]
) -> tuple[TrainState, dict[str, Average]]:
    """Returns the old parameters and states, and no metrics, if the step is not finite."""
    ok = jnp.isfinite(loss) & all_finite((new.params, new.model_state))
    selected = jax.tree.map(
        lambda a, b: jnp.where(ok, a, b),
        (new.params, new.model_state, new.opt_state),
        (old.params, old.model_state, old.opt_state),
    )
    new = new.replace(params=selected[0], model_state=selected[1], opt_state=selected[2])
    means = {name: jax.tree.map(lambda v: jnp.where(ok, v, 0), m) for name, m in means.items()}
    one = jnp.ones((), jnp.float32)
    return new, means | {"skipped": Average(jnp.where(ok, 0, one), one)}


def all_finite(tree: Any) -> jax.Array:
    """Returns whether every floating-point value of a tree is finite."""
    finite = [
        jnp.all(jnp.isfinite(leaf))
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    return jnp.all(jnp.stack(finite)) if finite else jnp.asarray(True)
