"""Penalty on the gradient of the loss by the input, which makes the loss flat around the data."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxdl._check import require_number
from jaxdl._precision import widen
from jaxdl.interpret import _input
from jaxdl.losses import Loss, ModelLoss

__all__ = ["gradient_penalty_loss"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _GradientPenaltyLoss(ModelLoss):
    strength: float

    def compute(self, apply, params, state, x, y, key):
        def evaluate(x):
            output, new = apply(params, state, x, train=True, key=key)
            values = self(output, y)
            return jnp.sum(values), (output, values, new)

        whole = _input.as_batch("gradient_penalty_loss", x)
        of_floats, parts = _input.separate(evaluate, whole)
        parts = jax.tree.map(widen, parts)
        gradient, (output, values, state) = jax.grad(of_floats, has_aux=True)(parts)
        if values.ndim != 1:
            raise ValueError(
                f"gradient_penalty_loss: the loss returns {values.shape}; expected (N,), one value "
                "for each example. Average the loss over the other axes."
            )
        squares = sum(
            jnp.sum(leaf.astype(values.dtype) ** 2, axis=tuple(range(1, leaf.ndim)))
            for leaf in jax.tree.leaves(gradient)
        )
        return output, values + self.strength * squares, state


def gradient_penalty_loss(strength: float, *, loss: str | Loss = "cross_entropy") -> ModelLoss:
    """Returns l + strength ||dl/dx||^2 for a loss l, for `train.fit(loss=...)`.

    Double backpropagation, Drucker and LeCun 1992 (doi:10.1109/72.165600); as a defence, Ross and
    Doshi-Velez 2018 (arXiv 1711.09404). A small change d of the input increases the loss by
    at most ||dl/dx|| ||d||. A step of training takes about three times as long. Batch normalization
    makes the gradient include the effect of an example on the losses of others.

    Args:
      strength: the weight of the squared norm, >= 0, in units of the squared input.
      loss: `(output, target) -> (N,)`, or a name from `losses`.

    Returns:
      A `losses.ModelLoss`.

    Raises:
      ValueError: `strength` is out of range; in training, the loss is not one value per example.
    """
    require_number("gradient_penalty_loss", "a number >= 0", lambda s: s >= 0, strength=strength)
    return _GradientPenaltyLoss(loss=loss, strength=strength)
