"""The experiments on explanations, on little work."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments import clever_hans, explain_digits, explain_lstm, explain_photo
from jaxdl import data, interpret, nn, serial
from tests.nn.filled import filled


def test_squares_share_an_image_evenly():
    mask = explain_digits.squares(8, 4)
    assert mask.shape == (8, 8, 1) and np.bincount(mask.ravel()).tolist() == [4] * 16
    assert mask[0, 2, 0] == 1 and mask[2, 0, 0] == 4


def test_agreement_within_sentences():
    values = np.array([[1.0, 2, 3, 0], [5.0, 4, 0, 0]])
    actual = {"a": values, "b": values * 2, "c": -values}
    agreed = explain_lstm.rank_agreement(actual, np.array([3, 2]))
    assert agreed == {"a and b": 1, "a and c": pytest.approx(-1), "b and c": pytest.approx(-1)}


def test_the_best_by_each_measure():
    areas = {
        "a": {"insertion": [0.9, 0.7], "ROAD": [0.3]},
        "b": {"insertion": [0.1], "ROAD": [0.2]},
    }
    assert [explain_digits.find_best(areas, m) for m in ("insertion", "ROAD")] == ["a", "b"]


def test_discs_of_five_colours_and_two_sizes():
    discs = explain_photo.discs(0, 60)
    assert discs.train.x.shape == (60, 32, 32, 3) and discs.train.x.dtype == np.float32
    bright = (np.abs(discs.train.x - 0.4) > 0.11).any(-1).sum((1, 2))
    assert bright[discs.train.y % 2 == 1].min() > bright[discs.train.y % 2 == 0].max()


@pytest.mark.row("Q11")
def test_explanations_reveal_a_mark_that_accuracy_hides():
    """Trains a network on marked and on clean digits; only explanations show the difference."""
    digits, model = data.digits(), serial(nn.flatten(), nn.dense(32), jax.nn.relu, nn.dense(10))
    config = clever_hans.Config(steps=300)
    x, y = digits.train.x, digits.train.y
    own = (y == config.digit)[:, None, None, None]
    params, state = filled(model, x[:2], scale=0.1)
    apply = lambda params: lambda x: model.apply(params, state, x)[0]
    measures, falls = {}, {}
    for name, images in (("marked", np.where(own, clever_hans.add_mark(x), x)), ("clean", x)):
        with jax.numpy_dtype_promotion("standard"):  # optax's adam mixes its counter with floats
            trained = clever_hans.descend(apply, params, (images, y), config, 0, 0.0)
        f = jax.jit(apply(trained))
        measures[name] = clever_hans.measure(f, digits.test, config.digit)
        shown = clever_hans.add_mark(digits.test.x[digits.test.y == config.digit])
        of_dense = lambda i, p=trained: jax.device_get(p[f"dense_{i}"])
        hidden = shown.reshape(-1, 64) @ of_dense(0)["kernel"] + of_dense(0)["bias"] > 0
        slope = np.abs((hidden * of_dense(1)["kernel"][:, config.digit]) @ of_dense(0)["kernel"].T)
        share = slope[:, clever_hans.MARK.ravel()].sum(1) / slope.sum(1)
        assert measures[name]["saliency_in_the_mark"] == pytest.approx(share.mean(), rel=1e-4)
        shown = shown[:8]
        falls[name] = interpret.occlusion(
            f, shown, (2, 2, 1), stride=(2, 2, 1), target=config.digit
        )
        for i, j in ((0, 0), (2, 4)):  # by hand
            covered = shown.copy()
            covered[:, i : i + 2, j : j + 2] = 0
            expected = f(shown)[:, config.digit] - f(covered)[:, config.digit]
            np.testing.assert_allclose(falls[name][:, i, j, 0], expected, atol=1e-4)
    marked, clean = measures["marked"], measures["clean"]
    assert marked["like_training"] > 0.93 and clean["like_training"] > 0.9  # accuracy hides it
    assert marked["clean_of_the_digit"] < 0.2 and clean["clean_of_the_digit"] > 0.7
    assert marked["mark_on_all"] < 0.4 and clean["mark_on_all"] > 0.8
    for method in ("saliency_in_the_mark", "relevance_in_the_mark"):
        assert marked[method] > 2 * clean[method], method
    windows = {name: np.asarray(values)[:, ::2, ::2, 0].mean(0) for name, values in falls.items()}
    assert windows["marked"].argmax() == 0 and windows["marked"][0, 0] > 3 * windows["clean"][0, 0]


@pytest.mark.slow
@pytest.mark.row("Q11")
def test_the_mark_is_found_and_mended(tmp_path):
    """In a process of its own: programs that run for thousands of steps are worth optimizing."""
    options = ["--steps", "400", "--seeds", "1", "--results", str(tmp_path)]
    plain = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-m", "experiments", "clever_hans", *options]
    subprocess.run(command, check=True, env=plain)
    actual = json.loads((tmp_path / "clever_hans" / "result.json").read_text())["metrics"]
    before, after = actual["before"], actual["after"]
    assert before["like_training"] > 0.97 and after["like_training"] > 0.95
    assert before["clean_of_the_digit"] < 0.5 < after["clean_of_the_digit"]
    assert before["relevance_in_the_mark"] > 0.3 > 3 * after["relevance_in_the_mark"]
    assert before["mark_on_all"] + 0.1 < after["mark_on_all"]
    assert (tmp_path / "clever_hans" / "clever_hans.png").stat().st_size > 10_000
