"""Many steps in one compiled call, over data that lies on the device.

A call runs steps `first .. first + count` of an epoch. The number of steps is a value, not a
shape, so calls of every length are one compilation: an epoch may be one call, or as many as
progress and Ctrl-C want.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex

from jaxdl import _cache
from jaxdl.core import Tree
from jaxdl.jaxpr.reading import inner_jaxprs, primitives
from jaxdl.nn.recurrent.stacked import carries, with_carries
from jaxdl.train.sharding import Placement
from jaxdl.train.state import TrainState


class Rows(NamedTuple):
    """The batches of an epoch, or of a piece of one.

    Attributes:
      data: `(x, y)` or `(x, y, weight)`, trees of arrays with one leading axis, over the rows.
      order: (steps, batch) int32, which rows make which batch; None where the data come as
        batches, with the leading axes (steps, batch).
      mask: (steps, batch) bool, true at the real rows; None where all are.
    """

    data: Any
    order: Any
    mask: Any

    def batch(self, i: Any) -> tuple:
        """Returns batch i, `(x, y, weight)`; the rows that fill it up have weight 0."""
        rows = i if self.order is None else self.order[i]
        data = jax.tree.map(lambda a: a.at[rows].get(mode="promise_in_bounds"), self.data)
        x, y, weight = data if len(data) == 3 else (*data, None)
        mask = None if self.mask is None else self.mask[i]
        if weight is None or mask is None:
            return x, y, mask if weight is None else weight
        return (
            x,
            y,
            jnp.where(mask.reshape(-1, *[1] * (weight.ndim - 1)), weight, jnp.zeros_like(weight)),
        )

    @property
    def steps(self) -> int:
        """How many batches there are."""
        return jax.tree.leaves(self.data if self.order is None else self.order)[0].shape[0]


Log = dict[str, Any]
"""The metrics of many steps: each `Mean` or `Collection` with a leading axis over the steps."""


class Program(NamedTuple):
    """A compiled training program.

    Attributes:
      run: `(state, rows, first, count) -> (state, wait)`. It consumes `state` and does not wait for
        the device; `wait()` does, and returns the log of the steps that were taken.
      looped: whether `count` steps are one call of the device, or `count` calls.
    """

    run: Callable[[TrainState, Rows, int, int], tuple[TrainState, Callable[[], Log]]]
    looped: bool


def looped_program(step: Callable, halt: str | None, at: Placement | None = None) -> Program:
    """All steps of a call in one loop of the device.

    Args:
      step: from `make_train_step`.
      halt: the metric to watch: "loss" ends the call after the first step whose loss is not finite,
        "skipped" after the first that was skipped; None never ends it early.
      at: where the state and the log lie; None for one device.
    """
    compiled = placed(lambda *args: loop(step, halt, *args), at)

    def run(state, rows, first, count):
        state, log, taken = compiled(state, rows, np.int32(first), np.int32(count))

        def wait():
            stop = first + int(taken)
            return jax.tree.map(lambda a: np.asarray(a)[first:stop], log)

        return state, wait

    return Program(run, looped=True)


def placed(program: Callable, at: Placement | None) -> _cache.Compiled:
    """`program(state, ...) -> (state, ...)`, compiled; it consumes the state and places the next
    one alike, so that the program after it is the same."""

    def run(state, *args):
        new, *rest = program(state, *args)
        if at is not None:
            new = jax.lax.with_sharding_constraint(new, at.tree(new))
            rest = jax.lax.with_sharding_constraint(rest, at.everywhere)
        return new, *rest

    return _cache.Compiled(run, donate_argnums=(0,))


def loop(
    step: Callable, halt: str | None, state: TrainState, rows: Rows, first: Any, count: Any
) -> tuple[TrainState, Log, Any]:
    """The steps `first .. first + count`, traced: `(state, log, taken)`.

    The log has a row for every batch of `rows`; those of the steps not taken are zero.
    """

    def body(carry):
        i, go, state, log = carry
        state, pairs = step(state, rows.batch(i))
        log = jax.tree.map(lambda log, value: log.at[i].set(value), log, pairs)
        return i + 1, _goes_on(pairs, halt), state, log

    pairs = jax.eval_shape(lambda: step(state, rows.batch(first))[1])
    carry = first, jnp.asarray(True), state, _empty(pairs, rows)
    i, _, state, log = jax.lax.while_loop(lambda c: (c[0] < first + count) & c[1], body, carry)
    return state, log, i - first


def _goes_on(pairs: dict, halt: str | None) -> jax.Array:
    if halt is None:
        return jnp.asarray(True)
    value = pairs[halt][0]
    return value == 0 if halt == "skipped" else jnp.isfinite(value)


def _empty(pairs: Any, rows: Rows) -> Any:
    return jax.tree.map(lambda a: jnp.zeros((rows.steps, *a.shape), a.dtype), pairs)


def stepwise_program(step: Callable, halt: str | None, at: Placement | None = None) -> Program:
    """Every step a call of the device; for what is `slow_when_looped`.

    Args:
      step, halt, at: as for `looped_program`. Only for "skipped" does it wait for every step; a
        loss that is not finite is for the caller to find in the log.
    """
    compiled = placed(lambda state, rows, i: step(state, rows.batch(i)), at)

    def run(state, rows, first, count):
        log = []
        one = compiled.select(state, rows, np.int32(first))
        for i in range(first, first + count):
            state, pairs = one(state, rows, np.int32(i))
            log.append(pairs)
            if halt == "skipped" and pairs[halt][0] > 0:
                break
        return state, lambda: jax.tree.map(lambda *values: np.stack(values), *jax.device_get(log))

    return Program(run, looped=False)


def eval_program(
    step: Callable, at: Placement | None = None
) -> Callable[[TrainState, Rows, int], tuple[TrainState, Log]]:
    """`run(state, rows, count) -> (state, log)`, compiled, over the first `count` batches.

    Args:
      step: from `carrying_eval_step`; only the carries of stateful layers change in the state.
      at: where the log lies; None for one device.
    """

    def run(*args):
        result = eval_loop(step, *args)
        return result if at is None else jax.lax.with_sharding_constraint(result, at.everywhere)

    compiled = _cache.Compiled(run)

    def program(state, rows, count):
        if jax.debug_nans.value:  # compiled, the place that JAX names would be the loop
            with jax.disable_jit():
                kept, log = eval_loop(step, state, rows, count)
        else:
            kept, log = compiled(state, rows, count)
        return state.replace(model_state=with_carries(state.model_state, kept)), log

    return program


def eval_loop(step: Callable, state: TrainState, rows: Rows, count: Any) -> tuple[Tree, Log]:
    """The carries and the log of the first `count` batches, traced."""

    def body(i, carry):
        kept, log = carry
        model_state = with_carries(state.model_state, kept)
        kept, pairs = step(state.replace(model_state=model_state), rows.batch(i))
        return kept, jax.tree.map(lambda log, value: log.at[i].set(value), log, pairs)

    log = _empty(jax.eval_shape(lambda: step(state, rows.batch(0))[1]), rows)
    return jax.lax.fori_loop(0, count, body, (carries(state.model_state), log))


def slow_when_looped(step: Callable, state: TrainState, rows: Rows) -> bool:
    """Whether a step is better called by itself than in a loop of the device.

    Inside a loop, XLA on the CPU does not bring a convolution into the layout that its fast kernel
    needs (jax issue 12868). The weight gradient that autodiff makes, a convolution that sums over
    the batch, is then ten times slower and more.
    """
    if jax.default_backend() != "cpu":
        return False
    jaxpr = jax.make_jaxpr(lambda s, r: step(s, r.batch(0)))(state, rows)
    return _sums_over_batch(jaxpr.jaxpr)


def _sums_over_batch(jaxpr: jex.Jaxpr) -> bool:
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "conv_general_dilated":
            if primitives().convolution(eqn).dimension_numbers.lhs_spec[0] != 0:
                return True
        if any(map(_sums_over_batch, inner_jaxprs(eqn.params))):
            return True
    return False
