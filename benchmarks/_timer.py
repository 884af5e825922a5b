"""`python -m benchmarks._timer FUNCTION ARGUMENTS WARM`: times one library in this process.

The process imports nothing but the function's module, so no other library's threads run here. It
answers each line on stdin with a line of JSON on stdout, and blocks on stdin in between.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, TextIO


def time_turn(call: Callable[[], Any], at_least: float, warm: bool) -> dict[str, float]:
    """Times calls for at least a number of seconds, after one that is not counted.

    Returns the mean wall time of a call and the CPU time of the turn, both in seconds.
    """
    used = time.process_time()
    if warm:  # while this process waited, others filled the caches and its threads fell asleep
        call()
    start, count, elapsed = time.perf_counter(), 0, 0.0
    while count == 0 or elapsed < at_least:
        call()
        count += 1
        elapsed = time.perf_counter() - start
    return {"seconds": elapsed / count, "cpu": time.process_time() - used}


def resolve(function: str) -> Callable[..., Any]:
    """Imports "module:function"."""
    module, name = function.split(":")
    return getattr(importlib.import_module(module), name)


def serve(function: str, arguments: dict[str, Any], warm: bool, replies: TextIO) -> None:
    """Builds the call, prints "ready", and times a turn for each request until stdin is closed."""

    def reply(**message: Any) -> None:
        print(json.dumps(message), file=replies, flush=True)

    try:
        if os.environ.get("JAXDL_CPU"):
            importlib.import_module("jaxdl_cpu").enable()
        built = resolve(function)(**arguments)
        if not callable(built):
            return reply(value=built)
        last = 0.0
        # Twice: the first call compiles, and the second shows how long a warm one takes.
        for _ in range(2 if warm else 0):
            last = time_turn(built, 0, warm=False)["seconds"]
        reply(ready=True)
        for line in sys.stdin:
            at_least = json.loads(line)["at_least"]
            # A call longer than a whole turn needs no warm-up, which would double the time.
            turn = time_turn(built, at_least, warm=warm and last < at_least)
            last = turn["seconds"]
            reply(**turn)
    except ModuleNotFoundError as error:
        # A module of this project that does not import is a bug, not a library to install.
        ours = (error.name or "").split(".")[0] in ("benchmarks", "jaxdl")
        reply(**{"error" if ours else "missing": traceback.format_exc() if ours else error.name})
    except Exception:
        reply(error=traceback.format_exc())


if __name__ == "__main__":
    # Libraries print to stdout, so the replies use a duplicate of its descriptor.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        serve(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3] == "warm", answers)
