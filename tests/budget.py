"""Seconds of each test file: what the last run took, against its budget and the last commit.

`python -m tests.budget` compares the last `pytest` run, which `conftest.py` records, with
`tests/budget.json`: `budget` has the seconds that each folder may take, `files` what each file took
at the last commit. `python -m tests.budget --save` writes the files that the last run contained
there, to be committed; the others keep their seconds. Seconds are summed over workers and divided
by the median ratio of the files, now to recorded: a slower machine does not count as growth.
"""

from __future__ import annotations

import collections
import contextlib
import json
import pathlib
import statistics
import sys
from collections.abc import Mapping

HERE = pathlib.Path(__file__).parent
FILE = HERE / "budget.json"
LAST = HERE.parent / ".pytest_cache" / "seconds.json"
FACTOR, SECONDS = 1.2, 1.0
"""A file has grown if it takes 1.2 times as long as before, and one second more."""


def recorded() -> dict[str, dict[str, float]]:
    """Reads `budget.json`: `budget` by folder and `files` by file, in seconds."""
    return json.loads(FILE.read_text("utf-8"))


def write_last(files: Mapping[str, float]) -> None:
    """Writes the seconds of the run that has just ended, where the folder can be written."""
    with contextlib.suppress(OSError):
        LAST.parent.mkdir(exist_ok=True)
        LAST.write_text(json.dumps(files), "utf-8")


def folder(file: str) -> str:
    """Returns the folder whose budget a test file counts for: `tests/nn`, or `tests` itself."""
    parts = file.split("/")
    return "/".join(parts[:2]) if len(parts) > 2 else parts[0]


def by_folder(files: Mapping[str, float]) -> dict[str, float]:
    """Sums seconds per folder."""
    seconds: dict[str, float] = collections.defaultdict(float)
    for file, value in files.items():
        seconds[folder(file)] += value
    return dict(sorted(seconds.items()))


def machine_speed(now: Mapping[str, float], before: Mapping[str, float]) -> float:
    """Returns the median of now / before over the files that took at least one second."""
    ratios = [now[file] / value for file, value in before.items() if value >= 1 and file in now]
    return statistics.median(ratios) if ratios else 1.0


def merged(now: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """Returns the seconds to record: of the files that ran, and of others that still exist."""
    speed = machine_speed(now, before)
    kept = {file: seconds for file, seconds in before.items() if (HERE.parent / file).exists()}
    ran = {file: round(seconds / speed, 1) for file, seconds in now.items()}
    return dict(sorted((kept | ran).items()))


def report(now: Mapping[str, float], known: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Returns the lines to print: a table of folders, then the files that have grown."""
    budget, before = known["budget"], known["files"]
    speed = machine_speed(now, before)
    ran = {file: seconds / speed for file, seconds in now.items()}
    lines = [
        f"{sum(now.values()):.0f} s of tests; this machine takes {speed:.2f} times the recorded",
        f"{'folder':24s} {'seconds':>8s} {'budget':>8s}",
    ]
    for name, seconds in by_folder(ran).items():
        limit = budget.get(name, 0.0)
        note = "  over budget" if seconds > limit else ""
        lines.append(f"{name:24s} {seconds:8.1f} {limit:8.1f}{note}")
    pairs = [(file, before.get(file, 0.0), seconds) for file, seconds in ran.items()]
    grown = [row for row in pairs if row[2] > max(FACTOR * row[1], row[1] + SECONDS)]
    lines.append("grown since the last commit:" if grown else "nothing grew since the last commit")
    for file, old, new in sorted(grown, key=lambda row: row[1] - row[2]):
        lines.append(f"  {file:52s} {old:6.1f} -> {new:6.1f}")
    return lines


def main(args: list[str]) -> int:
    """Prints the report, or saves the last run; returns the exit status."""
    if not LAST.exists():
        print(f"no {LAST.relative_to(HERE.parent)}: run pytest first")
        return 2
    now, known = json.loads(LAST.read_text("utf-8")), recorded()
    if "--save" in args:
        known["files"] = merged(now, known["files"])
        FILE.write_text(json.dumps(known, indent=1) + "\n", "utf-8")
        return 0
    print(*report(now, known), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
