"""Everyday programs: many models in a process, requests of any size, an own loop, a char GRU.

Why: a search or a service runs for hours, where caches that grow or compile again are felt, and
users who replace `fit` by their own loop should keep its speed.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks._measure import Call, Row, evaluate, measure, row, run_table

MODULE = "benchmarks._everyday"


def run(config) -> list[Row]:
    """Runs all works of the table, or those selected by `only`."""
    works = {"models": models, "requests": requests, "loop": loop, "characters": characters}
    return run_table(works, config)


def models(config) -> Iterator[Row]:
    """Fresh models of one shape, each with a fresh optimizer: seconds and resident memory."""
    count = 3 if config.smoke else 100
    sides: dict[str, list[dict[str, float]]] = {"ours": [], "by_hand": []}
    for i in range(1 if config.smoke else 2):
        # Every second time in the other order, as in `_measure.measure`.
        for name in list(sides)[:: -1 if i % 2 else 1]:
            sides[name].append(evaluate(Call(f"{MODULE}:{name}_models", {"count": count})))
    for unit, what in {"s": "seconds", "MB": "resident memory"}.items():
        ours, theirs = ([side[unit] for side in sides[name]] for name in sides)
        yield row(f"{count} models by fit, {what}", "a hand-written loop", ours, theirs, 1.1, unit)


def requests(config) -> Iterator[Row]:
    """Programs that XLA compiles for predictions of many numbers of rows."""
    count = 5 if config.smoke else 50
    compiled = evaluate(Call(f"{MODULE}:prediction_compilations", {"count": count}))
    work = f"predict for {count} numbers of rows"
    yield row(work, "one program for each", [compiled], [count], 0.2, "programs")


def loop(config) -> Iterator[Row]:
    """Steps of a convnet in the loop of docs/train/step.md, and by `fit`."""
    arguments = {"rows": 256 if config.smoke else 2048}
    calls = {
        "ours": Call(f"{MODULE}:own_loop", arguments),
        "memory kept": Call(f"{MODULE}:own_loop", arguments | {"keep": True}),
        "fit": Call(f"{MODULE}:fit_epoch", arguments),
        "fit, memory kept": Call(f"{MODULE}:fit_epoch", arguments | {"keep": True}),
    }
    measurement = measure(calls, config.few_rounds, config.turn)
    yield measurement.row("epoch of a CNN, own loop", "fit", 1.1)
    yield measurement.row(
        "epoch of a CNN, own loop, memory kept", "fit, memory kept", 1.1, ours="memory kept"
    )


def characters(config) -> Iterator[Row]:
    """Training steps of a character GRU: embedding, GRU, dense, cross-entropy, Adam."""
    shape = {"shape": (2, 3, 5, 4, 6) if config.smoke else (64, 64, 65, 64, 256)}
    calls = {
        "ours": Call(f"{MODULE}:char_gru", shape),
        "memory kept": Call(f"{MODULE}:char_gru", shape | {"keep": True}),
        "Flax NNX": Call("benchmarks._nnx:char_gru", shape),
        "Flax NNX, memory kept": Call("benchmarks._nnx:char_gru", shape | {"keep": True}),
    }
    measurement = measure(calls, config.few_rounds, config.turn)
    yield measurement.row("step of a character GRU", "Flax NNX", 1.0)
    work = "step of a character GRU, memory kept"
    yield measurement.row(work, "Flax NNX, memory kept", 1.0, ours="memory kept")
