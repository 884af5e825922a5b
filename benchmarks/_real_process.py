"""`python -m benchmarks._real_process SIDE NETWORK`: explains one network by one library.

Reads one JSON request a line: {"method", "path"} compiles a method, runs it once, writes its
attributions to `path`, and answers with compile time, peak memory and sums; {"at_least": seconds}
answers with the mean seconds of a call of that method. Builds the network once for all methods.

A side is a module with `prepare(network) -> start`, where `start(method)` returns a call without
arguments, the seconds of its compilation, and {"score" or "difference": (N,)}, what attributions
may add up to.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pathlib
import subprocess
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks._peak_memory import peak_megabytes
from benchmarks._timer import time_turn

ROOT = pathlib.Path(__file__).parent.parent
MODULES = {
    "ours": "_real_ours",
    "reference": "_real_reference",
    "Captum": "_real_peers",
    "Zennit": "_real_peers",
}


class Process:
    """A process of one side, which blocks until it is asked."""

    def __init__(self, side: str, network: str):
        command = [sys.executable, "-m", "benchmarks._real_process", side, network]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Returns the answer, or {"error": message}."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        return json.loads(line) if line else {"error": f"process ended: {self._process.wait()}"}

    def close(self) -> None:
        """Ends the process: at the end of its input it stops by itself."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()


@contextlib.contextmanager
def start_processes(sides: list[str], network: str) -> Iterator[dict[str, Process]]:
    """Starts a process for each side, one after the other, and ends them."""
    processes: dict[str, Process] = {}
    try:
        for side in sides:
            processes[side] = Process(side, network)
        yield processes
    finally:
        for process in processes.values():
            process.close()


def trim() -> None:
    """Returns freed memory to the system, so that the next peak counts all of its memory."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def first(start: Any, method: str, path: str) -> tuple[Any, dict[str, Any]]:
    """Compiles and runs a method once; returns its call and the answer."""
    call, seconds, due = start(method)
    trim()
    results: list[Any] = []
    peak = peak_megabytes(lambda: results.append(call()))
    values = np.asarray(results.pop(), np.float64)
    np.save(path, values.astype(np.float32))
    axes = tuple(range(1, values.ndim))
    answer = {"compile_s": seconds, "peak_MB": peak}
    answer |= {"sum": values.sum(axes).tolist(), "largest": np.abs(values).max(axes).tolist()}
    return call, answer | {name: np.asarray(value).tolist() for name, value in due.items()}


def main(side: str, network: str, replies: Any) -> None:
    """Answers requests until the input ends."""
    start, call, last = None, None, 0.0
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "method" in request:
                call = None
                if start is None:
                    start = importlib.import_module(f"benchmarks.{MODULES[side]}").prepare(network)
                call, answer = first(start, **request)
                last = 0.0
            else:
                warm = last < request["at_least"]
                answer = time_turn(call, request["at_least"], warm=warm)  # pyright: ignore
                last = answer["seconds"]
        except Exception as error:  # one method that fails must not cost the others
            words = " ".join(f"{type(error).__name__}: {error}".split())
            answer = {"error": words[:300], "trace": traceback.format_exc()}
        print(json.dumps(answer), file=replies, flush=True)


if __name__ == "__main__":
    # Libraries print to stdout, so the replies use a duplicate of its descriptor.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        main(sys.argv[1], sys.argv[2], answers)
