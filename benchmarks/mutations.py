"""Mutations: faults put into the library one at a time, and which test notices each.

Why: a suite is made faster by leaving work out, and a coverage number does not show whether what is
left still compares results. Each mutation changes one sign, axis, bound, mask or constant; it is
noticed if a test of a copy of the repository fails, first those listed with it, then all; the
tests that noticed must pass on an unchanged copy.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

import pytest

from benchmarks._mutations import MUTATIONS, Mutation

ROOT = pathlib.Path(__file__).parent.parent
FAILURE = re.compile(r"^(?:FAILED|ERROR) (\S+?::.+?)(?: - .*)?$", re.MULTILINE)
NO_TESTS = pytest.ExitCode.NO_TESTS_COLLECTED
TABLE_TEST = "tests/test_mutations.py"


def run(config: Any) -> list[dict[str, Any]]:
    """Breaks the library in each place in turn; prints and returns one row for each.

    Args:
      config: the benchmarks' options; `smoke` runs the first mutation's likely tests alone, without
        the whole suite where they notice nothing.

    Raises:
      ValueError: a mutation's text does not occur once.
      RuntimeError: a test that noticed fails without a mutation too, or pytest could not run.
    """
    chosen = [mutation for mutation in MUTATIONS if config.only in mutation.name]
    for mutation in chosen:  # a table that does not fit the code fails here
        with tempfile.TemporaryDirectory() as folder:
            copy(pathlib.Path(folder), [mutation.file])
            mutation.apply(pathlib.Path(folder))
    if config.smoke:
        chosen = chosen[:1]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:  # each waits for a process
        rows = list(pool.map(measure, chosen, itertools.repeat(not config.smoke)))
    noticing = [row["noticed_by"] for row in rows if row["noticed_by"] is not None]
    missed = [row["mutation"] for row in rows if row["noticed_by"] is None]
    if noticing:
        rows.append(baseline(noticing))
    print(f"{len(noticing)} of {len(chosen)} noticed")
    for name in missed:
        print(f"  not noticed: {name}")
    return rows


def baseline(tests: list[str], marks: str = "not slow") -> dict[str, Any]:
    """Runs the tests that noticed, those with these marks, on an unchanged copy: they must pass.

    Raises:
      RuntimeError: one fails there too, so that its failure does not show a mutation.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy_repository(pathlib.Path(folder))
        failed, seconds = first_failure(pathlib.Path(folder), ["-m", marks, *dict.fromkeys(tests)])
    if failed is not None:
        raise RuntimeError(f"{failed} fails without a mutation too: fix it and measure again.")
    return _row(f"baseline: the tests that noticed, unchanged ({len(tests)})", None, None, seconds)


def measure(mutation: Mutation, whole: bool) -> dict[str, Any]:
    """Runs the tests on a copy with one mutation."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        copy_repository(root)
        mutation.apply(root)
        failed, seconds = first_failure(root, mutation.likely)
        if failed is None and whole:
            # The table's own test would notice every mutation: its texts are gone.
            failed, more = first_failure(root, ["-n", "2", "--ignore", TABLE_TEST])
            seconds += more
    return _row(mutation.name, mutation.file, failed, seconds)


def _row(name: str, file: str | None, failed: str | None, seconds: float) -> dict[str, Any]:
    """Prints a row and returns it."""
    print(f"{name:68s} {seconds:7.1f} s  {failed or '-'}", flush=True)
    return {"mutation": name, "file": file, "noticed_by": failed, "seconds": round(seconds, 1)}


def copy_repository(folder: pathlib.Path) -> None:
    """Copies all files of the repository to a folder, with their changes."""
    copy(folder, _list_tracked_files())


def _list_tracked_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    names = listed.stdout.decode().split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


def copy(folder: pathlib.Path, names: list[str]) -> None:
    """Copies files, named from the root of the repository."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)


def first_failure(root: pathlib.Path, arguments: list[str]) -> tuple[str | None, float]:
    """Returns the test that fails first, None where all pass, and the seconds that pytest took."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *arguments]
    environment = os.environ | {"PYTHONPATH": str(root)}
    began = time.perf_counter()
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    failures = FAILURE.findall(done.stdout)
    # With -x a file that cannot be imported gives 1 too, but names no test.
    if done.returncode not in (0, 1, NO_TESTS) or (done.returncode == 1 and not failures):
        raise RuntimeError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout[-4000:]}")
    return (failures[0] if failures else None), seconds
