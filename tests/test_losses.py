import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

import jaxdl
from jaxdl import losses, nn

SCORES = jnp.array([[3.2, 5.1, -1.7]])


def random_scores(seed, shape=(4, 5), scale=3.0):
    return scale * jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.row("C01", "C02", "C03")
def test_the_scores_of_the_deck_by_a_linear_layer(key):
    """s = W phi(x), with phi the identity; both losses of the deck's scores (3.2, 5.1, -1.7)."""
    layer = nn.dense(3, use_bias=False)
    params, state = jaxdl.init(layer, key, jnp.eye(3))
    scores, _ = layer.apply({"kernel": jnp.diag(SCORES[0])}, state, jnp.ones((1, 3)))
    chex.assert_trees_all_equal(scores, SCORES)
    assert losses.cross_entropy(scores, jnp.array([0]))[0] == pytest.approx(2.04035515280017)
    assert losses.hinge(scores, jnp.array([0]))[0] == pytest.approx(2.9)


@pytest.mark.row("C02")
def test_cross_entropy_in_double_precision_and_natural_logarithm():
    with jax.enable_x64(True):
        scores = jnp.array([[3.2, 5.1, -1.7]], jnp.float64)
        loss = losses.cross_entropy(scores, jnp.array([0]))[0]
        assert loss.dtype == jnp.float64
        assert float(loss) == pytest.approx(2.04035515280017, abs=1e-14)
        assert float(loss) / np.log(10) == pytest.approx(0.8861, abs=5e-5)


@pytest.mark.row("C06")
@given(st.integers(0, 1000))
def test_cross_entropy_is_minus_the_sum_of_y_times_log_y_hat(seed):
    """The deck 004 prints -sum y_i ln y_i: the hat over the second y is lost."""
    scores = random_scores(seed)
    p = jax.nn.softmax(random_scores(seed + 1))
    expected = -np.sum(p * np.log(jax.nn.softmax(scores)), -1)
    chex.assert_trees_all_close(losses.cross_entropy(scores, p), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.row("C06")
def test_one_hot_is_minus_log_of_the_true_class_and_of_itself_the_entropy(variant):
    loss = variant(losses.cross_entropy)
    scores, y = random_scores(0), jnp.array([0, 4, 2, 2])
    y_hat = jax.nn.softmax(scores)
    expected = -jnp.log(y_hat[jnp.arange(4), y])
    for labels in (y, jax.nn.one_hot(y, 5), jax.nn.one_hot(y, 5, dtype=jnp.int32)):
        chex.assert_trees_all_close(loss(scores, labels), expected, rtol=1e-5)
    entropy = -jnp.sum(y_hat * jnp.log(y_hat), -1)
    chex.assert_trees_all_close(loss(scores, y_hat), entropy, rtol=1e-5)


@pytest.mark.row("C08")
def test_the_loss_of_a_sequence_is_the_sum_of_its_steps_and_positive():
    """The deck prints E = -sum_t E_t, a misprint: E_t is a cross-entropy already."""
    scores, y = random_scores(1, (2, 3, 5)), jnp.array([[0, 1, 2], [4, 4, 0]])
    steps = losses.cross_entropy(scores, y)
    assert steps.shape == (2, 3)
    loop = [losses.cross_entropy(scores[:, t], y[:, t]) for t in range(3)]
    total = losses.reduce(steps, how="sum")
    assert total > 0
    chex.assert_trees_all_close(total, jnp.sum(jnp.stack(loop)), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_no_logit_is_too_large(dtype):
    scores = jnp.array([[6e4, -6e4, 0.0], [0.0, 6e4, -6e4]], dtype)
    loss, gradient = jax.value_and_grad(
        lambda s: losses.reduce(losses.cross_entropy(s, jnp.array([0, 0])), how="sum")
    )(scores)
    assert loss.dtype == jnp.float32 and gradient.dtype == dtype
    chex.assert_trees_all_close(loss, scores[1, 1].astype(jnp.float32))
    chex.assert_tree_all_finite(gradient)


@pytest.mark.parametrize("function", [losses.cross_entropy, losses.hinge])
@pytest.mark.parametrize("label", [-1, 3])
def test_a_class_out_of_range_gives_nan_and_not_another_class(function, label, variant):
    values = variant(function)(jnp.repeat(SCORES, 2, 0), jnp.array([label, 1]))
    assert np.isnan(values[0]) and np.isfinite(values[1])


@pytest.mark.row("C03")
@given(st.integers(0, 1000), st.sampled_from([0.0, 1.0, 2.5]))
def test_hinge_is_the_loop_over_the_other_classes(seed, margin):
    scores, y = np.asarray(random_scores(seed)), np.array([0, 4, 2, 2])
    loop = [
        sum(max(0.0, s[j] - s[t] + margin) for j in range(5) if j != t)
        for s, t in zip(scores, y, strict=True)
    ]
    for labels in (jnp.array(y), jax.nn.one_hot(y, 5)):
        chex.assert_trees_all_close(
            losses.hinge(scores, labels, margin=margin), np.float32(loop), rtol=1e-5, atol=1e-5
        )


@pytest.mark.row("C03")
def test_hinge_is_nothing_beyond_the_margin_and_above_optax_form():
    assert losses.hinge(jnp.array([[2.0, 1.0, 0.5]]), jnp.array([0]))[0] == 0
    largest = optax.losses.multiclass_hinge_loss(SCORES, jnp.array([1]))
    chex.assert_trees_all_close(losses.hinge(SCORES, jnp.array([1])), largest, atol=1e-6)
    largest = optax.losses.multiclass_hinge_loss(SCORES, jnp.array([2]))
    assert losses.hinge(SCORES, jnp.array([2]))[0] == pytest.approx(5.9 + 7.8)
    assert largest[0] == pytest.approx(7.8)


@pytest.mark.row("C05")
def test_both_scalings_of_the_squared_error():
    """1/N sum (y - y_hat)^2 of one number each; 1/2 sum (o - y)^2 of the deck's two outputs."""
    o, y = jnp.array([0.5, -1.0, 2.0]), jnp.array([1.0, 1.0, 2.0])
    assert losses.reduce(losses.squared_error(o, y)) == pytest.approx((0.25 + 4 + 0) / 3)
    o, y = jnp.array([[0.47694575860699684, 0.5286964002912302]]), jnp.array([[0.23, -0.07]])
    assert losses.half_squared_error(o, y)[0] == pytest.approx(0.2097097937078311)
    chex.assert_trees_all_close(losses.half_squared_error(o, y), losses.squared_error(o, y) * 2 / 2)
    gradient = jax.grad(lambda o: losses.half_squared_error(o, y)[0])(o)
    chex.assert_trees_all_close(gradient, o - y)


@pytest.mark.row("C05")
def test_the_mean_of_means_is_the_mean():
    o, y = random_scores(3, (2, 3, 4)), random_scores(4, (2, 3, 4))
    assert losses.squared_error(o, y).shape == (2, 3)
    chex.assert_trees_all_close(
        losses.reduce(losses.squared_error(o, y)), np.mean((o - y) ** 2), rtol=1e-6
    )
    chex.assert_trees_all_close(
        losses.half_squared_error(o, y), losses.squared_error(o, y) * 4 / 2, rtol=1e-6
    )
    ones = losses.squared_error(jnp.ones((2, 3)), jnp.zeros((2, 3), jnp.int32))
    chex.assert_trees_all_equal(ones, jnp.ones(2))
    half = losses.squared_error(jnp.full((1, 2), 300, jnp.float16), jnp.zeros((1, 2), jnp.float16))
    chex.assert_trees_all_equal(half, jnp.full(1, 9e4))


@pytest.mark.row("C07")
@given(st.integers(1, 50))
def test_the_total_loss_is_n_times_the_mean(n):
    values = jax.random.uniform(jax.random.key(n), (n,))
    total, mean = losses.reduce(values, how="sum"), losses.reduce(values)
    chex.assert_trees_all_close(total, n * mean, rtol=1e-5)
    chex.assert_trees_all_close(total, np.sum(np.float64(values)).astype(np.float32), rtol=1e-5)


@pytest.mark.row("C04")
def test_the_regulariser_is_added_once():
    x, y = random_scores(5, (6, 3)), jnp.array([0, 1, 0, 1, 1, 0])
    w = random_scores(6, (3, 2))

    def data_loss(w, x, y):
        return losses.reduce(losses.cross_entropy(x @ w, y))

    def full_loss(w, x, y):
        return data_loss(w, x, y) + 0.1 * optax.tree.norm(w, squared=True)

    expected = jax.grad(data_loss)(w, x, y) + 0.2 * w
    chex.assert_trees_all_close(jax.grad(full_loss)(w, x, y), expected, rtol=1e-5, atol=1e-6)
    twice = jnp.concatenate([x, x]), jnp.concatenate([y, y])
    chex.assert_trees_all_close(full_loss(w, *twice), full_loss(w, x, y), rtol=1e-6)


@pytest.mark.row("C10")
def test_a_saturated_wrong_prediction_has_a_gradient_under_cross_entropy_alone():
    labels = jnp.array([[1.0, 0.0]])

    def size(loss):
        return [float(jnp.linalg.norm(jax.grad(loss)(jnp.array([[-a, a]])))) for a in (1.0, 5.0)]

    ce = size(lambda s: losses.cross_entropy(s, labels)[0])
    mse = size(lambda s: losses.squared_error(jax.nn.softmax(s), labels)[0])
    assert ce[1] == pytest.approx(np.sqrt(2), abs=1e-3)  # -1 and +1, of the two scores
    assert mse[1] < 1e-3 < mse[0] < ce[0]


def test_masks_leave_rows_or_steps_out(variant):
    values = jnp.array([[1.0, 2.0], [3.0, 4.0], [jnp.nan, jnp.nan]])
    rows = jnp.array([True, True, False])
    reduce = variant(lambda v, m: losses.reduce(v, m))
    assert reduce(values, rows) == 2.5
    assert losses.reduce(values, rows, "sum") == 10
    steps = jnp.array([[True, False], [False, True], [False, False]])
    assert reduce(values, steps) == 2.5
    assert np.isnan(reduce(values, jnp.zeros(3, bool)))


def test_gradients_are_the_differences():
    with jax.enable_x64(True):
        scores = jax.random.normal(jax.random.key(0), (4, 5), jnp.float64)
        p, y = jax.nn.softmax(scores[::-1]), jnp.array([0, 4, 2, 2])
        for f in (
            lambda s: losses.cross_entropy(s, y),
            lambda s: losses.cross_entropy(s, p),
            lambda s: losses.hinge(s, y),
            lambda s: losses.squared_error(s, p),
            lambda s: losses.half_squared_error(s, p),
        ):
            check_grads(f, (scores,), order=1, atol=1e-5, rtol=1e-5, eps=1e-6)


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
        function(SCORES, jnp.ones(1))
    with pytest.raises(ValueError, match=r"labels are int32\[1, 1\]"):
        function(SCORES, jnp.ones((1, 1), jnp.int32))
    with pytest.raises(ValueError, match=r"the output is int32\[1, 3\]"):
        function(jnp.ones((1, 3), jnp.int32), jnp.array([0]))


@pytest.mark.parametrize("function", [losses.squared_error, losses.half_squared_error])
def test_targets_that_do_not_fit(function):
    with pytest.raises(ValueError, match=r"target int32\[1\].*one_hot"):
        function(SCORES, jnp.array([0]))
    with pytest.raises(ValueError, match=r"output is float32\[4, 1\] and target float32\[4\]"):
        function(jnp.ones((4, 1)), jnp.ones(4))


def test_reductions_that_do_not_fit():
    with pytest.raises(ValueError, match="how is 'average'"):
        losses.reduce(jnp.ones(3), how="average")
    with pytest.raises(ValueError, match=r"where is float32\[3\]"):
        losses.reduce(jnp.ones(3), jnp.ones(3))
    with pytest.raises(ValueError, match=r"where is bool\[2\] for values of shape \(3,\)"):
        losses.reduce(jnp.ones(3), jnp.ones(2, bool))
