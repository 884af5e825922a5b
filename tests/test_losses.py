import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl import losses, nn

SCORES = np.array([[3.2, 5.1, -1.7]], np.float32)
LABELS = np.array([0, 4, 2, 2], np.int32)
cross_entropy, hinge = jax.jit(losses.cross_entropy), jax.jit(losses.hinge)


def random_scores(seed, shape=(4, 5), scale=3.0):
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def softmax(scores):
    wide = np.exp(scores.astype(np.float64))
    return (wide / wide.sum(-1, keepdims=True)).astype(np.float32)


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


@pytest.mark.row("C01", "C02", "C03")
def test_the_scores_of_the_deck_by_a_linear_layer(key):
    """s = W phi(x), with phi the identity; both losses of the deck's scores (3.2, 5.1, -1.7)."""
    layer, x = nn.dense(3, use_bias=False), np.float32([[1, 2]])
    params, state = jaxdl.init(layer, key, x)
    assert list(params) == ["kernel"] and params["kernel"].shape == (2, 3)
    kernel = np.float32([[1.2, 0.1, -3.7], [1, 2.5, 1]])
    scores, _ = layer.apply({"kernel": kernel}, state, x)
    chex.assert_trees_all_close(scores, SCORES, rtol=1e-6)
    assert cross_entropy(scores, np.array([0]))[0] == pytest.approx(2.04035515280017)
    assert hinge(scores, np.array([0]))[0] == pytest.approx(2.9)


@pytest.mark.row("C02")
def test_cross_entropy_in_double_precision_and_natural_logarithm():
    with jax.enable_x64(True):
        scores = np.array([[3.2, 5.1, -1.7]])
        loss = cross_entropy(scores, np.array([0]))[0]
        assert loss.dtype == jnp.float64
        assert float(loss) == pytest.approx(2.04035515280017, abs=1e-14)
        assert float(loss) / np.log(10) == pytest.approx(0.8861, abs=5e-5)


@pytest.mark.row("C06")
@given(st.integers(0, 1000))
def test_cross_entropy_is_minus_the_sum_of_y_times_log_y_hat(seed):
    """The deck 004 prints -sum y_i ln y_i: the hat over the second y is lost."""
    scores = random_scores(seed)
    p = softmax(random_scores(seed + 1))
    expected = -np.sum(p * np.log(softmax(scores)), -1)
    chex.assert_trees_all_close(cross_entropy(scores, p), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.row("C06")
def test_one_hot_is_minus_log_of_the_true_class_and_of_itself_the_entropy(variant):
    loss = variant(losses.cross_entropy)
    scores = random_scores(0)
    y_hat = softmax(scores)
    expected = -np.log(y_hat[np.arange(4), LABELS])
    one_hot = np.eye(5, dtype=np.float32)[LABELS]
    for labels in (LABELS, one_hot, one_hot.astype(np.int32)):
        chex.assert_trees_all_close(loss(scores, labels), expected, rtol=1e-5)
    entropy = -np.sum(y_hat * np.log(y_hat), -1)
    chex.assert_trees_all_close(loss(scores, y_hat), entropy, rtol=1e-5)


@pytest.mark.row("C08")
def test_the_loss_of_a_sequence_is_the_sum_of_its_steps_and_positive():
    """The deck prints E = -sum_t E_t, a misprint: E_t is a cross-entropy already."""
    scores, y = random_scores(1, (2, 3, 5)), np.array([[0, 1, 2], [4, 4, 0]])
    steps = cross_entropy(scores, y)
    assert steps.shape == (2, 3)
    loop = [cross_entropy(scores[:, t], y[:, t]) for t in range(3)]
    total = losses.reduce(steps, how="sum")
    assert total > 0
    chex.assert_trees_all_close(total, np.sum(loop), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_no_logit_is_too_large(dtype):
    scores = np.array([[6e4, -6e4, 0.0], [0.0, 6e4, -6e4]], dtype)
    total = lambda s: losses.reduce(losses.cross_entropy(s, np.array([0, 0])), how="sum")
    loss, gradient = jax.jit(jax.value_and_grad(total))(scores)
    assert loss.dtype == jnp.float32 and gradient.dtype == dtype
    chex.assert_trees_all_close(loss, scores[1, 1].astype(np.float32))
    chex.assert_tree_all_finite(gradient)


@pytest.mark.parametrize("function", [losses.cross_entropy, losses.hinge])
@pytest.mark.parametrize("label", [-1, 3])
def test_a_class_out_of_range_gives_nan_and_not_another_class(function, label, variant):
    values = variant(function)(np.repeat(SCORES, 2, 0), np.array([label, 1]))
    assert np.isnan(values[0]) and np.isfinite(values[1])


@functools.cache
def hinge_with_margin(margin):
    return jax.jit(functools.partial(losses.hinge, margin=margin))


@pytest.mark.row("C03")
@given(st.integers(0, 1000), st.sampled_from([0.0, 1.0, 2.5]))
def test_hinge_is_the_loop_over_the_other_classes(seed, margin):
    scores, y = random_scores(seed), LABELS
    loop = [
        sum(max(0.0, s[j] - s[t] + margin) for j in range(5) if j != t)
        for s, t in zip(scores, y, strict=True)
    ]
    hinge = hinge_with_margin(margin)
    for labels in (y, np.eye(5, dtype=np.float32)[y]):
        chex.assert_trees_all_close(hinge(scores, labels), np.float32(loop), rtol=1e-5, atol=1e-5)


@pytest.mark.row("C03")
def test_hinge_is_nothing_beyond_the_margin_and_above_optax_form():
    optax_hinge = jax.jit(optax.losses.multiclass_hinge_loss)
    assert hinge(np.array([[2.0, 1.0, 0.5]], np.float32), np.array([0]))[0] == 0
    largest = optax_hinge(SCORES, np.array([1]))
    chex.assert_trees_all_close(hinge(SCORES, np.array([1])), largest, atol=1e-6)
    largest = optax_hinge(SCORES, np.array([2]))
    assert hinge(SCORES, np.array([2]))[0] == pytest.approx(5.9 + 7.8)
    assert largest[0] == pytest.approx(7.8)


@pytest.mark.row("C05")
def test_both_scalings_of_the_squared_error():
    """1/N sum (y - y_hat)^2 of one number each; 1/2 sum (o - y)^2 of the deck's two outputs."""
    o, y = np.array([[0.5, -1.0, 2.0], [1.0, 1.0, 2.0]], np.float32)
    assert losses.reduce(losses.squared_error(o, y)) == pytest.approx((0.25 + 4 + 0) / 3)
    outputs, targets = [[0.47694575860699684, 0.5286964002912302]], [[0.23, -0.07]]
    o, y = np.float32(outputs), np.float32(targets)
    half = losses.half_squared_error(o, y)
    assert half[0] == pytest.approx(0.2097097937078311)
    chex.assert_trees_all_close(half, np.asarray(losses.squared_error(o, y)) * 2 / 2)
    gradient = jax.jit(jax.grad(lambda o: losses.half_squared_error(o, y)[0]))(o)
    chex.assert_trees_all_close(gradient, o - y)


@pytest.mark.row("C05")
def test_the_mean_of_means_is_the_mean():
    o, y = random_scores(3, (2, 3, 4)), random_scores(4, (2, 3, 4))
    squared, half = (jax.jit(f) for f in (losses.squared_error, losses.half_squared_error))
    whole = squared(o, y)
    assert whole.shape == (2, 3)
    chex.assert_trees_all_close(losses.reduce(whole), np.mean((o - y) ** 2), rtol=1e-6)
    chex.assert_trees_all_close(half(o, y), np.asarray(whole) * 4 / 2, rtol=1e-6)
    of_ints = squared(ones(2, 3), np.zeros((2, 3), np.int32))
    chex.assert_trees_all_equal(of_ints, ones(2))
    large = squared(np.full((1, 2), 300, np.float16), np.zeros((1, 2), np.float16))
    chex.assert_trees_all_equal(large, np.full(1, 9e4, np.float32))


@pytest.mark.row("C07")
@given(st.sampled_from([1, 2, 50]), st.integers(0, 1000))
def test_the_total_loss_is_n_times_the_mean(n, seed):
    values = np.random.default_rng(seed).random(n, np.float32)
    total, mean = losses.reduce(values, how="sum"), np.asarray(losses.reduce(values))
    chex.assert_trees_all_close(total, n * mean, rtol=1e-5)
    chex.assert_trees_all_close(total, np.sum(np.float64(values)).astype(np.float32), rtol=1e-5)


@pytest.mark.row("C04")
def test_the_regulariser_is_added_once():
    x, y = random_scores(5, (6, 3), scale=1), np.array([0, 1, 0, 1, 1, 0], np.int32)
    w = random_scores(6, (3, 2), scale=0.5)

    def data_loss(w, x, y):
        return losses.reduce(losses.cross_entropy(x @ w, y))

    def full_loss(w, x, y):
        return data_loss(w, x, y) + 0.1 * optax.tree.norm(w, squared=True)

    full = jax.jit(jax.value_and_grad(full_loss))
    value, gradient = full(w, x, y)
    by_rows = [-np.log(softmax(x @ w)[i, y[i]]) for i in range(6)]
    assert sum(by_rows) > 1  # or the mean and the sum are alike
    assert value == pytest.approx(sum(by_rows) / 6 + 0.1 * np.sum(w**2), rel=1e-5)
    expected = np.asarray(jax.jit(jax.grad(data_loss))(w, x, y)) + np.float32(0.2) * w
    chex.assert_trees_all_close(gradient, expected, rtol=1e-5, atol=1e-6)
    twice = np.concatenate([x, x]), np.concatenate([y, y])
    chex.assert_trees_all_close(full(w, *twice)[0], value, rtol=1e-6)


@pytest.mark.row("C10")
def test_a_saturated_wrong_prediction_has_a_gradient_under_cross_entropy_alone():
    labels = np.array([[1, 0]], np.float32)

    def size(loss):
        gradient = jax.jit(jax.grad(loss))
        return [float(np.linalg.norm(gradient(np.float32([[-a, a]])))) for a in (1, 5)]

    ce = size(lambda s: losses.cross_entropy(s, labels)[0])
    mse = size(lambda s: losses.squared_error(jax.nn.softmax(s), labels)[0])
    assert ce[1] == pytest.approx(np.sqrt(2), abs=1e-3)  # -1 and +1, of the two scores
    assert mse[1] < 1e-3 < mse[0] < ce[0]


def test_masks_leave_rows_or_steps_out(variant):
    values = np.array([[1, 2], [3, 4], [np.nan, np.nan]], np.float32)
    rows = np.array([True, True, False])
    reduce = variant(lambda v, m: losses.reduce(v, m))
    assert reduce(values, rows) == 2.5
    assert losses.reduce(values, rows, "sum") == 10
    steps = np.array([[True, False], [False, True], [False, False]])
    assert reduce(values, steps) == 2.5
    assert np.isnan(reduce(values, np.zeros(3, bool)))


def test_gradients_are_the_differences():
    """Forward and reverse Jacobians against central differences, in double precision."""
    scores = np.random.default_rng(0).normal(size=(4, 5))
    p, y = np.float64(softmax(scores[::-1])), LABELS.astype(np.int64)
    p /= p.sum(-1, keepdims=True)
    functions = {
        "cross_entropy of labels": lambda s: losses.cross_entropy(s, y),
        "cross_entropy of probabilities": lambda s: losses.cross_entropy(s, p),
        "hinge": lambda s: losses.hinge(s, y),
        "squared_error": lambda s: losses.squared_error(s, p),
        "half_squared_error": lambda s: losses.half_squared_error(s, p),
    }

    def jacobians(f, s):
        steps = 1e-6 * jnp.eye(s.size, dtype=s.dtype).reshape(s.size, *s.shape)
        differences = jax.vmap(lambda h: (f(s + h) - f(s - h)) / 2e-6, out_axes=-1)(steps)
        return jax.jacfwd(f)(s), jax.jacrev(f)(s), differences.reshape(-1, *s.shape)

    with jax.enable_x64(True):
        run = jax.jit(lambda s: {name: jacobians(f, s) for name, f in functions.items()})
        for name, (forward, reverse, differences) in run(scores).items():
            for jacobian in (forward, reverse):
                np.testing.assert_allclose(
                    jacobian, differences, atol=1e-5, rtol=1e-5, err_msg=name
                )


@pytest.mark.row("V02")
def test_losses_by_name_and_by_function():
    assert losses.loss("mse") is losses.squared_error
    assert losses.loss("categorical_crossentropy") is losses.cross_entropy
    assert losses.loss(optax.losses.l2_loss) is optax.losses.l2_loss
    with pytest.raises(ValueError, match=r"no loss 'msee'; did you mean 'mse'\?.*hinge"):
        losses.loss("msee")
    with pytest.raises(ValueError, match=r"no loss \['mse'\]"):
        losses.loss(["mse"])


@pytest.mark.parametrize("function", [losses.cross_entropy, losses.hinge])
def test_labels_that_do_not_fit(function):
    with pytest.raises(ValueError, match=r"labels are float32\[1\].*integer classes \(1,\)"):
        function(SCORES, ones(1))
    with pytest.raises(ValueError, match=r"labels are int32\[1, 1\]"):
        function(SCORES, ones(1, 1, dtype=np.int32))
    with pytest.raises(ValueError, match=r"the output is int32\[1, 3\]"):
        function(ones(1, 3, dtype=np.int32), np.array([0]))


@pytest.mark.parametrize("function", [losses.squared_error, losses.half_squared_error])
def test_targets_that_do_not_fit(function):
    with pytest.raises(ValueError, match=r"target int32\[1\].*one_hot"):
        function(SCORES, np.array([0], np.int32))
    with pytest.raises(ValueError, match=r"output is float32\[4, 1\] and target float32\[4\]"):
        function(ones(4, 1), ones(4))


def test_reductions_that_do_not_fit():
    with pytest.raises(ValueError, match="how is 'average'"):
        losses.reduce(ones(3), how="average")
    with pytest.raises(ValueError, match=r"weight is float32\[2\]"):
        losses.reduce(ones(3), ones(2))
    with pytest.raises(ValueError, match=r"weight is bool\[2\] for values of shape \(3,\)"):
        losses.reduce(ones(3), ones(2, dtype=bool))
