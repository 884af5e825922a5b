"""Bad input, refused on the host: what was given, what is expected, how to mend it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdl
from jaxdl import data, nn, serial, train, tree
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
    "not a pair": (X, r"data is ndarray; expected \(x, y\)"),
    "four parts": ((X, Y, Y, Y), "data is 4 parts; expected"),
    "weights below 0": ((X, Y, -np.ones(50)), r"weights are in -1 .. -1"),
    "weights of letters": ((X, Y, np.full(50, "a")), "weight has strings"),
    "empty": ((X[:0], Y[:0]), "data has 0 rows.*filtered"),
    "lengths": ((X, Y[:-1]), "arrays of 50, 49 rows"),
    "a number": ((X, np.float32(1)), "has a single number"),
    "label too large": ((X, Y + 1), "labels from 1 to 3, and the model has 3 outputs.*0 .. 2"),
    "label -1": (
        (X, np.where(Y == 1, -1, Y)),
        "labels from -1 to 2.*ignore_index=-1",
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
    "NaN": ((NAN, Y), r"data: x has 2 values that are NaN or infinite, the first at \(3, 1\)"),
    "NaN on the device": ((jnp.asarray(NAN), Y), "x has 2 values that are NaN"),
    "NaN in y": ((X, ONE_HOT * np.nan), "y has 150 values that are NaN"),
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
    "seed": ({"seed": -1}, "seed is -1"),
    "verbose": ({"verbose": 3}, r"verbose is 3; expected one of \(0, 1, 2\)"),
    "loss": ({"loss": "mean_sqared_error"}, "did you mean 'mean_squared_error'"),
    "optimizer as a factory": ({"optimizer": optax.sgd}, "is the function sgd; expected"),
    "integers against rows": ({"loss": "mse"}, "the loss does not take.*int32.*one_hot"),
}


@pytest.mark.parametrize("options, words", ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        fit(**options)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: train.Steps(-1), "steps is -1"),
        (lambda: train.Execution(steps_per_call=0), "steps_per_call is 0"),
        (lambda: train.Execution(on_nonfinite="ignore"), "'raise', 'skip', 'stop'"),
        (lambda: train.AugmentedData((X, Y), "flip"), r"augment is 'flip'; expected a function"),
    ],
)
def test_options(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_grouped_option_names_its_argument():
    with pytest.raises(TypeError, match=r"fit has no steps=; pass epochs=train.Steps\(...\)"):
        fit(steps=3)
    with pytest.raises(TypeError, match=r"evaluate has no check=; pass execution=train.Exec"):
        train.evaluate(MODEL, None, (X, Y), check=False)
    with pytest.raises(TypeError, match="unexpected keyword argument 'epoch'"):
        fit(epoch=3)


def test_an_option_that_would_be_ignored_is_refused():
    execution = train.Execution(precision="bfloat16", check=False)
    with pytest.raises(ValueError, match="lr_find: execution sets precision; expected only check"):
        train.lr_find(MODEL, (X, Y), loss="cross_entropy", execution=execution)


def test_a_wrong_shape_is_named():
    state, _ = fit(epochs=train.Steps(1))
    wrong = (
        r"state differs from the run's: params/dense_0/kernel was float32\[4,8\], is float32\[5,8\]"
    )
    with pytest.raises(ValueError, match=wrong):
        fit((np.zeros((50, 5), np.float32), Y), state=state)
    with pytest.raises(ValueError, match=r"eval_data|float32\[50, 5\]"):
        fit(eval_data=(np.zeros((50, 5), np.float32), Y))


def test_integer_images_are_shown_the_way():
    model = serial(nn.flatten(), nn.dense(3))
    with pytest.raises(ValueError, match=r"uint8\[32, 4, 4, 1\].*astype\(np.float32\) / 255"):
        fit((IMAGES, Y), model)


def test_what_is_checked_can_be_left_out():
    _, history = fit(
        (X, Y), loss=lambda o, y: o[:, 0] * 0, metrics=[], execution=train.Execution(check=False)
    )
    assert history["loss"] == [0]
    with pytest.raises(train.NonFiniteError):
        fit((NAN, Y), execution=train.Execution(check=False))


def test_a_data_set_of_one_row():
    state, history = fit((X[:1], Y[:1]), batch_size=1, eval_data=(X[:1], Y[:1]))
    assert state.step == 1 and history["eval_accuracy"][0] in (0, 1)


IDS = np.random.default_rng(0).integers(0, 9, (50, 4)).astype(np.int32)
READER = serial(nn.embedding(9, 2), nn.flatten(), nn.dense(3))
SHIFTED = jaxdl.compose(
    "shifted",
    {"embed": nn.embedding(9, 2), "scores": nn.dense(3)},
    lambda call, ids, extra: call("scores", call("embed", ids[:, :1] + 1)[:, 0]),
)


@pytest.fixture(scope="module")
def reading():
    return fit((IDS, Y), READER)[0]


@pytest.mark.parametrize("shift, words", [(1, "ids from 1 to 9"), (-1, "ids from -1 to 7")])
def test_token_ids_are_in_the_vocabulary(reading, shift, words):
    words += ", and nn.embedding has 9 rows; expected ids in 0 .. 8"
    for call, name in [
        (lambda ids: fit((ids, Y), READER), "data: x has "),
        (lambda ids: fit((IDS, Y), READER, eval_data=(ids, Y)), "eval_data: x has "),
        (
            lambda ids: train.evaluate(READER, reading, (ids, Y), metrics=["accuracy"]),
            "data: x has ",
        ),
        (lambda ids: train.predict(READER, reading, ids), "predict: x has "),
    ]:
        with pytest.raises(ValueError, match=name + words):
            call(IDS + shift)
    assert train.predict(READER, reading, IDS).shape == (50, 3)


def test_ids_that_the_model_makes_are_checked_too():
    with pytest.raises(ValueError, match="model computes from x has ids from 1 to 9"):
        fit(((IDS, X), Y), SHIFTED)


def test_ids_read_inside_a_loop_are_left_to_the_embedding():
    block = serial(lambda ids: ids, nn.embedding(9, 4), lambda rows: rows[..., 0].astype(jnp.int32))
    model = serial(nn.scan_layers(block, 2), lambda ids: ids.astype(jnp.float32), nn.dense(3))
    assert fit((IDS, Y), model)[1]["loss"]


def test_a_data_set_is_not_its_split():
    for use in (
        fit,
        lambda data: train.lr_find(MODEL, data, loss="cross_entropy", optimizer=optax.sgd),
    ):
        with pytest.raises(ValueError, match=r"data is a Dataset of several splits.*\.train"):
            use(data.digits())


def test_a_state_to_continue_from_is_finite(reading):
    bad = reading.replace(params=jax.tree.map(lambda a: a * np.nan, reading.params))
    with pytest.raises(ValueError, match="dense_0/bias of state is NaN"):
        fit((IDS, Y), READER, state=bad)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_data_of_half_precision_train_parameters_of_float32(dtype):
    short = X.astype(dtype)
    state, history = fit((short, Y))
    whole, expected = fit((short.astype(np.float32), Y))
    chex.assert_trees_all_close(state.params, whole.params, atol=1e-6)
    assert history["loss"] == pytest.approx(expected["loss"])
    scores = train.predict(MODEL, state, short.astype(np.float32))
    chex.assert_trees_all_close(train.predict(MODEL, state, short), scores, atol=1e-6)
    cast = state.replace(params=tree.cast(state.params, dtype))
    assert train.predict(MODEL, cast, short).dtype == dtype


def test_fewer_rows_than_a_batch_are_one_batch():
    state, history = fit((X[:5], Y[:5]), epochs=train.Steps(2))
    same, expected = fit((X[:5], Y[:5]), epochs=train.Steps(2), batch_size=5)
    chex.assert_trees_all_equal(state.params, same.params)


def test_debug_nans_names_the_place():
    model = serial(nn.dense(3), jnp.log)
    for call in (
        lambda: fit(model=model),
        lambda: train.evaluate(
            model, train.init_state(model, SGD, jax.random.key(0), X), (X, Y), loss="cross_entropy"
        ),
    ):
        with jax.debug_nans(True), pytest.raises(FloatingPointError, match="encountered in log"):
            call()


LATER = {
    "labels": (lambda x, y: (x, y + 1), "y has labels from 1 to 3"),
    "NaN": (lambda x, y: (x * np.float32(np.nan), y), "x has 40 values that are NaN"),
    "integers": (lambda x, y: (x, y.astype(int) + 2**32), "beyond the range of int32"),
}


@pytest.mark.parametrize("change, words", LATER.values(), ids=LATER)
def test_later_batches_are_checked_too(change, words):
    state = train.init_state(MODEL, SGD, jax.random.key(0), X)
    y = Y.astype(int) if "int32" in words else Y
    batches = [(X[:10], y[:10]), (X[10:20], y[10:20]), change(X[20:30], y[20:30])]
    stream = data.from_iterable(batches)
    with pytest.raises(ValueError, match=f"batch 2 of the stream.*{words}"):
        train.evaluate(MODEL, state, stream, loss="cross_entropy")
    with pytest.raises(ValueError, match=f"batch 2 of the stream.*{words}"):
        fit(stream)
    x, y = map(np.concatenate, zip(*batches, strict=True))
    rows = data.RandomAccessSource(30, lambda rows: (x[rows], y[rows]))
    words = words.replace("from 1", "from 0").replace("40", r"\d+")
    with pytest.raises(ValueError, match=f"the result of fetch.*{words}"):
        train.evaluate(MODEL, state, rows, loss="cross_entropy", batch_size=10)


def test_ids_of_later_batches_and_of_predictions():
    model = serial(lambda x: x[:, 1:], nn.embedding(5, 3))
    state = train.init_state(model, SGD, jax.random.key(0), np.zeros((2, 3), int))
    ids = np.ones((3, 2, 3), int)
    ids[2, 1, 2] = 5
    stream = data.from_iterable([(x, np.zeros((2, 2, 3), np.float32)) for x in ids])
    with pytest.raises(ValueError, match="batch 2 of the stream: an array that the model.* 1 to 5"):
        train.evaluate(model, state, stream, loss="mse")
    with pytest.raises(ValueError, match="predict: x is int64 .* beyond the range of int32"):
        train.predict(model, state, ids[0] + 2**32)
    many = jax.tree.map(lambda a: a[None], state)
    with pytest.raises(ValueError, match="predict_many: an array that the model.* 1 to 5"):
        train.predict_many(model, many, ids[2])


@pytest.mark.parametrize("lengths", [(-1, 3), (2, 4)])
def test_lengths_lie_within_the_steps(lengths):
    model = nn.rnn(nn.gru(2), returns="last")
    x = np.zeros((2, 3, 1), np.float32), np.array(lengths)
    state = train.init_state(model, SGD, jax.random.key(0), *x)
    words = rf"lengths from {lengths[0]} to {lengths[1]}; expected 0 \.\. 3"
    with pytest.raises(ValueError, match=words):
        train.evaluate(model, state, (x, np.zeros((2, 2))), loss="mse")
    with pytest.raises(ValueError, match=words):
        train.predict(model, state, x)


def test_a_stream_has_its_own_batch_size():
    stream = data.from_iterable([(X[:25], Y[:25]), (X[25:], Y[25:])])
    with pytest.raises(ValueError, match="batch_size is 10 and data makes its own.* of 25 rows"):
        fit(stream, batch_size=10)


def test_a_run_resumes_in_the_same_order_of_rows(tmp_path):
    fit(batch_size=25, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="shuffle was True, is False"):
        fit(batch_size=train.Batches(25, shuffle=False), checkpoint=tmp_path, epochs=2)


def by_hand(params=None, state=None, apply=None):
    params = {"w": jnp.ones((4, 3))} if params is None else params
    return jaxdl.Module(
        lambda key, x: (params, {"m": jnp.zeros(2)} if state is None else state),
        apply or (lambda p, s, x, **_: (x @ p["w"], s)),
    )


BY_HAND = {
    "init, one tree": (
        jaxdl.Module(lambda key, x: {"w": x}, lambda *_, **__: None),
        "init .module. returns one dict; expected .params, state.",
    ),
    "init, no dict": (by_hand(state=()), "init .module. returns .dict, tuple."),
    "integer parameters": (
        by_hand({"w": jnp.ones((4, 3)), "n": jnp.zeros((), int)}),
        "params n is int32.., which has no gradient",
    ),
    "apply, one output": (
        by_hand(apply=lambda p, s, x, **_: x @ p["w"]),
        "apply .module. returns one array; expected .output, state.",
    ),
    "apply without train": (
        by_hand(apply=lambda p, s, x: (x @ p["w"], s)),
        "cannot be called in training: .*'train'; expected apply",
    ),
    "state of another shape": (
        by_hand(apply=lambda p, s, x, train=False, **_: (x @ p["w"], {"m": x[0]} if train else s)),
        r"a state of \['m'\] \[4\]; expected that of init, \['m'\] \[2\]",
    ),
    "state of another structure": (
        by_hand(apply=lambda p, s, x, **_: (x @ p["w"], {})),
        "a state of nothing; expected that of init",
    ),
}


@pytest.mark.parametrize("model, words", BY_HAND.values(), ids=BY_HAND)
def test_errors_in_a_model_by_hand_are_explained(model, words):
    with pytest.raises(ValueError, match=words):
        fit(model=model)


def test_words_for_what_was_meant():
    state = train.init_state(MODEL, SGD, jax.random.key(0), X)
    with pytest.raises(ValueError, match="data: x is None; expected an array"):
        fit((None, Y))
    with pytest.raises(ValueError, match="dict of columns becomes one array"):
        train.predict(MODEL, state, {"a": X})
    with pytest.raises(ValueError, match=r"x, uint8\[50, 4, 4, 1\].*\n?Integer images become"):
        train.predict(MODEL, state, IMAGES)
    with pytest.raises(ValueError, match=r"several inputs are a tuple, not a list"):
        train.predict(MODEL, state, [X, Y])
    with pytest.raises(ValueError, match=r"As classes, pass y\[:, 0\]\.astype\(int\)\."):
        fit((X, Y[:, None] > 0))
    with pytest.raises(ValueError, match="fetch is None; expected a function"):
        data.RandomAccessSource(40, None)
    with pytest.raises(ValueError, match="source is a function that cannot be called alone"):
        data.from_iterable(lambda epoch: [], steps=4)
