"""Networks of one kind over several seeds: trained as one program, timed, and kept.

What is kept lies below the results folder, so that experiments with a network in common train it
once.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxdl
from jaxdl import train
from jaxdl.interop import safetensors


class Trained(NamedTuple):
    """Networks of one kind, one a seed, or one a seed and setting.

    Attributes:
      model: the model.
      params, model_state: theirs, with a leading axis over the runs.
      history: (runs, epochs) arrays by name; of the evaluation data too, as `eval_`.
      seconds: what the training took, compilation included, when it was done.
      speedup: how many times as fast it was as run by run would be.
    """

    model: jaxdl.Module
    params: Any
    model_state: Any
    history: dict[str, np.ndarray]
    seconds: float
    speedup: float

    def __len__(self) -> int:
        return len(self.history["seed"])

    def predict(self, x: Any) -> np.ndarray:
        """The outputs of all of them, (runs, N, ...)."""
        key, step = jax.random.key(0), jax.numpy.int32(0)
        states = train.TrainState(self.params, self.model_state, (), key, step)
        return np.asarray(train.predict_many(self.model, states, x))

    def accuracy(self, x: Any, labels: Any) -> np.ndarray:
        """(runs,)"""
        return (self.predict(x).argmax(-1) == np.asarray(labels)).mean(-1)


def trained(
    config: Any,
    model: jaxdl.Module,
    data: Any,
    *,
    seeds: int,
    epochs: int,
    hyper: Mapping[str, Any] | None = None,
    **options: Any,
) -> Trained:
    """`train.train_many` over seeds from the experiment's own on, quietly and timed.

    Args:
      config: the experiment's; a smoke run is not timed.
      model, data, epochs, hyper, **options: as for `train.train_many`.
      seeds: how many.
    """
    options = {"metrics": (), "verbose": 0} | options
    first = config.seed
    began = time.perf_counter()
    states, history = train.train_many(
        model, data, seeds=range(first, first + seeds), epochs=epochs, hyper=hyper, **options
    )
    seconds = time.perf_counter() - began
    faster = 1.0
    if not config.smoke:
        runs = {"first": first, "seeds": seeds, "epochs": epochs, "hyper": hyper}
        faster = speedup(model, data, **runs, **options)
    return Trained(model, states.params, states.model_state, history, seconds, faster)


def speedup(
    model: jaxdl.Module,
    data: Any,
    *,
    first: int,
    seeds: int,
    epochs: int,
    hyper: Mapping[str, Any] | None = None,
    states: Any = None,
    **options: Any,
) -> float:
    """The time of the runs one by one, each compiled anew, over that of one program of all.

    Of either, the compilation and some epochs are timed, one after the other so that both find the
    machine alike, and `epochs` of them added up.
    """
    one = {name: list(values)[:1] for name, values in (hyper or {}).items()} or None
    runs = seeds * max((len(values) for values in (hyper or {}).values()), default=1)
    few = max(1, epochs // 20)

    def timed(seeds: int, hyper: Any) -> float:
        own = range(first, first + seeds)
        begun = jax.tree.map(lambda a: a[:seeds], states)
        began = time.perf_counter()
        train.train_many(model, data, seeds=own, epochs=few, hyper=hyper, states=begun, **options)
        return time.perf_counter() - began

    def whole(seeds: int, hyper: Any) -> float:
        jax.clear_caches()  # it is compiled as for the first time
        compiling, running = timed(seeds, hyper), timed(seeds, hyper)
        return max(0.0, compiling - running) + running * epochs / few

    return runs * whole(1, one) / whole(seeds, hyper)


def kept(
    config: Any,
    model: jaxdl.Module,
    data: Any,
    settings: Mapping[str, Any],
    make: Callable[[], Trained],
) -> Trained:
    """What `make` trains, or what it trained when an experiment before asked for the same.

    Args:
      config: the experiment's; networks are kept below its results folder.
      model: the model, of which the description counts.
      data: the training data, of which the values count.
      settings: all else that the networks depend on.
      make: trains them.
    """
    checksum = 0
    for leaf in jax.tree.leaves(data):
        checksum = zlib.crc32(np.asarray(leaf).tobytes(), checksum)
    asked = dict(settings) | {"model": repr(model), "data": checksum}
    name = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
    weights = config.results / "networks" / f"{name}.safetensors"
    record = weights.with_suffix(".json")
    if record.is_file():
        found = json.loads(record.read_text("utf-8"))
        params, model_state = safetensors.load_weights(weights)
        history = {key: np.array(values) for key, values in found["history"].items()}
        times = found["seconds"], found["speedup"]
        return Trained(model, params, model_state, history, *times)
    made = make()
    weights.parent.mkdir(parents=True, exist_ok=True)
    safetensors.save_weights(weights, made.params, made.model_state)
    history = {key: np.asarray(values).tolist() for key, values in made.history.items()}
    entry = {"settings": asked, "history": history, "seconds": made.seconds}
    record.write_text(json.dumps(entry | {"speedup": made.speedup}), "utf-8")
    return made


def together(each: Sequence[Trained]) -> Trained:
    """Networks of one kind that were trained one after the other, as if they had been at once."""

    def joined(trees: Any) -> Any:
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *trees)

    return Trained(
        each[0].model,
        joined([found.params for found in each]),
        joined([found.model_state for found in each]),
        joined([found.history for found in each]),
        sum(found.seconds for found in each),
        1.0,
    )


def split(params: Any, runs: int) -> list[Any]:
    """Returns the parameters of each run, of a tree with a leading axis over the runs."""
    return [jax.tree.map(lambda a, i=i: a[i], params) for i in range(runs)]


def times(networks: Mapping[str, Trained]) -> dict[str, dict[str, float]]:
    """For a result: what each kind took, and for several of one how many times as fast it was."""
    return {
        "seconds": {name: found.seconds for name, found in networks.items()},
        "speedup": {name: found.speedup for name, found in networks.items() if len(found) > 1},
    }


def spread(values: Any) -> dict[str, float]:
    """Mean and standard deviation over the seeds."""
    values = [float(value) for value in values]
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "deviation": deviation, "seeds": len(values)}


def said(found: Mapping[str, float]) -> str:
    """0.893 +- 0.002"""
    return f"{found['mean']:.3f} +- {found['deviation']:.3f}"
