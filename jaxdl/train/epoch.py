"""Compiled steps of training and evaluation over an epoch, and sums of their metrics.

A call runs the steps `first .. first + count` over data on the device. `count` is a value and not a
shape, so calls of every length share one compilation.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex

from jaxdl import _cache
from jaxdl.core import Tree
from jaxdl.jaxpr.equations import inner_jaxprs
from jaxdl.jaxpr.primitives import readers
from jaxdl.jaxpr.tracing import make_jaxpr
from jaxdl.metrics import Collection
from jaxdl.nn.recurrent.stacked import carries, with_carries
from jaxdl.train.sharding import Sharding, replicated_sharding
from jaxdl.train.state import TrainState


class EpochBatches(NamedTuple):
    """The batches of an epoch, or of a chunk of one.

    Attributes:
      data: `(x, y)` or `(x, y, weight)`, trees of arrays with one leading axis over the rows.
      order: (steps, batch) int32, the rows of each batch; None where the data are batches already,
        with the leading axes (steps, batch).
      mask: (steps, batch) bool, true at real rows; None where all rows are real.
    """

    data: Any
    order: Any
    mask: Any

    def batch(self, i: Any) -> tuple:
        """Returns batch i as `(x, y, weight)`; padding rows have weight 0."""
        rows = i if self.order is None else self.order[i]
        # The default mode would add a bounds check and a fill to every gather.
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
        """The number of batches."""
        return jax.tree.leaves(self.data if self.order is None else self.order)[0].shape[0]


Log = dict[str, Any]
"""The metrics of many steps: `Average` or `Collection` with a leading axis over the steps."""


class CompiledSteps(NamedTuple):
    """A training step, compiled to run many times.

    Attributes:
      run: `(state, rows, first, count) -> (state, wait)`. It consumes `state` and returns before
        the device is done; `wait()` blocks and returns the log of the steps that were run.
      looped: whether `count` steps are one call of the device, or `count` calls.
    """

    run: Callable[[TrainState, EpochBatches, int, int], tuple[TrainState, Callable[[], Log]]]
    looped: bool


def compile_loop(
    step: Callable, stop_on: str | None, placement: Sharding | None = None
) -> CompiledSteps:
    """Compiles a step into a loop, so that all steps of a call run on the device.

    Args:
      step: from `make_train_step`.
      stop_on: the metric that ends a call early: "loss" after the first step whose loss is not
        finite, "skipped" after the first skipped step; None never does.
      placement: shardings of state and log; None for one device.
    """
    compiled = _cache.Compiled(
        functools.partial(run_loop, step, stop_on, placement), donate_argnums=(0,)
    )

    def run(state, rows, first, count):
        args = state, rows, np.int32(first), np.int32(count)
        state, log, taken = compiled.select(*args)(*args)

        def wait():
            stop = first + int(taken)
            return jax.tree.map(lambda a: np.asarray(a)[first:stop], log)

        return state, wait

    return CompiledSteps(run, looped=True)


def run_loop(
    step: Callable,
    stop_on: str | None,
    placement: Sharding | None,
    state: TrainState,
    rows: EpochBatches,
    first: Any,
    count: Any,
) -> tuple[TrainState, Log, Any]:
    """Runs the steps `first .. first + count` in a `while_loop`; to be traced.

    Returns:
      `(state, log, taken)`; the log has an entry for every batch of `rows`, zero for steps that
      were not run.
    """

    def body(carry):
        i, go, state, log = carry
        state, metrics = step(state, rows.batch(i))
        log = jax.tree.map(lambda log, value: log.at[i].set(value), log, metrics)
        return i + 1, _continues(metrics, stop_on), state, log

    # eval_shape of the batch too: traced here, its gathers would stay in the program unused.
    log = _empty_log(jax.eval_shape(step, state, jax.eval_shape(rows.batch, first))[1], rows)
    carry = first, jnp.asarray(True), state, log
    # A while loop, because `count` is an argument, so that one program serves calls of any length,
    # and `stop_on` can end the call early.
    i, _, state, log = jax.lax.while_loop(lambda c: (c[0] < first + count) & c[1], body, carry)
    state, (log, taken) = _constrain(placement, state, (log, i - first))
    return state, log, taken


def _constrain(placement: Sharding | None, state: TrainState, rest: Any) -> tuple[TrainState, Any]:
    """Gives the next state the shardings of the current one: one program serves all calls."""
    if placement is None:
        return state, rest
    return (
        jax.lax.with_sharding_constraint(state, placement.tree_like(state)),
        jax.lax.with_sharding_constraint(rest, replicated_sharding(placement.mesh)),
    )


def _continues(metrics: dict, stop_on: str | None) -> jax.Array:
    if stop_on is None:
        return jnp.asarray(True)
    value = metrics[stop_on].total
    return value == 0 if stop_on == "skipped" else jnp.isfinite(value)


def _empty_log(metrics: Any, rows: EpochBatches) -> Any:
    return jax.tree.map(lambda a: jnp.zeros((rows.steps, *a.shape), a.dtype), metrics)


def compile_single(
    step: Callable, stop_on: str | None, placement: Sharding | None = None
) -> CompiledSteps:
    """Compiles a step that is called once a batch, for steps that are `is_slow_in_loop`.

    Args:
      step, stop_on, placement: as for `compile_loop`. Only "skipped" ends a call early, since it
        needs the result of every step; the caller finds a non-finite loss in the log.
    """

    def one_step(state, rows, i):
        return _constrain(placement, *step(state, rows.batch(i)))

    compiled = _cache.Compiled(one_step, donate_argnums=(0,))

    def run(state, rows, first, count):
        log = []
        # Looked up once a call, since the lookup traces its arguments.
        selected = compiled.select(state, rows, np.int32(first))
        for i in range(first, first + count):
            state, metrics = selected(state, rows, np.int32(i))
            log.append(metrics)
            if stop_on == "skipped" and metrics[stop_on].total > 0:
                break
        # One transfer for all steps: reading the metrics after each would wait for the device.
        return state, lambda: jax.tree.map(lambda *values: np.stack(values), *jax.device_get(log))

    return CompiledSteps(run, looped=False)


def compile_eval(
    step: Callable, placement: Sharding | None = None
) -> Callable[[TrainState, EpochBatches, int], tuple[TrainState, Log]]:
    """Compiles `run(state, rows, count) -> (state, log)` over the first `count` batches.

    Args:
      step: from `carrying_eval_step`; only the carries of stateful layers change in the state.
      placement: the sharding of the log; None for one device.
    """

    def eval_steps(*args):
        result = eval_loop(step, *args)
        if placement is None:
            return result
        return jax.lax.with_sharding_constraint(result, replicated_sharding(placement.mesh))

    compiled = _cache.Compiled(eval_steps)

    def run(state, rows, count):
        if jax.debug_nans.value:  # compiled, JAX would name the loop and not the operation
            with jax.disable_jit():
                kept, log = eval_loop(step, state, rows, count)
        else:
            kept, log = compiled(state, rows, count)
        return state.replace(model_state=with_carries(state.model_state, kept)), log

    return run


def eval_loop(
    step: Callable, state: TrainState, rows: EpochBatches, count: Any
) -> tuple[Tree, Log]:
    """Evaluates the first `count` batches; to be traced. Returns `(carries, log)`."""

    def body(i, carry):
        kept, log = carry
        model_state = with_carries(state.model_state, kept)
        kept, metrics = step(state.replace(model_state=model_state), rows.batch(i))
        return kept, jax.tree.map(lambda log, value: log.at[i].set(value), log, metrics)

    log = _empty_log(jax.eval_shape(lambda: step(state, rows.batch(0))[1]), rows)
    return jax.lax.fori_loop(0, count, body, (carries(state.model_state), log))


def is_slow_in_loop(step: Callable, state: TrainState, rows: EpochBatches) -> bool:
    """Returns whether a step runs faster when called alone than in a loop of the device.

    Inside a loop, XLA on the CPU does not bring a convolution into the layout that its fast kernel
    needs (https://github.com/jax-ml/jax/issues/12868). The weight gradient that autodiff makes, a
    convolution that sums over the batch, is then more than ten times slower.
    """
    if jax.default_backend() != "cpu":
        return False
    jaxpr, _ = make_jaxpr(lambda s, r: step(s, r.batch(0)), state, rows)
    return _sums_over_batch(jaxpr.jaxpr)


def _sums_over_batch(jaxpr: jex.Jaxpr) -> bool:
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "conv_general_dilated":
            if readers().convolution(eqn).dimension_numbers.lhs_spec[0] != 0:
                return True
        if any(map(_sums_over_batch, inner_jaxprs(eqn.params))):
            return True
    return False


class MetricAccumulator:
    """Sums of metrics over an epoch, in float64 and in the order of the steps.

    The order of the additions does not depend on how steps are grouped into calls, so an epoch that
    was interrupted and resumed has the same means, bit for bit, as one that was not.

    Args:
      sums: `{"loss": (total, count), ...}` to continue from.
      arrays: `{"auc": (weight, value, ...), ...}` to continue from.
    """

    def __init__(
        self,
        sums: Mapping[str, tuple[float, float]] | None = None,
        arrays: Mapping[str, tuple[np.ndarray, ...]] | None = None,
    ):
        self.sums = {name: (float(a), float(b)) for name, (a, b) in (sums or {}).items()}
        self._arrays = {name: [tuple(arrays)] for name, arrays in (arrays or {}).items()}
        self._collections: dict[str, Collection] = {}

    def add(self, log: Log) -> None:
        """Adds the metrics of more steps."""
        for name, item in log.items():
            if isinstance(item, Collection):
                self._collections[name] = item
                arrays = tuple(np.asarray(a) for a in (item.weight, *item.values))
                axes = arrays[0].ndim - item.labels
                # The leading axes are steps, rows and, for sequences, time.
                flat = tuple(a.reshape(-1, *a.shape[axes:]) for a in arrays)
                self._arrays.setdefault(name, []).append(flat)
                continue
            before = self.sums.get(name, (0.0, 0.0))
            total, count = (
                _add_in_order(start, values) for start, values in zip(before, item, strict=True)
            )
            self.sums[name] = total, count

    @property
    def arrays(self) -> dict[str, tuple[np.ndarray, ...]]:
        """The arrays that metrics of whole data sets need: `{"auc": (weight, value, ...)}`."""
        return {
            name: tuple(np.concatenate(parts) for parts in zip(*arrays, strict=True))
            for name, arrays in self._arrays.items()
        }

    def compute(self) -> dict[str, float]:
        """Returns each metric over the steps, the loss first; NaN where the weight is 0."""
        values: dict[str, Any] = {name: _divide(*pair) for name, pair in self.sums.items()}
        for name, (weight, *arrays) in self.arrays.items():
            last = self._collections[name]
            values[name] = dataclasses.replace(last, values=tuple(arrays), weight=weight).value
        return dict(sorted(values.items(), key=lambda item: item[0] != "loss"))


def _add_in_order(start: float, values) -> float:
    # np.sum adds pairwise, which would depend on how many steps a call had.
    steps = np.asarray(values, np.float64).ravel()
    return float(np.add.accumulate(np.concatenate([[start], steps]))[-1])


def _divide(total: float, count: float) -> float:
    return total / count if count else float("nan")
