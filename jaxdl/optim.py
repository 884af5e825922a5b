"""The lectures' optimizers as the decks write them; for training take `optax`'s.

Each is an `optax.GradientTransformation`, to be chained, masked and scheduled like any other:
`optax.inject_hyperparams(momentum)(learning_rate=schedule)`. Its twin in optax is named beside it,
with what differs.
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
    """w <- w - eta g, gradient descent. Lecture rows D03, D11; bit for bit `optax.sgd(eta)`.

    Args:
      learning_rate: eta > 0.

    Returns:
      The transformation; it has no state.

    Raises:
      ValueError: `learning_rate` is no number, or a number that is not positive.
    """
    _check("sgd", learning_rate=learning_rate)

    def update(updates, state, params=None):
        return jax.tree.map(lambda g: -_like(g, learning_rate) * g, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


class MomentumState(NamedTuple):
    """`velocity`: v, a tree like the parameters."""

    velocity: Any


def momentum(learning_rate: float, decay: float = 0.9) -> optax.GradientTransformation:
    """v <- lambda v - eta g, w <- w + v, from v = 0. Polyak 1964; lecture row D07.

    `optax.sgd(eta, momentum=lambda)` keeps t <- lambda t + g and steps by -eta t. At a constant
    eta, v = -eta t and both take the same way; when eta changes, v keeps the rate that each of its
    gradients came with, while t takes the new one for all.

    Args:
      learning_rate: eta > 0.
      decay: lambda, what is kept of the last movement, in [0, 1).

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
    """s <- s + g^2, w <- w - eta g / sqrt(s), from s = 0. Duchi et al. 2011; lecture row D06.

    Without the epsilon and the first value of s that the usual implementations add:
    `optax.adagrad(eta, initial_accumulator_value=0, eps=0)`, whose defaults are 0.1 and 1e-7. A
    weight whose gradients were all zero, or too small to be squared (below 1e-19 in float32),
    stays where it is.

    Args:
      learning_rate: eta > 0, which is also the length of every weight's first step.

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
            rate = jnp.where(s > 0, _like(s, learning_rate) * jax.lax.rsqrt(s), 0)
            return (-rate * widen(g)).astype(g.dtype)

        squares = jax.tree.map(lambda g, s: s + widen(g) ** 2, updates, state.sum_of_squares)
        return jax.tree.map(step, updates, squares), AdagradState(squares)

    return optax.GradientTransformation(init, update)


def decay_after_step(rate: float = 0.01) -> optax.GradientTransformation:
    """w <- (1 - lambda) (w - eta g): weights shrink after the step. Lecture row E05.

    The last link of a chain: `optax.chain(sgd(0.1), decay_after_step(0.01))`. Neither twin is the
    same: L2 by `optax.add_decayed_weights` before the step, and AdamW's decay beside it, both
    scale lambda by eta. For w = 1, g = 0.5, eta = 0.1 the deck's rule gives 0.9405, theirs 0.949.

    Args:
      rate: lambda in [0, 1); the deck's 0.01 keeps 0.99 of each weight.

    Returns:
      The transformation; it needs the parameters in `update`, and has no state.

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
    """a <- decay a + (1 - decay) w, of the weights w after the step, from the first weights.

    The last link of a chain, `optax.chain(optax.adam(1e-3), params_ema(0.999))`: the updates pass
    unchanged. Polyak and Juditsky 1992 (doi:10.1137/0330046). `optax.ema` averages updates, not
    weights. Evaluate with `averaged_params`.

    Args:
      decay: in [0, 1); about 1 / (1 - decay) steps are averaged.

    Returns:
      The transformation, with a `ParamsEMAState`; it needs the parameters in `update`.

    Raises:
      ValueError: `decay` is outside [0, 1); in `update`, no parameters are given.
    """
    if isinstance(decay, int | float) and not 0 <= decay < 1:
        raise ValueError(f"params_ema: decay is {decay!r}; expected a number in [0, 1).")

    def init(params):
        return ParamsEMAState(jax.tree.map(lambda w: jnp.array(widen(w), copy=True), params))

    def update(updates, state, params=None):
        if params is None:
            raise ValueError(
                "params_ema: no parameters; expected update(gradients, state, params)."
            )

        def step(a, w, u):
            return a + (1 - _like(a, decay)) * ((w + u).astype(a.dtype) - a)

        return updates, ParamsEMAState(jax.tree.map(step, state.average, params, updates))

    return optax.GradientTransformation(init, update)


def averaged_params(opt_state: Any) -> Any:
    """Returns the averages that `params_ema` keeps in an optimizer's state, a tree of parameters.

    Example:
      >>> averaged = state.replace(params=optim.averaged_params(state.opt_state))
      >>> train.fit(..., eval_data=train.Evaluation(
      ...     test, params=lambda state: optim.averaged_params(state.opt_state)))

    Raises:
      ValueError: the optimizer has no `params_ema`, or several.
    """
    is_ema = lambda part: isinstance(part, ParamsEMAState)  # noqa: E731
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
"""Factories by name, with the learning rate each has when none is given.

"adagrad", "momentum" and "sgd" are those of this module, the others optax's."""


def optimizer(spec: Any, **options: Any) -> optax.GradientTransformation:
    """Returns an optimizer by its name in `OPTIMIZERS`, or an optax transformation as it is.

    Lecture row V02: `optimizer("sgd", learning_rate=0.1)`.

    Args:
      spec: the name; or the transformation: an `optax.GradientTransformation`, or an object with
        its methods `init` and `update`, such as `optax.MultiSteps`.
      **options: the factory's arguments, for a name.

    Raises:
      ValueError: the name is unknown; `spec` is neither a name nor a transformation; options are
        given beside a transformation.
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
                f"optimizer: {spec!r} does not take {', '.join(options)} ({error}); expected such "
                "as learning_rate."
            ) from error
    if isinstance(spec, type) or not (hasattr(spec, "init") and hasattr(spec, "update")):
        raise ValueError(f"optimizer is {_describe(spec)}")
    if options:
        raise ValueError(
            f"optimizer: {', '.join(options)} given beside a transformation that is built; "
            "expected them in its factory's call."
        )
    if isinstance(spec, optax.GradientTransformation):
        return spec
    # Equal for the same object, so that its programs are compiled once.
    return optax.GradientTransformationExtraArgs(spec.init, spec.update)


def _describe(spec: Any) -> str:
    """The error's text for what is no optimizer: what it is, and what to pass in its place."""
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
    """Takes a step of an optimizer, with the extra arguments that optax documents.

    Each takes some of them and refuses others: line searches take `value`, `grad` and `value_fn`,
    `optax.contrib.sam` takes `grad_fn`, `optax.contrib.sophia` takes `obj_fn`. A chain does not
    show which of these it has, so the sets are tried one after another.

    Args:
      optimizer: the transformation.
      gradient, opt_state, params: as for its `update`.
      value: () the loss.
      value_fn: `params -> loss`.
      grad_fn: `(params, i) -> gradient`.

    Returns:
      `(params, opt_state)` after the step.

    Raises:
      ValueError: the optimizer takes none of the sets.
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
        "state, the parameters and what optax documents: value, grad and value_fn, or grad_fn."
    ) from errors[0]


def init_state(optimizer: optax.GradientTransformation, params: Any) -> Any:
    """Returns an optimizer's first state, computed with JAX's standard type promotion.

    Raises:
      ValueError: the optimizer does not take the parameters.
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
    """A hyper-parameter, a number or a traced scalar, in the dtype of an array."""
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
