"""Which rows of the lectures have tests: read from the tests' marks alone.

The lectures come to 302 rows, each a model, a formula, a worked number or an experiment
(`experiments/rows.csv`). A test that exercises one says so: `@pytest.mark.row("S04")`. The last
line printed is `covered N/302`. Without `--run` the marks are read from the source; with it the
marked tests are run, and a row counts only if all its tests that were not skipped pass, and one at
least did.
"""

from __future__ import annotations

import ast
import csv
import dataclasses
import pathlib
from collections import defaultdict
from typing import Annotated

import tyro

from experiments import _run

TESTS = _run.HERE.parent / "tests"
Marks = dict[str, list[str]]
"""The tests of each row: `{"S04": ["nn/test_dense.py::test_name", ...]}`."""


@dataclasses.dataclass(frozen=True)
class Config:
    run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Run the marked tests, and count the rows whose tests pass."""


def run(config: Config) -> None:
    titles = rows()
    tests = passing(TESTS) if config.run else marked(TESTS)
    unknown = sorted(set(tests) - set(titles))
    if unknown:
        row = unknown[0]
        raise SystemExit(f"{tests[row][0]} marks row {row!r}, which is not in experiments/rows.csv")
    covered = {row: title for row, title in titles.items() if tests.get(row)}
    print(f"rows with {'passing ' if config.run else ''}tests\n")
    for row, title in covered.items():
        print(f"  {row}  {title}")
        for test in tests[row]:
            print(f"         {test}")
    print("\nrows without\n")
    for row, title in titles.items():
        if row not in covered:
            print(f"  {row}  {title}")
    print(f"\ncovered {len(covered)}/{len(titles)}")


def rows() -> dict[str, str]:
    """Every row's id and title."""
    with open(_run.HERE / "rows.csv", encoding="utf-8", newline="") as file:
        return {line["id"]: line["title"] for line in csv.DictReader(file)}


def marked(folder: pathlib.Path) -> Marks:
    """The marks in the source of the tests in `folder`: on a test, its class, or its file."""
    tests: Marks = defaultdict(list)
    for path in sorted(folder.rglob("test_*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        whole = [
            node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            and any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in node.targets)
        ]
        _read(tree.body, path.relative_to(folder).as_posix(), _ids(whole), tests)
    return tests


def _read(body: list[ast.stmt], where: str, inherited: set[str], tests: Marks) -> None:
    for node in body:
        if isinstance(node, ast.ClassDef):
            ids = inherited | _ids(node.decorator_list)
            _read(node.body, f"{where}::{node.name}", ids, tests)
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            for row in sorted(inherited | _ids(node.decorator_list)):
                tests[row].append(f"{where}::{node.name}")


def _ids(expressions: list[ast.expr]) -> set[str]:
    """The rows of every `pytest.mark.row(...)` in some expressions, `pytest.param`s included."""
    return {
        str(argument.value)
        for expression in expressions
        for call in ast.walk(expression)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.row"
        for argument in call.args
        if isinstance(argument, ast.Constant)
    }


def passing(folder: pathlib.Path) -> Marks:
    """Runs the marked tests in `folder` and keeps the rows of which none failed and some passed."""
    import pytest

    class Recorder:
        def __init__(self):
            self.rows: dict[str, set[str]] = {}
            self.failed: set[str] = set()
            self.passed: set[str] = set()

        def pytest_collection_modifyitems(self, config, items):
            for item in items:
                self.rows[item.nodeid] = {r for m in item.iter_markers("row") for r in m.args}
            others = [item for item in items if not self.rows[item.nodeid]]
            config.hook.pytest_deselected(items=others)
            items[:] = [item for item in items if self.rows[item.nodeid]]

        def pytest_runtest_logreport(self, report):
            if report.failed:
                self.failed.add(report.nodeid)
            elif report.when == "call" and report.passed:
                self.passed.add(report.nodeid)

    recorder = Recorder()
    status = pytest.main(["-q", "-p", "no:cacheprovider", str(folder)], plugins=[recorder])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise SystemExit(f"the tests could not be run: {pytest.ExitCode(status).name}")
    bad = {row for test in recorder.failed for row in recorder.rows[test]}
    tests: Marks = defaultdict(list)
    for test in sorted(recorder.passed):
        for row in recorder.rows[test] - bad:
            tests[row].append(test)
    return tests
