"""Adversarial training: `fit` descends the loss of inputs that an attack has changed.

    PGD      min_w max_{|d| <= epsilon} loss(f_w(x + d), y)                  Madry et al. 2018
    fast     the same, with one step from a random start                     Wong et al. 2020
    TRADES   min_w loss(f_w(x), y) + beta max_d KL(f_w(x) || f_w(x + d))     Zhang et al. 2019

The attack uses running statistics and no dropout, as predictions do (Pang et al. 2021, arXiv
2010.00467), and does not change the statistics. The trained pass uses those of its batch.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxdl._check import require_number
from jaxdl._precision import widen
from jaxdl.defend._ascent import Bounds, Options, ascend, check_options
from jaxdl.losses import Loss, ModelLoss

__all__ = ["adversarial_loss", "fast_adversarial_loss", "trades_loss"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _AdversarialLoss(ModelLoss):
    options: Options

    def compute(self, apply, params, state, x, y, key):
        attack_key, key = jax.random.split(key)
        fixed = jax.lax.stop_gradient(params)
        worst = ascend(lambda x: self(apply(fixed, state, x)[0], y), x, self.options, attack_key)
        output, state = apply(params, state, worst, train=True, key=key)
        return output, self(output, y), state


@dataclasses.dataclass(frozen=True, kw_only=True)
class _TradesLoss(_AdversarialLoss):
    beta: float

    def compute(self, apply, params, state, x, y, key):
        attack_key, clean_key, moved_key = jax.random.split(key, 3)
        fixed = jax.lax.stop_gradient(params)
        target = apply(fixed, state, x)[0]

        def moved_away(x):
            return divergence(target, apply(fixed, state, x)[0])

        worst = ascend(moved_away, x, self.options, attack_key)
        output, state = apply(params, state, x, train=True, key=clean_key)
        moved, state = apply(params, state, worst, train=True, key=moved_key)
        return output, self(output, y) + self.beta * divergence(output, moved), state


def adversarial_loss(
    epsilon: float,
    *,
    bounds: Bounds | None,
    steps: int = 10,
    step: float | None = None,
    loss: str | Loss = "cross_entropy",
) -> ModelLoss:
    """Returns the loss of adversarial training, for `train.fit(loss=...)`.

    Madry et al. 2018 (arXiv 1706.06083), eq. 2.1: every batch is replaced by inputs within epsilon
    of it that maximize the loss of the current parameters, as far as projected gradient ascent from
    a random start does. A step of training takes steps + 1 times as long. Metrics on training data
    are those of the changed inputs; evaluation is as without a defence.

    Args:
      epsilon: the largest change of a coordinate, >= 0.
      bounds: the smallest and largest valid input, or None. Inputs out of bounds make the loss NaN.
      steps: ascent steps, >= 1.
      step: the change of every coordinate in a step; None for 2.5 epsilon / steps.
      loss: `(output, target) -> (N, ...)`, or a name from `losses`, both attacked and trained.

    Returns:
      A `losses.ModelLoss`.

    Raises:
      ValueError: an option is out of range.
    """
    options = check_options("adversarial_loss", epsilon, steps, step, 2.5, bounds)
    return _AdversarialLoss(loss=loss, options=options)


def fast_adversarial_loss(
    epsilon: float,
    *,
    bounds: Bounds | None,
    step: float | None = None,
    loss: str | Loss = "cross_entropy",
) -> ModelLoss:
    """Returns the loss of fast adversarial training, for `train.fit(loss=...)`.

    Wong et al. 2020 (arXiv 2001.03994), algorithm 3: one step of the fast gradient sign method from
    a random start, at twice the time of plain training. With a large epsilon, a long run can
    suddenly become robust to a single step only: compare with `attack.pgd`.

    Args:
      epsilon, bounds, loss: as for `adversarial_loss`.
      step: the change of every coordinate; None for 1.25 epsilon, as in the paper.

    Returns:
      A `losses.ModelLoss`.

    Raises:
      ValueError: an option is out of range.
    """
    options = check_options("fast_adversarial_loss", epsilon, 1, step, 1.25, bounds)
    return _AdversarialLoss(loss=loss, options=options)


def trades_loss(
    epsilon: float,
    *,
    bounds: Bounds | None,
    beta: float = 6.0,
    steps: int = 10,
    step: float | None = None,
    loss: str | Loss = "cross_entropy",
) -> ModelLoss:
    """Returns the loss of TRADES, for `train.fit(loss=...)`.

    Zhang et al. 2019 (arXiv 1901.08573), algorithm 1: the loss of x plus beta times the largest
    divergence KL(f(x) || f(x')) of an x' within epsilon. A larger beta gives up accuracy for
    robustness. Metrics on training data are those of x. Batch statistics are updated by x and then
    by x'.

    Args:
      epsilon, bounds, steps, step: as for `adversarial_loss`.
      beta: the weight of the divergence, >= 0.
      loss: that of x. The outputs are logits (N, C) of at least two classes.

    Returns:
      A `losses.ModelLoss`.

    Raises:
      ValueError: an option is out of range; in training, the outputs are no such logits.
    """
    options = check_options("trades_loss", epsilon, steps, step, 2.5, bounds)
    require_number("trades_loss", "a number >= 0", lambda b: b >= 0, beta=beta)
    return _TradesLoss(loss=loss, options=options, beta=beta)


def divergence(p: jax.Array, q: jax.Array) -> jax.Array:
    """Returns KL(softmax(p) || softmax(q)) of logits (N, C), (N,)."""
    if getattr(p, "ndim", 0) != 2 or p.shape[-1] < 2:
        raise ValueError(
            f"trades_loss: the output is {getattr(p, 'shape', type(p).__name__)}; expected logits "
            "(N, C) of at least two classes. Use adversarial_loss for other outputs."
        )
    p, q = jax.nn.log_softmax(widen(p)), jax.nn.log_softmax(widen(q))
    # exp(p) is 0 for scores of -inf, and 0 times inf is NaN.
    return jnp.sum(jnp.where(jnp.exp(p) > 0, jnp.exp(p) * (p - q), 0), axis=-1)
