import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import losses, nn
from jaxdl.train import init_state, make_eval_step, make_train_step
from tests.train import toy

SGD, MODEL, NOISY = optax.sgd(0.1), toy.mlp(), toy.noisy()
X, Y = toy.data()


@functools.cache
def start(model=MODEL, optimizer=SGD):
    return init_state(model, optimizer, jax.random.key(0), X)


@functools.cache
def train_step(model=MODEL, optimizer=SGD, **options):
    """The step, compiled: once for all the tests that take it."""
    return jax.jit(make_train_step(model, "cross_entropy", optimizer, **options))


@pytest.mark.row("D03")
def test_a_step_is_gradient_descent_on_the_mean_loss(variant):
    state = start()

    def mean_loss(params):
        log_p = jax.nn.log_softmax(MODEL.apply(params, {}, X)[0])
        return -jnp.mean(log_p[np.arange(len(Y)), Y])

    loss, gradient = jax.jit(jax.value_and_grad(mean_loss))(state.params)
    expected = jax.tree.map(
        lambda w, g: np.asarray(w) - np.float32(0.1) * g, state.params, gradient
    )
    new, metrics = variant(make_train_step(MODEL, "cross_entropy", SGD))(state, (X, Y))
    chex.assert_trees_all_close(new.params, expected, rtol=1e-5, atol=1e-7)
    total, weight = metrics["loss"]
    assert weight == len(Y) and np.isclose(total / weight, loss, rtol=1e-6)
    assert new.step == 1 and state.step == 0


def test_the_initial_parameters_are_those_of_init(key):
    import jaxdl

    state = init_state(MODEL, SGD, key, X)
    chex.assert_trees_all_equal(state.params, jaxdl.init(MODEL, key, X)[0])


def test_masked_rows_change_nothing():
    x, y = X[:8], Y[:8]
    step = jax.jit(make_train_step(MODEL, "cross_entropy", SGD, metrics=["accuracy"]))
    for real in (1, 3, 7):
        short = step(start(), (x[:real], y[:real]))
        masked = step(start(), (x, y, np.arange(8) < real))
        chex.assert_trees_all_close(
            toy.plain(masked), toy.plain(short), rtol=1e-5, atol=1e-7, custom_message=f"{real} rows"
        )


def test_a_mask_covers_all_values_of_an_example():
    model = nn.dense(3)
    state = start(model)
    x = np.ones((4, 4), np.float32)
    y = np.zeros((4, 3), np.float32)
    per_value = lambda output, target: output - target
    step = make_eval_step(model, per_value)
    total, weight = step(state, (x, y, np.array([True, True, False, False])))["loss"]
    assert weight == 6
    kernel = np.asarray(state.params["kernel"])  # the bias is zero
    chex.assert_trees_all_close(total, (x[:2] @ kernel).sum(), rtol=1e-6)


def test_metrics_of_batches_add_up():
    step = jax.jit(make_eval_step(MODEL, "cross_entropy", metrics=["accuracy", "top3"]))
    whole = step(start(), (X, Y))
    parts = [step(start(), (X[i : i + 25], Y[i : i + 25])) for i in (0, 25)]
    total = jax.tree.map(lambda a, b: np.asarray(a) + np.asarray(b), *parts)
    chex.assert_trees_all_close(total, whole, rtol=1e-6)
    assert set(whole) == {"loss", "accuracy", "top3"}
    assert whole["top3"].total == len(Y)


def test_random_numbers_hang_on_the_step_and_nothing_else():
    state, step, batch = start(NOISY), train_step(NOISY, skip_nonfinite=True), (X, Y)
    chex.assert_trees_all_equal(*(toy.plain(step(state, batch)) for _ in range(2)))
    later = state.replace(step=state.step + 1)
    assert step(state, batch)[1]["loss"].total != step(later, batch)[1]["loss"].total


def test_evaluation_draws_nothing_and_keeps_the_statistics():
    state = start(NOISY)
    total, weight = make_eval_step(NOISY, "cross_entropy")(state, (X, Y))["loss"]
    output, _ = jax.jit(NOISY.apply)(state.params, state.model_state, X)
    loss = jax.jit(losses.cross_entropy)(output, Y)
    chex.assert_trees_all_close(total / weight, np.mean(loss), rtol=1e-6)


def test_augmentation_is_keyed_by_the_step():
    seen = []

    def augment(key, x):
        jax.debug.callback(lambda n: seen.append(float(n)), jax.random.normal(key))
        return x * 0

    state, step = start(), train_step(augment=augment)
    _, metrics = step(state, (X, Y))
    step(state.replace(step=state.step + 1), (X, Y))
    jax.effects_barrier()
    assert len(seen) == 2 and seen[0] != seen[1]
    np.testing.assert_allclose(metrics["loss"].total / len(Y), np.log(3.0), rtol=1e-5)


@pytest.mark.parametrize("optimizer", [SGD, optax.adam(0.1)], ids=["sgd", "adam"])
def test_a_guarded_step_leaves_everything_as_it_was(optimizer):
    x, y = X, Y
    step = train_step(NOISY, optimizer, skip_nonfinite=True)
    state, metrics = step(start(NOISY, optimizer), (x, y))
    assert metrics["skipped"].total == 0
    kept, metrics = step(state, (np.where(x == x[3, 2], np.nan, x), y))
    chex.assert_trees_all_equal(toy.plain(kept), toy.plain(state.replace(step=state.step + 1)))
    assert metrics["skipped"] == (1, 1) and metrics["loss"] == (0, 0)
    went_on, metrics = step(kept, (x, y))
    assert metrics["skipped"].total == 0 and np.isfinite(metrics["loss"].total)
    assert not np.array_equal(
        went_on.params["dense_0"]["kernel"], state.params["dense_0"]["kernel"]
    )


def test_the_guard_sees_parameters_that_overflow():
    state = start()
    kept, metrics = train_step(optimizer=optax.sgd(1e38), skip_nonfinite=True)(state, (1e20 * X, Y))
    assert metrics["skipped"].total == 1
    chex.assert_trees_all_equal(kept.params, state.params)


def test_optimizers_that_want_the_loss_get_it():
    optimizer = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau())
    new, metrics = train_step(optimizer=optimizer)(start(optimizer=optimizer), (X, Y))
    total, weight = metrics["loss"]
    np.testing.assert_allclose(new.opt_state[1].best_value, total / weight, rtol=1e-6)


def test_several_inputs_are_a_tuple():
    from jaxdl import compose

    def forward(call, a, b):
        return call("a", a) + call("b", b)

    model = compose("sum", {"a": nn.dense(3), "b": nn.dense(3)}, forward)
    state = init_state(model, SGD, jax.random.key(0), X, X)
    new, _ = train_step(model)(state, ((X, 0 * X), Y))
    chex.assert_trees_all_equal(new.params["b"]["kernel"], state.params["b"]["kernel"])


def test_half_precision_sums_in_single():
    model = nn.dense(3)
    x, y = toy.data(rows=4096)
    x = x.astype(jnp.bfloat16)
    state = init_state(model, SGD, jax.random.key(0), x)
    new, metrics = train_step(model)(state, (x, y))
    assert metrics["loss"].count == 4096 and metrics["loss"].total.dtype == jnp.float32
    assert new.params["kernel"].dtype == jnp.bfloat16


def test_bad_arguments():
    with pytest.raises(ValueError, match="did you mean 'cross_entropy'"):
        make_train_step(MODEL, "cross_entrpy", SGD)
    with pytest.raises(ValueError, match="did you mean 'momentum'"):
        make_train_step(MODEL, "cross_entropy", "momentun")
    with pytest.raises(ValueError, match=r"write metrics=\['accuracy'\]"):
        make_train_step(MODEL, "cross_entropy", SGD, metrics="accuracy")
    with pytest.raises(ValueError, match="named 'loss'.*rename"):
        make_train_step(MODEL, "cross_entropy", SGD, metrics={"loss": "accuracy"})
    step = make_train_step(MODEL, lambda o, t: jnp.mean(losses.cross_entropy(o, t)), SGD)
    with pytest.raises(ValueError, match=r"loss returns float32\[\] for a batch of 50"):
        jax.eval_shape(step, start(), (X, Y))
