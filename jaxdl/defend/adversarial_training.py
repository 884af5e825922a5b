"""Adversarial training: `fit` descends the loss of inputs that an attack has changed.

    PGD      min_w max_{|d| <= epsilon} loss(f_w(x + d), y)                  Madry et al. 2018
    fast     the same, with one step from a random start                     Wong et al. 2020
    TRADES   min_w loss(f_w(x), y) + beta max_d KL(f_w(x) || f_w(x + d))     Zhang et al. 2019

The attack uses running statistics and no dropout, as predictions do (Pang et al. 2021, arXiv
2010.00467), and does not change the statistics. The trained pass uses those of its batch.
"""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import jax
import jax.numpy as jnp

from jaxdl._check import require_ints, require_number
from jaxdl._precision import widen
from jaxdl.attack import _arguments, pgd
from jaxdl.attack._ball import Norm
from jaxdl.interpret import _input
from jaxdl.losses import Loss, ModelLoss

__all__ = ["adversarial_loss", "fast_adversarial_loss", "trades_loss"]


Bounds = tuple[float, float]

ROUNDING = 1e-3
"""How far x may be out of bounds, as a share of their distance, because bounds can be rounded."""


@dataclasses.dataclass(frozen=True)
class _Attack:
    """Projected gradient ascent from a random start, as a part of a training step."""

    epsilon: float
    norm: Norm
    step: float
    steps: int
    bounds: Bounds | None

    def __call__(self, f: Any, x: Any, y: Any, loss: Any, key: jax.Array) -> Any:
        """Returns inputs like x of a large loss(f(x), y), without gradient.

        `pgd` makes them NaN where x is out of bounds by more than rounding.
        """

        def prepare(a):
            if not _input.is_floating(a):
                return a
            a = widen(a)
            if self.bounds is None:
                return a
            low, high = self.bounds
            clipped = jnp.clip(a, low, high)
            return jnp.where(jnp.abs(a - clipped) <= ROUNDING * (high - low), clipped, a)

        options = {"norm": self.norm, "step": self.step, "steps": self.steps}
        x = jax.tree.map(prepare, x)
        moved = pgd(f, x, y, self.epsilon, **options, key=key, bounds=self.bounds, loss=loss)
        return jax.lax.stop_gradient(moved)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _AdversarialLoss(ModelLoss):
    attack: _Attack

    def compute(self, apply, params, state, x, y, key):
        attack_key, key = jax.random.split(key)
        fixed = jax.lax.stop_gradient(params)
        worst = self.attack(lambda x: apply(fixed, state, x)[0], x, y, self, attack_key)
        output, state = apply(params, state, worst, train=True, key=key)
        return output, self(output, y), state


@dataclasses.dataclass(frozen=True, kw_only=True)
class _TradesLoss(_AdversarialLoss):
    beta: float

    def compute(self, apply, params, state, x, y, key):
        attack_key, clean_key, moved_key = jax.random.split(key, 3)
        fixed = jax.lax.stop_gradient(params)

        def predict(x):
            return apply(fixed, state, x)[0]

        def distance(output, target):
            return divergence(target, output)

        worst = self.attack(predict, x, predict(x), distance, attack_key)
        output, state = apply(params, state, x, train=True, key=clean_key)
        moved, state = apply(params, state, worst, train=True, key=moved_key)
        return output, self(output, y) + self.beta * divergence(output, moved), state


def adversarial_loss(
    epsilon: float,
    *,
    bounds: Bounds | None,
    norm: Norm = "linf",
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
      epsilon: the largest norm of the change of an example, >= 0.
      bounds: the smallest and largest valid input, or None. Inputs out of bounds make the loss NaN.
        To train on normalized inputs, make the normalization the first layer of the model.
      norm: "linf", "l2" or "l1", as for `attack.pgd`.
      steps: ascent steps, >= 1.
      step: the norm of a step; None for 2.5 epsilon / steps.
      loss: `(output, target) -> (N, ...)`, or a name from `losses`, both attacked and trained.

    Returns:
      A `losses.ModelLoss`.

    Raises:
      ValueError: an option is out of range.
    """
    attack = _make_attack("adversarial_loss", epsilon, norm, steps, step, 2.5, bounds)
    return _AdversarialLoss(loss=loss, attack=attack)


def fast_adversarial_loss(
    epsilon: float,
    *,
    bounds: Bounds | None,
    norm: Norm = "linf",
    step: float | None = None,
    loss: str | Loss = "cross_entropy",
) -> ModelLoss:
    """Returns the loss of fast adversarial training, for `train.fit(loss=...)`.

    Wong et al. 2020 (arXiv 2001.03994), algorithm 3: one step of the fast gradient sign method from
    a random start, at twice the time of plain training. With a large epsilon, a long run can
    suddenly become robust to a single step only: compare with `attack.pgd`.

    Args:
      epsilon, bounds, norm, loss: as for `adversarial_loss`.
      step: the norm of the step; None for 1.25 epsilon, as in the paper.

    Returns:
      A `losses.ModelLoss`.

    Raises:
      ValueError: an option is out of range.
    """
    attack = _make_attack("fast_adversarial_loss", epsilon, norm, 1, step, 1.25, bounds)
    return _AdversarialLoss(loss=loss, attack=attack)


def trades_loss(
    epsilon: float,
    *,
    bounds: Bounds | None,
    norm: Norm = "linf",
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
      epsilon, bounds, norm, steps, step: as for `adversarial_loss`.
      beta: the weight of the divergence, >= 0.
      loss: that of x. The outputs are logits (N, C) of at least two classes.

    Returns:
      A `losses.ModelLoss`.

    Raises:
      ValueError: an option is out of range; in training, the outputs are no such logits.
    """
    attack = _make_attack("trades_loss", epsilon, norm, steps, step, 2.5, bounds)
    require_number("trades_loss", "a number >= 0", lambda b: b >= 0, beta=beta)
    return _TradesLoss(loss=loss, attack=attack, beta=beta)


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


def _make_attack(
    caller: str, epsilon: Any, norm: Any, steps: Any, step: Any, reach: float, bounds: Any
) -> _Attack:
    """Returns an attack of checked options; a step of None is reach * epsilon / steps."""
    expected = "a number >= 0"
    epsilon = require_number(caller, expected, lambda e: e >= 0, epsilon=epsilon)
    (steps,) = require_ints(caller, 1, steps=steps)
    step = reach * epsilon / steps if step is None else step
    step = require_number(caller, expected, lambda s: s >= 0, step=step)
    if norm not in get_args(Norm):
        raise ValueError(f"{caller}: norm is {norm!r}; expected one of {list(get_args(Norm))}.")
    if bounds is not None:
        bounds = _arguments.check_bounds(caller, bounds, finite=True)
        if not all(isinstance(end, float) for end in bounds):
            raise ValueError(
                f"{caller}: bounds are {bounds!r}; expected two numbers. For inputs with bounds of "
                "their own for each channel, make the normalization a layer of the model."
            )
    return _Attack(epsilon, norm, step, steps, bounds)
