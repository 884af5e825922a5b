"""Layers that keep their carry from batch to batch, in `fit`, `evaluate` and `predict`."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import data, losses, nn, train

SGD = optax.sgd(0.1)
STEPS, ROWS, LENGTH = 3, 4, 2
# Batch t + 1 continues the rows of batch t; the last batch lacks a row.
X = np.random.default_rng(0).normal(size=(STEPS * ROWS, LENGTH, 2)).astype(np.float32)
Y = (X.sum((1, 2)) > 0).astype(np.int32)
N = len(X) - 1
CELL = nn.gru(3, carry_init="normal", learn_initial_carry=True)
MODEL = nn.serial(nn.rnn(CELL, stateful=True, returns="last"), nn.dense(2))
WHOLE = nn.serial(nn.rnn(CELL), nn.dense(2))


def batches():
    return [(X[i : i + ROWS][: N - i], Y[i : i + ROWS][: N - i]) for i in range(0, N, ROWS)]


def stream():
    return data.BatchStream(STEPS, lambda epoch, first: iter(batches()[first:]))


def fit(**options):
    options = {"loss": "cross_entropy", "optimizer": SGD, "verbose": 0} | options
    return train.fit(MODEL, options.pop("data", stream()), **options)


@pytest.fixture(scope="module")
def trained():
    return fit(epochs=2, eval_data=(X[:5], Y[:5]))


@jax.jit
def logits_in_one_piece(params):
    """(STEPS, ROWS, 2): of rows that are joined in time, after the last step of each batch."""
    joined = X.reshape(STEPS, ROWS, LENGTH, 2).swapaxes(0, 1).reshape(ROWS, -1, 2)
    return WHOLE.apply(params, {}, joined)[0][:, LENGTH - 1 :: LENGTH].swapaxes(0, 1)


def test_evaluate_and_predict_reset_the_carry_and_keep_it_between_batches(trained):
    state, _ = trained
    expected = np.asarray(logits_in_one_piece(state.params)).reshape(-1, 2)
    for _ in range(2):
        outputs = train.predict(MODEL, state, X[:N], batch_size=ROWS)
        chex.assert_trees_all_close(np.asarray(outputs), expected[:N], atol=1e-6)
        values = train.evaluate(MODEL, state, stream(), loss="cross_entropy")
        by_hand = float(losses.cross_entropy(jnp.asarray(expected[:N]), Y[:N]).mean())
        assert values["loss"] == pytest.approx(by_hand, abs=1e-6)
    resident = train.evaluate(MODEL, state, (X[:N], Y[:N]), loss="cross_entropy", batch_size=ROWS)
    assert resident == pytest.approx(values, abs=1e-6)


def test_any_batch_size_predicts(trained):
    state, history = trained
    one = np.asarray(train.predict(MODEL, state, X[:1]))
    chex.assert_trees_all_close(
        one[0], np.asarray(logits_in_one_piece(state.params))[0, 0], atol=1e-6
    )
    f = train.predictor(MODEL, state)
    chex.assert_trees_all_close(np.asarray(f(X[:1])), one, atol=1e-6)
    assert np.isfinite(history["eval_loss"]).all()


def test_every_epoch_is_truncated_backpropagation_from_the_initial_carry(trained):
    """Against a loop by hand over one cell, whose initial carry is learned in each first batch."""
    cell_key, dense_key = MODEL.children
    batch = (X.reshape(STEPS, ROWS, LENGTH, 2), Y.reshape(STEPS, ROWS))

    def cost(params, carry, x, y, rows):
        carry, h = nn.unroll(CELL, params[cell_key], x, carry=carry)
        values = losses.cross_entropy(nn.functional.dense(h[:, -1], **params[dense_key]), y)
        return values[:rows].mean(), carry

    slope = jax.jit(jax.grad(cost, has_aux=True), static_argnums=4)
    params = train.init_state(MODEL, SGD, jax.random.key(0), X[:ROWS]).params
    for _ in range(2):
        carry = None
        for i in range(STEPS):
            gradient, carry = slope(
                params, carry, batch[0][i], batch[1][i], ROWS - (i == STEPS - 1)
            )
            params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
    chex.assert_trees_all_close(trained[0].params, params, atol=1e-6)


def test_a_run_resumes_within_an_epoch_with_its_carry(trained, tmp_path):
    for steps in (2, 4, 6):
        state, _ = fit(epochs=train.Steps(steps), checkpoint=tmp_path)
    chex.assert_trees_all_equal(state.params, trained[0].params)
    parts, _ = fit(epochs=train.Steps(2))
    parts, _ = fit(epochs=train.Steps(4), state=parts)
    chex.assert_trees_all_equal(parts.params, trained[0].params)
    other, _ = fit(state=parts, data=data.from_iterable([(X[:3], Y[:3])]))
    assert nn.reset_carry(other.model_state, 7)["gru_0"]["h"].shape == (7, 3)


def test_rows_that_cannot_continue_warn_or_raise(trained):
    state, _ = trained
    with pytest.warns(UserWarning, match=r"data is shuffled, and the model keeps a carry"):
        fit(data=(X, Y), batch_size=ROWS, epochs=train.Steps(1))
    with pytest.raises(
        ValueError, match="batch 0 of the stream has 2 rows.*expected 4 rows in all"
    ):
        batch = data.from_iterable([(X[:2], Y[:2]), (X[:4], Y[:4])], batch_size=4)
        fit(data=batch)
    with pytest.raises(ValueError, match="x has 2 rows, but the carry.*has 4.*reset_carry"):
        MODEL.apply(state.params, state.model_state, X[:2])
    with pytest.raises(ValueError, match="train_many shuffles the rows"):
        train.train_many(
            MODEL, (X, Y), seeds=[0], loss="cross_entropy", optimizer=SGD, batch_size=4
        )


def test_reset_keeps_what_is_no_carry():
    state = {"a": {"mean": np.ones(3)}, "b": {"h": np.ones((2, 5, 3)), "carried": np.ones(2, bool)}}
    fresh = nn.reset_carry(state, 4)
    assert fresh["a"] == state["a"] and not fresh["b"]["carried"].any()
    assert fresh["b"]["h"].shape == (2, 4, 3) and not fresh["b"]["h"].any()


def test_short_floats_carry_on():
    state, history = fit(execution=train.Execution(precision="bfloat16"))
    assert state.model_state["gru_0"]["h"].dtype == jnp.float32
    assert np.isfinite(history["loss"]).all()
