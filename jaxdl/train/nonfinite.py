"""What is said when a run meets an infinite number or a NaN."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxdl import _cache, tree
from jaxdl.train.epoch import Log
from jaxdl.train.state import TrainState
from jaxdl.train.step import all_finite

__all__ = ["NonFiniteError"]

HALTS = {"raise": "loss", "skip": None, "stop": "skipped"}
"""`on_nonfinite` and the metric at which a training program ends its call."""


class NonFiniteError(FloatingPointError):
    """A run met an infinite number or a NaN.

    Attributes:
      step: the step, counted from 0.
      metric: "loss", or "parameters" where the loss was finite.
      path: the first parameter or running statistic that is not finite, or None.
    """

    def __init__(self, step: int, epoch: int, metric: str, value: str, path: str | None):
        self.step, self.metric, self.path = step, metric, path
        where = f"the first bad parameter is {path}" if path else "the parameters are finite"
        cause = "Lower the learning rate, clip the gradient (optax.clip_by_global_norm)"
        if step == 0 and metric == "loss":  # no update came before it
            cause = (
                "This is the first step, so that the learning rate has no part in it: look for a "
                "log or quotient of 0 in model or loss, and ids beyond an embedding's rows; "
                "JAX_DEBUG_NANS=1 names the place. Mend it"
            )
        super().__init__(
            f"{metric} {value} at step {step} (epoch {epoch}); {where}. {cause}, or fit with "
            "on_nonfinite='skip' to leave such steps out, 'stop' to have the state before it."
        )


def _finite(values: Any) -> jax.Array:
    return _cache.Compiled(all_finite)(values)


def check_finite(state: TrainState) -> None:
    """Raises if a state to continue from is not finite."""
    if _finite((state.params, state.model_state)):
        return
    leaves = tree.flatten(state.params) | tree.flatten(state.model_state)
    path = next(path for path, leaf in leaves.items() if not _finite(leaf))
    raise ValueError(
        f"fit: {path} of state is NaN or infinite; expected finite parameters. Continue from an "
        "earlier state or checkpoint."
    )


def check(state: TrainState, log: Log, first: int, steps_per_epoch: int) -> None:
    """Raises if a loss of the steps `first ..`, or the state after them, is not finite."""
    losses = log["loss"][0]
    scale = state.loss_scale
    if scale is not None and log["skipped"][0][-1:].any() and scale.value <= 1:
        raise NonFiniteError(first + len(losses) - 1, 0, "gradient", "overflows unscaled", None)
    bad = np.flatnonzero(~np.isfinite(losses))
    if not bad.size and _finite((state.params, state.model_state)):
        return
    step = first + (int(bad[0]) if bad.size else len(losses) - 1)
    leaves = tree.flatten(state.params) | tree.flatten(state.model_state)
    path = next((path for path, leaf in leaves.items() if not _finite(leaf)), None)
    metric, value = ("loss", f"is {losses[bad[0]]}") if bad.size else ("parameters", "overflowed")
    raise NonFiniteError(step, step // steps_per_epoch + 1, metric, value, path)
