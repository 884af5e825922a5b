"""The slides' numbers: which are right is known, and every other difference would be a fault."""

import json

import numpy as np
import pytest

from experiments import _run, worked_examples
from experiments.worked_examples import Line

WRONG = {
    ("S04-S06", "by w1, w3, w2, w4"),
    ("S07-S10", "kernel 1, as another does"),
    ("S11", "convolution"),
    ("S13", "memory"),
    ("S17, S18", "mean"),
}


MAP_1 = [[3, -1, -3, -1], [-3, 1, 0, -3], [-3, -3, 0, 1], [3, -2, -2, -1]]
MAP_2 = [[-1, -1, -1, -1], [-1, -1, -2, 1], [-1, -1, -2, 1], [-1, 0, -4, 3]]
SLOPE = 0.19661193324148185
EXPECTED = {
    "S01": {"sigmoid(W (1, -1) + b)": [0.9820137900379085, 0.11920292202211755]},
    "S02": {
        "f(1, -1)": [0.6177047777553412, 0.8291239841574399],
        "f(0, 0)": [0.5118473769870672, 0.8543839009877142],
    },
    "S03": {
        "f": 0.7310585786300049,
        "by w": [-SLOPE, -2 * SLOPE, SLOPE],
        "by x": [2 * SLOPE, -3 * SLOPE, -3 * SLOPE],
    },
    "S04-S06": {
        "hidden": [0.5621765008857981, 0.4950001666600003],
        "output": [0.47694575860699684, 0.5286964002912302],
        "error": 0.2097097937078311,
        "by w5, w7, w6, w8": [
            *(0.03463298928683772, 0.030494578556568334),
            *(0.08386609953820857, 0.07384466121071578),
        ],
        "by w1, w3, w2, w4": [
            *(-0.00842148046150221, -0.005052888276901326),
            *(0.012606653078458003, 0.007563991847074802),
        ],
        "the same by the slide's rule": [
            *(0.014583332266596982, 0.008749999359958188),
            *(0.013041100817357862, 0.007824660490414716),
        ],
        "error after a step with rate 1": 0.19503259609013654,
    },
    "S07-S10": {
        "kernel 1, as one deck prints it": MAP_1,
        "kernel 1, as another does": MAP_1,
        "kernel 1, stride 2": [[3, -3], [-3, 0]],
        "kernel 2": MAP_2,
        "kernel 1, pooled": [[3, 0], [3, 1]],
        "kernel 2, pooled": [[-1, 1], [0, 3]],
    },
    "S11": {
        "the kernel as it stands": [[12, 12, 17], [10, 17, 19], [9, 6, 14]],
        "convolution": [[18, 20, 19], [10, 9, 17], [11, 8, 14]],
    },
    "S12": {
        "all weights 1": [4, 12, 32],
        "with ReLU on (2, 2), (-1, -1), (1, 1)": [8, 12, 28],
        "the same without": [8, 12, 28],
    },
    "S13": {
        "memory": [0, 3, 3, 7, 7, 7, 0, 6, 6],
        "memory before the step": [0, 0, 3, 3, 7, 7, 7, 0, 6],
        "output": [0, 0, 0, 0, 0, 7, 0, 0, 6],
    },
    "S14": {
        "memory": [3, 7, 6.999773010656488, 6.999500633749107, 0],
        "output, rounded": [0, 0, 0, 7, 0],
    },
    "S15, S16": {
        "7x7 by 3x3": 5,
        "7x7 by 3x3, stride 2": 3,
        "32x32x3 by 5x5x3": 28,
        "numbers in six such kernels": 450,
    },
    "S17, S18": {
        "largest": [[6, 4], [8, 9]],
        "mean": [[3.5, 2.75], [3.5, 6.75]],
        "mean, cut off": [[3, 2], [3, 6]],
        "largest, of the other deck": [[6, 8], [3, 4]],
    },
    "S19": {
        "7x7, sigma 1: its centre": 0.15924113,
        "the sum of its rounded entries": 1.0004,
        "sigma 10: the sum of the rounded": 0.9996,
    },
    "S20": {
        "10,000 words of 200 numbers": 2_000_000,
        "from 200 numbers to 10,000 words": 2_000_000,
        "both": 4_000_000,
    },
    "S21": {
        "w = 1": 1,
        "w = 1.01": 20751.63924536005946974,
        "w = 0.99": 4.360732e-5,
        "w = 0.01": 0,
    },
    "S22": {
        "decay after the step: 0.99 (w - 0.1 x 0.5)": 0.9405,
        "dropout of one half: a weight of 1 at test time": 0.5,
        "Adagrad, slopes 0.1, 0.2, 0.3": [0.9, 0.8105572809000084, 0.7303789083262812],
    },
}
"""The numbers themselves, worked out by hand or in double precision beside the slides."""


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    assert _run.main(["worked_examples", "--results", str(folder)]) == 0
    return json.loads((folder / "worked_examples" / "result.json").read_text())["metrics"]


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param("S01", marks=pytest.mark.row("S01")),
        pytest.param("S02", marks=pytest.mark.row("S02")),
        pytest.param("S03", marks=pytest.mark.row("S03")),
        pytest.param("S04-S06", marks=pytest.mark.row("S04", "S05", "S06")),
        pytest.param("S07-S10", marks=pytest.mark.row("S07", "S08", "S09", "S10")),
        pytest.param("S11", marks=pytest.mark.row("S11")),
        pytest.param("S12", marks=pytest.mark.row("S12")),
        pytest.param("S13", marks=pytest.mark.row("S13")),
        pytest.param("S14", marks=pytest.mark.row("S14")),
        pytest.param("S15, S16", marks=pytest.mark.row("S15", "S16")),
        pytest.param("S17, S18", marks=pytest.mark.row("S17", "S18")),
        pytest.param("S19", marks=pytest.mark.row("S19")),
        pytest.param("S20", marks=pytest.mark.row("S20")),
        pytest.param("S21", marks=pytest.mark.row("S21")),
        pytest.param("S22", marks=pytest.mark.row("S22")),
    ],
)
def test_every_example_has_its_numbers(rows, result):
    lines = {line["what"]: line["ours"] for line in result["examples"][rows]}
    assert list(lines) == list(EXPECTED[rows])
    for what, ours in lines.items():
        np.testing.assert_allclose(ours, EXPECTED[rows][what], rtol=1e-6, err_msg=what)


def test_all_but_the_known_misprints_are_as_printed(result):
    lines = [(rows, line) for rows, part in result["examples"].items() for line in part]
    wrong = {(rows, line["what"]) for rows, line in lines if line["agrees"] is False}
    assert wrong == WRONG and list(result["examples"]) == list(EXPECTED)
    assert all(line["note"] for rows, line in lines if line["agrees"] is False)
    assert result["right"] == result["printed"] - len(WRONG) >= 25


def test_a_misprint_is_shown_as_one():
    assert "NOT as printed  (why)" in worked_examples.format_line(Line("sum", 3, 4, "why"))


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
