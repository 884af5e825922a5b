"""The claim that learned features classify better than those made by hand."""

import numpy as np
import pytest

from experiments import _claim, _lecture, hand_made
from jaxdl import data


def metrics(**last):
    """A result whose networks end at these accuracies, by kind and seed."""
    accuracy = {name.replace("_", " "): [[0.5, a] for a in values] for name, values in last.items()}
    measured = {name: {"mean": np.mean(values, 0)[1]} for name, values in accuracy.items()}
    return {"accuracy": accuracy, "measured": measured, "images": 1000}


@pytest.mark.parametrize(
    "bag, hog, outcome, ahead",
    [
        ([0.95, 0.96], [0.94, 0.95], "holds", 2),
        ([0.95, 0.975], [0.94, 0.95], "holds in part", 1),
        ([0.95, 0.96], [0.94, 0.971], "holds in part", 1),
        ([0.98, 0.99], [0.975, 0.95], "does not hold", 0),
    ],
)
def test_the_verdict_needs_every_seed_above_every_seed(bag, hog, outcome, ahead):
    result = metrics(pixels=[0.9, 0.9], bag_of_words=bag, HOG=hog, end_to_end=[0.97, 0.98])
    verdict = hand_made.judge(result)
    assert verdict.outcome == outcome
    assert f"of {ahead} of the 2 kinds" in verdict.reason
    for text in (verdict.reason, _claim.load_chinese("hand_made").reason(verdict)):
        assert f"{np.mean(bag):.3f}" in text and f"{np.mean(hog):.3f}" in text
        assert not text.endswith((".", "。"))
    assert hand_made.draw(result).axes


@pytest.mark.row("A16", "A17")
@pytest.mark.slow
def test_with_few_images_features_are_in_the_same_order(data_root, monkeypatch, tmp_path):
    mnist = data.mnist(data_root("mnist"))
    train, test = (
        data.Split(s.x[:n], s.y[:n]) for s, n in ((mnist.train, 3000), (mnist.test, 2000))
    )
    few = mnist._replace(train=train, test=test)
    monkeypatch.setattr(_lecture, "load_images", lambda smoke: few)
    result = hand_made.run(hand_made.Config(seeds=2, epochs=6, results=tmp_path))
    last = {name: np.array(values)[:, -1] for name, values in result["accuracy"].items()}
    assert last["bag of words"].min() > last["pixels"].max() + 0.02
    assert last["end to end"].min() > last["bag of words"].max()
    assert last["HOG"].min() > last["bag of words"].max() + 0.02
