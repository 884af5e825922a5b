import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import losses, nn
from jaxdl.train import init_state, make_eval_step, make_train_step
from tests.train import toy

SGD = optax.sgd(0.1)


def start(model=None, optimizer=SGD):
    model = model or toy.mlp()
    return model, init_state(model, optimizer, jax.random.key(0), toy.data()[0])


@pytest.mark.row("D03")
def test_a_step_is_gradient_descent_on_the_mean_loss(variant):
    model, state = start()
    x, y = toy.data()

    def mean_loss(params):
        log_p = jax.nn.log_softmax(model.apply(params, {}, x)[0])
        return -jnp.mean(log_p[jnp.arange(len(y)), y])

    loss, gradient = jax.value_and_grad(mean_loss)(state.params)
    expected = jax.tree.map(lambda w, g: w - 0.1 * g, state.params, gradient)
    new, metrics = variant(make_train_step(model, "cross_entropy", SGD))(state, (x, y))
    chex.assert_trees_all_close(new.params, expected, rtol=1e-5, atol=1e-7)
    total, weight = metrics["loss"]
    assert weight == len(y) and np.isclose(total / weight, loss, rtol=1e-6)
    assert new.step == 1 and state.step == 0


def test_the_initial_parameters_are_those_of_init(key):
    import jaxdl

    model, x = toy.mlp(), toy.data()[0]
    state = init_state(model, SGD, key, x)
    chex.assert_trees_all_equal(state.params, jaxdl.init(model, key, x)[0])


@pytest.mark.parametrize("real", [1, 3, 7])
def test_masked_rows_change_nothing(real):
    model, state = start()
    x, y = (a[:8] for a in toy.data())
    step = jax.jit(make_train_step(model, "cross_entropy", SGD, metrics=["accuracy"]))
    short = step(state, (x[:real], y[:real]))
    masked = step(state, (x, y, np.arange(8) < real))
    chex.assert_trees_all_close(toy.plain(masked), toy.plain(short), rtol=1e-5, atol=1e-7)


def test_a_mask_covers_all_values_of_an_example():
    model, state = start(nn.dense(3))
    x = np.ones((4, 4), np.float32)
    y = np.zeros((4, 3), np.float32)
    per_value = lambda output, target: output - target
    step = make_eval_step(model, per_value)
    total, weight = step(state, (x, y, np.array([True, True, False, False])))["loss"]
    assert weight == 6
    chex.assert_trees_all_close(total, jnp.sum(model.apply(state.params, {}, x[:2])[0]))


def test_metrics_of_batches_add_up():
    model, state = start()
    x, y = toy.data()
    step = jax.jit(make_eval_step(model, "cross_entropy", metrics=["accuracy", "top_3"]))
    whole = step(state, (x, y))
    parts = [step(state, (x[i : i + 25], y[i : i + 25])) for i in (0, 25)]
    chex.assert_trees_all_close(jax.tree.map(jnp.add, *parts), whole, rtol=1e-6)
    assert set(whole) == {"loss", "accuracy", "top_3"}
    assert whole["top_3"].sum == len(y)


def test_random_numbers_hang_on_the_step_and_nothing_else():
    model, state = start(toy.noisy())
    step = jax.jit(make_train_step(model, "cross_entropy", SGD))
    batch = toy.data()
    chex.assert_trees_all_equal(*(toy.plain(step(state, batch)) for _ in range(2)))
    later = state.replace(step=state.step + 1)
    assert step(state, batch)[1]["loss"].sum != step(later, batch)[1]["loss"].sum


def test_evaluation_draws_nothing_and_keeps_the_statistics():
    model, state = start(toy.noisy())
    x, y = toy.data()
    total, weight = make_eval_step(model, "cross_entropy")(state, (x, y))["loss"]
    output, _ = model.apply(state.params, state.model_state, x)
    chex.assert_trees_all_close(total / weight, jnp.mean(losses.cross_entropy(output, y)))


def test_augmentation_is_keyed_by_the_step():
    seen = []

    def augment(key, x):
        seen.append(jax.random.normal(key))
        return x * 0

    model, state = start()
    x, y = toy.data()
    step = make_train_step(model, "cross_entropy", SGD, augment=augment)
    _, metrics = step(state, (x, y))
    step(state.replace(step=state.step + 1), (x, y))
    assert seen[0] != seen[1]
    chex.assert_trees_all_close(metrics["loss"].sum / len(y), jnp.log(3.0), rtol=1e-5)


@pytest.mark.parametrize("optimizer", [SGD, optax.adam(0.1)], ids=["sgd", "adam"])
def test_a_guarded_step_leaves_everything_as_it_was(optimizer):
    model, state = start(toy.noisy(), optimizer)
    x, y = toy.data()
    step = jax.jit(make_train_step(model, "cross_entropy", optimizer, guard=True))
    state, metrics = step(state, (x, y))
    assert metrics["skipped"].sum == 0
    kept, metrics = step(state, (np.where(x == x[3, 2], np.nan, x), y))
    chex.assert_trees_all_equal(toy.plain(kept), toy.plain(state.replace(step=state.step + 1)))
    assert metrics["skipped"] == (1, 1) and metrics["loss"] == (0, 0)
    went_on, metrics = step(kept, (x, y))
    assert metrics["skipped"].sum == 0 and np.isfinite(metrics["loss"].sum)
    assert not np.array_equal(
        went_on.params["dense_0"]["kernel"], state.params["dense_0"]["kernel"]
    )


def test_the_guard_sees_parameters_that_overflow():
    model, state = start()
    huge = optax.sgd(1e38)
    step = make_train_step(model, "cross_entropy", huge, guard=True)
    x, y = toy.data()
    kept, metrics = step(state, (1e20 * x, y))
    assert metrics["skipped"].sum == 1
    chex.assert_trees_all_equal(kept.params, state.params)


def test_optimizers_that_want_the_loss_get_it():
    optimizer = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau())
    model, state = start(optimizer=optimizer)
    new, metrics = make_train_step(model, "cross_entropy", optimizer)(state, toy.data())
    chex.assert_trees_all_close(new.opt_state[1].best_value, metrics["loss"].value)


def test_several_inputs_are_a_tuple():
    from jaxdl import compose

    def forward(call, a, b):
        return call("a", a) + call("b", b)

    model = compose("sum", {"a": nn.dense(3), "b": nn.dense(3)}, forward)
    x, y = toy.data()
    state = init_state(model, SGD, jax.random.key(0), x, x)
    new, _ = make_train_step(model, "cross_entropy", SGD)(state, ((x, 0 * x), y))
    chex.assert_trees_all_equal(new.params["b"]["kernel"], state.params["b"]["kernel"])


def test_half_precision_sums_in_single():
    model = nn.dense(3)
    x, y = toy.data(rows=4096)
    x = x.astype(jnp.bfloat16)
    state = init_state(model, SGD, jax.random.key(0), x)
    new, metrics = make_train_step(model, "cross_entropy", SGD)(state, (x, y))
    assert metrics["loss"].weight == 4096 and metrics["loss"].sum.dtype == jnp.float32
    assert new.params["kernel"].dtype == jnp.bfloat16


def test_bad_arguments():
    model, state = start()
    x, y = toy.data()
    with pytest.raises(ValueError, match="did you mean 'cross_entropy'"):
        make_train_step(model, "cross_entrpy", SGD)
    with pytest.raises(ValueError, match="did you mean 'momentum'"):
        make_train_step(model, "cross_entropy", "momentun")
    with pytest.raises(ValueError, match=r"write metrics=\['accuracy'\]"):
        make_train_step(model, "cross_entropy", SGD, metrics="accuracy")
    with pytest.raises(ValueError, match="named 'loss'.*rename"):
        make_train_step(model, "cross_entropy", SGD, metrics={"loss": "accuracy"})
    step = make_train_step(model, lambda o, t: jnp.mean(losses.cross_entropy(o, t)), SGD)
    with pytest.raises(ValueError, match=r"loss gives float32\[\] for a batch of 50"):
        step(state, (x, y))
