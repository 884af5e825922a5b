"""One GPU, five minutes: training, recurrent layers and explanations, against torch and Flax.

Why: a card may be there for a few minutes only, on a machine where nothing can be installed. This
needs jax, flax, optax, numpy and, for its rows, torch; it opens no file from the network. Each
library runs in a separate process, one after the other, so that none takes the card's memory or
time from another; each work is compiled once. Rows are printed and written as they come, so that a
run that is cut off loses nothing. Without a GPU it runs on the CPU, which only `--smoke` is for.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import os
import pathlib
import platform
import subprocess
import time
from typing import Any

from benchmarks import _gpu_process
from benchmarks._gpu_works import LIBRARIES, Work, works

SHARES = {"ours": 0.4, "torch": 0.17, "Flax": 0.19, "torch.compile": 0.24}
"""Shares of the time. What a library does not use goes to works that others had no time for."""
LIMIT = 75.0
"""Seconds for one work, compilation included."""
SMOKE_FACTOR = 4
"""All limits are longer with `--smoke`, which must not fail on a busy machine."""
ENDING = 2.0
"""Seconds kept to kill the last process and to write the table."""
GPU = "name,driver_version,memory.total"
METHODS = {
    "ms": "median of a call; calls are waited for in rounds, except epochs",
    "compile_s": "JAX: tracing and compiling; torch and epochs of Flax: the first step",
    "peak_mb": "JAX: arguments, outputs and temporaries that XLA plans, for epochs and seeds the "
    "allocator's peak if it was the process's greatest; torch: max_memory_allocated",
    "share_of_peak": "FLOPs by formula / time / the best matmul measured in the same dtype; f32 "
    "works are compared with TF32, which is allowed everywhere",
    "explanations": "torch's are plain loops over autograd, in batches of the same size as ours",
    "torch": "ResNets in channels-last memory, bfloat16 by autocast, cudnn.benchmark on",
}


def main(arguments: list[str]) -> int:
    """Measures, prints the tables and writes the JSON file; returns 1 if anything failed."""
    parser = argparse.ArgumentParser("python -m benchmarks gpu", description=__doc__)
    parser.add_argument("--json", type=pathlib.Path, help="file for the table")
    parser.add_argument(
        "--only", default="", help="only works whose name contains this, and the matmuls"
    )
    parser.add_argument("--seconds", type=float, default=280.0, help="for everything together")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does everything run?")
    options = parser.parse_args(arguments)
    every = works(options.smoke)
    chosen = [work for work in every if options.only in work.name or work.kind == "matmul"]
    if not any(options.only in work.name for work in every):
        names = ", ".join(dict.fromkeys(work.name for work in every))
        print(f"no work's name contains {options.only!r}; there are: {names}")
        return 2
    if options.smoke:
        options.seconds *= SMOKE_FACTOR
    file = options.json
    if file is None and not options.smoke:
        file = pathlib.Path(__file__).parent / "results" / "gpu.json"
    table = Table(_machine(options), file)
    end = time.monotonic() + options.seconds - ENDING
    left = {who: [work for work in chosen if who in work.libraries] for who in LIBRARIES}
    # The second time, works that had no time get what other libraries left over.
    for again in (False, True):
        for library in LIBRARIES:
            share = end - time.monotonic() if again else SHARES[library] * options.seconds
            left[library] = _gpu_process.measure(
                lambda works, seconds, who=library: _gpu_process.worker(
                    who, works, seconds, options.smoke
                ),
                left[library],
                share=share,
                end=end,
                limit=LIMIT * SMOKE_FACTOR if options.smoke else LIMIT,
                record=functools.partial(table.add, library),
                machine=functools.partial(table.describe, library),
            )
    for library in LIBRARIES:
        for work in left[library]:
            table.add(library, work, {"note": "skipped: out of time"})
    table.print_ratios()
    return int(table.has_failures)


class Table:
    """The rows so far; each new one is printed and written to the file."""

    def __init__(self, machine: dict[str, Any], file: pathlib.Path | None):
        self.machine, self.file = machine, file
        self.rows: list[dict[str, Any]] = []
        self.traces: list[dict[str, Any]] = []
        self._works: list[Work] = []
        print(f"{'work':40s} {'library':14s} {'ms':>9s} {'compile s':>9s} {'peak MB':>9s}  note")

    def describe(self, library: str, facts: dict[str, Any]) -> None:
        """Adds what a library reports of the device and its versions."""
        self.machine[library] = facts
        self._write()

    def add(self, library: str, work: Work, fields: dict[str, Any]) -> None:
        """Adds a row, prints it and writes the file."""
        row: dict[str, Any] = {"work": work.name, "library": work.label(library)}
        names = ("ms", "compile_s", "peak_mb", "share_of_peak")
        row |= {name: fields.get(name) for name in names} | {"note": fields.get("note", "")}
        if work.images and row["ms"]:
            row["images_per_s"] = 1e3 * work.images / row["ms"]
        if "trace" in fields:
            self.traces.append({"work": row["work"], "library": row["library"]})
            self.traces[-1]["trace"] = fields["trace"]
        self.rows.append(row)
        self._works.append(work)
        ms, spent, peak = (
            "-" if row[name] is None else f"{row[name]:.{digits}f}"
            for name, digits in (("ms", 3), ("compile_s", 1), ("peak_mb", 0))
        )
        print(
            f"{row['work']:40s} {row['library']:14s} {ms:>9s} {spent:>9s} {peak:>9s}  "
            f"{row['note']}",
            flush=True,
        )
        self._write()

    @property
    def has_failures(self) -> bool:
        """Returns whether a work or a check failed; missing time or libraries do not count."""
        return any(row["note"].lower().startswith(("fail", "not finite")) for row in self.rows)

    def table(self) -> dict[str, Any]:
        """Returns the content of the file, with each work's share of the best matmul."""
        rates = {}
        for work, row in zip(self._works, self.rows, strict=True):
            if work.kind == "matmul" and row["ms"] and work.flops:
                rate = work.flops / row["ms"] * 1e3
                rates[work.dtype] = max(rate, rates.get(work.dtype, 0.0))
        for work, row in zip(self._works, self.rows, strict=True):
            peak = rates.get(work.dtype)
            if work.flops and row["ms"] and peak:
                row["share_of_peak"] = work.flops / row["ms"] * 1e3 / peak
        tflops = {dtype: round(rate / 1e12, 3) for dtype, rate in rates.items()}
        machine = self.machine | {"matmul_tflops": tflops}
        table = {"machine": machine, "rows": self.rows, "ratios": self.ratios()}
        return table | ({"failures": self.traces} if self.traces else {})

    def ratios(self) -> list[dict[str, Any]]:
        """Returns ours / peer for each work, each of our implementations and each peer."""
        timed = [row for row in self.rows if row["ms"]]
        return [
            {
                "work": row["work"],
                "ours": row["library"],
                "peer": peer["library"],
                "ratio": row["ms"] / peer["ms"],
            }
            for row in timed
            if row["library"].startswith("ours")
            for peer in timed
            if peer["work"] == row["work"] and not peer["library"].startswith("ours")
        ]

    def print_ratios(self) -> None:
        """Prints the ratios and the shares of the card's peak."""
        table = self.table()
        print(f"\n{'work':40s} {'ours':14s} {'peer':14s} {'ours / peer':>11s}")
        for row in table["ratios"]:
            line = f"{row['work']:40s} {row['ours']:14s} {row['peer']:14s} {row['ratio']:>11.3f}"
            print(line)
        rates = table["machine"]["matmul_tflops"]
        best = ", ".join(f"{dtype} {rate:g}" for dtype, rate in rates.items())
        print(f"\n{'work':40s} {'library':14s} share of the best matmul (TFLOP/s: {best})")
        for row in table["rows"]:
            if row["share_of_peak"] is not None:
                line = f"{row['work']:40s} {row['library']:14s} {row['share_of_peak']:.3f}"
                rate = row.get("images_per_s")
                print(line if rate is None else f"{line}  {rate:,.0f} images/s")
        if self.file is not None:
            print(f"\nwritten to {self.file}")

    def _write(self) -> None:
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            # Renamed when complete: a run that is killed while it writes must not damage the
            # earlier rows.
            part = self.file.with_suffix(".part")
            part.write_text(json.dumps(self.table(), indent=2) + "\n", "utf-8")
            part.replace(self.file)


def _machine(options: argparse.Namespace) -> dict[str, Any]:
    """Returns where and how this is measured, as far as is known without opening the card."""
    return {
        "gpu": _output("nvidia-smi", f"--query-gpu={GPU}", "--format=csv,noheader"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "commit": _output("git", "describe", "--always", "--dirty", "--exclude=*"),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "smoke": options.smoke,
        "seconds": options.seconds,
        "methods": METHODS,
    }


def _output(*command: str) -> str | None:
    """Returns the last line that a command prints, or None if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=_gpu_process.ROOT)
    except OSError:
        return None
    lines = done.stdout.strip().splitlines()
    return lines[-1] if lines and not done.returncode else None
