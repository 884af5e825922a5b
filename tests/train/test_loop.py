import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import Module, train
from jaxdl.train.epoch import (
    EpochBatches,
    compile_eval,
    compile_loop,
    compile_single,
    is_slow_in_loop,
)
from jaxdl.train.step import carrying_eval_step
from tests.train import toy

MODEL, SGD = toy.mlp(), optax.sgd(0.1)
X, Y = (jnp.asarray(a) for a in toy.data())
ROWS = EpochBatches((X, Y), jnp.asarray(np.arange(48, dtype=np.int32).reshape(6, 8)), None)
STEP = jax.jit(train.make_train_step(MODEL, "cross_entropy", SGD), inline=True)


def start():
    return train.init_state(MODEL, SGD, jax.random.key(0), X)


@pytest.mark.parametrize("make", [compile_loop, compile_single])
def test_calls_of_every_length_add_up(make):
    program = make(STEP, "loss")
    whole, wait = program.run(start(), ROWS, 0, 6)
    log = wait()
    assert log["loss"].total.shape == (6,) and list(log["loss"].count) == [8] * 6
    parts, state = [], start()
    for first, count in ((0, 1), (1, 3), (4, 2)):
        state, wait = program.run(state, ROWS, first, count)
        parts.append(wait()["loss"].total)
    chex.assert_trees_all_equal(toy.plain(state), toy.plain(whole))
    np.testing.assert_array_equal(np.concatenate(parts), log["loss"].total)


def test_the_two_programs_agree():
    states, logs = [], []
    for make in (compile_loop, compile_single):
        state, wait = make(STEP, "loss").run(start(), ROWS, 2, 4)
        states.append(toy.plain(state)), logs.append(wait())
    chex.assert_trees_all_close(*states, rtol=1e-5, atol=1e-7)
    chex.assert_trees_all_close(*logs, rtol=1e-5)


def test_a_call_ends_after_the_first_bad_loss():
    step = jax.jit(
        train.make_train_step(MODEL, lambda o, t: o[:, 0] / jnp.where(t == 9, 0, 1), SGD)
    )
    rows = ROWS._replace(data=(X, Y.at[24].set(9)))
    _, wait = compile_loop(step, "loss").run(start(), rows, 1, 5)
    assert list(np.isfinite(wait()["loss"].total)) == [True, True, False]
    _, wait = compile_loop(step, None).run(start(), rows, 1, 5)
    assert len(wait()["loss"].total) == 5


def test_batches_that_are_not_asked_for_weigh_nothing():
    _, log = compile_eval(carrying_eval_step(MODEL, "cross_entropy"))(start(), ROWS, 2)
    assert list(log["loss"].count) == [8, 8, 0, 0, 0, 0]


def convolution():
    """A convolution whose gradients are autodiff's."""

    def apply(params, state, x, **_):
        images = x.reshape(-1, 2, 2, 1)
        y = jax.lax.conv_general_dilated(
            images, params["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y.mean((1, 2)), state

    return Module(lambda key, x: ({"kernel": jnp.ones((3, 3, 1, 3))}, {}), apply, "convolution")


def test_the_weight_gradient_of_a_convolution_is_detected(monkeypatch):
    model = convolution()
    state = train.init_state(model, SGD, jax.random.key(0), X)
    step = train.make_train_step(model, "cross_entropy", SGD)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert is_slow_in_loop(jax.jit(step), state, ROWS)
    assert not is_slow_in_loop(STEP, start(), ROWS)
    forward = train.make_eval_step(model, "cross_entropy")
    assert not is_slow_in_loop(forward, state, ROWS)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not is_slow_in_loop(step, state, ROWS)
