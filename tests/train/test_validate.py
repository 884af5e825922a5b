"""Bad input, refused on the host: what was given, what is expected, how to mend it."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import nn, serial, train
from tests.train import toy

MODEL, SGD = toy.mlp(), optax.sgd(0.1)
X, Y = toy.data()
ONE_HOT = np.eye(3, dtype=np.float32)[Y]
IMAGES = np.zeros((50, 4, 4, 1), np.uint8)
NAN = X.copy()
NAN[3, 1], NAN[4, 0] = np.nan, np.inf


def fit(data=(X, Y), model=MODEL, **options):
    options = {"loss": "cross_entropy", "optimizer": SGD, "verbose": 0} | options
    return train.fit(model, data, **options)


DATA = {
    "not a pair": (X, "data is ndarray; expected a pair"),
    "three parts": ((X, Y, Y), "data is 3 parts; expected a pair"),
    "empty": ((X[:0], Y[:0]), "data is empty, 0 rows.*filtered away"),
    "lengths": ((X, Y[:-1]), "arrays of 50, 49 rows"),
    "a number": ((X, np.float32(1)), "holds a single number"),
    "label too large": ((X, Y + 1), "labels from 1 to 3, and the model has 3 outputs.*0 .. 2"),
    "label -1": (
        (X, np.where(Y == 1, -1, Y)),
        "labels from -1 to 2.*drop the rows without a label",
    ),
    "one-hot of more classes": (
        (X, np.eye(4)[Y]),
        r"the loss does not take .*y float64\[50, 4\].*or rows",
    ),
    "floating labels": (
        (X, Y.astype(np.float32)),
        r"labels are float32\[50\].*expected integer classes",
    ),
    "one-hot as integers": (
        (X, np.eye(4, dtype=int)[Y]),
        r"the loss does not take .* y int64\[50, 4\]",
    ),
    "NaN": ((NAN, Y), r"data: x holds 2 values that are NaN or infinite, the first at \(3, 1\)"),
    "NaN on the device": ((jnp.asarray(NAN), Y), "x holds 2 values that are NaN"),
    "NaN in y": ((X, ONE_HOT * np.nan), "y holds 150 values that are NaN"),
}


@pytest.mark.parametrize("data, words", DATA.values(), ids=DATA)
def test_data(data, words):
    with pytest.raises(ValueError, match=words):
        fit(data)


@pytest.mark.parametrize("data, words", DATA.values(), ids=DATA)
def test_eval_data(data, words):
    with pytest.raises(ValueError, match=words.replace("data", "eval_data", 1)):
        fit(eval_data=data)


ARGUMENTS = {
    "batch larger than the data": (
        {"batch_size": 51},
        "batch_size is 51 .* 50 rows.*batch_size=50",
    ),
    "batch of none": ({"batch_size": 0}, "batch_size is 0"),
    "epochs": ({"epochs": 0}, "epochs is 0; expected an integer of at least 1"),
    "epochs as a float": ({"epochs": 2.0}, "epochs is 2.0"),
    "steps": ({"steps": -1}, "steps is -1"),
    "epochs and steps": ({"epochs": 1, "steps": 1}, "expected one of the two"),
    "steps a call": ({"steps_per_call": 0}, "steps_per_call is 0"),
    "seed": ({"seed": -1}, "seed is -1"),
    "verbose": ({"verbose": 3}, r"verbose is 3; expected one of \(0, 1, 2\)"),
    "policy": ({"on_nonfinite": "ignore"}, "'raise', 'skip', 'stop'"),
    "loss": ({"loss": "mean_sqared_error"}, "did you mean 'mean_squared_error'"),
    "optimizer as a factory": ({"optimizer": optax.sgd}, "is the function sgd; expected"),
    "integers against rows": ({"loss": "mse"}, "the loss does not take.*int32.*one_hot"),
}


@pytest.mark.parametrize("options, words", ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        fit(**options)


def test_a_wrong_shape_is_named():
    state, _ = fit(steps=1)
    with pytest.raises(
        ValueError, match=r"does not take x, float32\[50, 5\].*kernel float32\[4, 8\]"
    ):
        fit((np.zeros((50, 5), np.float32), Y), state=state)
    with pytest.raises(ValueError, match=r"eval_data|float32\[50, 5\]"):
        fit(eval_data=(np.zeros((50, 5), np.float32), Y))


def test_integer_images_are_shown_the_way():
    model = serial(nn.flatten(), nn.dense(3))
    with pytest.raises(ValueError, match=r"uint8\[32, 4, 4, 1\].*astype\(np.float32\) / 255"):
        fit((IMAGES, Y), model)


def test_what_is_checked_can_be_left_out():
    _, history = fit((X, Y), loss=lambda o, y: o[:, 0] * 0, metrics=[], check=False)
    assert history["loss"] == [0]
    with pytest.raises(train.NonFiniteError):
        fit((NAN, Y), check=False)


def test_a_data_set_of_one_row():
    state, history = fit((X[:1], Y[:1]), batch_size=1, eval_data=(X[:1], Y[:1]))
    assert state.step == 1 and history["eval_accuracy"][0] in (0, 1)
