"""Reliability: killed runs, damaged files, many devices and hostile bytes, counted.

Why: people trust a training library when a killed run resumes bit for bit and a strange file can at
worst give an error. The tests run the same functions with smaller counts.
"""

from __future__ import annotations

import platform
import signal
from collections.abc import Iterator

import jax

from benchmarks import _malformed, _reliability
from benchmarks._measure import Row
from benchmarks._reliability import Outcome


def run(config) -> list[Row]:
    """Runs all rows of the table, or those selected by `only`."""
    print(f"jax {jax.__version__}, Python {platform.python_version()}, {platform.platform()}")
    return list(rows(config))


def rows(config) -> Iterator[Row]:
    small = config.smoke
    counted = {
        "SIGTERM at random steps, resumed: all bits alike": lambda: _reliability.stop_and_resume(
            2 if small else 100
        ),
        "Ctrl-C at random steps, resumed: all bits alike": lambda: _reliability.stop_and_resume(
            2 if small else 100, number=signal.SIGINT
        ),
        "SIGKILL while saving: nothing unreadable, nothing lost": lambda: (
            _reliability.killed_while_saving(2 if small else 100)
        ),
        "bits flipped and files cut in a checkpoint: noticed": lambda: (
            _reliability.damage_checkpoints(20 if small else 2000)
        ),
        "processes that fetch one file into one cache": lambda: _reliability.fetch_concurrently(8),
    }
    for what, measure in counted.items():
        if config.only in what:
            yield counts(what, measure())
    measured = {
        "1 device, 8, and 2 processes of 4: largest difference after 12 steps": (
            _reliability.devices
        ),
        "saved on 8, resumed on 1, and back: largest difference": _reliability.move_between_devices,
        "one of two processes killed, both restarted: largest difference": (
            _reliability.kill_one_of_two
        ),
        "fit with a checkpoint every 1,000 steps: time above the bare steps'": lambda: (
            _reliability.overhead(1 if small else config.rounds)
        ),
    }
    for what, measure in measured.items():
        # Minutes each: a smoke run leaves them out.
        if config.only in what and not small:
            result = measure()
            yield row(
                what, f"{result.good:.2g}", f"at most {result.of:g}", result.good <= result.of
            )
    if config.only in "soak":
        steps = 500 if small else 10_000
        memory, arrays = _reliability.soak(steps)
        what = f"{steps:,} steps: growth of resident memory"
        yield row(what, f"{memory.good:.1%}", f"below {memory.of:.0%}", memory.good < memory.of)
        what = f"{steps:,} steps: change of the number of live arrays"
        yield row(what, str(arrays.good), str(arrays.of), arrays.good == arrays.of)
    if config.only in "malformed":
        yield from fuzz_readers(20 if small else 1000)


def fuzz_readers(cases: int) -> Iterator[Row]:
    for kind, result in _malformed.fuzz(cases).items():
        shown = (
            f"{result.cases - len(result.wrong):,} of {result.cases:,}: "
            f"{result.refused:,} refused, {result.read:,} read; "
            f"at most {result.slowest:.2f} s, {result.largest:.0f} MB"
        )
        yield row(f"changed files, {kind}", shown, "an error of type, 1 s, 50 MB", not result.wrong)


def counts(what: str, result: Outcome) -> Row:
    for wrong in result.wrong:
        print("  ", wrong)
    return row(what, f"{result.good:,} of {result.of:,}", "all", result.good == result.of)


def row(what: str, result: str, reach: str, well: bool) -> Row:
    """Prints a row and returns it."""
    print(f"{what:72s} {result:40s} {reach}{'' if well else '   MISSED'}", flush=True)
    return {"what": what, "result": result, "reach": reach, "well": well}
