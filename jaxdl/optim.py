"""Textbook optimizers, averaged weights, and optimizers by name, all for `optax`.

Each optimizer is an `optax.GradientTransformation` that can be chained, masked and scheduled:
`optax.inject_hyperparams(momentum)(learning_rate=schedule)`. Docstrings name the counterpart in
optax and how it differs; for training prefer optax.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdl import _cache
from jaxdl._precision import widen
from jaxdl.core import suggest

__all__ = [
    "OPTIMIZERS",
    "AdagradState",
    "MomentumState",
    "ParamsEMAState",
    "adagrad",
    "averaged_params",
    "decay_after_step",
    "momentum",
    "optimizer",
    "params_ema",
    "sgd",
]


def sgd(learning_rate: float) -> optax.GradientTransformation:
    """Gradient descent, w <- w - eta g; equals `optax.sgd(eta)` bit for bit.

    Args:
      learning_rate: eta > 0.

    Returns:
      The transformation, without state.

    Raises:
      ValueError: `learning_rate` is a function, or a number that is not positive.
    """
    _check("sgd", learning_rate=learning_rate)

    def update(updates, state, params=None):
        return jax.tree.map(lambda g: -_like(g, learning_rate) * g, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


class MomentumState(NamedTuple):
    """`velocity`: v, a tree like the parameters."""

    velocity: Any


def momentum(learning_rate: float, decay: float = 0.9) -> optax.GradientTransformation:
    """Gradient descent with momentum: v <- lambda v - eta g, w <- w + v, from v = 0. Polyak 1964.

    `optax.sgd(eta, momentum=lambda)` stores t <- lambda t + g and steps by -eta t. For constant eta
    both are equal, with v = -eta t. When eta changes, v scales each gradient by the rate at its own
    step, while t scales all of them by the current rate.

    Args:
      learning_rate: eta > 0.
      decay: lambda, the share of the last update that is kept, in [0, 1).

    Returns:
      The transformation, with a `MomentumState`.

    Raises:
      ValueError: `learning_rate` as for `sgd`; `decay` is outside [0, 1).
    """
    _check("momentum", learning_rate=learning_rate)
    if isinstance(decay, int | float) and not 0 <= decay < 1:
        raise ValueError(f"momentum: decay is {decay!r}; expected a number in [0, 1).")

    def init(params):
        return MomentumState(jax.tree.map(jnp.zeros_like, params))

    def update(updates, state, params=None):
        def step(v, g):
            return _like(g, decay) * v - _like(g, learning_rate) * g

        velocity = jax.tree.map(step, state.velocity, updates)
        return velocity, MomentumState(velocity)

    return optax.GradientTransformation(init, update)


class AdagradState(NamedTuple):
    """`sum_of_squares`: a tree like the parameters, in float32 at least."""

    sum_of_squares: Any


def adagrad(learning_rate: float) -> optax.GradientTransformation:
    """Adagrad: s <- s + g^2, w <- w - eta g / sqrt(s), from s = 0. Duchi et al. 2011.

    Without the epsilon and the initial value of s of most implementations:
    `optax.adagrad(eta, initial_accumulator_value=0, eps=0)`, with defaults 0.1 and 1e-7. A weight
    whose gradients are all 0, or underflow when squared (below 1e-19 in float32), does not change.

    Args:
      learning_rate: eta > 0, which is also the size of the first step of every weight.

    Returns:
      The transformation, with an `AdagradState`.

    Raises:
      ValueError: as for `sgd`.
    """
    _check("adagrad", learning_rate=learning_rate)

    def init(params):
        return AdagradState(jax.tree.map(lambda w: jnp.zeros_like(widen(w)), params))

    def update(updates, state, params=None):
        def step(g, s):
            # rsqrt(0) is infinite, and infinity times a gradient of 0 is NaN.
            rate = jnp.where(s > 0, _like(s, learning_rate) * jax.lax.rsqrt(s), 0)
            return (-rate * widen(g)).astype(g.dtype)

        squares = jax.tree.map(lambda g, s: s + widen(g) ** 2, updates, state.sum_of_squares)
        return jax.tree.map(step, updates, squares), AdagradState(squares)

    return optax.GradientTransformation(init, update)


def decay_after_step(rate: float = 0.01) -> optax.GradientTransformation:
    """Weight decay after the step: w <- (1 - lambda) (w - eta g).

    Use it last in a chain: `optax.chain(sgd(0.1), decay_after_step(0.01))`. L2 regularization by
    `optax.add_decayed_weights` and the decay of AdamW differ, since they scale lambda by eta: for
    w = 1, g = 0.5, eta = 0.1, lambda = 0.01 this rule gives 0.9405, and they give 0.949.

    Args:
      rate: lambda in [0, 1); 0.01 keeps 0.99 of each weight.

    Returns:
      The transformation, without state; its `update` needs the parameters.

    Raises:
      ValueError: `rate` is outside [0, 1); in `update`, no parameters are given.
    """
    if isinstance(rate, int | float) and not 0 <= rate < 1:
        raise ValueError(f"decay_after_step: rate is {rate!r}; expected a number in [0, 1).")

    def update(updates, state, params=None):
        if params is None:
            raise ValueError(
                "decay_after_step: no parameters; expected update(gradients, state, params)."
            )
        return jax.tree.map(lambda u, w: u - _like(w, rate) * (w + u), updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


class ParamsEMAState(NamedTuple):
    """`average`: a tree like the parameters, in float32 at least."""

    average: Any


def params_ema(decay: float = 0.999) -> optax.GradientTransformation:
    """Moving average of the weights after each step: a <- decay a + (1 - decay) w.

    It starts with the initial weights. Use it last in a chain,
    `optax.chain(optax.adam(1e-3), params_ema(0.999))`; it does not change the updates. Polyak and
    Juditsky 1992 (doi:10.1137/0330046). `optax.ema` averages updates, not weights. Evaluate with
    `averaged_params`.

    Args:
      decay: in [0, 1); the average covers about 1 / (1 - decay) steps.

    Returns:
      The transformation, with a `ParamsEMAState`; its `update` needs the parameters.

    Raises:
      ValueError: `decay` is outside [0, 1); in `update`, no parameters are given.
    """
    if isinstance(decay, int | float) and not 0 <= decay < 1:
        raise ValueError(f"params_ema: decay is {decay!r}; expected a number in [0, 1).")

    def init(params):
        # A copy, since a step may donate the parameters and the average at once.
        return ParamsEMAState(jax.tree.map(lambda w: jnp.array(widen(w), copy=True), params))

    def update(updates, state, params=None):
        if params is None:
            raise ValueError(
                "params_ema: no parameters; expected update(gradients, state, params)."
            )

        def step(a, w, u):
            # For decay near 1 this form rounds less than decay * a + (1 - decay) * w.
            return a + (1 - _like(a, decay)) * ((w + u).astype(a.dtype) - a)

        return updates, ParamsEMAState(jax.tree.map(step, state.average, params, updates))

    return optax.GradientTransformation(init, update)


def averaged_params(opt_state: Any) -> Any:
    """Returns the averaged weights that `params_ema` stores in an optimizer state.

    Example:
      >>> averaged = state.replace(params=optim.averaged_params(state.opt_state))
      >>> train.fit(..., eval_data=train.Evaluation(
      ...     test, params=lambda state: optim.averaged_params(state.opt_state)))

    Raises:
      ValueError: the optimizer has no `params_ema`, or several.
    """

    def is_ema(part):
        return isinstance(part, ParamsEMAState)

    averages = [part for part in jax.tree.leaves(opt_state, is_leaf=is_ema) if is_ema(part)]
    if len(averages) != 1:
        raise ValueError(
            f"averaged_params: the optimizer's state has {len(averages)} averages; expected one: "
            "optax.chain(optimizer, optim.params_ema(decay))."
        )
    return averages[0].average


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adabelief": functools.partial(optax.adabelief, learning_rate=0.001),
    "adadelta": functools.partial(optax.adadelta, learning_rate=1.0),
    "adafactor": functools.partial(optax.adafactor, learning_rate=0.01),
    "adagrad": functools.partial(adagrad, learning_rate=0.01),
    "adam": functools.partial(optax.adam, learning_rate=0.001),
    "adamax": functools.partial(optax.adamax, learning_rate=0.001),
    "adamw": functools.partial(optax.adamw, learning_rate=0.001),
    "amsgrad": functools.partial(optax.amsgrad, learning_rate=0.001),
    "lamb": functools.partial(optax.lamb, learning_rate=0.001),
    "lion": functools.partial(optax.lion, learning_rate=0.0001),
    "momentum": functools.partial(momentum, learning_rate=0.01),
    "nadam": functools.partial(optax.nadam, learning_rate=0.001),
    "nadamw": functools.partial(optax.nadamw, learning_rate=0.001),
    "radam": functools.partial(optax.radam, learning_rate=0.001),
    "rmsprop": functools.partial(optax.rmsprop, learning_rate=0.001),
    "sgd": functools.partial(sgd, learning_rate=0.01),
}
"""Factories by name, with default learning rates.

"adagrad", "momentum" and "sgd" are those of this module, the others those of optax."""


def optimizer(spec: Any, **options: Any) -> optax.GradientTransformation:
    """Returns an optimizer by its name in `OPTIMIZERS`; transformations are returned unchanged.

    Example: `optimizer("sgd", learning_rate=0.1)`.

    Args:
      spec: a name; or a transformation: an `optax.GradientTransformation`, or an object with the
        methods `init` and `update`, such as `optax.MultiSteps`.
      **options: arguments of the factory, for a name.

    Raises:
      ValueError: the name is unknown, `spec` is neither a name nor a transformation, or options are
        passed with a transformation.
    """
    if isinstance(spec, str):
        if spec not in OPTIMIZERS:
            raise ValueError(
                f"no optimizer {spec!r}; {suggest(spec.lower(), OPTIMIZERS, 'optimizers')}"
            )
        try:
            return OPTIMIZERS[spec](**options)
        except TypeError as error:
            raise ValueError(
                f"optimizer: {spec!r} does not take {', '.join(options)} ({error}); expected "
                "options such as learning_rate."
            ) from error
    if isinstance(spec, type) or not (hasattr(spec, "init") and hasattr(spec, "update")):
        raise ValueError(f"optimizer is {_describe(spec)}")
    if options:
        raise ValueError(
            f"optimizer: {', '.join(options)} passed with a transformation; expected them in the "
            "call of its factory."
        )
    if isinstance(spec, optax.GradientTransformation):
        return spec
    # The bound methods of one object are equal, so steps with it are compiled once.
    return optax.GradientTransformationExtraArgs(spec.init, spec.update)


def _describe(spec: Any) -> str:
    """Returns the error text for an invalid optimizer: what it is, and what to pass instead."""
    if isinstance(spec, int | float) or getattr(spec, "shape", None) == ():
        return f"{spec}, a number; expected a transformation with that rate: optax.adam({spec})."
    if callable(spec):
        name = getattr(spec, "__qualname__", repr(spec))
        return (
            f"the function {name}; expected a transformation: call the factory, optax.adam(0.001), "
            "or give it the schedule, optax.adam(schedule)."
        )
    if isinstance(spec, tuple | list):
        return (
            f"a {type(spec).__name__} of {len(spec)}; expected one transformation: "
            "optax.chain(*transformations), or optax.GradientTransformation(init, update)."
        )
    return (
        f"of the type {type(spec).__module__}.{type(spec).__qualname__}; expected an optax "
        f"transformation, such as optax.adam(0.001), or a name: {', '.join(OPTIMIZERS)}."
    )


def update_params(
    optimizer: optax.GradientTransformation,
    gradient: Any,
    opt_state: Any,
    params: Any,
    *,
    value: jax.Array,
    value_fn: Callable[[Any], jax.Array],
    grad_fn: Callable[[Any, int], Any],
) -> tuple[Any, Any]:
    """Applies one step of an optimizer, with the extra arguments that optax documents.

    Line searches take `value`, `grad` and `value_fn`, `optax.contrib.sam` takes `grad_fn`,
    `optax.contrib.sophia` takes `obj_fn`, and each rejects the others. A chain does not show which
    it needs, so the sets are tried one after another.

    Args:
      optimizer: the transformation.
      gradient, opt_state, params: as for its `update`.
      value: () the loss.
      value_fn: `params -> loss`.
      grad_fn: `(params, i) -> gradient`.

    Returns:
      `(params, opt_state)` after the step.

    Raises:
      ValueError: the optimizer accepts none of the sets.
    """
    call = functools.partial(
        optax.with_extra_args_support(optimizer).update, gradient, opt_state, params
    )
    sets = (
        {"value": value, "grad": gradient, "value_fn": value_fn},
        {"grad_fn": grad_fn},
        {"value": value, "obj_fn": value_fn},
    )
    errors = []
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam mixes integers and floats
        for extra in sets:
            try:
                updates, opt_state = call(**extra)
                return optax.apply_updates(params, updates), opt_state
            except (AttributeError, TypeError, ValueError) as error:
                errors.append(error)
    raise ValueError(
        f"optimizer: its update raises {errors[0]!r}; expected one that takes the gradient, its "
        "state, the parameters, and value, grad and value_fn, or grad_fn, as optax documents."
    ) from errors[0]


def init_state(optimizer: optax.GradientTransformation, params: Any) -> Any:
    """Returns the initial state of an optimizer, with JAX's standard type promotion.

    Raises:
      ValueError: the optimizer rejects the parameters.
    """
    try:
        with jax.numpy_dtype_promotion("standard"):  # a schedule mixes integers and floats
            return _cache.Compiled(optimizer.init)(params)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"optimizer: its init raises {error!r}; expected one that takes the model's "
            "parameters, a dict of arrays."
        ) from error


def _like(array: jax.Array, value: Any) -> jax.Array:
    """Casts a hyper-parameter, a number or a traced scalar, to the dtype of an array."""
    # Under strict promotion a float32 rate would not multiply a bfloat16 gradient.
    return jnp.asarray(value, array.dtype)


def _check(what: str, learning_rate: Any) -> None:
    if callable(learning_rate):
        raise ValueError(
            f"{what}: learning_rate is a function; expected a number: for a schedule write "
            f"optax.inject_hyperparams({what})(learning_rate=schedule)."
        )
    number = isinstance(learning_rate, int | float)
    if number and not (learning_rate > 0 and math.isfinite(learning_rate)):
        raise ValueError(f"{what}: learning_rate is {learning_rate!r}; expected a number above 0.")
