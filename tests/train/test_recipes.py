"""The code of docs/train/recipes.md does what the page says."""

import jax
import numpy as np
import pytest

from jaxdl import train
from tests import docs_code


@pytest.fixture(scope="module")
def page():
    return docs_code.run("train/recipes.md")


def test_the_rate_rises_and_falls(page):
    """7/8 of the peak after 8 steps of warmup, then half a cosine over the other 24."""
    expected = [0.01 * (1 + np.cos(np.pi * n / 24)) for n in (7, 15, 23)]
    np.testing.assert_allclose(page["warmup_rates"], [0.02 * 7 / 8, *expected], rtol=1e-5)


def test_only_kernels_are_decayed(page):
    assert page["kernels"](page["state"].params) == {
        f"dense_{i}": {"bias": False, "kernel": True} for i in (0, 1)
    }


def test_one_update_for_four_batches(page):
    assert page["updates"] == 8


def test_runs_end_where_the_page_says(page):
    """12 steps in parts of 3; then 2 epochs, 1 and 1 of 8 steps."""
    assert page["end"] > 0 and int(page["state"].step) == 32
    assert 0 < page["scale"] <= 1


def test_the_sample_is_of_the_text_and_its_scores_are_those_of_the_whole(page):
    assert "the cat sat. the" in page["sample"]
    tokens = np.concatenate([page["start"], page["drawn"].tokens[0][:-1]])[None]
    network, params = page["network"](), page["trained"].params
    logits = jax.jit(lambda p, x: network.apply(p, {}, x)[0])(params, tokens)
    scores = jax.nn.log_softmax(np.asarray(logits))[0]
    total = scores[np.arange(len(scores)), page["drawn"].tokens[0]].sum()
    np.testing.assert_allclose(page["drawn"].scores[0], total, rtol=1e-4)


def test_the_body_is_frozen_and_then_trained(page):
    frozen = page["with_head"].model_state["body"]
    for name, tree in (("params", page["weights"]), ("state", page["statistics"])):
        jax.tree.map(np.testing.assert_array_equal, frozen[name], tree)
    assert set(page["with_head"].params) == {"head"}
    moved = (
        page["finetuned"].params["body"]["dense_0"]["kernel"] - page["weights"]["dense_0"]["kernel"]
    )
    assert 0 < np.abs(moved).max() < 0.01


def test_padding_changes_nothing(page):
    tokens, lengths = page["tokens"], page["lengths"]
    longer = np.pad(tokens, ((0, 0), (0, 3)), constant_values=7)
    predict = lambda x: train.predict(page["classifier"], page["reader"], (x, lengths))
    np.testing.assert_allclose(predict(longer), predict(tokens), rtol=1e-5, atol=1e-6)
    assert np.all(page["known"].weight[::10] == 0) and np.all(page["pairs"].y >= 0)


def test_the_refined_classifier_learns_in_mixed_precision(page):
    """Parameters, their averages and the statistics of the norm stay float32."""
    assert page["accuracy"] > 0.9 and page["image_history"]["accuracy"][-1] > 0.8
    state = page["refined"]
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.model_state))} == {
        np.dtype(np.float32)
    }
    with jax.numpy_dtype_promotion("standard"):
        rates = [float(page["one_cycle"](step)) for step in (0, 34, 115)]
    np.testing.assert_allclose(rates, [0.03 / 25, 0.03, 0.03 / 25e4], rtol=0.02)
