import pytest

from jaxdl import train


@pytest.mark.row("E01")
@pytest.mark.parametrize(
    "accuracy, eval_accuracy, problem",
    [
        (0.80, 0.60, "training"),  # the gap is wide, and still it is not overfitting
        (0.80, 0.80, "training"),
        (0.99, 0.90, "overfitting"),
        (0.99, 0.98, "none"),
        (0.97, 0.99, "none"),
        (float("nan"), 0.5, "training"),
        (0.99, float("nan"), "overfitting"),
    ],
)
def test_the_training_error_comes_first(accuracy, eval_accuracy, problem):
    history = {"accuracy": [0.1, accuracy], "eval_accuracy": [0.1, eval_accuracy]}
    assert train.diagnose(history).problem == problem


@pytest.mark.row("E01")
def test_the_advice_is_of_the_problem():
    overfit = train.diagnose({"accuracy": [1.0], "eval_accuracy": [0.5]})
    assert "0.0% on the training data and 50.0% on other data" in overfit.advice
    assert "dropout" in overfit.advice
    underfit = train.diagnose({"accuracy": [0.5], "eval_accuracy": [0.5]})
    assert "50.0%, above 5.0%" in underfit.advice and "dropout" not in underfit.advice
    assert train.diagnose({"accuracy": [0.5], "eval_accuracy": [0.5]}, goal=0.6).problem == "none"


def test_a_history_without_accuracies():
    with pytest.raises(ValueError, match="has loss; expected 'accuracy'"):
        train.diagnose({"loss": [1.0]})
