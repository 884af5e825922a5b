"""The loss of distillation against its closed forms."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl import compress, losses


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


LABELS = np.int32([0, 3, 2])
run = jax.jit(
    lambda student, teacher, temperature, alpha: compress.distillation(temperature, alpha)(
        student, (LABELS, teacher)
    ),
    static_argnums=(2, 3),
)


@pytest.mark.row("G13")
@given(st.integers(0, 2**31), st.sampled_from([(1.0, 1.0), (4.0, 0.3)]))
def test_the_equation(seed, options):
    student, teacher = np.random.default_rng(seed).normal(size=(2, 3, 4))
    temperature, alpha = options
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    hard = -np.log(softmax(student))[np.arange(3), LABELS]
    expected = alpha * temperature**2 * (p * np.log(p / q)).sum(-1) + (1 - alpha) * hard
    loss = run(student.astype(np.float32), teacher.astype(np.float32), temperature, alpha)
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.row("G13")
def test_limits():
    """alpha = 0 is the cross-entropy; hot softmaxes match logits; equal networks lose nothing."""
    student, teacher = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(
        run(student, teacher, 3.0, 0.0), losses.cross_entropy(student, LABELS), rtol=1e-6
    )
    loss = compress.distillation(100.0, 1.0)
    slope = jax.jit(jax.grad(lambda s, t: loss(s, (LABELS, t)).sum(), argnums=(0, 1)))
    centred = [z - z.mean(-1, keepdims=True) for z in (student, teacher)]
    gradient, of_teacher = slope(student, teacher)
    np.testing.assert_allclose(gradient, (centred[0] - centred[1]) / 4, atol=0.02)
    assert not np.any(of_teacher)
    np.testing.assert_allclose(run(student, student, 1.0, 1.0), 0, atol=1e-6)
    impossible = np.float32([[0, -np.inf, 1, 2]] * 3)
    assert np.isfinite(run(student, impossible, 1.0, 1.0)).all()


def test_errors():
    with pytest.raises(ValueError, match="temperature is 0; expected a number above 0"):
        compress.distillation(0)
    with pytest.raises(ValueError, match=r"alpha is 2; expected a number in \[0, 1\]"):
        compress.distillation(1.0, 2)
    logits = np.zeros((3, 4), np.float32)
    with pytest.raises(ValueError, match=r"the target is a ndarray; expected \(labels"):
        compress.distillation()(logits, LABELS)
    with pytest.raises(ValueError, match=r"shape \(3, 5\) and the student's \(3, 4\)"):
        compress.distillation()(logits, (LABELS, np.zeros((3, 5), np.float32)))
