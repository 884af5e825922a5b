"""Objectives of given activations, against NumPy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.interpret import feature_vis
from jaxdl.interpret.feature_vis import objective
from jaxdl.interpret.feature_vis._objective import Batch
from jaxdl.interpret.feature_vis.network import OUTPUT

RNG = np.random.default_rng(0)
CROPS, COUNT = 2, 3
A = RNG.normal(size=(CROPS * COUNT, 4, 5, 6)).astype(np.float32)
LOGITS = RNG.normal(size=(CROPS * COUNT, 7)).astype(np.float32)
IMAGES = RNG.normal(size=(COUNT, 8, 9, 2)).astype(np.float32)
BATCH = Batch(jnp.asarray(IMAGES), {"conv": jnp.asarray(A), OUTPUT: jnp.asarray(LOGITS)}, COUNT)
V = RNG.normal(size=6).astype(np.float32)


def score(goal):
    return np.asarray(goal.score(BATCH, goal.prepare(None, goal.args)))


def per_crop(values):
    return np.asarray(values, np.float32).reshape(CROPS, COUNT)


def cosine():
    return A @ V / np.linalg.norm(A, axis=-1) / np.linalg.norm(V)


def grams(a):
    rows = a.reshape(len(a), -1, a.shape[-1])
    return np.stack([row.T @ row / len(row) for row in rows])


def similarity():
    """Minus the mean cosine of the Gram matrices of other images in the same crop."""
    rows = grams(A).reshape(CROPS, COUNT, -1)
    rows = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return -np.stack(
        [
            [np.mean([crop[b] @ crop[d] for d in range(COUNT) if d != b]) for b in range(COUNT)]
            for crop in rows
        ]
    )


@pytest.mark.parametrize(
    "goal, expected",
    [
        (objective.logit(2), LOGITS[:, 2]),
        (objective.logit(lambda out: out[:, 1] - out[:, 3]), LOGITS[:, 1] - LOGITS[:, 3]),
        (objective.neuron("conv", 5), A[:, 2, 2, 5]),
        (objective.neuron("conv", 5, (3, 0)), A[:, 3, 0, 5]),
        (objective.channel("conv", 1), A[..., 1].mean((1, 2))),
        (objective.direction("conv", V), (A @ V).mean((1, 2))),
        (
            objective.direction("conv", V, 2),
            (A @ V * np.maximum(cosine(), 0.1) ** 2).mean((1, 2)),
        ),
        (objective.deep_dream("conv"), (A**2).mean((1, 2, 3))),
        (objective.custom("conv", lambda a: a.max((1, 2, 3))), A.max((1, 2, 3))),
        (objective.diversity("conv"), similarity()),
    ],
)
def test_scores_of_layers(goal, expected):
    chex.assert_trees_all_close(score(goal), per_crop(expected), atol=1e-5)


def test_penalties_of_the_image():
    steps = [np.abs(np.diff(IMAGES, axis=axis)).sum((1, 2, 3)) for axis in (1, 2)]
    expected = {
        objective.total_variation: steps[0] + steps[1],
        objective.l1: np.abs(IMAGES).sum((1, 2, 3)),
        objective.l2: (IMAGES**2).sum((1, 2, 3)),
    }
    for penalty, value in expected.items():
        chex.assert_trees_all_close(score(penalty()), value[None], rtol=1e-5)


def test_arithmetic():
    a, b = objective.logit(2), objective.channel("conv", 1)
    va, vb = score(a), score(b)
    for goal, expected in (
        (a + b, va + vb),
        (2 - a, 2 - va),
        (a - 0.5 * b, va - 0.5 * vb),
        (np.float32(3) * a, 3 * va),
        (a / 2 + 1, va / 2 + 1),
        (-(a * b), -va * vb),
        (jnp.float32(0.1) * objective.l2() + a, 0.1 * score(objective.l2()) + va),
    ):
        assert goal.targets is None
        chex.assert_trees_all_close(score(goal), expected.astype(np.float32), rtol=1e-5)


def test_arrays_of_indices_and_weights_are_several_objectives():
    goal = objective.logit(np.arange(3)) - np.array([1.0, 2.0, 3.0]) * objective.l2()
    assert goal.targets == 3
    for k in range(3):
        args = goal.prepare(None, tuple(arg[k] for arg in goal.args))
        expected = per_crop(LOGITS[:, k]) - (k + 1) * (IMAGES**2).sum((1, 2, 3))[None]
        chex.assert_trees_all_close(goal.score(BATCH, args), expected, rtol=1e-5)


@pytest.mark.row("I15")
def test_gram_matrices_ignore_the_order_of_positions():
    actual = np.asarray(objective.gram(jnp.asarray(A)))
    chex.assert_trees_all_close(actual, grams(A), atol=1e-5)
    shuffled = RNG.permutation(A.reshape(len(A), 20, 6), axis=1).reshape(len(A), 5, 4, 6)
    chex.assert_trees_all_close(
        np.asarray(objective.gram(jnp.asarray(shuffled))), actual, atol=1e-5
    )


@pytest.mark.row("I15")
def test_comparisons_with_another_image():
    other = RNG.normal(size=(1, 4, 5, 6)).astype(np.float32)
    network = lambda images, layers: {layer: jnp.asarray(other) for layer in layers}
    image = np.zeros((8, 9, 2), np.float32)
    style = objective.style(["conv", "conv"], image)
    errors = ((grams(A) - grams(other)) ** 2).sum((1, 2)) / (4 * 6**2)
    actual = style.score(BATCH, style.prepare(network, style.args))
    chex.assert_trees_all_close(actual, per_crop(errors), rtol=1e-4)
    content = objective.content("conv", image)
    actual = content.score(BATCH, content.prepare(network, content.args))
    chex.assert_trees_all_close(actual, per_crop(((A - other) ** 2).mean((1, 2, 3))), rtol=1e-4)
    dot = (A * other).sum(-1)
    cosine = dot / np.linalg.norm(A, axis=-1) / np.linalg.norm(other, axis=-1)
    same = objective.caricature("conv", image, 2.0)
    actual = same.score(BATCH, same.prepare(network, same.args))
    expected = (dot * np.maximum(cosine, 0.1) ** 2).mean((1, 2))
    chex.assert_trees_all_close(actual, per_crop(expected), rtol=1e-4, atol=1e-5)


def test_gradients_are_finite_at_zero():
    batch = BATCH._replace(values={"conv": jnp.zeros((6, 2, 2, 6))})
    goal = objective.direction("conv", V, 2.0) + objective.diversity("conv")
    total = lambda a: goal.score(
        batch._replace(values={"conv": a}), goal.prepare(None, goal.args)
    ).sum()
    assert np.all(np.isfinite(jax.jit(jax.grad(total))(jnp.zeros((6, 2, 2, 6)))))


def network(x):
    with jax.named_scope("conv"):
        a = jnp.tanh(x @ np.ones((2, 6), np.float32))
    return a.sum((1, 2))


def run(goal, **options):
    image = feature_vis.pixels((4, 4, 2))
    return feature_vis.visualize(network, image, goal, key=jax.random.key(0), steps=1, **options)


@pytest.mark.parametrize(
    "goal, words",
    [
        (lambda: objective.logit("argmax"), "logit: target is 'argmax'"),
        (lambda: objective.logit(6), "target is 6; expected a class of 0 to 5"),
        (lambda: objective.logit([0, 6]), "target is 6; expected a class of 0 to 5"),
        (lambda: objective.logit(), "target is None"),
        (lambda: objective.channel("conv", 6), "index is 6 for layer 'conv' .* channel of 0 to 5"),
        (lambda: objective.channel("conv", 0.5), "index is 0.5; expected an int, or T ints"),
        (lambda: objective.channel("cnv", 0), "no layer 'cnv'"),
        (lambda: objective.neuron("conv", 0, (4, 0)), r"position is \(4, 0\) for layer 'conv'"),
        (lambda: objective.neuron("conv", 0, (1,)), r"position is \(1,\) for layer 'conv'"),
        (lambda: objective.direction("conv", V[:4]), "vector has 4 numbers .* expected 6"),
        (lambda: objective.direction("conv", 1.0), r"vector has shape \(\)"),
        (lambda: objective.direction("conv", V, -1), "cosine_power is -1"),
        (lambda: objective.diversity("conv"), "there is one image; expected several"),
        (lambda: objective.style([], IMAGES[0]), "0 layers and an image"),
        (lambda: objective.style("conv", np.ones((4, 4, 2), int)), "an image of int"),
        (lambda: objective.style("conv", IMAGES), "expected one image without a batch axis"),
        (lambda: objective.content("conv", IMAGES[0]), r"has shape \(8, 9, 6\) for the image"),
        (
            lambda: objective.logit([0, 1]) + objective.channel("conv", [0, 1, 2]),
            r"for \[2, 3\] im",
        ),
        (lambda: objective.logit(0) * np.ones((2, 2)), r"an array of shape \(2, 2\)"),
        (lambda: "logit", "objective is 'logit'; expected an Objective"),
    ],
)
def test_bad_arguments(goal, words):
    with pytest.raises(ValueError, match=words):
        run(goal())
