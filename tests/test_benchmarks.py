import json

import numpy as np
import pytest

from benchmarks import _measure, _record
from benchmarks.__main__ import main
from benchmarks._measure import Call, Measurement, NotInstalled, Worker, evaluate, measure

LIBRARY = """
import os, sys, time

def naps(seconds):
    print("a library may print")  # this must not reach the replies
    return lambda: time.sleep(seconds)

def writes(path, letter):
    def run():
        with open(path, "a") as file:
            file.write(letter)
    return run

def facts():
    return {"modules": sorted({"jax", "torch", "numpy"} & set(sys.modules)), "pid": os.getpid()}

def breaks():
    raise ValueError("the library broke")

def dies():
    os.write(2, b"last words")
    os._exit(3)

def lacks():
    import a_library_that_nobody_has
"""


@pytest.fixture
def library(tmp_path, monkeypatch):
    (tmp_path / "a_library.py").write_text(LIBRARY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def call(name, warm=True, **arguments):
    return Call(f"a_library:{name}", arguments, warm=warm)


def test_the_list_names_every_benchmark(capsys):
    assert main([]) == 0
    assert "train  Training:" in capsys.readouterr().out
    assert main(["nothing"]) == 2


def test_too_few_rounds_are_refused(capsys):
    assert main(["train", "--rounds", "4"]) == 2
    assert "at least 5" in capsys.readouterr().out


def test_libraries_are_timed_in_turn(library, capsys):
    calls = {"ours": call("naps", seconds=0.004), "peer": call("naps", seconds=0.002)}
    calls["absent"] = call("lacks")
    measurement = measure(calls, rounds=3, at_least=0.01, pause=0.0)
    rounds = {name: len(times) for name, times in measurement.seconds.items()}
    assert rounds == {"ours": 3, "peer": 3}
    row = measurement.row("nap", "peer", target=1.0)
    assert row["ours_ms"][0] >= 4 and row["peer_ms"][0] >= 2
    assert row["load"] is None or 0 <= row["load"] <= 1
    absent = measurement.row("nap", "absent")
    assert absent["ratio"] is None and "a_library_that_nobody_has" in capsys.readouterr().out


def test_calls_are_warmed_up_and_every_second_round_runs_backwards(library, tmp_path):
    for warm, written in (True, "aabbabbaab"), (False, "abbaab"):
        path = tmp_path / f"{warm}.txt"
        calls = {name: call("writes", warm, path=str(path), letter=name) for name in "ab"}
        measure(calls, rounds=3, at_least=0.0, pause=0.0)
        assert path.read_text() == written


def test_each_call_has_a_process_with_nothing_else(library):
    first, second = evaluate(call("facts")), evaluate(call("facts"))
    assert first["modules"] == [] and first["pid"] != second["pid"]


def test_what_fails_in_a_worker_is_said(library):
    with pytest.raises(RuntimeError, match="the library broke"):
        Worker(call("breaks"))
    with pytest.raises(RuntimeError, match="status 3:\nlast words"):
        Worker(call("dies"))
    with pytest.raises(NotInstalled, match="a_library_that_nobody_has"):
        evaluate(call("lacks"))
    with pytest.raises(RuntimeError, match="ModuleNotFoundError"):  # ours, so it is a bug
        evaluate(Call("benchmarks._no_such_module:step"))


def test_ratios_are_paired_and_shown_with_quartiles(capsys):
    row = _measure.row("work", "peer", [1.0, 10.0, 4.0], [2.0, 10.0, 2.0], unit="MB")
    assert (row["ratio"], row["ratio_quartiles"]) == (1.0, [0.75, 1.5])
    assert row["ours_MB"] == [2.5, 4.0, 7.0]
    measurement = Measurement({"one": [3.0], "two": [2.0]}, {}, None)
    assert measurement.row("work", "two", ours="one")["ratio"] == 1.5


def test_a_record_says_when_where_and_with_what():
    entry = _record.record("train", 5, [])
    assert set(entry["versions"]) >= {"python", "jax", "numpy"} and entry["machine"]["cores"] >= 1
    assert json.dumps(entry)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name, only",
    [
        ("train", "epoch"),
        ("train", "scan"),
        ("train", "start"),
        ("rnn", "step"),
        ("rnn", "memory"),
        ("vision", "forward"),
        ("many_models", "requests"),
        ("many_models", "characters"),
        ("attribution", "methods"),
        ("attribution", "sanity"),
    ],
)
def test_rows_have_the_agreed_form(tmp_path, name, only, capsys):
    file = tmp_path / "rows.json"
    assert main([name, "--smoke", "--only", only, "--json", str(file)]) == 0
    rows = json.loads(file.read_text())["rows"]
    assert rows
    for row in rows:
        assert set(row) >= {"work", "peer", "ratio", "target"}
        assert row["ratio"] is None or row["ratio"] > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "method",
    ["saliency", "integrated gradients, 50", "occlusion, 4x4 by 2", "LRP, epsilon plus"],
)
def test_the_peers_compute_the_same_explanations(method):
    pytest.importorskip("captum")
    pytest.importorskip("zennit")
    from benchmarks import _captum, _explain

    peer = _captum.zennit("28x28") if "LRP" in method else _captum.captum(method, "28x28")
    ours, theirs = np.asarray(_explain.explain(method, "28x28")()), peer().detach().numpy()
    np.testing.assert_allclose(ours, theirs.transpose(0, 2, 3, 1), atol=2e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_counts_have_the_agreed_form(tmp_path, capsys):
    file = tmp_path / "rows.json"
    only = "bits flipped"
    assert main(["reliability", "--smoke", "--only", only, "--json", str(file)]) == 0
    (row,) = json.loads(file.read_text())["rows"]
    assert set(row) == {"what", "result", "reach", "well"} and row["result"] == "20 of 20"
