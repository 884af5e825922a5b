"""Recurrent layers: forward and backward passes, compilation and memory; against torch and JAX.

Why: users find recurrent layers slower in every JAX library than in torch. Shapes are (N, T, D, H):
rows, steps, inputs, units.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks._measure import Call, NotInstalled, Row, evaluate, measure, row, run_table

Shape = tuple[int, int, int, int]
LARGE: tuple[Shape, Shape] = (32, 100, 128, 256), (64, 50, 256, 512)
SMALL: Shape = (1, 200, 64, 64)
TINY: Shape = (2, 3, 4, 5)
KINDS = ("lstm", "gru")
TARGETS = {
    ("lstm", LARGE[0]): {"torch": 1.15, "two": 0.95, "jax": 0.92},
    ("gru", LARGE[0]): {"torch": 0.75, "two": 0.55},
    ("lstm", LARGE[1]): {"torch": 1.1},
    ("gru", LARGE[1]): {"torch": 0.95},
    ("lstm", SMALL): {"torch": 0.4},
    ("gru", SMALL): {"torch": 0.4},
}
COMPILATION_TARGET = 1.2
JAX_PEERS = ("Flax", "Equinox", "Keras on JAX")
FORMS = ("its products alone", "memory kept", "two devices", "both helpers")
"""Variants of ours, against torch; the products alone are a lower bound, not a layer."""


def run(config) -> list[Row]:
    """Runs all works of the table, or those selected by `only`."""
    works = {"step": steps, "lengths": lengths, "compilation": compilation, "memory": memory}
    return run_table(works, config)


def _describe(kind: str, shape: Shape) -> str:
    return f"{kind.upper()} {shape}"


def _call(function: str, library: str, kind: str, shape: Shape, **others: object) -> Call:
    arguments = {"library": library, "kind": kind, "shape": shape} | others
    return Call(f"benchmarks._recurrent:{function}", arguments)


def steps(config) -> Iterator[Row]:
    """Forward and backward passes."""
    for shape in (TINY,) if config.smoke else (*LARGE, SMALL):
        for kind in KINDS:
            yield from _step(config, kind, shape, () if shape == SMALL else FORMS)


def _step(config, kind: str, shape: Shape, forms: tuple[str, ...]) -> Iterator[Row]:
    names = ("ours", *forms, "torch", *JAX_PEERS)
    calls = {name: _call("forward_backward", name, kind, shape) for name in names}
    measurement = measure(calls, config.rounds, config.turn)
    work, targets = _describe(kind, shape), TARGETS.get((kind, shape), {})
    best = _fastest(measurement.seconds)
    for peer in ("torch", *JAX_PEERS):
        yield measurement.row(work, peer, targets.get("jax" if peer == best else peer))
    for form in forms:
        goals = {"memory kept": "torch", "two devices": "two", "both helpers": "two"}
        target = targets.get(goals.get(form, ""))
        yield measurement.row(f"{work}, {form}", "torch", target, ours=form)


def _fastest(seconds: dict[str, list[float]]) -> str | None:
    """The JAX peer of the lowest median."""
    installed = [name for name in JAX_PEERS if name in seconds]
    return min(installed, key=lambda name: statistics.median(seconds[name]), default=None)


def lengths(config) -> Iterator[Row]:
    """Times rows with half of their steps padding against full rows."""
    shape = TINY if config.smoke else LARGE[0]
    for kind in KINDS:
        calls = {
            "ours": _call("forward_backward", "ours", kind, shape, padded=True),
            "the same rows, full": _call("forward_backward", "ours", kind, shape),
        }
        measurement = measure(calls, config.rounds, config.turn)
        yield measurement.row(f"{_describe(kind, shape)}, half padding", "the same rows, full", 1.0)


def compilation(config) -> Iterator[Row]:
    """Tracing and compiling the pass, against the JAX peer that compiles fastest."""
    for shape in (TINY,) if config.smoke else LARGE:
        for kind in KINDS:
            names = ("ours", *JAX_PEERS)
            calls = {name: _call("compilation", name, kind, shape) for name in names}
            measurement = measure(calls, config.rounds, config.turn)
            work = f"{_describe(kind, shape)}, compilation"
            best = _fastest(measurement.seconds) or JAX_PEERS[0]
            yield measurement.row(work, best, COMPILATION_TARGET, note="the fastest JAX peer")


def memory(config) -> Iterator[Row]:
    """Temporary memory of the compiled pass, against the JAX peer that needs least."""
    for shape in (TINY,) if config.smoke else LARGE:
        for kind in KINDS:
            megabytes = {}
            for name in ("ours", *JAX_PEERS):
                try:
                    call = _call("temporary_bytes", name, kind, shape)
                    megabytes[name] = evaluate(call) / 1e6
                except NotInstalled:
                    continue
            # One number a library: memory is planned by the compiler and does not vary.
            peers = megabytes.keys() - {"ours"}
            work = f"{_describe(kind, shape)}, temporary memory"
            if peers:
                best = min(peers, key=megabytes.__getitem__)
                yield row(work, best, [megabytes["ours"]], [megabytes[best]], unit="MB")
