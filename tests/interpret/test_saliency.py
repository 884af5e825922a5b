import functools

import chex
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl import interpret, nn
from tests.interpret.networks import array, double, fill, run
from tests.nn.filled import filled


def single(seed, *shape):
    return array(seed, *shape).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    """A smooth network of two layers as a plain function (N, 5) -> (N, 3)."""
    model = jaxdl.serial(nn.dense(7), jnp.tanh, nn.dense(3))
    params, state = filled(model, np.ones((1, 5), np.float32))
    return lambda x: model.apply(params, state, x)[0]


@pytest.fixture
def x():
    return single(4, 4, 5)


@functools.cache
def saliency_of_linear(absolute):
    return jax.jit(
        lambda w, x, target: interpret.saliency(
            lambda x: x @ w, x, target=target, absolute=absolute
        )
    )


@pytest.mark.row("Q02")
@given(st.integers(0, 2), st.integers(0, 1000))
def test_of_a_linear_function_is_the_size_of_its_weights(target, seed):
    w, x = single(seed, 5, 3), single(seed + 1, 2, 5)
    expected = np.broadcast_to(w[:, target], (2, 5))
    chex.assert_trees_all_close(saliency_of_linear(True)(w, x, target), np.abs(expected))
    chex.assert_trees_all_close(saliency_of_linear(False)(w, x, target), expected)


@pytest.mark.row("Q02")
def test_is_the_central_difference_of_the_predicted_class_probability():
    with jax.enable_x64(True):
        w, x, h = array(1, 4, 3), array(2, 3, 4), 1e-5
        f = lambda x: jax.nn.softmax(jnp.tanh(x @ w))

        def in_numpy(x):
            scores = np.exp(np.tanh(x @ w))
            return scores / scores.sum(1, keepdims=True)

        actual = interpret.saliency(f, x, target="argmax")
        for i, k in enumerate(np.argmax(in_numpy(x), 1)):
            for j in range(4):
                step = np.zeros_like(x)
                step[i, j] = h
                difference = (in_numpy(x + step)[i, k] - in_numpy(x - step)[i, k]) / (2 * h)
                np.testing.assert_allclose(actual[i, j], np.abs(difference), rtol=1e-6)


def test_every_form_of_target_names_the_same_scores(network, x):
    alone = lambda x: network(x)[:, 1]

    @jax.jit
    def explain(x):
        of = lambda target: interpret.saliency(network, x, target=target)
        fours = [np.full(4, 1), np.full(4, 1, np.uint8), [1, 1, 1, 1], lambda scores: scores[:, 1]]
        same = [of(target) for target in fours]
        same += [
            interpret.saliency(alone, x),
            interpret.saliency(lambda x: alone(x)[:, None], x),
        ]
        return of(1), same, of("argmax"), of(jnp.argmax(network(x), 1))

    one, same, most, argmax = explain(x)
    for actual in same:
        chex.assert_trees_all_close(actual, one)
    chex.assert_trees_all_close(most, argmax)


def test_different_classes_for_different_examples(network, x):
    labels = np.array([0, 1, 2, 1])
    actual = interpret.saliency(network, x, target=labels)
    alone = jax.jit(lambda x, k: interpret.saliency(network, x, target=k))
    for i, k in enumerate(labels):
        chex.assert_trees_all_close(actual[i], alone(x[i : i + 1], k)[0], atol=1e-6)


def test_jit_and_vmap_over_targets(network, x):
    of = lambda target: interpret.saliency(network, x, target=target)
    loop = np.stack([of(k) for k in range(3)])
    chex.assert_trees_all_close(jax.jit(jax.vmap(of))(np.arange(3)), loop, atol=1e-6)
    compiled = jax.jit(chex.assert_max_traces(of, n=1))
    chex.assert_trees_all_close(compiled(1), loop[1], atol=1e-6)
    chex.assert_trees_all_close(compiled(2), loop[2], atol=1e-6)


def test_of_a_tree_of_inputs():
    f = lambda x: jnp.sum(x["a"] ** 2, (1, 2)) + 3 * x["b"]
    x = {
        "a": np.arange(12, dtype=np.float32).reshape(2, 2, 3),
        "b": np.array([1, -1], np.float32),
    }
    expected = {"a": 2 * x["a"], "b": np.full(2, 3, np.float32)}
    chex.assert_trees_all_close(run(interpret.saliency, f, x), expected)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_dtype_is_the_inputs(dtype):
    f = lambda x: x @ np.ones((3, 2), dtype)
    assert run(interpret.saliency, f, np.ones((2, 3), dtype), target=0).dtype == dtype


def test_of_a_flax_model_is_its_jacobian():
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.relu(linen.Conv(4, (3, 3))(x))
            return linen.Dense(3)(x.reshape(x.shape[0], -1))

    x = single(0, 2, 5, 5, 1)
    variables = fill(jax.eval_shape(Net().init, jax.random.key(0), x))
    f = lambda x: Net().apply(variables, x)
    jacobian = np.asarray(jax.jit(jax.jacobian(f))(x))  # (2, 3, 2, 5, 5, 1)
    expected = np.abs(np.stack([jacobian[i, 2, i] for i in range(2)]))
    chex.assert_trees_all_close(run(interpret.saliency, f, x, target=2), expected, atol=1e-6)


def test_a_class_out_of_range_is_refused_or_nan(network, x):
    for target in (3, -1, np.array([0, 1, 2, 3]), [0, 0, -1, 0]):
        with pytest.raises(ValueError, match=r"target is (3|-1); expected a class of 0 to 2"):
            interpret.saliency(network, x, target=target)
    compiled = jax.jit(lambda target: interpret.saliency(network, x, target=target))
    actual = np.asarray(compiled(np.array([0, 3, -1, 2])))
    assert np.isnan(actual[1:3]).all() and np.isfinite(actual[::3]).all()


@pytest.mark.parametrize(
    "target, words",
    [
        (None, r"f returns \(4, 3\) and target is None"),
        ("max", "the only valid string is 'argmax'"),
        (1.0, "target is 1.0; expected ints"),
        (True, "target is True; expected ints"),
        (np.zeros(3, int), r"shape \(3,\) for 4 examples"),
        (lambda scores: scores, r"target\(output\) has shape \(4, 3\); expected \(N,\)"),
    ],
)
def test_bad_targets(network, x, target, words):
    with pytest.raises(ValueError, match=words):
        interpret.saliency(network, x, target=target)


def test_scores_of_every_pixel_need_a_function(x):
    f = lambda x: jnp.broadcast_to(x[:, :1, None, None], (4, 6, 6, 3))
    with pytest.raises(ValueError, match=r"target=1 expects \(N, K\).*Pass a function"):
        interpret.saliency(f, x, target=1)
    actual = run(interpret.saliency, f, x, target=lambda out: out[..., 1].mean((1, 2)))
    np.testing.assert_allclose(actual, np.broadcast_to([1, 0, 0, 0, 0], x.shape), atol=1e-6)


@pytest.mark.parametrize("x", [np.ones((2, 3), np.uint8), 1.0])
def test_inputs_must_be_batches_of_floats(x):
    with pytest.raises(ValueError, match="expected floating-point arrays with a batch axis"):
        interpret.saliency(lambda x: x, x)


def test_input_times_gradient_adds_up_where_the_function_is_homogeneous():
    """Bias-free ReLU networks, also with a shortcut: the sum is the score."""
    w, v, x = single(0, 5, 5), single(1, 5, 3), single(3, 4, 5)
    f = lambda x: (x + jax.nn.relu(jax.nn.relu(x @ w) @ w)) @ v
    actual = run(interpret.input_x_gradient, f, x, target=1)
    positive = lambda a: np.maximum(a, 0)
    expected = (x + positive(positive(x @ w) @ w)) @ v[:, 1]
    chex.assert_trees_all_close(actual.sum(1), expected, rtol=1e-4)
    actual = interpret.input_x_gradient(lambda x: x @ v, x, target=2)
    chex.assert_trees_all_close(actual, x * v[:, 2], atol=1e-6)


@pytest.mark.row("Q10")
def test_the_weights_of_a_linear_model_are_its_explanation():
    """Compares six methods on a model fitted by gradient descent with least squares by NumPy.

    Linear models can represent less: both features decide XOR, but their best weights are 0.
    """
    x = array(0, 40, 5)
    x -= x.mean(0)
    y = x @ np.array([3.0, -2.0, 1.0, 0.0, 0.5]) + 0.3 * array(1, 40)
    corners = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    model = nn.dense(1)

    @jax.jit
    def fit_and_explain(x, y, corners):
        def fit(x, y):
            error = lambda p: jnp.mean((model.apply(p, {}, x)[0][:, 0] - y) ** 2)
            step = lambda p, _: (
                jax.tree.map(lambda a, g: a - 0.2 * g, p, jax.grad(error)(p)),
                None,
            )
            first = {"kernel": jnp.ones((x.shape[1], 1)), "bias": jnp.ones(1)}
            params = jax.lax.scan(step, first, length=300)[0]
            return lambda x: model.apply(params, {}, x)[0]

        f = fit(x, y)
        products = (
            interpret.input_x_gradient,
            interpret.integrated_gradients,
            interpret.deep_lift,
            interpret.ablation,
            interpret.shapley_values,
        )
        slope = interpret.saliency(f, x), interpret.saliency(f, x, absolute=False)
        xor = interpret.saliency(fit(corners, corners.prod(1)), corners)
        return slope, {method.__name__: method(f, x) for method in products}, xor

    with double():
        (size, slope), products, xor = fit_and_explain(x, y, corners)
    w, residuals, *_ = np.linalg.lstsq(x - x.mean(0), y - y.mean())
    assert residuals[0] < 0.1 * (y**2).sum() and np.argsort(-np.abs(w)).tolist()[:3] == [0, 1, 2]
    np.testing.assert_allclose(slope, np.broadcast_to(w, x.shape), atol=1e-8)
    np.testing.assert_allclose(size, np.broadcast_to(np.abs(w), x.shape), atol=1e-8)
    for name, values in products.items():  # features of mean 0: w x is the deviation from it
        np.testing.assert_allclose(values, w * x, atol=1e-8, err_msg=name)
    np.testing.assert_allclose(xor, 0, atol=1e-8)


@pytest.mark.row("Q12")
def test_a_local_explanation_is_of_one_input_and_a_global_one_of_the_class():
    """The same class: other inputs have other saliencies; what it would like best is one image."""
    w, x = single(1, 4, 2), single(2, 2, 4)
    f = lambda x: jnp.tanh(x.reshape(len(x), -1) @ w) * 2
    first, second = run(interpret.saliency, f, x, target=0)
    assert not np.allclose(first, second, rtol=0.01)
    best = interpret.activation_maximization(
        f, (4,), target=np.array([0, 0]), key=jax.random.key(3), l2=0.1, steps=200
    )
    np.testing.assert_allclose(best.image[0], best.image[1], atol=0.02)
    # In the direction of the weights, whatever any input was.
    along = np.dot(best.image[0], w[:, 0])
    assert along / np.linalg.norm(best.image[0]) / np.linalg.norm(w[:, 0]) > 0.99
