"""Training: an epoch, steps of CNNs, sweeps over seeds, starting up; against torch and JAX peers.

Why: compiling a whole epoch, and a convolution's gradient written for the CPU, are worth it only
if a user's `fit` is faster than what the same user would write elsewhere.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from typing import Any

from benchmarks import _matmul
from benchmarks._measure import Call, Row, evaluate, measure, row, run_table

PEERS = {"torch": "_torch", "Keras on JAX": "_keras", "Flax NNX": "_nnx", "Equinox": "_equinox"}


def run(config) -> list[Row]:
    """Runs all works of the table, or those selected by `only`."""
    works = {"epoch": epoch, "step": steps, "scan": scan, "seeds": seeds, "start": start}
    return run_table(works, config)


def _calls(function: str, arguments: dict[str, Any]) -> dict[str, Call]:
    """The same function of our module and of each peer's."""
    modules = {"ours": "_jaxdl"} | PEERS
    return {name: Call(f"benchmarks.{m}:{function}", arguments) for name, m in modules.items()}


def epoch(config) -> Iterator[Row]:
    """Times an epoch of the lectures' network on 60,000 rows, and its share of the peak rate."""
    n, size = (1000, 256) if config.smoke else (60_000, 2048)
    targets = {"torch": 0.72} | dict.fromkeys(list(PEERS)[1:], 0.80)
    work = "epoch of 784-500-500-10, batch 100"
    products = {
        f"matmul by {name}": Call(f"benchmarks._matmul:{function}", {"size": size})
        for name, function in _matmul.LIBRARIES.items()
    }
    measurement = measure(_calls("epoch", {"n": n}) | products, config.rounds, config.turn)
    for peer in PEERS:
        yield measurement.row(work, peer, targets[peer])
    times = measurement.seconds
    best = min(products.keys() & times.keys(), key=lambda name: statistics.median(times[name]))
    # Of the same rounds as ours, so that the load of the machine is the same.
    peak = [_matmul.flops(size) / seconds for seconds in times[best]]
    # 2 FLOPs a weight and row forward, 4 backward; the first layer's input needs no gradient.
    flops = 6 * n * (784 * 500 + 500 * 500 + 500 * 10) - 2 * n * 784 * 500
    ours = [1e3 * seconds for seconds in times["ours"]]
    note = f"the measured peak is {statistics.median(peak) / 1e9:.0f} GFLOP/s"
    bound = [1e3 * flops / rate for rate in peak]
    yield row(work, f"the peak, {best}", ours, bound, load=measurement.load, note=note)


def steps(config) -> Iterator[Row]:
    """Training steps of three CNNs."""
    cases = [
        ("step of a LeNet-like CNN, 28x28, batch 64", "lenet", (64, 28, 1), 0.72),
        ("step of 4 conv 3x3, 16 ch, 32x32, batch 64", "stack", (64, 32, 16), 1.5),
        ("step of 4 conv 3x3, 64 ch, 16x16, batch 32", "stack", (32, 16, 64), 1.8),
    ]
    for work, kind, shape, target in cases:
        calls = _calls("step", {"kind": kind, "shape": shape})
        measurement = measure(calls, config.rounds, config.turn)
        for peer in PEERS:
            yield measurement.row(work, peer, target if peer == "torch" else None)


def scan(config) -> Iterator[Row]:
    """The LeNet-like step inside a compiled loop: XLA's own weight gradient is slow there."""
    n = 2 if config.smoke else 10
    arguments = {"shape": (64, 28, 1), "steps": n}
    calls = {
        "ours": Call("benchmarks._jaxdl:scan_steps", arguments),
        "the same steps alone": Call("benchmarks._jaxdl:repeat_steps", arguments),
        "Flax Linen, scanned": Call("benchmarks._nnx:scan_steps", arguments),
    }
    measurement = measure(calls, config.rounds, config.turn)
    work = f"{n} LeNet-like steps in one scan"
    yield measurement.row(work, "the same steps alone", 1.15)
    yield measurement.row(work, "Flax Linen, scanned", 0.2)


def seeds(config) -> Iterator[Row]:
    """Sixteen seeds by `train_many` against sixteen runs, compilation included."""
    n, epochs = (2, 1) if config.smoke else (16, 10)
    functions = {
        "ours": "together",
        f"{n} programs of one run": "separately",
        f"{n} runs in one program": "compiled_once",
    }
    calls = {
        name: Call(f"benchmarks._seeds:{function}", {"n": n, "epochs": epochs}, warm=False)
        for name, function in functions.items()
    }
    measurement = measure(calls, config.few_rounds)
    for peer in list(calls)[1:]:
        yield measurement.row(f"{n} seeds by train_many, compile included", peer, 0.8)


def start(config) -> Iterator[Row]:
    """Starting up: compilation the second time, and the import."""
    first, second, alone, both = [], [], [], []
    for _ in range(config.few_rounds):
        with tempfile.TemporaryDirectory() as cache:
            # The same cache folder twice: the second start should find what the first compiled.
            for seconds in (first, second):
                call = Call("benchmarks._start:first_fit", {"cache": cache})
                seconds.append(1e3 * evaluate(call))
        for seconds, names in ((alone, ["jax"]), (both, ["jax", "jaxdl"])):
            call = Call("benchmarks._start:imports", {"names": names})
            seconds.append(1e3 * evaluate(call))
    yield row("compilation at the second start, cached", "the first start", second, first, 0.25)
    added = statistics.median(b - a for a, b in zip(alone, both, strict=True))
    yield row("import jax, jaxdl", "import jax", both, alone, note=f"{added:.0f} ms added")
