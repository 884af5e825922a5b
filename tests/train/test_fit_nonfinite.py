"""What `fit` does when a number becomes infinite or NaN, and when it is interrupted."""

import functools
import os
import signal
import threading

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import losses, train
from jaxdl.train.batches import epoch_batches
from tests.train import toy

MODEL, SGD = toy.mlp(), optax.sgd(0.1)
X, Y = toy.data(rows=40)
BAD_ROW = 11


def bad(output, target):
    """Cross entropy, but NaN for the row whose target is 3."""
    value = losses.cross_entropy(output, target % 3)
    return value * jnp.where(target == 3, jnp.nan, 1.0)


TARGETS = np.where(np.arange(40) == BAD_ROW, 3, Y)


def fit(**options):
    options = {
        "loss": bad,
        "optimizer": SGD,
        "batch_size": 8,
        "verbose": 0,
        "execution": train.Execution(check=False),
    } | options
    return train.fit(MODEL, (X, options.pop("y", TARGETS)), metrics=[], **options)


def bad_step(epoch):
    """The step of an epoch whose batch holds the bad row."""
    return int(np.argwhere(epoch_batches(40, 8, 0, epoch)[0] == BAD_ROW)[0, 0])


@pytest.mark.parametrize("steps_per_call", [None, 1, 5])
def test_raise_names_the_step_the_metric_and_the_parameter(steps_per_call):
    with pytest.raises(train.NonFiniteError) as error:
        fit(execution=train.Execution(check=False, steps_per_call=steps_per_call))
    step = bad_step(0)
    assert (error.value.step, error.value.metric) == (step, "loss")
    assert error.value.path == "dense_0/bias"
    assert f"loss is nan at step {step} (epoch 1)" in str(error.value)
    assert "first bad parameter is dense_0/bias. Lower the learning rate" in str(error.value)


def test_raise_says_that_the_parameters_are_finite_where_they_are():
    def constant(output, target):
        return jnp.where(target == 3, jnp.inf, losses.cross_entropy(output, target % 3))

    with pytest.raises(train.NonFiniteError, match="loss is inf .*; the parameters are finite"):
        fit(loss=constant)


def test_raise_notices_parameters_that_overflow_in_the_last_step():
    with pytest.raises(train.NonFiniteError, match="parameters overflowed at step 0"):
        train.fit(
            MODEL,
            (1e20 * X[:8], Y[:8]),
            loss="cross_entropy",
            optimizer=optax.sgd(1e30),
            batch_size=8,
            verbose=0,
        )


@functools.cache
def without_the_bad_row():
    """The state after two epochs whose bad steps only count."""
    step = jax.jit(train.make_train_step(MODEL, bad, SGD))
    state = train.init_state(MODEL, SGD, jax.random.key(0), X)
    for epoch in range(2):
        for rows in epoch_batches(40, 8, 0, epoch)[0]:
            if BAD_ROW in rows:
                state = state.replace(step=state.step + 1)
            else:
                state, _ = step(state, (X[rows], TARGETS[rows]))
    return toy.plain(state)


@pytest.mark.parametrize("steps_per_call", [None, 1])
def test_skip_leaves_the_step_out(steps_per_call):
    state, history = fit(
        execution=train.Execution(check=False, on_nonfinite="skip", steps_per_call=steps_per_call),
        epochs=2,
    )
    assert history["skipped"] == [0.2, 0.2] and np.isfinite(history["loss"]).all()
    assert state.step == 10
    chex.assert_trees_all_close(toy.plain(state), without_the_bad_row(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps_per_call", [None, 1])
def test_stop_returns_the_state_before(steps_per_call, capsys):
    state, history = fit(
        execution=train.Execution(check=False, on_nonfinite="stop", steps_per_call=steps_per_call),
        epochs=2,
        seed=4,
        verbose=2,
    )
    steps = int(np.argwhere(epoch_batches(40, 8, 4, 0)[0] == BAD_ROW)[0, 0])
    assert state.step == steps > 0 and len(history["loss"]) == 1
    before, _ = fit(
        execution=train.Execution(check=False, on_nonfinite="stop", steps_per_call=steps_per_call),
        epochs=train.Steps(steps),
        seed=4,
    )
    chex.assert_trees_all_equal(toy.plain(state), toy.plain(before))
    assert f"stopped after step {steps}: step {steps} is infinite" in capsys.readouterr().out


class PressCtrlC(train.Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, context):
        if context.epoch == self.epoch:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_returns_what_there_is(capsys):
    before = signal.getsignal(signal.SIGINT)
    state, history = fit(
        y=Y,
        epochs=100,
        callbacks=[PressCtrlC(3)],
        execution=train.Execution(check=False, steps_per_call=2),
        verbose=2,
    )
    assert signal.getsignal(signal.SIGINT) is before
    assert len(history["loss"]) == 4 and state.step == 3 * 5 + 2
    assert "stopped after step 17: interrupted" in capsys.readouterr().out
    whole, _ = fit(y=Y, epochs=train.Steps(17))
    chex.assert_trees_all_equal(toy.plain(state), toy.plain(whole))


def test_the_second_ctrl_c_is_at_once():
    class Twice(train.Callback):
        def on_epoch_end(self, context):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(y=Y, epochs=3, callbacks=[Twice()])
    assert signal.getsignal(signal.SIGINT) is before


def test_in_a_thread():
    result = []
    thread = threading.Thread(target=lambda: result.append(fit(y=Y)))
    thread.start()
    thread.join()
    assert result[0][0].step == 5
