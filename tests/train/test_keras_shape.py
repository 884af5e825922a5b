"""The deck's Keras program, in the same calls. Lecture rows V01-V05, V08, A20.

model.add(Dense(input_dim=28*28, output_dim=500)); model.add(Activation('sigmoid')); ...
model.compile(loss='mse', optimizer=SGD(lr=0.1), metrics=['accuracy'])
model.fit(x_train, y_train, batch_size=100, nb_epoch=20)
score = model.evaluate(x_test, y_test); result = model.predict(x_test)
"""

import chex
import jax
import numpy as np
import pytest

from jaxdl import init, losses, nn, optim, serial, summary, train, tree
from jaxdl.interop.safetensors import load_weights, save_weights
from jaxdl.train.batches import epoch_batches
from tests.nn.filled import filled


def mnist_like(rows, seed):
    """Arrays as MNIST's, (N, 784) in [0, 1] and (N, 10) one-hot: ten fixed pictures, and noise."""
    pictures = np.random.default_rng(0).random((10, 784)) < 0.2
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, rows)
    x = np.clip(pictures[labels] * 0.8 + rng.normal(0, 0.2, (rows, 784)), 0, 1)
    return x.astype(np.float32), np.eye(10, dtype=np.float32)[labels]


TRAIN, TEST = mnist_like(500, 1), mnist_like(100, 2)
OPTIMIZER = optim.optimizer("sgd", learning_rate=0.1)
MODEL = serial(nn.dense(500), jax.nn.sigmoid, nn.dense(500), jax.nn.sigmoid, nn.dense(10))


@pytest.mark.row("V01", "A20")
def test_the_number_of_parameters():
    params, _ = jax.eval_shape(MODEL.init, jax.random.key(0), np.zeros((1, 784), np.float32))
    assert tree.count(params) == (784 + 1) * 500 + (500 + 1) * 500 + (500 + 1) * 10 == 648_010
    assert summary(MODEL, np.zeros((1, 784), np.float32)).params == 648_010


@pytest.mark.row("A20")
def test_sixteen_by_sixteen_pictures_are_256_inputs(key):
    params, state = init(
        serial(nn.dense(30), jax.nn.relu, nn.dense(10)), key, np.ones((1, 256), np.float32)
    )
    assert params["dense_0"]["kernel"].shape == (256, 30)


@pytest.mark.row("V02", "V03", "V04", "V05", "V08")
@pytest.mark.parametrize("loss", ["mse", "categorical_crossentropy"])
def test_compile_fit_evaluate_predict_save_load(loss, tmp_path):
    x, y = TRAIN
    assert x.shape == (500, 784) and y.shape == (500, 10)
    compiled = {"loss": loss, "metrics": ["accuracy"]}
    state, history = train.fit(
        MODEL, (x, y), **compiled, optimizer=OPTIMIZER, batch_size=100, epochs=20, verbose=0
    )
    assert len(history["loss"]) == 20 and state.step == 20 * 5
    assert history["loss"][-1] < history["loss"][0]

    score = list(train.evaluate(MODEL, state, TEST, **compiled).values())
    result = train.predict(MODEL, state, TEST[0])
    assert result.shape == (100, 10)
    assert score[1] == np.mean(np.asarray(result).argmax(1) == TEST[1].argmax(1))
    squares = (np.asarray(result) - TEST[1]) ** 2
    expected = np.mean(squares if loss == "mse" else losses.cross_entropy(result, TEST[1]))
    np.testing.assert_allclose(score[0], expected, rtol=1e-5)

    save_weights(tmp_path / "weights", state.params, state.model_state)
    params, model_state = load_weights(tmp_path / "weights")
    loaded = state.replace(params=params, model_state=model_state)
    chex.assert_trees_all_equal(train.predict(MODEL, loaded, TEST[0]), result)


@pytest.mark.row("V02", "V03")
@pytest.mark.parametrize("loss", ["mse", "categorical_crossentropy"])
def test_fit_is_the_loop_by_hand(loss):
    """One layer, two epochs of five batches, with gradients written out in NumPy's float64."""
    x, y = TRAIN
    state, history = train.fit(
        nn.dense(10),
        (x, y),
        loss=loss,
        metrics=["accuracy"],
        optimizer=OPTIMIZER,
        batch_size=100,
        epochs=2,
        verbose=0,
    )
    start = train.init_state(nn.dense(10), OPTIMIZER, jax.random.key(0), x).params
    w, b = (np.asarray(start[name], np.float64) for name in ("kernel", "bias"))
    expected = {"loss": [], "accuracy": []}
    for epoch in range(2):
        values, hits = [], []
        for rows in epoch_batches(500, 100, 0, epoch)[0]:
            output = x[rows] @ w + b
            if loss == "mse":
                values.append(((output - y[rows]) ** 2).mean())
                slope = 2 * (output - y[rows]) / 1000
            else:
                p = np.exp(output) / np.exp(output).sum(1, keepdims=True)
                values.append(-(y[rows] * np.log(p)).sum(1).mean())
                slope = (p - y[rows]) / 100
            hits.append((output.argmax(1) == y[rows].argmax(1)).mean())
            w, b = w - 0.1 * x[rows].T @ slope, b - 0.1 * slope.sum(0)
        expected["loss"].append(np.mean(values))
        expected["accuracy"].append(np.mean(hits))
    chex.assert_trees_all_close(state.params, {"kernel": w, "bias": b}, atol=1e-5, rtol=1e-4)
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-4)


@pytest.mark.row("V01")
def test_a_sequential_model_is_its_layers_one_after_another():
    """The deck's three layers in NumPy, from given weights and biases."""
    params, state = filled(MODEL, TEST[0][:1], scale=0.1)
    y = TEST[0].astype(np.float64)
    for i in range(3):
        layer = params[f"dense_{i}"]
        y = y @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)
        y = 1 / (1 + np.exp(-y)) if i < 2 else y
    np.testing.assert_allclose(jax.jit(MODEL.apply)(params, state, TEST[0])[0], y, atol=1e-4)


@pytest.mark.row("V02")
def test_labels_and_one_hot_rows_are_the_same_targets():
    options = {"loss": "categorical_crossentropy", "metrics": ["accuracy"], "verbose": 0}
    options |= {"optimizer": OPTIMIZER, "batch_size": 100}
    x, y = TRAIN
    rows, _ = train.fit(MODEL, (x, y), **options)
    labels, _ = train.fit(MODEL, (x, y.argmax(1)), **options)
    chex.assert_trees_all_close(rows.params, labels.params, rtol=1e-4, atol=1e-6)
