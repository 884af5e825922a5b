"""What to try next, read off a history. Lecture row E01: do not always blame overfitting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = ["Diagnosis", "diagnose"]


class Diagnosis(NamedTuple):
    """Where a run falls short.

    Attributes:
      problem: "training", "overfitting", or "none".
      advice: what to try, in a sentence.
    """

    problem: str
    advice: str


def diagnose(
    history: Mapping[str, Sequence[float]], *, goal: float = 0.05, gap: float = 0.05
) -> Diagnosis:
    """Looks at the training error first, and only if that is small at the other. Lecture row E01.

    A model that errs on its own training data does not overfit, however much worse it is on
    other data, and what helps against overfitting makes it worse.

    Args:
      history: from `fit`, with `accuracy` and `eval_accuracy`; the last epoch counts.
      goal: the training error, 1 - accuracy, that is small enough.
      gap: by how much the error on the evaluation data may exceed it.

    Returns:
      A `Diagnosis`.

    Raises:
      ValueError: the history lacks an accuracy.
    """
    for name in ("accuracy", "eval_accuracy"):
        if not history.get(name):
            raise ValueError(
                f"diagnose: the history holds {', '.join(history) or 'nothing'}; expected "
                f"{name!r}: fit with metrics=['accuracy'] and eval_data=."
            )
    error, eval_error = 1 - history["accuracy"][-1], 1 - history["eval_accuracy"][-1]
    if math.isnan(error) or error > goal:
        return Diagnosis(
            "training",
            f"the error on the training data is {error:.1%}, above {goal:.1%}: train longer, or "
            "change the learning rate, the optimizer, the activation or the model's size.",
        )
    if not eval_error - error <= gap:
        return Diagnosis(
            "overfitting",
            f"the error is {error:.1%} on the training data and {eval_error:.1%} on other data: "
            "stop early, decay the weights, use dropout, augment the data or find more.",
        )
    return Diagnosis("none", f"the errors are {error:.1%} and {eval_error:.1%}, close to equal.")
