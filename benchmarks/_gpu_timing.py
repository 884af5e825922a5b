"""Timing of calls that run on a card, for each library's side of `python -m benchmarks gpu`."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np


class Skipped(Exception):
    """A work cannot be measured here; the message gives the reason."""


def median_ms(call: Callable[[], Any], wait: Callable[[Any], Any], seconds: float) -> float:
    """Returns the median milliseconds of a call, over rounds of several calls each.

    Each round waits once: waiting for every call would add the card's latency to each of them.

    Args:
      call: starts the work; everything must have been compiled by an earlier call.
      wait: blocks until what `call` returned last is there.
      seconds: about how long to measure.
    """
    began = time.perf_counter()
    wait(call())
    once = time.perf_counter() - began
    # Seven rounds give a median that ignores three slow ones.
    rounds = max(1, min(7, int(seconds / once)))
    repeat = max(1, int(seconds / rounds / once))
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(repeat):
            result = call()
        wait(result)
        taken.append((time.perf_counter() - began) / repeat)
    return statistics.median(taken) * 1e3


@functools.lru_cache(maxsize=1)
def factors(n: int) -> np.ndarray:
    """Draws two square matrices; zeros would be multiplied faster than any real data."""
    return np.random.default_rng(0).standard_normal((2, n, n), np.float32)


def matmul_error(few: np.ndarray, n: int) -> str:
    """Describes the error of the first rows of the product of `factors(n)` against float64.

    It shows what the card computed in: about 3e-3 for bfloat16 operands, 3e-4 for TF32 and 1e-6
    for float32.
    """
    a, b = factors(n)
    exact = a[: len(few)].astype(np.float64) @ b.astype(np.float64)
    return f"relative error {np.linalg.norm(few - exact) / np.linalg.norm(exact):.0e}"
