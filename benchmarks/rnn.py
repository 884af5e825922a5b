"""Recurrent layers: forward and backward passes, compilation and memory; against torch and JAX.

Why: users find recurrent layers slower in every JAX library than in torch. Shapes are (N, T, D, H):
rows, steps, inputs, units. The two large ones are measured in this one process, in turn with the
peers; the small one, and ours on two devices, in processes of their own, since the threads of one
library disturb the short steps of another.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks._measure import Row, alternate, python, ratio, row
from benchmarks._recurrent import MAKE, Shape

LARGE: tuple[Shape, Shape] = (32, 100, 128, 256), (64, 50, 256, 512)
SMALL: Shape = (1, 200, 64, 64)
TINY: Shape = (2, 3, 4, 5)
TARGETS = {
    ("lstm", LARGE[0]): {"torch": 1.15, "two": 0.95, "jax": 0.92},
    ("gru", LARGE[0]): {"torch": 0.75, "two": 0.55},
    ("lstm", LARGE[1]): {"torch": 1.1},
    ("gru", LARGE[1]): {"torch": 0.95},
    ("lstm", SMALL): {"torch": 0.4},
    ("gru", SMALL): {"torch": 0.4},
}
PRODUCTS = "its products alone"
JAX_PEERS = ("Flax", "Equinox", "Keras on JAX")
ALONE = "from benchmarks._recurrent import alone; print(alone({!r}, {!r}, {}, {}))"


def run(config) -> list[Row]:
    """All works of the table, or those chosen by `only`."""
    works = {"step": steps, "alone": alone, "lengths": lengths}
    print(f"{'work':44s} {'peer':30s} {'ratio':>8s} {'target':>7s}")
    chosen = [work for name, work in works.items() if config.only in name]
    return [line for work in chosen for line in work(config)]


def _named(kind: str, shape: Shape) -> str:
    return f"{kind.upper()} {shape}"


def steps(config) -> Iterator[Row]:
    """Forward and backward in turn with the peers; then compilation and memory."""
    for shape in (TINY,) if config.smoke else LARGE:
        for kind in ("lstm", "gru"):
            yield from _step(config, kind, shape)


def _step(config, kind, shape) -> Iterator[Row]:
    made: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name in ("ours", PRODUCTS, "torch", *JAX_PEERS):
        try:
            made[name] = MAKE[name](kind, shape)
        except ImportError as error:
            missing[name] = f"not installed: {error.name}"
    seconds = alternate({name: parts[0] for name, parts in made.items()}, config.rounds)
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    work, targets = _named(kind, shape), TARGETS.get((kind, shape), {})
    rivals = [name for name in JAX_PEERS if name in made]
    best = min(rivals, key=lambda name: middle[name], default=None)
    for name in ("torch", *JAX_PEERS):
        target = targets.get("jax") if name == best else targets.get(name)
        if name in missing:
            yield row(work, name, None, target, missing[name])
        else:
            note = f"{middle['ours'] * 1e3:.1f} ms against {middle[name] * 1e3:.1f} ms"
            yield row(work, name, ratio(seconds["ours"], seconds[name]), target, note)
    if "torch" in made:
        note = f"{middle[PRODUCTS] * 1e3:.1f} ms against {middle['torch'] * 1e3:.1f} ms"
        yield row(
            f"{work}, {PRODUCTS}", "torch", ratio(seconds[PRODUCTS], seconds["torch"]), None, note
        )
    for what, index, target in (("compilation", 1, 1.2), ("temporary memory", 2, None)):
        if best is not None:
            name = min(rivals, key=lambda name: made[name][index])
            mine, theirs = made["ours"][index], made[name][index]
            unit, scale = ("s", 1) if index == 1 else ("MB", 1e6)
            note = f"{mine / scale:.2f} {unit} against {theirs / scale:.2f} {unit}, {name}"
            yield row(f"{work}, {what}", "the best JAX peer", mine / theirs, target, note)


def alone(config) -> Iterator[Row]:
    """Each library in a process of its own: the small shape, and two devices on the large ones."""
    ours = ("ours", "ours, two devices", "ours, memory kept", "ours, both helpers")
    shapes = {SMALL: ("ours",)} | dict.fromkeys(LARGE, ours)
    for shape, mine in ({TINY: ours} if config.smoke else shapes).items():
        for kind in ("lstm", "gru"):
            names = (*mine, "torch", *(JAX_PEERS if shape == SMALL else ()))
            times: dict[str, list[float]] = {name: [] for name in names}
            for _ in range(1 if config.smoke else 3):
                for name in names:
                    code = ALONE.format(name, kind, shape, 3 * config.rounds)
                    value = python(code, missing_is_none=True)
                    times[name] += [] if value is None else [value]
            for name in mine:
                helped = "two" in name or "both" in name
                target = TARGETS.get((kind, shape), {}).get("two" if helped else "torch")
                for peer in names[len(mine) :]:
                    work = f"{_named(kind, shape)}, {'alone' if name == 'ours' else name[6:]}"
                    goal = target if peer == "torch" else None
                    if not times[peer]:
                        yield row(work, peer, None, goal, "not installed")
                        continue
                    here, there = (statistics.median(times[who]) for who in (name, peer))
                    note = f"{here * 1e3:.2f} ms against {there * 1e3:.2f} ms"
                    yield row(work, peer, here / there, goal, note)


def lengths(config) -> Iterator[Row]:
    """Rows of which half the steps are padding against full rows."""
    shape = TINY if config.smoke else LARGE[0]
    half = np.linspace(0, shape[1], shape[0]).astype(np.int32)
    for kind in ("lstm", "gru"):
        runs = {
            "padded": MAKE["ours"](kind, shape, lengths=half)[0],
            "full": MAKE["ours"](kind, shape)[0],
        }
        seconds = alternate(runs, config.rounds)
        value = ratio(seconds["padded"], seconds["full"])
        yield row(f"{_named(kind, shape)}, half padding", "the same rows, full", value, 1.0)
