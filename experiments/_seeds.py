"""Networks of one kind over several seeds: training as one program, timing and saving.

Networks are saved below the results folder, so that experiments with a network in common train it
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


class Networks(NamedTuple):
    """Trained networks of one kind: one for each seed, or for each seed and setting.

    Attributes:
      model: the model.
      params, model_state: trees with a leading axis over the runs.
      history: (runs, epochs) arrays by name; those of the evaluation data begin with `eval_`.
      seconds: the time of the training, with compilation.
      speedup: the time of the runs one by one over that time.
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
        """Returns the outputs of all networks, (runs, N, ...)."""
        key, step = jax.random.key(0), jax.numpy.int32(0)
        states = train.TrainState(self.params, self.model_state, (), key, step)
        return np.asarray(train.predict_many(self.model, states, x))

    def accuracy(self, x: Any, labels: Any) -> np.ndarray:
        """Returns the accuracy of each network, (runs,)."""
        return (self.predict(x).argmax(-1) == np.asarray(labels)).mean(-1)


def train_networks(
    config: Any,
    model: jaxdl.Module,
    data: Any,
    *,
    seeds: int,
    epochs: int,
    hyper: Mapping[str, Any] | None = None,
    **options: Any,
) -> Networks:
    """Trains a network from each of several seeds with `train.train_many`, and times it.

    Args:
      config: the experiment's options; the first seed is `config.seed`. A smoke run is not timed.
      model, data, epochs, hyper, **options: as for `train.train_many`.
      seeds: the number of seeds.
    """
    options = {"metrics": (), "verbose": 0} | options
    first = config.seed
    start = time.perf_counter()
    states, history = train.train_many(
        model, data, seeds=range(first, first + seeds), epochs=epochs, hyper=hyper, **options
    )
    seconds = time.perf_counter() - start
    speedup = 1.0
    if not config.smoke:
        runs = {"first": first, "seeds": seeds, "epochs": epochs, "hyper": hyper}
        speedup = measure_speedup(model, data, **runs, **options)
    return Networks(model, states.params, states.model_state, history, seconds, speedup)


def measure_speedup(
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
    """Returns the time of the runs one by one, each with compilation, over that of one program.

    A twentieth of the epochs is timed and the rest extrapolated. Both sides are timed in this one
    call, because times of different hours on a shared machine cannot be compared.
    """
    one = {name: list(values)[:1] for name, values in (hyper or {}).items()} or None
    runs = seeds * max((len(values) for values in (hyper or {}).values()), default=1)
    few = max(1, epochs // 20)

    def time_few(seeds: int, hyper: Any) -> float:
        own = range(first, first + seeds)
        initial = jax.tree.map(lambda a: a[:seeds], states)
        start = time.perf_counter()
        train.train_many(model, data, seeds=own, epochs=few, hyper=hyper, states=initial, **options)
        return time.perf_counter() - start

    def estimate(seeds: int, hyper: Any) -> float:
        jax.clear_caches()  # otherwise the first call would not compile
        compiling, running = time_few(seeds, hyper), time_few(seeds, hyper)
        return max(0.0, compiling - running) + running * epochs / few

    return runs * estimate(1, one) / estimate(seeds, hyper)


def load_or_train(
    config: Any,
    model: jaxdl.Module,
    data: Any,
    settings: Mapping[str, Any],
    make: Callable[[], Networks],
) -> Networks:
    """Loads the networks that an earlier experiment saved, or trains and saves them.

    The file's name is a checksum of the model's description, the data and the settings.

    Args:
      config: the experiment's options; networks are saved below its results folder.
      model: the model.
      data: the training data.
      settings: everything else that the networks depend on.
      make: trains the networks.
    """
    checksum = 0
    for leaf in jax.tree.leaves(data):
        # The data are part of the key: the smoke run's networks must not be reused.
        checksum = zlib.crc32(np.asarray(leaf).tobytes(), checksum)
    key = dict(settings) | {"model": repr(model), "data": checksum}
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    weights = config.results / "networks" / f"{name}.safetensors"
    record = weights.with_suffix(".json")
    if record.is_file():
        entry = json.loads(record.read_text("utf-8"))
        params, model_state = safetensors.load_weights(weights)
        history = {name: np.array(values) for name, values in entry["history"].items()}
        times = entry["seconds"], entry["speedup"]
        return Networks(model, params, model_state, history, *times)
    networks = make()
    weights.parent.mkdir(parents=True, exist_ok=True)
    safetensors.save_weights(weights, networks.params, networks.model_state)
    history = {name: np.asarray(values).tolist() for name, values in networks.history.items()}
    entry = {"settings": key, "history": history, "seconds": networks.seconds}
    # Written after the weights: a run that is stopped between the two leaves no record, and trains
    # again.
    record.write_text(json.dumps(entry | {"speedup": networks.speedup}), "utf-8")
    return networks


def concatenate(parts: Sequence[Networks]) -> Networks:
    """Joins networks of one kind that were trained one after the other."""

    def join(trees: Any) -> Any:
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *trees)

    return Networks(
        parts[0].model,
        join([networks.params for networks in parts]),
        join([networks.model_state for networks in parts]),
        join([networks.history for networks in parts]),
        sum(networks.seconds for networks in parts),
        1.0,
    )


def split(params: Any, runs: int) -> list[Any]:
    """Splits parameters with a leading axis over the runs into those of each run."""
    return [jax.tree.map(lambda a, i=i: a[i], params) for i in range(runs)]


def summarize_times(kinds: Mapping[str, Networks]) -> dict[str, dict[str, float]]:
    """Returns the seconds of each kind, and the speedup of those with several runs."""
    return {
        "seconds": {name: networks.seconds for name, networks in kinds.items()},
        "speedup": {name: nets.speedup for name, nets in kinds.items() if len(nets) > 1},
    }


def summarize(values: Any) -> dict[str, float]:
    """Returns the mean and the standard deviation over the seeds, and the number of seeds."""
    values = [float(value) for value in values]
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "deviation": deviation, "seeds": len(values)}


def format_summary(summary: Mapping[str, float]) -> str:
    """Returns "0.893 +- 0.002"."""
    return f"{summary['mean']:.3f} +- {summary['deviation']:.3f}"
