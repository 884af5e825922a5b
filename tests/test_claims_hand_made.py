"""The claim that learned features classify better than those made by hand."""


import numpy as np
import pytest

from experiments import hand_made

KINDS = ("pixels", "bag of words", "HOG", "end to end")


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
    assert f"of {ahead} of the 2 kinds" in verdict.english
    for text in (verdict.english, verdict.chinese):
        assert f"{np.mean(bag):.3f}" in text and f"{np.mean(hog):.3f}" in text
        assert not text.endswith((".", "。"))
    assert hand_made.draw(result).axes
