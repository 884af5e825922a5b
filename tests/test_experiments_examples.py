"""The slides' numbers: which are right is known, and every other difference would be a fault."""

import json

import jax
import pytest

from experiments import _examples, _run
from experiments._line import Line

WRONG = {
    ("S04-S06", "by w1, w3, w2, w4"),
    ("S07-S10", "kernel 1, as another does"),
    ("S11", "convolution"),
    ("S13", "memory"),
    ("S17, S18", "mean"),
}


@pytest.mark.row("S01", "S02", "S03", "S04", "S05", "S06", "S07", "S08", "S09", "S10", "S11")
@pytest.mark.row("S12", "S13", "S14", "S15", "S16", "S17", "S18", "S19", "S20", "S21", "S22")
def test_all_but_the_known_misprints_are_as_printed(tmp_path, capsys):
    assert _run.main(["worked_examples", "--results", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "worked_examples" / "result.json").read_text())["metrics"]
    lines = [(rows, line) for rows, part in result["examples"].items() for line in part]
    wrong = {(rows, line["what"]) for rows, line in lines if line["agrees"] is False}
    assert wrong == WRONG
    assert all(line["note"] for rows, line in lines if line["agrees"] is False)
    assert result["right"] == result["printed"] - len(WRONG) >= 25
    assert "NOT as printed" in capsys.readouterr().out


@pytest.mark.parametrize(
    "slide, ours, agrees",
    [
        (0.21, 0.2097, True),
        (0.21, 0.2151, False),
        ([0.5, 0.12], [0.5049, 0.1151], True),
        (3, 3.4, True),
        (3, 3.6, False),
        ([1, 2], [1.0], False),
        (None, 1.0, None),
    ],
)
def test_agreement_is_to_the_printed_digits(slide, ours, agrees):
    assert Line("", slide, ours).agrees is agrees


def test_the_true_gradient_of_the_small_net():
    with jax.enable_x64(True):
        lines = {line.what: line.ours for line in _examples.small_net()}
    expected = [-0.00842148046150221, -0.005052888276901326, 0.012606653078458003]
    assert [float(g) for g in lines["by w1, w3, w2, w4"]][:3] == pytest.approx(expected)
    assert float(lines["error after a step with rate 1"]) == pytest.approx(0.19503259609013654)
