"""What `fit` promises about the data, the compilations and the state; see also test_fit_*.py."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import Module, losses, train
from jaxdl.train.batches import epoch_batches
from tests.train import toy

MODEL, NOISY, SGD, MOMENTUM = toy.mlp(), toy.noisy(), optax.sgd(0.1), optax.sgd(0.1, momentum=0.9)
DATA, OTHER = toy.data(), toy.data(rows=31, seed=1)


def fit(model=MODEL, data=DATA, **options):
    options = {"loss": "cross_entropy", "optimizer": SGD, "batch_size": 8, "verbose": 0} | options
    return train.fit(model, data, **options)


def same(a, b):
    chex.assert_trees_all_equal(toy.plain(a), toy.plain(b))


def test_it_learns_and_says_how_it_went():
    state, history = fit(epochs=30, eval_data=OTHER)
    assert list(history) == [
        "loss",
        "accuracy",
        "eval_loss",
        "eval_accuracy",
        "eval_seconds",
        "seconds",
        "compile_seconds",
    ]
    assert all(len(v) == 30 and all(type(n) is float for n in v) for v in history.values())
    assert history["loss"][-1] < 0.5 * history["loss"][0] and history["eval_accuracy"][-1] > 0.7
    assert history["compile_seconds"][0] > 0 and not any(history["compile_seconds"][1:])
    assert state.step == 30 * 7


@functools.cache
def by_hand(epochs, model, optimizer):
    """The loop that `fit` stands for, one step after another."""
    x, y = DATA
    state = train.init_state(model, optimizer, jax.random.key(0), x)
    step = jax.jit(train.make_train_step(model, "cross_entropy", optimizer))
    for epoch in range(epochs):
        order, mask = epoch_batches(len(y), 8, 0, epoch)
        for rows, real in zip(order, mask, strict=True):
            state, _ = step(state, (x[rows], y[rows], real))
    return state


@pytest.mark.parametrize("steps_per_call", [None, 1, 3])
def test_it_is_the_loop_over_the_step(steps_per_call):
    state, _ = fit(
        NOISY,
        optimizer=MOMENTUM,
        epochs=2,
        execution=train.Execution(steps_per_call=steps_per_call),
    )
    expected = by_hand(2, NOISY, MOMENTUM)
    chex.assert_trees_all_close(toy.plain(state), toy.plain(expected), rtol=2e-5, atol=1e-6)


@pytest.mark.row("D08", "V03")
def test_an_epoch_is_every_row_once_and_an_update_a_batch():
    order, mask = epoch_batches(50, 8, seed=3, epoch=2)
    assert order.shape == (7, 8) and sorted(order[mask]) == list(range(50))
    assert not np.array_equal(order, epoch_batches(50, 8, seed=3, epoch=1)[0])
    assert np.array_equal(order, epoch_batches(50, 8, seed=3, epoch=2)[0])
    state, _ = fit(batch_size=10)
    assert state.step == 50 // 10


@pytest.mark.row("D08", "V03")
def test_the_device_sees_every_row_once_an_epoch():
    x, y = DATA
    seen = {"row": lambda output, target: jnp.sum(jax.nn.one_hot(target, 50), axis=0)[target]}
    numbered = np.arange(50)
    _, history = train.fit(
        MODEL,
        (x, numbered),
        loss=lambda output, target: losses.cross_entropy(output, target % 3),
        optimizer=SGD,
        metrics={"mean_row": lambda _, target: target, "twice": lambda o, t: seen["row"](o, t) > 8},
        batch_size=8,
        epochs=3,
        execution=train.Execution(check=False),
        verbose=0,
    )
    assert history["mean_row"] == [24.5] * 3 and history["twice"] == [0] * 3


def test_the_last_batch_counts_by_its_rows():
    _, history = fit(optimizer=optax.sgd(0.0), batch_size=16, eval_data=DATA)
    x, y = DATA
    state = train.init_state(MODEL, SGD, jax.random.key(0), x)
    output = np.asarray(jax.jit(MODEL.apply)(state.params, {}, x)[0], np.float64)
    log_p = output - np.log(np.exp(output).sum(1, keepdims=True))
    expected = -log_p[np.arange(50), y].mean(), (output.argmax(1) == y).mean()
    for prefix in ("", "eval_"):
        got = history[prefix + "loss"][0], history[prefix + "accuracy"][0]
        np.testing.assert_allclose(got, expected, rtol=1e-6)


@functools.cache
def noisy_run(**options):
    return fit(NOISY, optimizer=MOMENTUM, **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"execution": train.Execution(steps_per_call=2)},
        {"execution": train.Execution(resident_bytes=0)},
    ],
)
def test_the_same_seed_is_the_same_run_bit_for_bit(options):
    first = noisy_run(epochs=2)
    again = fit(NOISY, optimizer=MOMENTUM, epochs=2, **options)
    same(first[0], again[0])
    assert first[1]["loss"] == again[1]["loss"]
    other, _ = noisy_run(epochs=2, seed=1)
    assert not np.array_equal(
        other.params["dense_0"]["kernel"], again[0].params["dense_0"]["kernel"]
    )


@pytest.mark.parametrize(
    "options", [{}, {"execution": train.Execution(resident_bytes=0, steps_per_call=3)}]
)
@pytest.mark.parametrize("stop", [1, 7, 9, 14])
def test_a_run_in_two_parts_is_the_run_in_one(stop, options):
    whole, _ = noisy_run(epochs=train.Steps(16))
    part, _ = fit(NOISY, optimizer=MOMENTUM, epochs=train.Steps(stop), **options)
    kept = jax.tree.map(np.array, toy.plain(part))
    rest, history = fit(
        NOISY, optimizer=MOMENTUM, epochs=train.Steps(16 - stop), state=part, **options
    )
    same(rest, whole)
    chex.assert_trees_all_equal(toy.plain(part), kept)
    assert rest.step == 16 and len(history["loss"]) == 3 - stop // 7


def counted(model):
    """The model, and the number of times that it is traced for training and for evaluation."""
    traces = {True: 0, False: 0}

    def apply(params, state, x, *, train=False, key=None, tap=None):
        traces[train] += 1
        return model.apply(params, state, x, train=train, key=key, tap=tap)

    return Module(model.init, apply, "counted"), traces


@pytest.mark.parametrize("options", [{}, {"steps_per_call": 1}, {"resident_bytes": 0}])
def test_one_compilation_for_training_and_one_for_evaluation(options):
    model, traces = counted(MODEL)
    run = functools.partial(
        fit, model, eval_data=OTHER, execution=train.Execution(check=False, **options)
    )
    state, _ = run(epochs=3)
    assert traces[True] == 1
    state, _ = run(epochs=train.Steps(5), state=state)
    assert traces[True] == 1
    evaluations = traces[False]
    run(epochs=3, state=state)
    assert traces[False] == evaluations


def test_augmentation_is_inside_the_step():
    calls = []

    def augment(key, x):
        calls.append(x.shape)
        return x + 100 * jax.random.normal(key, x.shape)

    _, plain = fit()
    state, noisy = fit(data=train.AugmentedData(DATA, augment))
    assert noisy["loss"] != plain["loss"] and set(calls) == {(8, 4)}
    same(state, fit(data=train.AugmentedData(DATA, augment))[0])


def test_rows_may_be_arrays_of_jax_and_lists():
    expected = fit()[0]
    same(fit(data=tuple(map(jnp.asarray, DATA)))[0], expected)
    same(fit(data=[DATA[0].tolist(), DATA[1].tolist()])[0], expected)


def test_several_inputs():
    from jaxdl import compose, nn

    def forward(call, a, b):
        return call("dense", a + b)

    model = compose("sum", {"dense": nn.dense(3)}, forward)
    x, y = DATA
    state, history = fit(model, data=((x, 0 * x), y), eval_data=((x, 0 * x), y))
    assert train.predict(model, state, (x, 0 * x)).shape == (50, 3)
    assert history["loss"][0] > 0


def test_an_epoch_by_default():
    assert fit()[0].step == 7


@pytest.mark.parametrize("verbose", [1, 2])
def test_a_line_an_epoch_where_there_is_no_terminal(capsys, verbose):
    # The larger model, since a compilation below 0.1 s has no line; programs are compiled once.
    fit(toy.noisy(), epochs=2, eval_data=OTHER, verbose=verbose, optimizer=optax.sgd(verbose))
    compiled, first, second = capsys.readouterr().out.splitlines()
    assert compiled.startswith("compiled in ")
    assert first.startswith("epoch 1/2  ") and " eval_accuracy 0." in first
    assert second.startswith("epoch 2/2  ") and "seconds" not in second


def test_silence(capsys):
    fit(epochs=1)
    assert capsys.readouterr().out == ""


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    fit(epochs=2, verbose=1)
    assert "epoch 2/2" in capsys.readouterr().out
