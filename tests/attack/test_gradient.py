"""Attacks: exact on linear functions, inside their box, and as strong as they should be."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxdl
from jaxdl import attack, data, nn, train

W = np.array([[1.0, -2.0], [0.5, 0.0], [-1.0, 3.0]], np.float32)
UP = np.array([[-1.0, -1.0, 1.0], [1.0, 1.0, -1.0]])  # sign of dL/dx for labels 0 and 1
X = jnp.array([[0.05, 0.5, 0.9], [0.95, 0.5, 0.2]])
LABELS = jnp.array([0, 1])


def linear(x):
    return x @ W


def margin(x, label):
    scores = linear(np.asarray(x))
    return scores[:, label] - scores[:, 1 - label]


@pytest.mark.row("R01")
def test_a_linear_margin_falls_by_the_norm_of_its_weights():
    x = np.array([[0.5, 0.4, 0.6]], np.float32)
    epsilon = 0.007
    actual = attack.fgsm(linear, x, np.array([0]), epsilon)
    fall = margin(x, 0) - margin(actual, 0)
    np.testing.assert_allclose(fall, epsilon * np.abs(W[:, 0] - W[:, 1]).sum(), rtol=1e-4)
    toward = attack.fgsm(linear, x, np.array([0]), epsilon, targeted=True)
    np.testing.assert_allclose(margin(toward, 0) - margin(x, 0), fall, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.row("R01")
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99), st.floats(0, 0.5), st.sampled_from([1, 4]))
def test_it_stays_in_the_box_and_in_bounds(seed, epsilon, steps):
    keys = jax.random.split(jax.random.key(seed), 3)
    x = jax.random.uniform(keys[0], (4, 3))
    labels = jax.random.randint(keys[1], (4,), 0, 2)
    for actual in (
        attack.fgsm(linear, x, labels, epsilon),
        attack.pgd(linear, x, labels, epsilon, steps=steps, key=keys[2]),
    ):
        chex.assert_equal_shape([actual, x])
        assert float(jnp.abs(actual - x).max()) <= epsilon + 1e-6
        assert 0 <= float(actual.min()) and float(actual.max()) <= 1


@pytest.mark.row("R02", "T14")
def test_many_small_steps_find_worse_than_one_on_digits():
    digits = data.digits()
    model = jaxdl.serial(nn.flatten(), nn.dense(64), jax.nn.relu, nn.dense(10))
    state, _ = train.fit(
        model,
        digits.train,
        loss="cross_entropy",
        optimizer=optax.sgd(0.2, momentum=0.9),
        batch_size=50,
        epochs=10,
        verbose=0,
    )
    f = train.predictor(model, state)
    x, y = digits.test.x, digits.test.y
    scores = jax.jit(f)
    right = lambda x, y=y: (np.argmax(scores(x), -1) == y).mean()
    clean, one = right(x), right(attack.fgsm(f, x, y, 0.2))
    many = right(jax.jit(lambda x: attack.pgd(f, x, y, 0.2))(x))
    signs = np.random.default_rng(0).choice(np.array([-1, 1], x.dtype), x.shape)
    lot = right((x + np.float32(0.2) * signs).clip(0, 1))
    assert clean > 0.9 and lot > clean - 0.1 and many <= one and many < 0.1
    other = (y + 1) % 10
    toward = jax.jit(lambda x: attack.pgd(f, x, other, 0.3, targeted=True))(x)
    assert right(toward, other) > 0.9


def test_within_jit_and_vmap():
    x, labels = np.full((2, 3), 0.5, np.float32), np.array([0, 1])
    sizes = np.array([0.0, 0.1], np.float32)
    actual = np.asarray(jax.jit(jax.vmap(lambda e: attack.fgsm(linear, x, labels, e)))(sizes))
    np.testing.assert_allclose(actual[0], x)
    np.testing.assert_allclose(actual[1], attack.fgsm(linear, x, labels, 0.1), rtol=1e-6)
    inside = jax.jit(lambda size: attack.fgsm(linear, x, labels, size))(0.1)  # x known outside
    np.testing.assert_allclose(inside, actual[1], rtol=1e-6)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"x": jnp.zeros((2, 3), jnp.int32)}, "expected floating-point arrays"),
        ({"labels": np.array([0])}, r"labels have shape \(1,\) for 2 examples"),
        ({"labels": np.array([0, 2])}, "label 2; expected a class of 0 to 1"),
        ({"labels": np.array([0, 2**32 + 1])}, "label 4294967297; expected"),
        ({"labels": [-1, 0]}, "label -1; expected a class of 0 to 1"),
        ({"labels": jnp.array([0.0, 1.0])}, "expected integers"),
        ({"labels": None}, "labels"),
        ({"labels": ["a", "b"]}, "labels are <U1; expected integers"),
        ({"epsilon": -0.1}, "epsilon is -0.1"),
        ({"epsilon": np.float32(-0.1)}, "epsilon is .*-0.1"),
        ({"epsilon": np.nan}, "epsilon is nan"),
        ({"epsilon": "a"}, "epsilon is 'a'"),
        ({"epsilon": 1j}, "epsilon is 1j"),
        ({"epsilon": np.ones(2)}, "expected a number or an array that broadcasts"),
        ({"bounds": (0, np.nan)}, "bounds is nan; expected a number"),
        ({"bounds": (0, None)}, "bounds is None; expected a number"),
        ({"bounds": (0, 1, 2)}, "expected .smallest, largest."),
        ({"bounds": np.ones(2)}, "expected .smallest, largest."),
        ({"bounds": (1, 0)}, "expected the smaller one first"),
        ({"x": jnp.full((2, 3), np.nan)}, "x has NaN"),
        ({"x": jnp.full((2, 3), 1.5)}, "bounds"),
    ],
)
def test_bad_arguments(change, words):
    options = {"x": jnp.zeros((2, 3)), "labels": jnp.array([0, 1]), "epsilon": 0.1} | change
    with pytest.raises(ValueError, match=words):
        attack.fgsm(linear, **options)
    with pytest.raises(ValueError, match="steps is 0"):
        attack.pgd(linear, jnp.zeros((2, 3)), jnp.array([0, 1]), 0.1, steps=0)
    for bad, words in (({"step": -1}, "step is -1"), ({"key": 0}, "key is 0; expected one PRNG")):
        with pytest.raises(ValueError, match=words):
            attack.pgd(linear, jnp.zeros((2, 3)), jnp.array([0, 1]), 0.1, **bad)


def test_labels_and_sizes_out_of_range_give_nan_where_they_are_known_too_late():
    x = jnp.full((3, 3), 0.5)
    run = jax.jit(lambda labels, size: attack.fgsm(linear, x, labels, size))
    moved = np.asarray(run(jnp.array([2, 0, -1]), np.float32(0.1)))
    assert np.isnan(moved).all(1).tolist() == [True, False, True]
    np.testing.assert_allclose(moved[1], attack.fgsm(linear, x, [0, 0, 0], 0.1)[1])
    assert np.isnan(run(jnp.array([0, 0, 1]), np.float32(-0.1))).all()


def test_what_f_closes_over_may_change_between_calls():
    held, x = {"w": jnp.eye(3)}, jnp.full((2, 3), 0.5)
    f = lambda x: x @ held["w"]
    labels = np.array([0, 1], np.int8)
    attack.fgsm(f, x, labels, 0.1)
    held["w"] = jnp.array([[1.0], [-1.0], [2.0]])  # one logit of class 1, no longer three classes
    moved = [np.sign(held["w"][:, 0]), -np.sign(held["w"][:, 0])]
    np.testing.assert_allclose(attack.fgsm(f, x, labels, 0.1) - x, np.multiply(0.1, moved), 1e-5)
    with pytest.raises(ValueError, match="f returns int32 scores, which have no gradient"):
        attack.fgsm(lambda x: f(x).astype(int), x, labels, 0.1)


def test_one_logit_in_either_form_and_truth_values_as_labels():
    """Up for class 0, down for class 1, as for two scores of half the logit each."""
    w = np.array([1.0, -1.0, 2.0], np.float32)
    row = lambda x: x @ w
    two = lambda x: jnp.stack([-row(x), row(x)], 1) / 2
    x = {"a": np.full((2, 3), 0.5, np.float32), "ids": np.array([1, 2])}

    @jax.jit
    def moves(a):
        labels = (np.array([0, 1]), np.array([False, True]))
        forms = (two, row, lambda a: row(a)[:, None])
        actual = [attack.fgsm(f, a, y, 0.1) - a for f in forms for y in labels]
        of_tree = lambda x: row(x["a"]) * x["ids"].astype(jnp.float32)
        tree = attack.pgd(of_tree, x, labels[0], 0.1, steps=np.int64(2), step=0.05)
        toward = attack.fgsm(row, a, labels[0], 0.1, targeted=True) - a
        return actual, tree, toward

    actual, tree, toward = moves(x["a"])
    for move in actual:
        np.testing.assert_allclose(move, 0.1 * np.sign(np.stack([w, -w])), rtol=1e-5)
    np.testing.assert_allclose(toward, -actual[0], rtol=1e-5)
    np.testing.assert_allclose(tree["a"] - x["a"], actual[0], rtol=1e-5)
    assert tree["ids"].tolist() == [1, 2]
    with pytest.raises(ValueError, match="label 2; expected a class of 0 to 1"):
        attack.fgsm(row, x["a"], [0, 2], 0.1)
    with pytest.raises(ValueError, match=r"f returns a tuple.*f\(x\)\[0\]"):
        attack.fgsm(lambda a: (row(a), 0), x["a"], [0, 1], 0.1)


@pytest.mark.row("R02", "T14")
@pytest.mark.parametrize("bounds", [(0.0, 1.0), None])
def test_steps_that_lead_out_of_the_box_end_on_its_corner(bounds):
    options = {"step": 0.2, "steps": 5, "bounds": bounds}
    actual = jax.jit(lambda x: attack.pgd(linear, x, LABELS, 0.3, **options))(X)
    low, high = bounds or (-np.inf, np.inf)
    np.testing.assert_allclose(actual, np.clip(X + 0.3 * UP, low, high), rtol=1e-6, atol=1e-7)


@pytest.mark.row("R02", "T14")
def test_by_default_every_corner_is_reached_from_anywhere_in_the_box():
    def begun(seed):
        run = lambda **options: attack.pgd(
            linear, X, LABELS, 0.3, steps=5, key=jax.random.key(seed), **options
        )
        return run(step=0.0), run()

    starts, ends = map(np.asarray, jax.jit(jax.vmap(begun))(jnp.arange(20)))
    assert np.abs(starts - X).max() <= 0.3 + 1e-6 and np.abs(starts - X).max() > 0.25
    assert 0 <= starts.min() and starts.max() <= 1
    corners = np.broadcast_to(np.clip(X + 0.3 * UP, 0, 1), ends.shape)
    np.testing.assert_allclose(ends, corners, rtol=1e-6, atol=1e-7)


def test_traced_inputs_out_of_bounds_are_nan_and_others_are_not():
    """Clipping them would return inputs further than epsilon away."""
    x, labels = jnp.array([[3.0, 0.5], [0.2, 0.5]]), jnp.array([0, 1])
    for norm in ("linf", "l2", "l1"):
        options = {"steps": 3, "norm": norm}
        run = jax.jit(lambda x, o=options: attack.pgd(lambda x: x, x, labels, 0.1, **o))
        actual = np.asarray(run(x))
        assert np.isnan(actual[0]).any()
        expected = attack.pgd(lambda x: x, x[1:], labels[1:], 0.1, **options)
        np.testing.assert_allclose(actual[1:], expected, rtol=1e-6)
    weak = jax.jit(lambda x: attack.carlini_wagner(lambda x: x, x, labels, steps=3))
    assert np.isnan(np.asarray(weak(x))[0]).any()
    f = lambda x: x
    reversed_ends = jax.jit(lambda low, high: attack.fgsm(f, x[1:], [1], 0.1, bounds=(low, high)))
    assert np.isnan(reversed_ends(1.0, 0.0)).all()
