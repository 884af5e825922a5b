"""Short floating-point numbers: float32 masters, and a scale that finds its place."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaxdl import train, tree
from jaxdl.train.precision import GROWTH, LossScale
from tests.train import toy

MODEL, NOISY, ADAM = toy.mlp(), toy.noisy(), optax.adam(0.02)
DATA = toy.data()


def fit(precision, model=NOISY, **options):
    options = {"loss": "cross_entropy", "optimizer": ADAM, "batch_size": 10, "verbose": 0} | options
    return train.fit(model, DATA, execution=train.Execution(precision=precision), **options)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_it_learns_and_everything_kept_is_float32(precision):
    state, history = fit(precision, epochs=40)
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    leaves = tree.flatten((state.params, state.model_state, state.opt_state))
    assert all(leaf.dtype != jnp.dtype(precision) for leaf in leaves.values())
    assert all(np.isfinite(leaf).all() for leaf in leaves.values())


@functools.cache
def one_update(precision):
    """By how much a step of gradient descent moves the parameters."""
    optimizer = optax.sgd(1.0)
    state = train.init_state(MODEL, optimizer, jax.random.key(0), DATA[0], precision=precision)
    step = train.make_train_step(MODEL, "cross_entropy", optimizer, precision=precision)
    new, metrics = jax.jit(step)(state, DATA)
    assert metrics["loss"].total.dtype == jnp.float32
    return jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), new.params, state.params)


@pytest.mark.parametrize("precision, tolerance", [("bfloat16", 0.1), ("float16", 0.02)])
def test_one_step_is_that_of_float32_rounded(precision, tolerance):
    expected = one_update("float32")
    scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    chex.assert_trees_all_close(one_update(precision), expected, atol=tolerance * scale)


def test_the_network_is_computed_in_the_short_numbers():
    dtypes = set()

    def look(output, target):
        dtypes.add(output.dtype)
        return jnp.sum(output**2, -1)

    step = train.make_train_step(NOISY, look, ADAM, precision="bfloat16")
    state = train.init_state(NOISY, ADAM, jax.random.key(0), DATA[0])
    jaxpr = str(jax.make_jaxpr(step)(state, DATA))
    assert dtypes == {jnp.dtype("float32")}  # the loss is
    products = [line for line in jaxpr.splitlines() if "dot_general" in line]
    assert products and all("bf16" in line for line in products)


adjusted = jax.jit(LossScale.adjust)


@example([True] * 4, 5)  # it grows at the third step; few random lists begin like this
@given(st.lists(st.booleans(), max_size=30), st.integers(0, 20))
def test_the_scale_against_the_rule_in_words(finite, exponent):
    scale = LossScale(np.float32(2.0**exponent), np.int32(GROWTH - 3))
    value, steps = 2.0**exponent, GROWTH - 3
    for ok in finite:
        scale = adjusted(scale, ok)
        if not ok:
            value, steps = max(value / 2, 1.0), 0
        elif steps + 1 == GROWTH:
            value, steps = value * 2, 0
        else:
            steps += 1
        assert (float(scale.value), int(scale.steps)) == (value, steps)


def test_an_overflow_halves_the_scale_and_leaves_the_step_out():
    x, y = DATA
    state = train.init_state(MODEL, ADAM, jax.random.key(0), x, precision="float16")
    hot = state.replace(loss_scale=LossScale(jnp.float32(2.0**40), jnp.int32(7)))
    step = jax.jit(train.make_train_step(MODEL, "cross_entropy", ADAM, precision="float16"))
    new, metrics = step(hot, (x, y))
    chex.assert_trees_all_equal(new.params, state.params)
    chex.assert_trees_all_equal(new.opt_state, state.opt_state)
    assert float(new.loss_scale.value) == 2.0**39 and int(new.loss_scale.steps) == 0
    assert float(metrics["skipped"].value) == 1.0 and int(new.step) == 1


def test_a_fit_finds_its_scale_and_resumes_with_it(tmp_path):
    x, y = DATA
    first = train.init_state(MODEL, ADAM, jax.random.key(0), x[:10], precision="float16")
    hot = first.replace(loss_scale=LossScale(jnp.float32(2.0**40), jnp.int32(0)))
    whole, history = fit("float16", MODEL, state=hot, epochs=12)
    assert history["skipped"][0] == 1.0 and history["skipped"][-1] == 0.0
    assert history["loss"][-1] < history["loss"][5] and np.isnan(history["loss"][0])
    for epochs in (3, 12):
        parts, _ = fit("float16", MODEL, state=hot, epochs=epochs, checkpoint=tmp_path)
    chex.assert_trees_all_equal(toy.plain(parts), toy.plain(whole))


def test_where_no_scale_helps_it_is_said():
    hot = optax.sgd(1.0)
    x = DATA[0] * 1e6  # not finite in float16
    with pytest.raises(train.NonFiniteError, match="gradient overflows unscaled"):
        train.fit(
            MODEL,
            (x, DATA[1]),
            loss="cross_entropy",
            optimizer=hot,
            batch_size=10,
            epochs=8,
            execution=train.Execution(precision="float16"),
            verbose=0,
        )


def test_bad_arguments():
    with pytest.raises(ValueError, match="precision is 'half'"):
        fit("half")
    with pytest.raises(ValueError, match="on_nonfinite is 'stop' and precision 'float16'"):
        train.Execution(precision="float16", on_nonfinite="stop")
    step = train.make_train_step(MODEL, "cross_entropy", ADAM, precision="float16")
    state = train.init_state(MODEL, ADAM, jax.random.key(0), DATA[0])
    with pytest.raises(ValueError, match="make the state by init_state"):
        step(state, DATA)
    with pytest.raises(ValueError, match="make_train_step: precision is 'f8'"):
        train.make_train_step(MODEL, "cross_entropy", ADAM, precision="f8")
