"""Distillation: a small network learns the outputs of a large one.

Hinton, Vinyals and Dean 2015, arXiv 1503.02531. With p and q the softmax of the logits of teacher
and student divided by a temperature T,

    loss = alpha T^2 KL(p || q) + (1 - alpha) cross_entropy(student, label)

A high temperature shows which wrong classes the teacher finds likely. The factor T^2 keeps the
gradient of the first term independent of T for large T, where it becomes that of the squared
difference of logits (section 2.1).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxdl._check import require_number
from jaxdl._precision import widen
from jaxdl.losses import Loss, cross_entropy

__all__ = ["distillation"]


def distillation(temperature: float = 2.0, alpha: float = 0.9) -> Loss:
    """Returns a loss for a student: (logits, (labels, teacher_logits)) -> losses per example.

    Pass it to `fit` with `data=(x, (labels, teacher_logits))`; `train.predict` computes the
    teacher's logits once.

    Args:
      temperature: T > 0.
      alpha: the share of the teacher in the loss, in [0, 1].

    Returns:
      A function of logits (N, ..., C) and a pair of labels, as for `losses.cross_entropy`, and
      teacher's logits (N, ..., C), to losses (N, ...) in float32 at least. No gradient flows to the
      teacher.

    Raises:
      ValueError: `temperature` or `alpha` is out of range; when called, the teacher's logits have
        another shape than the student's.
    """
    require_number("distillation", "a number above 0", lambda t: t > 0, temperature=temperature)
    require_number("distillation", "a number in [0, 1]", lambda a: 0 <= a <= 1, alpha=alpha)

    def loss(logits, target):
        if not isinstance(target, tuple | list) or len(target) != 2:
            raise ValueError(
                f"distillation: the target is a {type(target).__name__}; expected (labels, "
                "teacher_logits). Pass data=(x, (labels, teacher_logits))."
            )
        labels, teacher = target
        if teacher.shape != logits.shape:
            raise ValueError(
                f"distillation: the teacher's logits have shape {teacher.shape} and the student's "
                f"{logits.shape}; expected equal shapes, one score for each class."
            )
        student, teacher = widen(logits), jax.lax.stop_gradient(widen(teacher))
        p = jax.nn.log_softmax(teacher / temperature)
        q = jax.nn.log_softmax(student / temperature)
        # exp(p) is 0 for scores of -inf, and 0 times inf is NaN.
        terms = jnp.where(jnp.exp(p) > 0, jnp.exp(p) * (p - q), 0)
        soft = temperature**2 * terms.sum(-1)
        return alpha * soft + (1 - alpha) * cross_entropy(logits, labels).astype(soft.dtype)

    return loss
