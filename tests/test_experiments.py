import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from experiments import _run, coverage, digits, mnist, report
from jaxdl import losses, train, tree


@pytest.fixture(scope="module")
def smoked(tmp_path_factory):
    """The results folder of `digits --smoke`."""
    folder = tmp_path_factory.mktemp("results")
    # optax's schedules mix ints and floats, which strict promotion would refuse.
    with jax.numpy_dtype_promotion("standard"):
        assert _run.main(["digits", "--smoke", "--seed", "3", "--results", str(folder)]) == 0
    return folder / "digits"


def test_lists_the_experiments(capsys):
    assert _run.main([]) == 0
    listed = capsys.readouterr().out
    for name in ("coverage", "digits", "mnist"):
        assert re.search(rf"^  {name} +\S.+$", listed, re.MULTILINE)


def test_an_unknown_name_lists_the_known_ones(capsys):
    assert _run.main(["digit"]) == 2
    message = capsys.readouterr().out
    assert message == f"no experiment 'digit'; there are: {', '.join(_run.names())}\n"


@pytest.mark.parametrize("name", _run.names())
def test_help_names_every_option(name, capsys):
    with pytest.raises(SystemExit) as stop:
        _run.main([name, "--help"])
    assert stop.value.code == 0
    assert name == "coverage" or "--smoke" in capsys.readouterr().out


def test_the_record_says_all_that_the_numbers_depend_on(smoked):
    record = json.loads((smoked / "result.json").read_text())
    assert record["experiment"] == "digits" and record["seed"] == 3
    assert record["config"]["smoke"] is True and record["config"]["compare_seeds"] == 3
    assert set(record["versions"]) == {"python", "jaxdl", "jax", "jaxlib", "numpy", "optax"}
    assert record["versions"]["jaxdl"] == jaxdl.__version__
    assert record["seconds"] > 0 and record["device"] and "commit" in record
    for network in ("MLP", "CNN"):
        metrics = record["metrics"][network]
        assert metrics["accuracy"] == metrics["correct"] / metrics["of"]
        assert 0 <= metrics["comparison"]["SGD"][0] <= 1


def test_the_report_is_one_file_with_every_figure(smoked):
    page = (smoked / "report.html").read_text("utf-8")
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', page)
    figures = sorted(path.name for path in smoked.glob("*.png"))
    assert len(sources) == len(figures) == 13
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in sources)
    assert not re.search(r"https?:|url\(|@import|<script|<link", page)
    assert page.count("How to read it:") == page.count("<section>") == 6
    assert page.count("<img alt=") == 13 and 'alt=""' not in page


def test_shared_data_next_to_the_checkout_are_used_by_default(tmp_path, monkeypatch):
    (tmp_path / "shared" / "data").mkdir(parents=True)
    monkeypatch.setattr(_run, "HERE", tmp_path / "jaxdl" / "experiments")
    monkeypatch.setenv("JAXDL_DATA", "elsewhere")
    _run.find_data()
    assert os.environ["JAXDL_DATA"] == "elsewhere"
    monkeypatch.delenv("JAXDL_DATA")
    _run.find_data()
    assert os.environ["JAXDL_DATA"] == str(tmp_path / "shared" / "data")


def commits(tree):
    """Yields every commit in nested dicts and lists."""
    if isinstance(tree, dict):
        yield from [tree["commit"]] if "commit" in tree else []
        tree = list(tree.values())
    for part in tree if isinstance(tree, list) else ():
        yield from commits(part)


def test_committed_results_are_of_a_commit_alone():
    folders = _run.RESULTS, _run.HERE.parent / "benchmarks" / "results"
    made_at = {
        path.name: [*commits(json.loads(path.read_text("utf-8")))]
        for folder in folders
        for path in folder.glob("*.json")
    }
    of_a_commit = re.compile("[0-9a-f]{7,40}").fullmatch
    refused = {name: of for name, of in made_at.items() if not of or not all(map(of_a_commit, of))}
    assert made_at
    assert not refused


@pytest.mark.parametrize("commit", ["4ec0762e3750-dirty", None])
def test_results_of_changed_files_are_not_taken_over(commit, tmp_path, monkeypatch):
    monkeypatch.setattr(_run, "RESULTS", tmp_path / "committed")
    monkeypatch.setattr(_run, "commit", lambda: commit)
    refusal = r"xor: this result is of commit .*\. Commit first, then run it again\."
    with pytest.raises(ValueError, match=refusal):
        _run.record("xor", _run.Config(results=_run.RESULTS), {}, 1.0)
    _run.record("xor", _run.Config(results=tmp_path), {}, 1.0)
    with pytest.raises(ValueError, match=refusal):
        report.run(report.Config(results=tmp_path, fresh=True))
    assert not _run.RESULTS.exists()
    monkeypatch.setattr(_run, "commit", lambda: "4ec0762e3750")
    _run.record("xor", _run.Config(results=tmp_path, smoke=True), {}, 1.0)
    with pytest.raises(ValueError, match=r"xor: this result is of a smoke run"):
        report.run(report.Config(results=tmp_path, fresh=True))
    assert _run.record("xor", _run.Config(results=_run.RESULTS), {}, 1.0).is_file()


def test_an_experiment_that_returns_nothing_records_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _run.main(["coverage"])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("real", [False, True])
def test_mnist_runs_on_real_and_on_made_up_images(real, request, tmp_path, monkeypatch, capsys):
    if real:
        request.getfixturevalue("data_root")("mnist")
    else:
        monkeypatch.setenv("JAXDL_DATA", str(tmp_path))
    with jax.numpy_dtype_promotion("standard"):
        assert _run.main(["mnist", "--smoke", "--results", str(tmp_path)]) == 0
    assert ("made-up" in capsys.readouterr().out) is not real
    metrics = json.loads((tmp_path / "mnist" / "result.json").read_text())["metrics"]
    assert {name: metrics[name]["parameters"] for name in metrics} == {
        "LeNet": 431_080,
        "MLP": 648_010,
    }


def test_coverage_ends_with_the_count(capsys):
    assert _run.main(["coverage"]) == 0
    lines = capsys.readouterr().out.splitlines()
    last = re.fullmatch(r"covered (\d+)/315: (\d+) by code, (\d+) by remark", lines[-1])
    covered, code, remarked = map(int, last.groups() if last else ())
    assert covered == code + remarked and code > 150
    starts = [lines.index(name) for name in ("rows that are remarks", "rows without")]
    parts = lines[: starts[0]], lines[starts[0] : starts[1]], lines[starts[1] :]
    listed = [[line for line in part if re.match(r"  [A-Z]\d\d  ", line)] for part in parts]
    assert [len(part) for part in listed] == [code, remarked, 315 - covered]


def test_the_rows_are_those_of_the_lectures():
    titles = coverage.rows()
    assert len(titles) == 315 and list(titles) == sorted(titles)
    assert all(re.fullmatch(r"[A-Z]\d\d", row) and title for row, title in titles.items())


MARKED = """
import pytest
@pytest.mark.row("A01", "A02")
def test_passes(): pass
@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.row("B01")), 2])
def test_once(x): assert x == 1
class TestGroup:
    @pytest.mark.row("A02")
    def test_fails(self): assert False
@pytest.mark.row("A03")
def test_skips(): pytest.skip()
@pytest.mark.row("A04")
def helper(): pass
"""


def test_marks_are_read_from_the_source(tmp_path):
    (tmp_path / "nn").mkdir()
    (tmp_path / "nn" / "test_some.py").write_text(MARKED)
    whole = 'import pytest\npytestmark = pytest.mark.row("A05")\ndef test_this(): pass\n'
    (tmp_path / "test_whole.py").write_text(whole)
    assert coverage.find_marks(tmp_path) == {
        "A01": ["nn/test_some.py::test_passes"],
        "A02": ["nn/test_some.py::test_passes", "nn/test_some.py::TestGroup::test_fails"],
        "A03": ["nn/test_some.py::test_skips"],
        "A05": ["test_whole.py::test_this"],
        "B01": ["nn/test_some.py::test_once"],
    }


def test_only_rows_whose_tests_pass_count_when_they_are_run(tmp_path):
    (tmp_path / "test_some.py").write_text(MARKED)
    code = (
        "import pathlib, experiments.coverage as c; "
        f"print(sorted(c.run_tests(pathlib.Path({str(tmp_path)!r}))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['A01', 'B01']"


def test_a_mark_of_no_row_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "test_some.py").write_text(MARKED.replace("A01", "Z99"))
    monkeypatch.setattr(coverage, "TESTS", tmp_path)
    with pytest.raises(SystemExit, match="test_some.py::test_passes marks row 'Z99'"):
        coverage.run(coverage.Config())


def test_remarks_count_by_their_section_and_only_they():
    actual = coverage.remarks()
    assert set(actual) == coverage.REMARKS <= set(coverage.rows())
    assert actual["G15"] == ["docs/remarks.md: Depth compared with buildings"]


def test_a_remark_needs_its_section_and_with_a_test_is_code(tmp_path, monkeypatch, capsys):
    (tmp_path / "test_some.py").write_text(MARKED.replace("B01", "X11"))
    monkeypatch.setattr(coverage, "TESTS", tmp_path)
    sections = {row: ["docs/remarks.md: a title"] for row in ("X10", "X11")}
    monkeypatch.setattr(coverage, "remarks", lambda: sections)
    coverage.run(coverage.Config(html=True, results=tmp_path))
    assert capsys.readouterr().out.endswith("covered 5/315: 4 by code, 1 by remark\n")
    page = (tmp_path / "coverage.html").read_text()
    states = dict(
        re.findall(r"<tr[^>]*><th>(\w\d\d)</th>.*?<td>([a-z ]*)</td>(?=<tr|</table)", page)
    )
    assert (states["A01"], states["X10"], states["X11"]) == ("", "remark", "")
    assert states["X12"] == "not yet"


USES = """
import pytest
import jaxdl
from jaxdl import nn
def helper(): return nn.dense(1), helper()
@pytest.mark.row("A01")
def test_layer(): assert jaxdl.losses.cross_entropy and helper()
@pytest.mark.row("A02")
def test_nothing(): assert len
"""


def test_functions_of_a_row_are_those_that_its_tests_use(tmp_path):
    (tmp_path / "test_some.py").write_text(USES)
    functions = ["jaxdl/losses.py: cross_entropy", "jaxdl/nn/dense.py: dense"]
    assert coverage.find_functions(tmp_path) == {"A01": functions}


def test_docstrings_name_rows(tmp_path):
    (tmp_path / "some.py").write_text(
        '"""A file. Lecture rows A01-A03, B07."""\ndef f():\n    """Lecture row C05 and D11."""\n'
        'CLAIM = Claim(rows=("C05", "E03"), english="")\n'
    )
    assert coverage.find_references(tmp_path) == {
        "A01": ["some.py"],
        "A02": ["some.py"],
        "A03": ["some.py"],
        "B07": ["some.py"],
        "C05": ["some.py: f", "some.py"],
        "D11": ["some.py: f"],
        "E03": ["some.py"],
    }


def test_the_page_of_the_coverage_has_every_row(tmp_path, capsys):
    assert _run.main(["coverage", "--html", "--results", str(tmp_path)]) == 0
    page = (tmp_path / "coverage.html").read_text()
    last = capsys.readouterr().out.splitlines()[-1]
    covered, _, remarked = map(int, re.findall(r"(\d+)(?=/| by)", last))
    assert page.count("<tr") == 316 and f"{last[1:]}." in page
    assert page.count("<td>not yet") == 315 - covered and page.count("<td>remark<") == remarked
    assert "nn/recurrent/lstm.py" in page and "not yet" in page


@pytest.mark.row("A12")
def test_parameters_and_outputs_of_the_two_layer_network(key):
    d, h, k = 64, 128, 10
    x = jax.random.normal(key, (5, 8, 8, 1))
    params, state = jaxdl.init(digits.mlp(), jax.random.key(1), x)
    assert tree.count(params) == d * h + h + h * k + k
    outputs = jax.nn.softmax(digits.mlp().apply(params, state, x)[0])
    assert (outputs >= 0).all() and np.allclose(outputs.sum(1), 1, atol=1e-6)


@pytest.mark.row("A20")
def test_digit_classifiers_of_28x28_and_of_16x16_pixels(key):
    sizes = {}
    for side in (28, 16):
        params, state = jax.eval_shape(mnist.mlp().init, key, jnp.ones((1, side, side, 1)))
        sizes[side] = tree.count(params)
    assert sizes == {28: 648_010, 16: 648_010 - (784 - 256) * 500}


@pytest.mark.row("A18")
def test_three_steps_a_set_of_functions_their_goodness_and_the_best_of_them():
    x, y = jnp.array([[0.0], [1.0], [2.0]]), jnp.array([[1.0], [3.0], [5.0]])  # y = 2 x + 1
    functions = jaxdl.nn.dense(1)
    goodness = losses.squared_error
    best, _ = train.fit(
        functions,
        (x, y),
        loss=goodness,
        optimizer=jaxdl.optim.sgd(0.1),
        batch_size=3,
        epochs=300,
        verbose=0,
    )
    actual = {name: float(value.item()) for name, value in best.params.items()}
    assert actual == pytest.approx({"kernel": 2, "bias": 1}, abs=1e-3)
    other, state = jaxdl.init(functions, jax.random.key(5), x)
    assert goodness(functions.apply(other, state, x)[0], y).mean() > 0.1
