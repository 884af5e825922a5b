import json

import pytest

from benchmarks import _measure
from benchmarks.__main__ import main


def test_the_list_names_every_benchmark(capsys):
    assert main([]) == 0
    assert "train  Training:" in capsys.readouterr().out
    assert main(["nothing"]) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name, only",
    [
        ("train", "step"),
        ("train", "scan"),
        ("train", "start"),
        ("rnn", "step"),
        ("rnn", "lengths"),
        ("attribution", "sanity"),
        ("attribution", "methods"),
    ],
)
def test_rows_have_the_agreed_form(tmp_path, name, only, capsys):
    file = tmp_path / "rows.json"
    assert main([name, "--smoke", "--rounds", "1", "--only", only, "--json", str(file)]) == 0
    rows = json.loads(file.read_text())
    assert rows
    for row in rows:
        assert set(row) == {"work", "peer", "ratio", "target"}
        assert row["ratio"] is None or row["ratio"] > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_counts_have_the_agreed_form(tmp_path, capsys):
    file = tmp_path / "rows.json"
    only = "bits flipped"
    assert main(["reliability", "--smoke", "--only", only, "--json", str(file)]) == 0
    (row,) = json.loads(file.read_text())
    assert set(row) == {"what", "found", "reach", "well"} and row["found"] == "20 of 20"


def test_ratios_are_paired():
    assert _measure.ratio([1.0, 10.0, 3.0], [2.0, 10.0, 3.0]) == 1.0
    seconds = _measure.alternate({"a": lambda: None, "b": lambda: None}, rounds=3)
    assert [len(times) for times in seconds.values()] == [3, 3]
