"""Planted faults: for each row of the lectures one fault, and which of the row's tests notices it.

Why: a row counts as covered because a test carries its mark. `benchmarks/row_faults.toml` has a
fault for each row that is covered by code; it is noticed only if a test with that row's mark fails
on a copy of the repository with the fault. The tests that noticed must pass on an unchanged copy.
"""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import re
import tempfile
import tomllib
from typing import Any

from benchmarks import mutations
from benchmarks._mutations import Mutation
from experiments import coverage

FILE = pathlib.Path(__file__).parent / "row_faults.toml"


def run(config: Any) -> list[dict[str, Any]]:
    """Plants the fault of each row in turn; prints and returns one line for each.

    Args:
      config: the benchmarks' options: `only` is a regular expression for ids of rows, for example
        "A" or "A0[1-3]"; `smoke` takes the first row alone.

    Raises:
      ValueError: no test has a row's mark, or a fault's text does not occur once.
      RuntimeError: a test that noticed fails without a fault too, or pytest could not run.
    """
    tests = coverage.find_marks(mutations.ROOT / "tests")
    chosen = {row: fault for row, fault in faults().items() if re.match(config.only, row)}
    if config.smoke:
        chosen = dict(list(chosen.items())[:1])
    for row in chosen:
        if row not in tests:
            raise ValueError(f"no test is marked with row {row}; remove it from {FILE.name}")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:  # each waits for a process
        lines = list(pool.map(lambda row: measure(row, chosen[row], tests[row]), chosen))
    noticing = [line["noticed_by"] for line in lines if line["noticed_by"]]
    missed = [line["row"] for line in lines if not line["noticed_by"]]
    if noticing:
        mutations.baseline(noticing, "slow or not slow")
    print(f"{len(noticing)} of {len(chosen)} noticed")
    for row in missed:
        print(f"  not noticed: {row}, {chosen[row].name}")
    return lines


def faults() -> dict[str, Mutation]:
    """Returns the fault of each row."""
    entries = tomllib.loads(FILE.read_text("utf-8"))
    return {
        row: Mutation(entry["fault"], entry["file"], entry["old"], entry["new"], "")
        for row, entry in entries.items()
    }


def measure(row: str, fault: Mutation, tests: list[str]) -> dict[str, Any]:
    """Runs the tests of a row on a copy with its fault: the fast ones, then the slow ones."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        mutations.copy_repository(root)
        fault.apply(root)
        names = [f"tests/{test}" for test in tests]
        failed, seconds = mutations.first_failure(root, names)
        slow = failed is None
        if slow:
            failed, more = mutations.first_failure(root, ["-m", "slow", *names])
            seconds += more
    mark = " (slow)" if failed and slow else ""
    print(f"{row}  {fault.name:60s} {seconds:7.1f} s  {failed or '-'}{mark}", flush=True)
    line = {"row": row, "fault": fault.name, "file": fault.file, "noticed_by": failed}
    return line | {"slow": bool(failed) and slow, "seconds": round(seconds, 1)}
