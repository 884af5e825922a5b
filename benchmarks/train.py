"""Training: an epoch, steps of CNNs, sweeps over seeds, starting up; against torch and JAX peers.

Why: compiling a whole epoch, and a convolution's gradient written for the CPU, are worth it only
if a user's `fit` is faster than what the same user would write elsewhere. Each work is measured in
this one process, in turn with its peers, warm, and shown as the median of ours / peer.
"""

from __future__ import annotations

import importlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from benchmarks import _jaxdl
from benchmarks._measure import Row, alternate, matmul_peak, python, ratio, row

PEERS = {"torch": "_torch", "Keras on JAX": "_keras", "Flax NNX": "_nnx", "Equinox": "_equinox"}


def run(config) -> list[Row]:
    """All works of the table, or those chosen by `only`."""
    works = {"epoch": epoch, "step": steps, "scan": scan, "seeds": seeds, "start": start}
    print(f"{'work':44s} {'peer':30s} {'ratio':>8s} {'target':>7s}")
    chosen = [work for name, work in works.items() if config.only in name]
    return [line for work in chosen for line in work(config)]


def _peers(make) -> dict[str, Any]:
    """`make(module)` for every peer that is installed; for another, the reason it is not."""
    made: dict[str, Any] = {}
    for name, module in PEERS.items():
        try:
            made[name] = make(importlib.import_module(f"benchmarks.{module}"))
        except ImportError as error:
            made[name] = f"not installed: {error.name}"
    return made


def _compare(work, ours, peers, targets, rounds, repeat, warm=2) -> Iterator[Row]:
    runs = {"ours": ours} | {name: peer for name, peer in peers.items() if callable(peer)}
    seconds = alternate(runs, rounds, repeat, warm)
    mine = statistics.median(seconds["ours"])
    for name, peer in peers.items():
        if callable(peer):
            theirs = statistics.median(seconds[name])
            note = f"{mine * 1e3:.1f} ms against {theirs * 1e3:.1f} ms"
            value = ratio(seconds["ours"], seconds[name])
            yield row(work, name, value, targets.get(name), note)
        else:
            yield row(work, name, None, targets.get(name), str(peer))
    yield from ()


def _images(n, size, channels):
    rng = np.random.default_rng(0)
    return rng.random((n, size, size, channels), np.float32), rng.integers(0, 10, n, np.int32)


def epoch(config) -> Iterator[Row]:
    """One epoch of the lectures' network on as many rows as MNIST has."""
    n = 1000 if config.smoke else 60_000
    rng = np.random.default_rng(0)
    x, y = rng.random((n, 784), np.float32), rng.integers(0, 10, n, np.int32)
    targets = {"torch": 0.72} | dict.fromkeys(list(PEERS)[1:], 0.80)
    work = "epoch of 784-500-500-10, batch 100"
    ours = _jaxdl.epoch(x, y)
    yield from _compare(
        work, ours, _peers(lambda peer: peer.epoch(x, y)), targets, max(1, config.rounds // 2), 1
    )
    peak = matmul_peak(256 if config.smoke else 2048)
    flops = 6 * n * (784 * 500 + 500 * 500 + 500 * 10) - 2 * n * 784 * 500
    seconds = statistics.median(ours() for _ in range(max(1, config.rounds // 2)))
    share = f"{flops / seconds / peak:.0%} of the measured {peak / 1e9:.0f} GFLOP/s of a matmul"
    yield row(work, "the matmul peak", seconds * peak / flops, None, share)


def steps(config) -> Iterator[Row]:
    """Training steps of three CNNs."""
    cases = [
        ("step of a LeNet-like CNN, 28x28, batch 64", "lenet", (64, 28, 1), 0.72),
        ("step of 4 conv 3x3, 16 ch, 32x32, batch 64", "stack", (64, 32, 16), 1.5),
        ("step of 4 conv 3x3, 64 ch, 16x16, batch 32", "stack", (32, 16, 64), 1.8),
    ]
    for work, kind, shape, target in cases:
        x, y = _images(*shape)
        peers = _peers(lambda peer, kind=kind, x=x, y=y: peer.step(kind, x, y))
        ours = _jaxdl.step(kind, x, y)
        repeat = 1 if config.smoke else 5
        yield from _compare(work, ours, peers, {"torch": target}, config.rounds, repeat)


def scan(config) -> Iterator[Row]:
    """The LeNet-like step inside a compiled loop: XLA's own weight gradient is slow there."""
    n = 2 if config.smoke else 10
    x, y = _images(64, 28, 1)
    one, many = _jaxdl.step("lenet", x, y), _jaxdl.scanned("lenet", x, y, n)
    peers: dict[str, Any] = {"the same steps alone": lambda: [one() for _ in range(n)]}
    try:
        peers["Flax Linen, scanned"] = importlib.import_module("benchmarks._nnx").scanned(x, y, n)
    except ImportError as error:
        peers["Flax Linen, scanned"] = f"not installed: {error.name}"
    targets = {"the same steps alone": 1.15, "Flax Linen, scanned": 0.2}
    work = f"{n} LeNet-like steps in one scan"
    yield from _compare(work, many, peers, targets, max(1, config.rounds // 2), 1)


def seeds(config) -> Iterator[Row]:
    """Sixteen seeds by `train_many` against sixteen runs, compilation included."""
    import optax

    from jaxdl import data, nn, train

    split, n, epochs = data.digits().train, (2 if config.smoke else 16), (1 if config.smoke else 10)

    def model():
        return nn.serial(nn.flatten(), nn.dense(64), jax.nn.relu, nn.dense(10))

    options: dict[str, Any] = dict(loss="cross_entropy", batch_size=100, epochs=epochs, verbose=0)

    def many():
        jax.clear_caches()
        train.train_many(model(), split, seeds=range(n), optimizer=optax.sgd(0.1), **options)

    def separate():
        for seed in range(n):
            jax.clear_caches()
            train.fit(model(), split, seed=seed, optimizer=optax.sgd(0.1), **options)

    def compiled_once():
        jax.clear_caches()
        shared, optimizer = model(), optax.sgd(0.1)
        for seed in range(n):
            train.fit(shared, split, seed=seed, optimizer=optimizer, **options)

    peers = {f"{n} programs of one run": separate, f"{n} runs in one program": compiled_once}
    targets = dict.fromkeys(peers, 0.8)
    work = f"{n} seeds by train_many, compile included"
    yield from _compare(work, many, peers, targets, max(1, config.rounds // 4), 1, warm=0)


START = """
import json, sys, time
import jax
from jaxdl import data, nn, train
import optax
train.enable_compilation_cache(sys.argv[1])
model = nn.serial(nn.conv(32), jax.nn.relu, nn.max_pool(2), nn.conv(64), jax.nn.relu,
                  nn.max_pool(2), nn.flatten(), nn.dense(10))
_, history = train.fit(model, data.digits().train, loss="cross_entropy", optimizer=optax.adam(1e-3),
                       batch_size=100, epochs=1, verbose=0)
print(json.dumps(sum(history["compile_seconds"])))
"""
IMPORT = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def start(config) -> Iterator[Row]:
    """Starting up: compilation the second time, and the import."""
    ratios = []
    for _ in range(1 if config.smoke else 3):
        with tempfile.TemporaryDirectory() as cache:
            first, second = python(START, cache), python(START, cache)
        ratios.append(second / first)
        time.sleep(0.2)
    work = "compilation at the second start, cached"
    yield row(work, "the first start", statistics.median(ratios), 0.25)
    added = [
        python(IMPORT.format("jax, jaxdl")) - python(IMPORT.format("jax"))
        for _ in range(1 if config.smoke else 5)
    ]
    note = "seconds added, not a ratio"
    yield row("import jaxdl", "import jax", statistics.median(added), 0.5, note)
