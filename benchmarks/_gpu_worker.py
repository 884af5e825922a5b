"""`python -m benchmarks._gpu_worker LIBRARY SECONDS SMOKE KEY ...`: measures works of one library.

Writes one JSON object a line to its first standard output: {"machine": ...} at the start,
{"key": ..., "ms": ...} for each work, {"end": true} when it is done or its seconds are over.
Whatever else is printed goes to standard error, where it cannot break a line.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
import traceback
from typing import Any

from benchmarks import _gpu_works
from benchmarks._gpu_timing import Skipped

MODULES = {
    "ours": "_gpu_ours",
    "Flax": "_gpu_flax",
    "torch": "_gpu_torch",
    "torch.compile": "_gpu_torch",
}
RESERVE = 12.0
"""Seconds that must be left to begin with a work; most compile and run in less."""


def main(library: str, seconds: str, smoke: str, *keys: str) -> None:
    """Measures the works of these keys in turn."""
    end = time.monotonic() + float(seconds)
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def send(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=lines, flush=True)

    small = smoke == "smoke"
    if small:  # compiling is most of its time
        os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    try:
        module = importlib.import_module(f"benchmarks.{MODULES[library]}")
    except ModuleNotFoundError as error:
        return send({"missing": error.name})
    works = {work.key: work for work in _gpu_works.works(small) if library in work.libraries}
    send({"machine": module.machine()})
    for key in keys:
        if time.monotonic() > end - (0 if small else RESERVE):
            break
        gc.collect()  # the arrays of the last work
        work = works[key]
        try:
            measure = module.kinds(library)[work.kind]
            row = measure(**work.size, seconds=0.1 if small else 1.0)
        except Skipped as reason:
            row = {"note": f"skipped: {reason}"}
        except Exception as error:  # one work that fails must not cost the others
            text = " ".join(f"{type(error).__name__}: {error}".split())
            row = {"note": f"failed: {text[:200]}", "trace": traceback.format_exc()}
        send({"key": key} | row)
    send({"end": True})


if __name__ == "__main__":
    main(*sys.argv[1:])
