"""The same run over many seeds and hyper-parameters, as one program."""

from __future__ import annotations

import functools
import inspect
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl import _cache, losses, optim
from jaxdl.core import Module, Tree
from jaxdl.train import names, validate
from jaxdl.train.feed import epoch_batches
from jaxdl.train.loop import Rows, eval_loop, loop
from jaxdl.train.progress import progress
from jaxdl.train.state import TrainState, init_state
from jaxdl.train.step import Augment, inputs, make_eval_step, make_train_step
from jaxdl.train.totals import Totals

__all__ = ["train_many"]

Optimizer = str | optax.GradientTransformation | Callable[..., optax.GradientTransformation]


def train_many(
    model: Module,
    data: Any,
    *,
    seeds: Sequence[int],
    loss: str | Callable,
    optimizer: Optimizer,
    hyper: Mapping[str, Sequence[float]] | None = None,
    batch_size: int = 32,
    epochs: int = 1,
    eval_data: Any = None,
    metrics: names.Metrics | None = None,
    augment: Augment | None = None,
    states: TrainState | None = None,
    batching: str = "auto",
    check: bool = True,
    verbose: int = 1,
) -> tuple[TrainState, dict[str, np.ndarray]]:
    """Trains a model once for every seed with every setting of the hyper-parameters.

    A run is the `fit` of its seed and setting; all of them are compiled together, once. The data
    are on the device once, and whole.

    Args:
      model, data, loss, batch_size, epochs, eval_data, metrics, augment, check, verbose: as for
        `fit`.
      seeds: the seeds.
      optimizer: an optax transformation; or, with `hyper`, a function of the hyper-parameters that
        makes one: `lambda learning_rate: optax.sgd(learning_rate)`.
      hyper: `{"learning_rate": [0.1, 0.01], ...}`, sequences of one length, the settings; given to
        `optimizer` by keyword. `initial_scale` is not: it multiplies the initial kernels.
      states: states to begin from, with a leading axis over the runs, as this function returns
        them; None begins from `init_state`.
      batching: "vmap" runs all of them at once, "map" one after another; "auto" takes "map" on a
        CPU, whose cores one run keeps busy already, and "vmap" elsewhere.

    Returns:
      `(states, history)` with a leading axis over the runs, seed by seed and within a seed setting
      by setting. `history` holds arrays: (runs, epochs) for `loss`, `accuracy`, `eval_loss`, ...;
      and (runs,) for `seed` and each hyper-parameter. Run i's state is
      `jax.tree.map(lambda a: a[i], states)`. A run that diverges goes on, and shows as NaN.

    Raises:
      ValueError: an argument is not what is expected; the message says how to mend it.

    Example:
      >>> states, history = train.train_many(
      ...     model, digits.train, seeds=range(4), loss="cross_entropy",
      ...     optimizer=optax.sgd, hyper={"learning_rate": [0.01, 0.1, 1.0]}, epochs=5)
      >>> history["loss"].shape
      (12, 5)
    """
    validate.positive("train_many", epochs=epochs)
    validate.choice("train_many", "batching", batching, ("auto", "vmap", "map"))
    validate.choice("train_many", "verbose", verbose, (0, 1, 2))
    settings = _settings(seeds, hyper, optimizer)
    data = validate.unpacked(data, "data")
    n = validate.rows(data, "data")
    validate.batch_size("train_many", batch_size, n)
    sets = {"data": data}
    if eval_data is not None:
        sets["eval_data"] = eval_data = validate.unpacked(eval_data, "eval_data")
    if batching == "auto":
        batching = "map" if jax.default_backend() == "cpu" else "vmap"
    x = jax.tree.map(lambda a: validate.spec(a, batch_size), data[0])
    if check:
        params, state = validate.taken(
            model, x, lambda: jax.eval_shape(model.init, jax.random.key(0), *inputs(x))
        )
        for name, part in sets.items():
            validate.rows(part, name)
            validate.batch(model, params, state, part, losses.loss(loss), name)

    chosen = settings.pop("seed")
    settings = {name: jnp.asarray(values, jnp.float32) for name, values in settings.items()}
    runs = _runs(
        model, losses.loss(loss), optimizer, names.measures(metrics, data[1]), augment, batching
    )
    keys = jax.vmap(jax.random.key)(jnp.asarray(chosen))
    first = jax.tree.map(lambda a: a[:batch_size], data[0])
    begin = functools.partial(runs["init"], first, keys, settings)
    running = begin() if states is None else _begun(states, jax.eval_shape(begin))
    data = jax.device_put(data)
    evaluation = None if eval_data is None else _eval_rows(eval_data, batch_size)
    history: dict[str, list[np.ndarray]] = {}
    with progress(verbose, epochs) as report:
        report.say(f"{len(chosen)} runs; the lines show their means")
        for epoch in range(epochs):
            batches = [epoch_batches(n, batch_size, int(seed), epoch) for seed in chosen]
            orders = jnp.asarray(np.stack([order for order, _ in batches]))
            given = settings, data, orders, batches[0][1]
            if epoch == 0:  # no steps compile like any number of them
                began = time.perf_counter()
                running, _ = jax.block_until_ready(runs["train"](running, *given, 0))
                report.compiled(time.perf_counter() - began)
            began = time.perf_counter()
            running, log = runs["train"](running, *given, orders.shape[1])
            row, seconds = _per_run(log), time.perf_counter() - began
            if evaluation is not None:
                log = runs["evaluate"](running, evaluation)
                row |= {f"eval_{name}": value for name, value in _per_run(log).items()}
            for name, values in row.items():
                history.setdefault(name, []).append(values)
            over_runs = {name: float(np.mean(values)) for name, values in row.items()}
            report.epoch(epoch + 1, over_runs | {"seconds": seconds})
    stacked = {name: np.stack(values, axis=1) for name, values in history.items()}
    return running, stacked | {"seed": chosen} | jax.device_get(settings)


def _begun(states: TrainState, like: TrainState) -> TrainState:
    """A copy of given states, which training may consume."""
    given, expected = (
        {jax.tree_util.keystr(path): (leaf.shape, leaf.dtype) for path, leaf in leaves}
        for leaves in map(jax.tree.leaves_with_path, (states, like))
    )
    differing = [path for path in given | expected if given.get(path) != expected.get(path)]
    if differing:
        path = differing[0]
        raise ValueError(
            f"train_many: {len(differing)} entries of the states are of another kind: {path} is "
            f"{given.get(path, 'missing')}, expected {expected.get(path, 'none')}: a leading axis "
            "over the runs, of this model and optimizer."
        )
    return jax.tree.map(jnp.copy, states)


def _settings(
    seeds: Sequence[int], hyper: Mapping[str, Sequence[float]] | None, optimizer: Optimizer
) -> dict[str, np.ndarray]:
    """Every seed with every setting: one array over the runs for the seeds and for each name."""
    seeds = list(seeds)
    for seed in seeds:
        validate.seed("train_many", seed)
    hyper = {name: list(values) for name, values in (hyper or {}).items()}
    lengths = {name: len(values) for name, values in hyper.items()}
    if not seeds or 0 in lengths.values() or len(set(lengths.values())) > 1:
        raise ValueError(
            f"train_many: {len(seeds)} seeds and hyper of lengths {lengths}; expected at least one "
            "seed and sequences of one length, a setting at each place."
        )
    _make(optimizer, dict.fromkeys(hyper, 0.1))
    places = range(next(iter(lengths.values()), 1))
    runs = list(itertools.product(seeds, places))
    settings = {"seed": np.array([seed for seed, _ in runs])}
    return settings | {
        name: np.array([values[place] for _, place in runs]) for name, values in hyper.items()
    }


@_cache.per_model
def _runs(
    model: Module,
    loss: Callable,
    optimizer: Optimizer,
    measures: names.Measures,
    augment: Augment | None,
    batching: str,
) -> dict[str, Callable]:
    """The programs of all runs together."""

    def over_runs(f, *args):
        return jax.vmap(f)(*args) if batching == "vmap" else jax.lax.map(lambda a: f(*a), args)

    @_cache.Compiled
    def init(x, keys, settings):
        def one(key, setting):
            transformation = _make(optimizer, setting)
            state = init_state(model, transformation, key, *inputs(x))
            if "initial_scale" not in setting:
                return state
            params = _scaled(state.params, setting["initial_scale"])
            return state.replace(params=params, opt_state=transformation.init(params))

        # Not over_runs: it is little work, and mapped it compiles in half the time.
        return jax.lax.map(lambda run: one(*run), (keys, settings))

    @functools.partial(_cache.Compiled, donate_argnums=(0,))
    def train(states, settings, data, orders, mask, count):
        def one(state, setting, order):
            step = make_train_step(
                model, loss, _make(optimizer, setting), metrics=dict(measures), augment=augment
            )
            return loop(jax.jit(step, inline=True), None, state, Rows(data, order, mask), 0, count)[
                :2
            ]

        return over_runs(one, states, settings, orders)

    @_cache.Compiled
    def evaluate(states, rows):
        step = jax.jit(make_eval_step(model, loss, metrics=dict(measures)), inline=True)
        return over_runs(lambda state: eval_loop(step, state, rows, rows.order.shape[0]), states)

    return {"init": init, "train": train, "evaluate": evaluate}


def _make(optimizer: Any, setting: Mapping[str, Any]) -> optax.GradientTransformation:
    """The optimizer of a setting."""
    options = {name: value for name, value in setting.items() if name != "initial_scale"}
    if not options:
        return optim.optimizer(optimizer)
    try:
        inspect.signature(optimizer).bind(**options)
    except TypeError as error:
        raise ValueError(
            f"train_many: hyper has {', '.join(options)}, which the optimizer does not take "
            f"({error}); expected a function of them: "
            "optimizer=lambda learning_rate: optax.sgd(learning_rate)."
        ) from error
    return optimizer(**options)


def _scaled(params: Tree, scale: jax.Array) -> Tree:
    """The parameters with their kernels multiplied."""

    def one(path, leaf):
        return leaf * scale.astype(leaf.dtype) if path[-1].key == "kernel" else leaf

    return jax.tree_util.tree_map_with_path(one, params)


def _eval_rows(data: Any, batch_size: int) -> Rows:
    n = validate.rows(data, "eval_data")
    return Rows(jax.device_put(data), *epoch_batches(n, min(batch_size, n), None, 0))


def _per_run(log: Any) -> dict[str, np.ndarray]:
    """The means of logs with a leading axis over the runs, (runs,) each."""
    log = jax.device_get(log)
    runs = len(log["loss"].sum)
    rows = []
    for i in range(runs):
        totals = Totals()
        totals.add(jax.tree.map(lambda a, i=i: a[i], log))
        rows.append(totals.means())
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}
