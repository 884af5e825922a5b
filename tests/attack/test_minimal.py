"""DeepFool and Carlini-Wagner: the nearest input of another class, exact for linear functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from jaxdl import attack

RNG = np.random.default_rng(0)
W = RNG.normal(0, 1, (5, 4)).astype(np.float32)
B = RNG.normal(0, 0.1, 4).astype(np.float32)
X = RNG.uniform(0.3, 0.7, (6, 5)).astype(np.float32)


def linear(x):
    return x @ W + B


LABELS = np.argmax(X @ W + B, -1)


def nearest(x, label):
    """The change to the nearest boundary of the linear classifier."""
    scores, changes = x @ W + B, []
    for k in range(4):
        if k != label:
            w = (W[:, k] - W[:, label]).astype(np.float64)
            changes.append((scores[label] - scores[k]) / (w @ w) * w)
    return min(changes, key=np.linalg.norm)


CHANGES = np.array([nearest(*pair) for pair in zip(X.astype(np.float64), LABELS, strict=True)])


def test_deep_fool_is_exact_for_affine_functions_in_one_step():
    @jax.jit
    def attacks(x):
        run = lambda **options: attack.deep_fool(linear, x, LABELS, bounds=None, **options)
        return run(steps=1, overshoot=0.0), run(overshoot=0.02), run(steps=1, candidates=4)

    one, many, all_classes = map(np.asarray, attacks(X))
    np.testing.assert_allclose(one - X, CHANGES, atol=1e-5)
    np.testing.assert_allclose(many - X, 1.02 * CHANGES, atol=1e-5)
    np.testing.assert_array_equal(all_classes, many)
    assert attack.succeeds(linear, many, LABELS).all()


def test_deep_fool_is_exact_within_bounds():
    """A quadratic program is the reference: the shortest move to a plane in a box."""
    rng = np.random.default_rng(3)
    w, x = rng.normal(0, 1, 5).astype(np.float32), rng.uniform(0, 1, (5, 5)).astype(np.float32)
    x[:, 0] = w[0] < 0  # moves toward class 0 would leave the bounds
    offset = 0.1 * x @ w + 0.9 * np.minimum(w, 0).sum()  # so far that other bounds matter too
    f = lambda x: x @ w - offset
    actual = jax.jit(lambda x: attack.deep_fool(f, x, np.ones(5, int), overshoot=0.0, steps=1))(x)
    for before, after, level in zip(x.astype(np.float64), actual, offset, strict=True):
        result = optimize.minimize(
            lambda v, before=before: np.sum((v - before) ** 2),
            before,
            bounds=[(0, 1)] * 5,
            constraints={"type": "eq", "fun": lambda v, level=level: v @ w - level},
            method="SLSQP",
            options={"ftol": 1e-14},
        )
        np.testing.assert_allclose(after, result.x, atol=1e-4)
        assert ((np.asarray(after) == 0) | (np.asarray(after) == 1)).sum() >= 2


def test_deep_fool_of_one_logit_and_of_wrong_classes():
    logit = lambda x: x @ W[:, 0] + 0.3
    right = (np.asarray(logit(X)) > 0).astype(int)
    labels = right.copy()
    labels[0] = 1 - labels[0]  # already wrong: nothing to do
    actual = np.asarray(attack.deep_fool(logit, X, labels, overshoot=0.0, steps=1, bounds=None))
    w = W[:, 0].astype(np.float64)
    wanted = -np.outer(logit(X) / (w @ w), w)
    wanted[0] = 0
    np.testing.assert_allclose(actual - X, wanted, atol=1e-5)


def test_deep_fool_stays_in_bounds_and_crosses_curved_boundaries():
    f = lambda x: jnp.stack([jnp.sum((x - 0.5) ** 2, -1), jnp.full(len(x), 0.3)], 1)
    x = np.full((1, 5), 0.6, np.float32) + np.linspace(0, 0.1, 5, dtype=np.float32)
    actual = attack.deep_fool(f, x, [1])  # out of the ball of radius sqrt(0.3), inside the cube
    assert attack.succeeds(f, actual, [1]).all()
    assert 0 <= actual.min() and actual.max() <= 1
    # One step of the linearized boundary, from inside of a sphere, leads beyond it.
    radius = np.linalg.norm(x - 0.5)
    step = (0.3 - radius**2) / (2 * radius)
    np.testing.assert_allclose(np.linalg.norm(actual - x), 1.02 * step, rtol=1e-4)


def test_carlini_wagner_is_near_the_closed_form_of_linear_functions():
    steps = {"steps": 200, "search_steps": 9, "constant": 0.1}
    target = np.argsort(X @ W + B, -1)[:, -2]

    @jax.jit
    def attacks(x):
        run = lambda labels, **options: attack.carlini_wagner(
            linear, x, labels, **(steps | options)
        )
        return (
            run(LABELS),
            run(LABELS, bounds=None, constant=1e4, search_steps=16),
            run(target, targeted=True, confidence=0.1),
        )

    inside, free, toward = map(np.asarray, attacks(X))
    minimal = np.linalg.norm(CHANGES, axis=1)
    for actual in (inside, free):
        assert attack.succeeds(linear, actual, LABELS).all()
        sizes = np.linalg.norm(actual - X, axis=1)
        assert (sizes >= minimal - 1e-5).all() and (sizes <= 1.005 * minimal).all()
    assert 0 <= inside.min() and inside.max() <= 1
    scores = toward @ W + B
    others = np.where(np.eye(4)[target] == 1, -np.inf, scores).max(1)
    lead = scores[np.arange(6), target] - others
    reached = (toward != X).any(1)
    assert reached.sum() >= 5 and (lead[reached] > 0.1 - 1e-4).all()


def test_carlini_wagner_leaves_an_input_that_it_cannot_change():
    constant = lambda x: jnp.stack([1 + 0 * x[:, 0], 0 * x[:, 0]], 1)
    actual = attack.carlini_wagner(constant, X, np.zeros(6, int), steps=2, search_steps=2)
    np.testing.assert_array_equal(actual, X)


@pytest.mark.parametrize(
    "function, change, words",
    [
        (attack.deep_fool, {"steps": 0}, "steps is 0"),
        (attack.deep_fool, {"overshoot": -1}, "overshoot is -1"),
        (attack.deep_fool, {"candidates": 1}, "candidates is 1"),
        (attack.deep_fool, {"bounds": (0, 0.1)}, "expected x within them"),
        (attack.carlini_wagner, {"steps": 0}, "steps is 0"),
        (attack.carlini_wagner, {"confidence": -1}, "confidence is -1"),
        (attack.carlini_wagner, {"constant": 0}, "constant is 0"),
        (attack.carlini_wagner, {"learning_rate": 0}, "learning_rate is 0"),
        (attack.carlini_wagner, {"labels": [4] * 6}, "label 4"),
    ],
)
def test_bad_arguments(function, change, words):
    options = {"labels": LABELS} | change
    with pytest.raises(ValueError, match=words):
        function(linear, X, **options)


def test_traced_labels_out_of_range_give_nan():
    x, labels = X[:2], jnp.array([int(LABELS[0]), 7])
    for run in (attack.deep_fool, attack.carlini_wagner):
        options = {"steps": 2} | ({"search_steps": 1} if run is attack.carlini_wagner else {})
        actual = jax.jit(lambda labels, run=run, o=options: run(linear, x, labels, **o))(labels)
        assert np.isnan(actual).all(1).tolist() == [False, True]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_carlini_wagner_changes_values_at_a_bound_in_every_precision(dtype):
    x = jnp.array([[1.0]], dtype)
    f = lambda x: (x - 0.5) @ jnp.array([[100.0, -100.0]], dtype)
    actual = attack.carlini_wagner(f, x, jnp.array([0]), steps=300, learning_rate=0.05)
    assert actual.dtype == dtype and 0.4 < float(actual[0, 0]) <= 0.5
