"""Visualizations with a known optimum, dead units, grids and frames."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import interpret
from jaxdl.interpret import feature_vis
from jaxdl.interpret.feature_vis import objective, transform
from jaxdl.interpret.feature_vis.network import layer_values, with_revival

RNG = np.random.default_rng(0)
W = RNG.normal(size=(12, 3)).astype(np.float32)
HIDDEN = RNG.normal(size=(12, 5)).astype(np.float32)


def linear(x):
    return x.reshape(len(x), -1) @ W


def network(x):
    with jax.named_scope("hidden"):
        h = jax.nn.relu(x.reshape(len(x), -1) @ HIDDEN + 0.5)
    return h @ W[:5]


def visualize(f, image, goal, **options):
    options = {"key": jax.random.key(0)} | options
    return feature_vis.visualize(f, image, goal, **options)


@pytest.mark.row("Q04")
def test_optimum_of_a_linear_score_with_a_penalty():
    # One step of size 1 / (2 lambda) of gradient ascent solves this quadratic.
    weights = np.array([0.5, 2.0])
    goal = objective.logit([0, 2]) - weights * objective.l2()
    image = feature_vis.pixels((2, 2, 3))
    actual = visualize(linear, image, goal, steps=300, revive=0, optimizer=optax.sgd(0.2))
    expected = W.T[[0, 2]] / (2 * weights[:, None])
    chex.assert_trees_all_close(actual.image.reshape(2, 12), expected.astype(np.float32), atol=1e-5)


@pytest.mark.row("Q03")
@pytest.mark.parametrize("kind", ["pixels", "fourier"])
def test_without_a_penalty_the_optimum_is_a_corner_of_the_bounds(kind):
    image = getattr(feature_vis, kind)((4, 3, 1), (-1, 2))
    actual = visualize(
        linear, image, objective.logit(1), steps=200, revive=0, optimizer=optax.adam(0.3)
    )
    corner = np.where(W[:, 1] > 0, 2, -1).astype(np.float32)
    chex.assert_trees_all_close(actual.image.ravel(), corner, atol=0 if kind == "pixels" else 0.1)
    assert actual.score.shape == (201,) and actual.score[-1] > actual.score[0] + 5
    chex.assert_trees_all_close(actual.score[-1], linear(actual.image[None])[0, 1], rtol=1e-5)


@pytest.mark.row("Q05", "I19")
def test_optimum_within_the_range_of_a_linear_generator():
    a = RNG.normal(size=(4, 12)).astype(np.float32)
    image = feature_vis.generator(lambda z: z @ a, (4,), prior=0.5)
    actual = visualize(
        linear, image, objective.logit(np.arange(3)), steps=2, revive=0, optimizer=optax.sgd(1.0)
    )
    z = W.T @ a.T  # A w / (2 prior)
    chex.assert_trees_all_close(actual.theta, z, atol=1e-5)
    chex.assert_trees_all_close(actual.image, z @ a, rtol=1e-4)
    best = W.T @ W  # without the generator the score along w is larger
    assert (actual.score[:, -1] > actual.score[:, 0]).all()
    residual = actual.image - actual.image @ np.linalg.pinv(a) @ a
    assert np.abs(residual).max() < 1e-4 and best.shape == (3, 3)


def test_a_nonlinear_generator_keeps_the_image_in_its_range():
    generate = lambda z: jnp.stack([jnp.cos(z[:, 0]), jnp.sin(z[:, 0])], axis=1)
    image = feature_vis.generator(generate, (1,))
    f = lambda x: x @ np.float32([[3.0], [4.0]])
    actual = visualize(f, image, objective.logit(), steps=100, revive=0, optimizer=optax.sgd(0.1))
    chex.assert_trees_all_close(actual.image, np.float32([0.6, 0.8]), atol=1e-3)


def test_targets_are_optimized_as_alone_and_in_any_batches():
    image = feature_vis.fourier((2, 2, 3))
    options = {"steps": 5, "transform": transform.noise(0.1), "crops": 2, "frames": (0, 2)}
    goal = lambda index: objective.channel("hidden", index) - 0.1 * objective.total_variation()
    grid = visualize(network, image, goal(np.arange(5)), **options)
    chex.assert_shape(
        [grid.image, grid.score, grid.frames], [(5, 2, 2, 3), (5, 6), (5, 2, 2, 2, 3)]
    )
    chunks = visualize(network, image, goal(np.arange(5)), batch_size=2, **options)
    chex.assert_trees_all_close(chunks, grid, atol=1e-6)
    for k in (0, 3):
        alone = visualize(network, image, goal(k), **options)
        chex.assert_trees_all_close(alone, jax.tree.map(lambda a, k=k: a[k], grid), atol=1e-6)


def test_frames_are_the_results_of_fewer_steps():
    image = feature_vis.pixels((2, 2, 3))
    options = {"transform": transform.noise(0.5), "revive": 0}
    goal = objective.logit(0) - 0.3 * objective.l2()
    whole = visualize(network, image, goal, steps=6, frames=(6, 1, 3), **options)
    for i, steps in enumerate((6, 1, 3)):
        part = visualize(network, image, goal, steps=steps, **options)
        chex.assert_trees_all_equal(whole.frames[i], part.image)
        chex.assert_trees_all_close(whole.score[: steps + 1], part.score, atol=1e-6)
    again = visualize(network, image, goal, steps=6, frames=(6, 1, 3), **options)
    chex.assert_trees_all_equal(whole, again)
    other = visualize(network, image, goal, steps=6, frames=(), key=jax.random.key(1), **options)
    assert not np.allclose(whole.image, other.image)


def test_images_of_a_diverse_set_differ_more():
    image = feature_vis.pixels((2, 2, 3), (0, 1), sd=0.2)

    def f(x):
        with jax.named_scope("conv"):
            return x @ np.eye(3, dtype=np.float32)

    def similarity(result):
        matrices = np.asarray(objective.gram(result.image)).reshape(2, -1)
        return matrices[0] @ matrices[1] / np.prod(np.linalg.norm(matrices, axis=1))

    goal = objective.custom("conv", lambda a: a.mean((1, 2, 3)))
    same = visualize(f, image, goal, count=2, steps=60, revive=0)
    diverse = visualize(
        f, image, goal + 20 * objective.diversity("conv"), count=2, steps=60, revive=0
    )
    assert diverse.image.shape == (2, 2, 2, 3) and diverse.score.shape == (2, 61)
    assert similarity(same) > 0.99 and similarity(diverse) < 0.7


def dead(x):
    """Two units, which are 0 in the example of zeros and in that of ones."""
    with jax.named_scope("hidden"):
        return jax.nn.relu(x @ np.float32([[1.0, -1.0], [2.0, 1.0]]) - 4)


def test_a_dead_unit_is_revived_within_the_first_steps():
    image = feature_vis.pixels((2,), start=0.0, sd=0.0)
    goal = objective.neuron("hidden", 0)
    options = {"steps": 20, "optimizer": optax.sgd(1.0)}
    still = visualize(dead, image, goal, revive=0, **options)
    chex.assert_trees_all_equal(still.image, np.zeros(2, np.float32))
    alive = visualize(dead, image, goal, **options)
    assert alive.score[0] == 0 and alive.score[-1] > 10
    # One redirected step along the weights (1, 2) reaches 1 + 4 - 4 = 1; then it is alive.
    once = visualize(dead, image, goal, revive=1, **options | {"steps": 1})
    chex.assert_trees_all_close(once.image, np.float32([1, 2]))


def test_gradients_of_live_examples_are_exact():
    x = np.float32([[0, 0], [2, 2], [0, 9], [1, 1]])
    values = layer_values("test", dead, x, ("hidden",))
    revived = with_revival(values, jax.ShapeDtypeStruct(x.shape, x.dtype), 16)
    weights = np.float32([[1, 1], [-1, 2], [1, 1], [-1, 1]])

    @jax.jit
    def slope(step):
        return jax.grad(lambda x: jnp.sum(weights * revived(x, step)["hidden"]))(x)

    exact = np.asarray(jax.grad(lambda x: jnp.sum(weights * dead(x)))(x))
    chex.assert_trees_all_equal(slope(jnp.int32(16)), exact)
    first = np.asarray(slope(jnp.int32(0)))
    live = np.abs(exact).max(1) > 0
    assert live.tolist() == [False, True, True, False]
    chex.assert_trees_all_equal(first[live], exact[live])
    # Of the dead ones only what would increase a unit passes: weights above 0.
    chex.assert_trees_all_equal(first[0], np.float32([1 - 1, 2 + 1]))
    chex.assert_trees_all_equal(first[3], np.float32([-1, 1]))


def test_objectives_of_several_layers_and_the_output():
    style = jnp.ones((2, 2, 3)) * 0.3

    def f(x):
        with jax.named_scope("one"):
            a = jnp.tanh(x)
        with jax.named_scope("two"):
            b = jnp.sin(a @ np.ones((3, 4), np.float32))
        return b.sum((1, 2))

    goal = (
        objective.logit(2)
        + 2 * objective.deep_dream("one")
        - objective.style(["one", "two"], style)
    )
    goal = goal - 0.5 * objective.content("two", style)
    image = feature_vis.pixels((2, 2, 3), sd=1.0)
    actual = visualize(f, image, goal, steps=1, revive=0, optimizer=optax.sgd(0.0))
    x = np.asarray(actual.image)[None]

    def layers(x):
        a = np.tanh(x)
        return a, np.sin(a @ np.ones((3, 4)))

    gram = lambda a: a.reshape(-1, a.shape[-1]).T @ a.reshape(-1, a.shape[-1]) / 4
    ours, theirs = layers(x), layers(np.asarray(style)[None])
    error = [
        ((gram(a) - gram(b)) ** 2).sum() / (4 * a.shape[-1] ** 2)
        for a, b in zip(ours, theirs, strict=True)
    ]
    expected = ours[1].sum((0, 1, 2))[2] + 2 * (ours[0] ** 2).mean() - np.mean(error)
    expected -= 0.5 * ((ours[1] - theirs[1]) ** 2).mean()
    chex.assert_trees_all_close(actual.score, np.full(2, expected, np.float32), rtol=1e-4)


def test_within_jit_and_as_activation_maximization():
    image = feature_vis.pixels((2, 2, 3), (-1, 1), start=0.0, sd=0.0)
    goal = objective.logit([0, 1]) - 0.1 * objective.l2()
    options = {"steps": 4, "optimizer": optax.adam(0.1)}
    run = jax.jit(
        lambda key: feature_vis.visualize(network, image, goal, key=key, revive=0, **options)
    )
    other = interpret.activation_maximization(
        network,
        (2, 2, 3),
        target=[0, 1],
        key=jax.random.key(0),
        l2=0.1,
        bounds=(-1, 1),
        noise=0.0,
        **options,
    )
    chex.assert_trees_all_close(run(jax.random.key(0)).image, other.image, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_in_double_precision(dtype):
    def f(x):
        with jax.named_scope("hidden"):
            return jax.nn.relu(x.reshape(1, -1) @ HIDDEN.astype(dtype))

    with jax.enable_x64(True):
        goal = objective.channel("hidden", 1) - 0.1 * objective.total_variation()
        change = transform.chain(transform.noise(0.1), transform.blur(0.5))
        image = feature_vis.pixels((2, 2, 3), start=np.zeros((2, 2, 3), dtype))
        if dtype == np.float64:
            image = feature_vis.fourier((2, 2, 3))
        actual = visualize(f, image, goal, steps=1, transform=change)
        assert actual.image.dtype == actual.score.dtype == dtype


@pytest.mark.parametrize(
    "options, words",
    [
        ({"key": 0}, "visualize: key is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"crops": 0}, "crops is 0"),
        ({"count": 0}, "count is 0"),
        ({"revive": -1}, "revive is -1"),
        ({"frames": (2, 2)}, r"frames are \[2, 2\]"),
        ({"frames": (4,)}, r"frames are \[4\]; expected different numbers of steps in 0 to 3"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_bad_arguments(options, words):
    image = feature_vis.pixels((2, 2, 3))
    with pytest.raises(ValueError, match=words):
        visualize(linear, image, objective.logit([0, 1]), **{"steps": 3} | options)


def test_targets_in_batches_without_frames():
    f = lambda x: x.reshape(len(x), -1)
    logit = objective.logit(jnp.arange(7))
    image = feature_vis.pixels((3, 3, 1))
    whole, parts = (visualize(f, image, logit, steps=2, batch_size=size) for size in (7, 3))
    assert parts.frames.shape == (7, 0, 3, 3, 1)
    np.testing.assert_allclose(parts.image, whole.image, rtol=1e-6)


def test_a_custom_score_has_one_number_for_each_image():
    custom = objective.custom("hidden", lambda values: values[..., None])
    with pytest.raises(ValueError, match="has shape .*; expected .*, one number for each image"):
        feature_vis.visualize(dead, feature_vis.pixels((2,)), custom, key=jax.random.key(0))
