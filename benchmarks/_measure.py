"""Measuring on a noisy machine: in turn, warm, and as the median of paired ratios."""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

Row = dict[str, Any]


def alternate(
    runs: Mapping[str, Callable[[], Any]], rounds: int, repeat: int = 1, warm: int = 2
) -> dict[str, list[float]]:
    """Seconds a call for each of `runs`, taken in turn `rounds` times after `warm` calls.

    A pause before each lets the thread pool of the one before fall asleep.
    """
    for run in runs.values():
        for _ in range(warm):
            run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(0.05)
            start = time.perf_counter()
            for _ in range(repeat):
                run()
            seconds[name].append((time.perf_counter() - start) / repeat)
    return seconds


def ratio(ours: list[float], peer: list[float]) -> float:
    """The median of ours / peer, round by round."""
    return statistics.median(a / b for a, b in zip(ours, peer, strict=True))


def row(work: str, peer: str, value: float | None, target: float | None, note: str = "") -> Row:
    """A row, printed as it comes."""
    shown = "-" if value is None else f"{value:.3f}"
    goal = "" if target is None else f"{target:.2f}"
    print(f"{work:44s} {peer:30s} {shown:>8s} {goal:>7s}  {note}", flush=True)
    return {"work": work, "peer": peer, "ratio": value, "target": target}


def python(code: str, *args: str, missing_is_none: bool = False) -> Any:
    """What `code` prints last, as JSON, when run in a process of its own.

    With `missing_is_none`, None where it imports a package that is not installed.
    """
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parent.parent)}
    command = [sys.executable, "-c", code, *args]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if missing_is_none and "ModuleNotFoundError" in done.stderr:
        return None
    if done.returncode:
        raise RuntimeError(f"{code}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def matmul_peak(size: int = 2048, rounds: int = 7) -> float:
    """The machine's measured float32 matmul rate, in FLOP/s: the best of some rounds."""
    a = jnp.ones((size, size), jnp.float32)
    product = jax.jit(jnp.matmul)
    run = lambda: jax.block_until_ready(product(a, a))  # noqa: E731
    return 2 * size**3 / min(alternate({"matmul": run}, rounds)["matmul"])
