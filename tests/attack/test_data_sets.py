"""Attacks of data sets and of several functions: universal, fooling images, transfer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import attack, data, losses, nn, train

W = np.random.default_rng(0).normal(0, 1, (6, 3)).astype(np.float32)
X = np.random.default_rng(1).uniform(0.3, 0.7, (40, 6)).astype(np.float32)


def linear(x):
    return x @ W


LABELS = np.argmax(X @ W, -1)


@pytest.fixture(scope="module")
def networks():
    """Two networks of other shapes, and images that both classify correctly."""
    digits = data.digits()
    functions = []
    for hidden, seed in ((48, 0), (32, 1)):
        model = nn.serial(nn.flatten(), nn.dense(hidden), jax.nn.relu, nn.dense(10))
        state, _ = train.fit(
            model,
            digits.train,
            loss="cross_entropy",
            optimizer=optax.adam(5e-3),
            batch_size=50,
            epochs=8,
            seed=seed,
            verbose=0,
        )
        functions.append(train.predictor(model, state))
    x, y = jnp.asarray(digits.test.x[:150]), np.asarray(digits.test.y[:150])
    return functions, x, y


def test_a_universal_change_of_one_linear_class_is_that_of_fgsm():
    """The gradient of a binary linear function has one direction at every input."""
    w = W[:, 0]
    f = lambda x: x @ w
    ones = np.ones(40, int)

    @jax.jit
    def changes(key):
        one, two, three = jax.random.split(key, 3)
        run = functools.partial(
            attack.universal, f, X, ones, steps=20, batch_size=4, loss=losses.binary_cross_entropy
        )
        return (
            run(0.2, key=one),
            run(0.5, key=two, norm="l2", bounds=None),
            run(0.2, key=three, targeted=True, mask=np.arange(6) < 3),
        )

    box, ball, half = changes(jax.random.key(0))
    assert box.shape == (1, 6)
    np.testing.assert_allclose(box[0], -0.2 * np.sign(w), rtol=1e-5)
    np.testing.assert_allclose(ball[0], -0.5 * w / np.linalg.norm(w), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(half[0], 0.2 * np.sign(w) * (np.arange(6) < 3), rtol=1e-5)


def test_a_universal_change_does_not_serve_examples_that_are_fooled():
    """The first example is wrong by a logit of 8; the second, right by 1, needs the opposite."""
    x, f = np.array([[0.9], [0.55]], np.float32), lambda x: 20 * (x[:, 0] - 0.5)
    change = attack.universal(f, x, [0, 1], 0.2, key=jax.random.key(0), steps=10, batch_size=16)
    assert -0.2 - 1e-6 < change[0, 0] < -0.05
    assert attack.succeeds(f, x + change, [0, 1]).all()


def test_a_universal_change_fools_a_network_on_other_images(networks):
    (f, _), x, y = networks
    change = jax.jit(
        lambda key: attack.universal(f, x[:100], y[:100], 0.3, key=key, steps=100, batch_size=50)
    )(jax.random.key(0))
    assert np.abs(change).max() <= 0.3 + 1e-6
    signs = jax.random.rademacher(jax.random.key(1), change.shape, change.dtype)
    rates = [
        float(attack.succeeds(f, jnp.clip(x[100:] + v, 0, 1), y[100:]).mean())
        for v in (change, 0.3 * signs)
    ]
    assert rates[0] > 0.5 and rates[0] > rates[1] + 0.3


@pytest.mark.row("R03", "Q06")
def test_noise_is_accepted_as_every_class(networks):
    (f, _), x, _ = networks
    labels = np.arange(10)
    images = jax.jit(lambda key: attack.fooling_images(f, labels, (8, 8, 1), key=key))(
        jax.random.key(0)
    )
    sure = jax.nn.softmax(f(images))[labels, labels]
    assert images.shape == (10, 8, 8, 1) and 0 <= images.min() and images.max() <= 1
    assert sure.min() > 0.99


@pytest.mark.row("R03", "Q06")
def test_fooling_images_of_a_linear_function_reach_the_corner_of_the_bounds():
    low, high = np.array([0, -1, 0, 0, 0, 0.0]), np.array([1, 1, 2, 1, 1, 1.0])
    run = functools.partial(attack.fooling_images, lambda x: x @ W[:, 0], [1, 0], (6,))
    actual = run(key=jax.random.key(0), bounds=(low, high), steps=5)
    positive = W[:, 0] > 0
    corners = np.stack([np.where(positive, high, low), np.where(positive, low, high)])
    np.testing.assert_allclose(actual, corners, atol=1e-6)


@pytest.mark.row("R04")
def test_transfer_costs_accuracy_but_less_than_a_white_box(networks):
    functions, x, y = networks
    step = functools.partial(attack.pgd, epsilon=0.12, steps=10)
    matrix, white = jax.jit(
        lambda x: (
            attack.transfer_matrix(functions, x, y, step),
            [attack.robust_accuracy(f, x, y, attack.pgd, jnp.array([0, 0.12])) for f in functions],
        )
    )(x)
    assert matrix.shape == (2, 2)
    clean = np.array([float((f(x).argmax(-1) == y).mean()) for f in functions])
    np.testing.assert_allclose([curve[0] for curve in white], clean, atol=1e-6)
    for i, f in enumerate(functions):
        moved = jax.jit(lambda x, f=f: step(f, x, y))(x)
        own = [float((g(moved).argmax(-1) == y).mean()) for g in functions]
        np.testing.assert_allclose(matrix[i], own, atol=1e-6)
        other = 1 - i
        assert matrix[i, i] < matrix[i, other] < clean[other] - 0.05


@pytest.mark.row("R04")
def test_a_substitute_with_the_same_boundary_is_as_good_as_the_function():
    functions = [linear, lambda x: 3 * linear(x) + 1]
    matrix = attack.transfer_matrix(
        functions, X, LABELS, functools.partial(attack.fgsm, epsilon=0.1)
    )
    assert len(np.unique(matrix)) == 1 and matrix[0, 0] < 1


def test_robust_accuracy_of_a_linear_function_in_closed_form():
    """An example falls if its margin is smaller than epsilon times the dual norm."""
    f = lambda x: (x - 0.5) @ W[:, 0]
    labels = (np.asarray(f(X)) > 0).astype(int)
    sizes = np.array([0.0, 0.02, 0.05, 0.1])
    for norm, dual in (("linf", 1), ("l2", 2)):
        run = functools.partial(attack.fgsm, norm=norm, bounds=None)
        actual = attack.robust_accuracy(f, X, labels, run, sizes)
        margins = np.abs(f(X))[:, None]
        wanted = (margins > sizes * np.linalg.norm(W[:, 0], dual)).mean(0)
        np.testing.assert_allclose(actual, wanted, atol=1e-6)


def test_success_of_scores_and_of_logits():
    assert not attack.succeeds(linear, X, LABELS).any()
    assert attack.succeeds(linear, X, LABELS, targeted=True).all()
    assert attack.succeeds(linear, X, (LABELS + 1) % 3).all()
    logit = lambda x: x[:, :1] - 0.5
    np.testing.assert_array_equal(attack.succeeds(logit, X, np.zeros(40, int)), X[:, 0] > 0.5)


@pytest.mark.parametrize(
    "run, words",
    [
        (lambda k: attack.universal(linear, X, LABELS, -1.0, key=k), "epsilon is -1.0"),
        (lambda k: attack.universal(linear, X, LABELS, 1.0, key=k, norm="l0"), "norm is 'l0'"),
        (lambda k: attack.universal(linear, X, LABELS, 1.0, key=k, steps=0), "steps is 0"),
        (lambda k: attack.universal(linear, X, LABELS, 1.0, key=0), "key is 0"),
        (lambda k: attack.universal(linear, X, LABELS, 1.0, key=k, bounds=(0, 0.1)), "within"),
        (lambda k: attack.fooling_images(linear, 0, (6,), key=k), r"labels have shape \(\)"),
        (lambda k: attack.fooling_images(linear, [3], (6,), key=k), "label 3"),
        (lambda k: attack.fooling_images(linear, [0], (6,), key=k, bounds=None), "bounds are None"),
        (
            lambda k: attack.fooling_images(linear, [0], (6,), key=k, bounds=(0, np.inf)),
            "bounds is inf",
        ),
        (lambda k: attack.transfer_matrix([], X, LABELS, attack.fgsm), "no functions"),
        (lambda k: attack.robust_accuracy(linear, X, LABELS, attack.fgsm, 0.1), "epsilons are 0.1"),
        (lambda k: attack.robust_accuracy(linear, X, LABELS, attack.fgsm, [-1]), "numbers >= 0"),
        (lambda k: attack.succeeds(linear, X, LABELS + 1), "label 3"),
    ],
)
def test_bad_arguments(run, words):
    with pytest.raises(ValueError, match=words):
        run(jax.random.key(0))


def test_scores_of_nan_are_no_success_and_no_accuracy():
    x, labels = jnp.full((4, 3), 0.5), jnp.zeros(4, int)
    broken = lambda x: x * jnp.nan
    for targeted in (False, True):
        assert not attack.succeeds(broken, x, labels, targeted=targeted).any()
    accuracy = attack.robust_accuracy(broken, x, labels, lambda f, x, y, e: x, jnp.array([0.1]))
    assert np.isnan(accuracy).all()
    # A traced label out of range, and a traced epsilon below 0.
    succeeds = jax.jit(lambda labels: attack.succeeds(lambda x: x, jnp.eye(3), labels))
    np.testing.assert_array_equal(succeeds(jnp.array([1, 9, -1])), [True, False, False])
    measure = jax.jit(
        lambda e: attack.robust_accuracy(lambda x: x, jnp.eye(3), jnp.arange(3), attack.pgd, e)
    )
    np.testing.assert_array_equal(measure(jnp.array([0.1, -0.1])), [1, np.nan])


@pytest.mark.parametrize("argument", ["epsilon", "mask", "step"])
def test_a_universal_change_has_no_values_for_each_example(argument):
    options = {"epsilon": 0.1, argument: np.full((2, 1), 0.1)}
    with pytest.raises(ValueError, match=rf"universal: {argument} has shape \(2, 1\); expected"):
        attack.universal(
            lambda x: x, jnp.full((2, 3), 0.5), [0, 2], key=jax.random.key(0), **options
        )
