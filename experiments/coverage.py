"""Lists the lecture rows that have tests, by the marks of the tests.

The lectures have 315 rows, each a model, a formula, a worked number or an experiment
(`experiments/rows.csv`). A test names the rows that it exercises: `@pytest.mark.row("S04")`.
Without `--run` the marks are read from the source; with it the marked tests are run, and a row
counts only if at least one of its tests passes and none fails. A row that is only a remark counts
when a section of docs/remarks.md has its id; with a test it counts as code. The last line printed
is `covered N/315: C by code, R by remark`. `--html` writes all rows with their functions, tests and
experiments to a page.
"""

from __future__ import annotations

import ast
import csv
import dataclasses
import functools
import html
import importlib
import inspect
import pathlib
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Annotated, Any

import tyro

from experiments import _run

TESTS = _run.HERE.parent / "tests"
REMARKS = frozenset(
    "E12 G15 J19 Q12 R07 R09 T10 T12 T16 T18 "
    "U01 U02 U04 U05 U06 U07 U08 V09 X10 X11 X12 X13".split()
)
"""The rows that are only remarks, which no test can exercise."""
OURS = re.compile(r"(jaxdl|experiments)\b")
Marks = dict[str, list[str]]
"""The tests of each row: `{"S04": ["nn/test_dense.py::test_name", ...]}`."""


@dataclasses.dataclass(frozen=True)
class Config:
    run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Run the marked tests, and count the rows whose tests pass."""
    html: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write `coverage.html` to the results folder."""
    results: pathlib.Path = pathlib.Path("results")
    """The results folder."""


def run(config: Config) -> None:
    titles = rows()
    tests = run_tests(TESTS) if config.run else find_marks(TESTS)
    unknown = sorted(set(tests) - set(titles))
    if unknown:
        row = unknown[0]
        raise SystemExit(f"{tests[row][0]} marks row {row!r}, which is not in experiments/rows.csv")
    code = {row: tests[row] for row in titles if tests.get(row)}
    remarked = {row: sections for row, sections in remarks().items() if row not in code}
    in_order = {row: remarked[row] for row in titles if row in remarked}
    _list(f"rows with {'passing ' if config.run else ''}tests", code, titles)
    _list("rows that are remarks", in_order, titles)
    open_rows = [row for row in titles if row not in code | remarked]
    _list("rows without", dict.fromkeys(open_rows, []), titles)
    if config.html:
        config.results.mkdir(parents=True, exist_ok=True)
        path = config.results / "coverage.html"
        path.write_text(page(titles, code, remarked), "utf-8")
        print(f"page: {path}\n")
    print(f"covered {count(titles, code, remarked)}")


def count(titles: dict[str, str], code: Marks, remarked: Marks) -> str:
    """Returns the coverage as text: "209/315: 190 by code, 19 by remark"."""
    return (
        f"{len(code) + len(remarked)}/{len(titles)}: {len(code)} by code, {len(remarked)} by remark"
    )


def _list(heading: str, marks: Marks, titles: dict[str, str]) -> None:
    """Prints rows with their tests or their sections."""
    print(f"{heading}\n")
    for row, places in marks.items():
        print(f"  {row}  {titles[row]}")
        for place in places:
            print(f"         {place}")
    print()


def remarks() -> Marks:
    """Returns the sections of docs/remarks.md, for rows that are remarks."""
    path = _run.HERE.parent / "docs" / "remarks.md"
    headings = re.findall(r"^## (.+) \(row ([A-Z]\d\d)\)$", path.read_text("utf-8"), re.MULTILINE)
    return {row: [f"docs/remarks.md: {title}"] for title, row in headings if row in REMARKS}


def find_functions(folder: pathlib.Path) -> Marks:
    """Finds the functions that marked tests use: `{"S04": ["jaxdl/losses.py: squared_error"]}`.

    Functions of jaxdl and of the experiments count that a test calls or names, directly or in
    another function of its file.
    """
    functions: Marks = defaultdict(list)
    for row, tests in find_marks(folder).items():
        for test in tests:
            path, *names = test.split("::")
            for place in _used_functions(folder / path, names[-1]):
                if place not in functions[row]:
                    functions[row].append(place)
    return functions


@functools.cache
def _used_functions(path: pathlib.Path, test: str) -> list[str]:
    """Returns the functions that a test of a file uses, in the order of their names."""
    tree = ast.parse(path.read_text("utf-8"))
    imports = dict(_imports(tree))
    bodies = {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    places, queue, visited = set(), [test], {test}
    while queue:
        for node in ast.walk(bodies[queue.pop()]):
            if isinstance(node, ast.Name) and node.id in bodies and node.id not in visited:
                visited.add(node.id)
                queue.append(node.id)
            if isinstance(node, ast.Name | ast.Attribute):
                places |= _locate(imports, ast.unparse(node))
    return sorted(places)


def _imports(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    """Yields the names that a file imports from jaxdl and the experiments, with their objects."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == "jaxdl":
                    yield alias.name, importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom) and OURS.match(node.module or ""):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                # A submodule is an attribute of its package only once it is imported.
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
                yield alias.asname or alias.name, getattr(module, alias.name)


def _locate(imports: dict[str, Any], name: str) -> set[str]:
    """Returns the file and the name of a function that a dotted name refers to, if it does."""
    first, *rest = name.split(".")
    value = imports.get(first)
    for part in rest:
        value = getattr(value, part, None)
    if not inspect.isfunction(value) and not inspect.isclass(value):
        return set()
    # A decorated function is in the module of its decorator otherwise.
    value = inspect.unwrap(value)
    if not OURS.match(value.__module__):
        return set()
    return {f"{value.__module__.replace('.', '/')}.py: {value.__qualname__}"}


def find_references(folder: pathlib.Path) -> Marks:
    """Finds the rows that experiments name: `{"S04": ["backprop_by_hand.py", ...]}`.

    A docstring names rows by "Lecture row A01", "rows A01, A02" or "rows A01-A03"; an experiment's
    `Claim` by its `rows`.
    """
    places: Marks = defaultdict(list)
    for path in sorted(folder.rglob("*.py")):
        where = path.relative_to(folder).as_posix()
        if path.name == pathlib.Path(__file__).name:  # its docstrings name rows as examples
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Claim":
                (rows,) = (keyword.value for keyword in node.keywords if keyword.arg == "rows")
                for row in ast.literal_eval(rows):
                    if where not in places[row]:
                        places[row].append(where)
            if not isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
                continue
            text = ast.get_docstring(node) or ""
            name = where if isinstance(node, ast.Module) else f"{where}: {node.name}"
            for ids in re.findall(r"[Rr]ows?((?:[\s,]|and|\b[A-X]\d\d\b(?:-[A-X]\d\d)?)+)", text):
                for first, last in re.findall(r"([A-X]\d\d)(?:-([A-X]\d\d))?", ids):
                    stop = int((last or first)[1:])
                    for n in range(int(first[1:]), stop + 1):
                        if name not in places[f"{first[0]}{n:02d}"]:
                            places[f"{first[0]}{n:02d}"].append(name)
    return places


def page(titles: dict[str, str], code: Marks, remarked: Marks) -> str:
    """Returns HTML of all rows: functions, experiments, tests, and "remark" or "not yet"."""
    columns = {
        "function": find_functions(TESTS),
        "experiment": find_references(_run.HERE),
        "test or section": code | remarked,
    }
    lines = []
    for row, title in titles.items():
        cells = "".join(
            f"<td>{'<br>'.join(map(html.escape, places.get(row, [])))}</td>"
            for places in columns.values()
        )
        state = "" if row in code else "remark" if row in remarked else "not yet"
        done = ' class="open"' if state == "not yet" else ""
        lines.append(
            f"<tr{done}><th>{row}</th><td>{html.escape(title)}</td>{cells}<td>{state}</td>"
        )
    head = "".join(f"<th>{name}</th>" for name in ("row", "what", *columns, ""))
    style = (_run.HERE / "page.css").read_text("utf-8") + (
        "body { max-width: 90rem; } td { font-size: .85rem; overflow-wrap: anywhere; } "
        ".open { color: var(--soft); }"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>The lectures' rows</title><style>{style}</style></head><body>"
        "<h1>The lectures' rows</h1>"
        f'<p class="lead">Covered {count(titles, code, remarked)}.</p>'
        f'<div class="scroll"><table><tr>{head}</tr>{"".join(lines)}</table>'
        "</div></body></html>\n"
    )


def rows() -> dict[str, str]:
    """Returns the title of every row by its id, from `rows.csv`."""
    with open(_run.HERE / "rows.csv", encoding="utf-8", newline="") as file:
        return {line["id"]: line["title"] for line in csv.DictReader(file)}


def find_marks(folder: pathlib.Path) -> Marks:
    """Finds the marks in the source of the tests in `folder`: on a test, its class or its file."""
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
    """Returns the rows of every `pytest.mark.row(...)` in expressions, also in `pytest.param`."""
    return {
        str(argument.value)
        for expression in expressions
        for call in ast.walk(expression)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.row"
        for argument in call.args
        if isinstance(argument, ast.Constant)
    }


def run_tests(folder: pathlib.Path) -> Marks:
    """Runs the marked tests in `folder`; returns the rows with a passed test and no failed one."""
    import pytest

    class Recorder:
        def __init__(self):
            self.rows: dict[str, set[str]] = {}
            self.failed: set[str] = set()
            self.passed: set[str] = set()

        def pytest_collection_modifyitems(self, config, items):
            for item in items:
                self.rows[item.nodeid] = {r for m in item.iter_markers("row") for r in m.args}
            # Unmarked tests are deselected: they say nothing about rows.
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
        raise SystemExit(f"pytest could not run the tests: {pytest.ExitCode(status).name}")
    bad = {row for test in recorder.failed for row in recorder.rows[test]}
    tests: Marks = defaultdict(list)
    for test in sorted(recorder.passed):
        for row in recorder.rows[test] - bad:
            tests[row].append(test)
    return tests
