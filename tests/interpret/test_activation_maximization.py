import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import interpret

W = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
linear = lambda x: x.reshape(x.shape[0], -1) @ W


def maximize(f, shape=(6,), **options):
    options = {"target": 0, "key": jax.random.key(0)} | options
    return interpret.activation_maximization(f, shape, **options)


def maximum(f, shape=(6,), **options):
    """The same, compiled as one program."""
    return jax.tree.map(np.asarray, jax.jit(lambda: maximize(f, shape, **options))())


@pytest.mark.row("Q04", "C14")
@pytest.mark.parametrize("l2", [0.25, 2.0])
def test_optimum_of_a_linear_score_is_w_over_twice_l2(l2):
    # One step of size 1 / (2 l2) of gradient ascent solves this quadratic.
    newton = optax.sgd(1 / (2 * l2))
    actual = maximize(linear, target=[0, 1, 2], l2=l2, steps=2, optimizer=newton)
    chex.assert_trees_all_close(actual.image, W.T / (2 * l2), atol=1e-6)


@pytest.mark.row("Q04", "C14")
def test_the_default_optimizer_finds_it_too():
    actual = maximum(linear, (2, 3), l2=0.5)
    chex.assert_trees_all_close(actual.image.reshape(-1), W[:, 0], atol=5e-3)


@pytest.mark.row("Q04")
def test_within_bounds_the_optimum_is_clipped_for_the_objective_is_separable():
    actual = maximum(linear, l2=0.25, steps=200, optimizer=optax.sgd(0.5), bounds=(0, 1))
    chex.assert_trees_all_close(actual.image, np.clip(W[:, 0] / 0.5, 0, 1), atol=1e-6)


@pytest.mark.row("Q03")
def test_score_rises_to_the_top_of_a_hill():
    top = np.array([1.0, -2.0, 0.5], np.float32)
    f = lambda x: 5 - ((x - top) ** 2).sum(1)
    actual = maximum(f, (3,), target=None, l2=0, steps=50, optimizer=optax.sgd(0.2))
    assert actual.score.shape == (51,)
    assert (np.diff(actual.score) >= -1e-6).all() and actual.score[0] < 0.5
    chex.assert_trees_all_close(actual.image, top, atol=1e-5)
    chex.assert_trees_all_close(actual.score[-1], f(actual.image[None])[0], atol=1e-6)


@pytest.mark.row("Q03", "Q04")
def test_the_score_is_the_one_before_the_softmax():
    # After the softmax, lowering the other class counts as much as raising this one.
    evidence = lambda x: x
    probability = lambda x: jax.nn.softmax(x)
    logit = maximum(evidence, (2,), l2=0.1, steps=300, optimizer=optax.sgd(1.0))
    chex.assert_trees_all_close(logit.image, np.array([5.0, 0.0], np.float32), atol=1e-4)
    other = maximum(probability, (2,), l2=0.1, steps=300, optimizer=optax.sgd(1.0))
    assert other.image[1] < -0.3


def test_several_targets_are_found_as_each_alone():
    f = lambda x: jnp.tanh(linear(x)) * np.array([1, 2, 3], np.float32)
    together = maximum(f, target=[0, 1, 2], steps=20)
    chex.assert_shape(together, [(3, 6), (3, 21)])
    one = jax.jit(lambda k: maximize(f, target=k, steps=20))
    for k in range(3):
        chex.assert_trees_all_close(jax.tree.map(lambda a, k=k: a[k], together), one(k), atol=1e-5)
    chex.assert_trees_all_equal(maximum(f, target=np.arange(3), steps=20), together)


def test_compiled_whole_and_traced_once():
    traces = chex.assert_max_traces(
        lambda target, key: maximize(linear, target=target, key=key, steps=5), n=1
    )
    compiled = jax.jit(traces)
    for k in range(2):
        eager = maximize(linear, target=k, key=jax.random.key(k), steps=5)
        chex.assert_trees_all_close(compiled(k, jax.random.key(k)), eager, atol=1e-6)


def test_start_noise_and_key():
    start = np.arange(6, dtype=np.float32)
    still = {"start": start, "steps": 1, "optimizer": optax.sgd(0.0)}
    chex.assert_trees_all_equal(maximum(linear, noise=0.0, **still).image, start)
    noisy = jax.jit(lambda key: maximize(linear, key=key, **still).image)
    one, two = (np.asarray(noisy(jax.random.key(i))) for i in range(2))
    assert 0 < np.abs(one - start).max() < 0.1 and not np.array_equal(one, two)
    same = maximum(linear, noise=0.0, **still | {"start": 2}).image
    chex.assert_trees_all_equal(same, np.full_like(start, 2))


def test_double_precision_of_the_start():
    with jax.enable_x64(True):
        f = lambda x: x @ W.astype(np.float64)
        start = np.zeros(6)
        assert maximum(f, start=start, steps=2).image.dtype == jnp.float64


@pytest.mark.parametrize(
    "options, words",
    [
        ({"target": "argmax"}, "target is 'argmax'; expected a fixed target"),
        ({"target": 3}, "target is 3; expected a class of 0 to 2"),
        ({"target": [0, 3]}, "target is 3; expected a class of 0 to 2"),
        ({"target": None}, r"f returns \(1, 3\) and target is None"),
        ({"steps": 0}, "steps is 0; expected an integer of at least 1"),
        ({"bounds": (1, 0)}, r"bounds are \(1, 0\); expected low < high"),
        ({"start": np.ones((1, 6))}, r"start has shape \(1, 6\); .* \(6,\), without a batch"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        maximize(linear, **options)
