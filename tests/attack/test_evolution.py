"""Differential evolution against SciPy's, and the attack on few pixels against brute force."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from jaxdl import attack
from jaxdl.attack import evolution

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(0, 1, (24, 3)).astype(np.float32)
IMAGES = RNG.uniform(0, 1, (3, 3, 4, 2)).astype(np.float32)
LABELS = np.argmax(IMAGES.reshape(3, -1) @ WEIGHTS, -1)


def linear(x):
    return x.reshape(len(x), -1) @ WEIGHTS


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def sphere(x):
    return ((x - 0.25) ** 2).sum()


@pytest.mark.parametrize("f, minimum", [(rosenbrock, 1.0), (sphere, 0.25)])
def test_the_minimum_is_as_low_as_that_of_scipy(f, minimum):
    low, high = np.full(3, -2.0), np.full(3, 2.0)
    run = lambda key: attack.differential_evolution(
        f, low, high, key=key, population=30, generations=150, weight=0.7
    )
    result = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 3))
    reference = optimize.differential_evolution(
        f,
        list(zip(low, high, strict=True)),
        strategy="rand1bin",
        mutation=0.7,
        recombination=0.9,
        popsize=10,
        maxiter=150,
        polish=False,
        tol=0,
        rng=np.random.default_rng(0),
    )
    assert np.median(result.value) <= max(10 * reference.fun, 1e-6)
    np.testing.assert_allclose(result.x[np.argmin(result.value)], minimum, atol=1e-2)
    np.testing.assert_allclose(result.value, jax.vmap(f)(result.x), rtol=1e-4, atol=1e-9)
    assert result.history.shape == (3, 151)
    assert (np.diff(result.history) <= 0).all()
    np.testing.assert_array_equal(result.history[:, -1], result.value)


def test_it_stays_in_its_box_and_avoids_nan():
    """The minimum of a plane is the corner; half of the box has no value."""
    f = lambda x: jnp.where(x[0] < 0, jnp.nan, x[0] - x[1])
    start = np.random.default_rng(0).uniform(-9, 9, (20, 2))
    result = jax.jit(
        lambda key: attack.differential_evolution(
            f, [-1.0, 0.0], [1.0, 0.5], key=key, population=20, generations=60, start=start
        )
    )(jax.random.key(0))
    np.testing.assert_allclose(result.x, [0, 0.5], atol=1e-2)
    assert result.x[0] >= 0 and result.x[1] <= 0.5


def test_the_three_others_differ():
    drawn = np.array([evolution._draw_others(jax.random.key(i), 5) for i in range(200)])
    rows = np.stack([np.broadcast_to(np.arange(5), drawn[:, 0].shape), *drawn.swapaxes(0, 1)])
    assert all(len(set(column)) == 4 for column in rows.reshape(4, -1).T)
    for i in range(5):  # each of the others is as likely
        counts = np.bincount(drawn[:, :, i].ravel(), minlength=5)
        assert counts[i] == 0 and (np.delete(counts, i) > 100).all()


@pytest.fixture(scope="module")
def search():
    @jax.jit
    def run(x, labels, key):
        one, two = jax.random.split(key)
        options = {"population": 60, "generations": 60}
        return (
            attack.search_pixels(linear, x, labels, key=one, restarts=2, **options),
            attack.search_pixels(linear, x, labels, key=two, pixels=2, **options),
        )

    return run


@pytest.mark.row("R06")
def test_one_pixel_is_as_good_as_brute_force(search):
    """The loss of a linear function is convex, so that its largest value is at an extreme color."""
    one, _ = search(IMAGES, LABELS, jax.random.key(0))
    scores = np.asarray(linear(one.x), np.float64)
    actual = np.log(np.exp(scores).sum(-1)) - scores[np.arange(3), LABELS]
    for image, label, value in zip(IMAGES, LABELS, actual, strict=True):
        changed = []
        for i, j in itertools.product(range(3), range(4)):
            for color in itertools.product((0, 1), repeat=2):
                copy = image.copy()
                copy[i, j] = color
                changed.append(copy)
        scores = np.asarray(linear(np.array(changed)), np.float64)
        best = (np.log(np.exp(scores).sum(-1)) - scores[:, label]).max()
        assert value == pytest.approx(best, rel=1e-4)
    np.testing.assert_allclose(-one.history[:, -1], actual, rtol=1e-5)


@pytest.mark.row("R06")
@settings(max_examples=8)
@given(st.integers(0, 2**31 - 1))
def test_no_more_pixels_change_and_the_best_never_gets_worse(search, seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 1, IMAGES.shape).astype(np.float32)
    labels = rng.integers(0, 3, 3)
    for pixels, result in enumerate(search(x, labels, jax.random.key(seed)), 1):
        changed = (np.asarray(result.x) != x).any(-1).sum((1, 2))
        assert (changed <= pixels).all() and (changed > 0).all()
        assert (np.diff(result.history) <= 0).all()
        assert result.x.min() >= 0 and result.x.max() <= 1


@pytest.mark.row("R06")
def test_targets_bounds_and_other_shapes():
    """A signal of one axis, in a tree with integers and without a derivative, image by image."""
    x = {"signal": IMAGES.reshape(3, 12, 2), "ids": np.array([0, 1, 2])}
    signs = np.array([1, 1, -1], np.float32)

    def f(x):
        scores = linear(x["signal"]) * jnp.asarray(signs)[x["ids"]][:, None]
        return jnp.round(scores * 8) / 8

    options = {"population": 40, "generations": 40, "pixels": 3, "bounds": (np.zeros(2), 1.0)}
    run = lambda size: jax.jit(
        lambda key: attack.one_pixel(
            f, x, LABELS, key=key, targeted=True, batch_size=size, **options
        )
    )(jax.random.key(1))
    alone, all_at_once = run(1), run(None)
    np.testing.assert_allclose(alone["signal"], all_at_once["signal"], atol=1e-6)
    np.testing.assert_array_equal(alone["ids"], x["ids"])
    before, after = (jax.nn.softmax(f(v))[np.arange(3), LABELS] for v in (x, alone))
    assert (after > before).all()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"x": IMAGES[:, 0, 0]}, r"expected one, \(N, \*S, C\)"),
        ({"pixels": 0}, "pixels is 0"),
        ({"restarts": 0}, "restarts is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"population": 3}, "population is 3; expected an integer of at least 4"),
        ({"generations": 0}, "generations is 0"),
        ({"weight": 3}, r"weight is 3; expected in \[0, 2\]"),
        ({"crossover": 2}, r"crossover is 2; expected in \[0, 1\]"),
        ({"bounds": None}, "bounds are None"),
        ({"bounds": (0.0, np.inf)}, "bounds is inf; expected a number"),
        ({"key": 0}, "key is 0"),
        ({"labels": [3, 0, 0]}, "label 3"),
    ],
)
def test_bad_arguments(change, words):
    options = {"x": IMAGES, "labels": LABELS, "key": jax.random.key(0)} | change
    f = linear if np.ndim(options["x"]) == 4 else lambda x: x @ WEIGHTS[:2]
    with pytest.raises(ValueError, match=words):
        attack.one_pixel(f, **options)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"low": np.zeros(3)}, r"shapes \(3,\) and \(2,\)"),
        ({"low": np.full(2, 2.0)}, "expected finite ends in order"),
        ({"high": np.full(2, np.inf)}, "expected finite ends in order"),
        ({"start": np.zeros((4, 2))}, r"start has shape \(4, 2\); expected \(64, 2\)"),
        ({"f": lambda x: x}, "expected one floating-point number"),
    ],
)
def test_bad_boxes(change, words):
    options = {"f": sphere, "low": np.zeros(2), "high": np.ones(2)} | change
    with pytest.raises(ValueError, match=words):
        attack.differential_evolution(**options, key=jax.random.key(0))
