import functools
import json

import chex
import flax.linen
import jax
import numpy as np
import optax
import pytest

from jaxdl import Module, data, nn, optim, train
from jaxdl.interop.flax import from_linen
from tests.train import toy

MODEL, MLP = toy.noisy(), toy.mlp()
DATA, OTHER = toy.data(), toy.data(rows=31, seed=1)
OPTIONS = {"loss": "cross_entropy", "batch_size": 8, "epochs": 2, "eval_data": OTHER, "verbose": 0}


def momentum(learning_rate, momentum=0.9):
    return optax.sgd(learning_rate, momentum=momentum)


FIRST, SECOND = momentum(0.1, 0.5), momentum(0.01, 0.9)


@functools.cache
def alone(optimizer, seed):
    """The run by itself."""
    return train.fit(MODEL, DATA, optimizer=optimizer, seed=seed, **OPTIONS)


@functools.cache
def two_seeds():
    return train.train_many(MODEL, DATA, seeds=[5, 2], optimizer=FIRST, **OPTIONS)


@pytest.mark.parametrize("batching", ["map", "vmap"])
def test_every_run_is_the_fit_of_its_seed_and_setting(batching):
    states, history = train.train_many(
        MODEL,
        DATA,
        seeds=[5, 2],
        optimizer=momentum,
        hyper={"learning_rate": [0.1, 0.01], "momentum": [0.5, 0.9]},
        batching=batching,
        **OPTIONS,
    )
    np.testing.assert_array_equal(history["seed"], [5, 5, 2, 2])
    np.testing.assert_allclose(history["learning_rate"], [0.1, 0.01, 0.1, 0.01])
    np.testing.assert_allclose(history["momentum"], [0.5, 0.9, 0.5, 0.9])
    assert set(history) == {
        "loss",
        "accuracy",
        "eval_loss",
        "eval_accuracy",
        "seed",
        "learning_rate",
        "momentum",
    }
    for run, seed, optimizer in ((0, 5, FIRST), (3, 2, SECOND)):
        state, expected = alone(optimizer, seed)
        for name in ("loss", "accuracy", "eval_loss", "eval_accuracy"):
            np.testing.assert_allclose(history[name][run], expected[name], rtol=1e-4)
        ours = jax.tree.map(lambda a, run=run: a[run], toy.plain(states))
        chex.assert_trees_all_close(ours, toy.plain(state), rtol=1e-3, atol=1e-5)


def test_from_given_states_as_from_its_own():
    """States that were made one by one, and are still there afterwards."""
    options = OPTIONS | {"seeds": [5, 2], "optimizer": FIRST}
    own, history = two_seeds()
    each = [train.init_state(MODEL, FIRST, jax.random.key(s), DATA[0][:8]) for s in (5, 2)]
    given = jax.jit(lambda *states: jax.tree.map(lambda *a: jax.numpy.stack(a), *states))(*each)
    for _ in range(2):
        states, again = train.train_many(MODEL, DATA, states=given, **options)
        np.testing.assert_array_equal(again["loss"], history["loss"])
        chex.assert_trees_all_equal(toy.plain(states), toy.plain(own))
    on, _ = train.train_many(MODEL, DATA, states=states, **options)
    assert (np.asarray(on.step) == 2 * np.asarray(states.step)).all()


def test_more_epochs_from_states_are_those_of_one_call():
    """The order of the data goes on, too: epoch 3 is not epoch 1 again."""
    options = OPTIONS | {"seeds": [5, 2], "optimizer": FIRST}
    part, _ = two_seeds()
    on, history = train.train_many(MODEL, DATA, states=part, **options | {"epochs": 1})
    whole, expected = train.train_many(MODEL, DATA, **options | {"epochs": 3})
    chex.assert_trees_all_equal(toy.plain(on), toy.plain(whole))
    np.testing.assert_array_equal(history["loss"][:, 0], expected["loss"][:, 2])


class Conv(flax.linen.Module):
    """Its weight gradient is slow in a loop on a CPU."""

    @flax.linen.compact
    def __call__(self, x):
        return flax.linen.Dense(3)(flax.linen.Conv(2, (3,))(x[..., None]).mean(1))


CONV = from_linen(Conv())


def test_convolutions_that_are_slow_in_a_loop_are_called_step_by_step(monkeypatch):
    calls = []
    looped = train.sweep_programs.run_loop
    monkeypatch.setattr(train.sweep_programs, "run_loop", lambda *a: calls.append(1) or looped(*a))
    options = OPTIONS | {"seeds": [5, 2]}
    rates = {"optimizer": momentum, "hyper": {"learning_rate": [0.1, 0.01]}}
    states, history = train.train_many(CONV, DATA, **rates, **options)
    assert bool(calls) == (jax.default_backend() != "cpu")
    for run, seed, rate in ((0, 5, 0.1), (3, 2, 0.01)):
        state, expected = train.fit(CONV, DATA, optimizer=momentum(rate), seed=seed, **OPTIONS)
        for name in ("loss", "eval_accuracy"):
            np.testing.assert_allclose(history[name][run], expected[name], rtol=1e-4)
        ours = jax.tree.map(lambda a, run=run: a[run], toy.plain(states))
        chex.assert_trees_all_close(ours, toy.plain(state), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("model", [MODEL, CONV], ids=["looped", "step by step"])
def test_a_stopped_call_resumes_bit_for_bit(model, tmp_path):
    options = OPTIONS | {"seeds": [5, 2], "optimizer": momentum, "epochs": 3}
    options["hyper"] = {"learning_rate": [0.1, 1e38]}  # runs that diverge go on, too
    whole, expected = train.train_many(model, DATA, **options)

    class Stop(Recorder):
        def log(self, step, values):
            super().log(step, values)
            if step > 7:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.train_many(model, DATA, checkpoint=tmp_path, callbacks=[Stop()], **options)
    for _ in range(2):  # the second finds all epochs done
        states, history = train.train_many(model, DATA, checkpoint=tmp_path, **options)
        chex.assert_trees_all_equal(toy.plain(states), toy.plain(whole))
        assert history.keys() == expected.keys()
        for name in history:
            np.testing.assert_array_equal(history[name], expected[name])
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [7, 14, 21]
    np.testing.assert_allclose([line["loss/2"] for line in lines], expected["loss"][2])

    other = options | {"hyper": {"learning_rate": [0.1, 0.2]}}
    with pytest.raises(ValueError, match=r"run: learning_rate was \[0.1, 1e.*, is \[0.1, 0.2"):
        train.train_many(model, DATA, checkpoint=tmp_path, **other)
    with pytest.raises(ValueError, match=r"epochs is 2 .* of 3; expected at least 3"):
        train.train_many(model, DATA, checkpoint=tmp_path, **options | {"epochs": 2})


class Recorder:
    def __init__(self):
        self.rows, self.closed = [], False

    def log(self, step, values):
        self.rows.append((step, values))

    def close(self):
        self.closed = True


def test_loggers_of_all_runs_and_of_each():
    together, each = Recorder(), {}

    def make(run):
        return each.setdefault((run["seed"], run["learning_rate"]), Recorder())

    _, history = train.train_many(
        MODEL,
        DATA,
        seeds=[5, 2],
        optimizer=momentum,
        hyper={"learning_rate": [0.1, 0.01]},
        callbacks=[together, make],
        **OPTIONS,
    )
    assert list(each) == [(5, 0.1), (5, 0.01), (2, 0.1), (2, 0.01)]
    names = {"loss", "accuracy", "eval_loss", "eval_accuracy"}
    for epoch, (step, values) in enumerate(together.rows):
        assert step == 7 * (epoch + 1)
        assert set(values) == names | {f"{name}/{i}" for name in names for i in range(4)}
        assert values["eval_loss"] == pytest.approx(history["eval_loss"][:, epoch].mean())
        assert values["loss/3"] == history["loss"][3, epoch]
    for i, logger in enumerate(each.values()):
        assert logger.rows == [
            (7 * (epoch + 1), {name: history[name][i, epoch] for name in names})
            for epoch in range(2)
        ]
    assert together.closed and all(logger.closed for logger in each.values())


def test_a_grid_is_every_combination():
    made = train.grid(learning_rate=[0.1, 0.01], decay=np.float32([0, 1, 2]))
    assert made == {
        "learning_rate": [0.1, 0.1, 0.1, 0.01, 0.01, 0.01],
        "decay": [0, 1, 2, 0, 1, 2],
    }
    with pytest.raises(ValueError, match="grid: decay is 0.1; expected a sequence of numbers"):
        train.grid(decay=0.1)


def test_an_optimizer_by_name_with_a_rate():
    options = OPTIONS | {"seeds": [5], "epochs": 1, "eval_data": None}
    rates = {"learning_rate": [0.1]}
    state, _ = train.train_many(MLP, DATA, optimizer="sgd", hyper=rates, **options)
    expected, _ = train.train_many(MLP, DATA, optimizer=optim.sgd(0.1), **options)
    chex.assert_trees_all_close(toy.plain(state), toy.plain(expected), rtol=1e-4, atol=1e-6)


def test_states_of_another_kind_are_refused():
    state = train.init_state(MODEL, FIRST, jax.random.key(0), DATA[0][:8])
    one = jax.tree.map(lambda a: a[None], state)
    for states, seeds in ((state, [0]), (one, [0, 1])):
        with pytest.raises(ValueError, match="entries of the states differ"):
            train.train_many(MODEL, DATA, seeds=seeds, optimizer=FIRST, states=states, **OPTIONS)
    with pytest.raises(ValueError, match="of this model and optimizer"):
        train.train_many(MODEL, DATA, seeds=[0], optimizer=optax.adam(0.1), states=one, **OPTIONS)


@pytest.mark.row("E09")
def test_all_runs_predict_and_their_mean_is_an_ensemble():
    states, _ = two_seeds()
    x, y = OTHER
    scores = train.predict_many(MODEL, states, x, batch_size=8)
    apply = jax.jit(MODEL.apply)
    for run in range(2):
        trees = jax.tree.map(
            lambda a, run=run: np.asarray(a)[run], (states.params, states.model_state)
        )
        np.testing.assert_allclose(scores[run], apply(*trees, x)[0], rtol=1e-4, atol=1e-6)

    shares = np.exp(np.asarray(scores, np.float64))
    shares /= shares.sum(-1, keepdims=True)
    loss = lambda p: -np.log(p[..., np.arange(len(y)), y]).mean()
    assert loss(shares.mean(0)) < np.mean([loss(one) for one in shares])  # Jensen
    with pytest.raises(ValueError, match="predict_many: batch_size"):
        train.predict_many(MODEL, states, x, batch_size=0)


def test_one_trace_for_all_runs_and_epochs():
    traces = {True: 0, False: 0}

    def apply(params, state, x, *, train=False, key=None, tap=None):
        traces[train] += 1
        return MLP.apply(params, state, x, train=train, key=key, tap=tap)

    model = Module(MLP.init, apply)
    options = OPTIONS | {"epochs": 3, "execution": train.Execution(check=False)}
    train.train_many(model, DATA, seeds=range(4), optimizer=optax.sgd(0.1), **options)
    assert traces == {True: 1, False: 1}


@pytest.mark.parametrize("optimizer", ["sgd", optax.sgd(0.1)])
def test_initial_scales_multiply_the_kernels(optimizer):
    options = OPTIONS | {"epochs": 1, "eval_data": None, "optimizer": optimizer}
    states, history = train.train_many(
        MLP, DATA, seeds=[0], hyper={"initial_scale": [0.0, 1.0]}, **options
    )
    assert history["loss"].shape == (2, 1)
    assert states.params["dense_0"]["bias"].shape == (2, 8)
    # From kernels of zeros no gradient reaches the first layer, nor the last one's kernel.
    params = jax.tree.map(np.asarray, states.params)
    assert not params["dense_0"]["kernel"][0].any()
    assert params["dense_1"]["bias"][0].any()
    assert params["dense_0"]["kernel"][1].any()


def test_a_run_that_diverges_leaves_the_others_alone():
    _, history = train.train_many(
        MLP, DATA, seeds=[0], optimizer=optax.sgd, hyper={"learning_rate": [1e38, 0.1]}, **OPTIONS
    )
    assert np.isnan(history["loss"][0, 1]) and np.isfinite(history["loss"][1]).all()


def test_a_line_an_epoch(capsys):
    # The larger model, since a compilation below 0.1 s has no line.
    options = OPTIONS | {"verbose": 2, "eval_data": None}
    train.train_many(MODEL, DATA, seeds=[0], optimizer=optax.sgd(0.1), **options)
    runs, compiled, first, _ = capsys.readouterr().out.splitlines()
    assert (
        runs.startswith("1 runs")
        and compiled.startswith("compiled in ")
        and first.startswith("epoch 1/2 ")
    )


BAD = {
    "a number of seeds": ({"seeds": 3}, r"seeds is 3; .* them: seeds=range\(3\)"),
    "no sequence of seeds": ({"seeds": None}, "seeds is None; expected a sequence"),
    "a name of seeds": ({"seeds": "abc"}, "seed is 'a'"),
    "one value": ({"hyper": {"learning_rate": 0.1}}, "learning_rate is 0.1; expected a sequence"),
    "settings by run": ({"hyper": [{"learning_rate": 0.1}]}, "hyper is a list; .*train.grid"),
    "words": ({"hyper": {"learning_rate": ["a"]}}, "expected a sequence of numbers"),
    "a name's wrong option": (
        {"hyper": {"rate": [1]}, "optimizer": "adam"},
        "hyper has rate, which the optimizer does not take",
    ),
    "a logger": ({"callbacks": ["runs"]}, "logger is 'runs'; expected log"),
    "no logger made": ({"callbacks": [lambda run: None]}, "logger is None; expected log"),
    "checkpoints within an epoch": (
        {"checkpoint": train.Checkpointer("never", every=3)},
        "have every=3 and monitor=None; expected neither",
    ),
    "no seeds": ({"seeds": []}, "0 seeds"),
    "a bad seed": ({"seeds": [0, -1]}, "seed is -1"),
    "lengths": ({"hyper": {"learning_rate": [1, 2], "momentum": [1]}}, "sequences of one length"),
    "no setting": ({"hyper": {"learning_rate": []}}, "sequences of one length"),
    "wrong name": ({"hyper": {"rate": [1]}}, "hyper has rate, which the optimizer does not take"),
    "built": ({"hyper": {"rate": [1]}, "optimizer": optax.sgd(1)}, "expected a function of them"),
    "a factory alone": ({"hyper": None}, "is the function sgd; expected a transformation"),
    "batching": ({"batching": "scan"}, "batching is 'scan'"),
    "batch size": ({"batch_size": 51}, "at most 50"),
    "labels": ({"data": (DATA[0], DATA[1] + 1)}, "labels from 1 to 3"),
}


@pytest.mark.parametrize("options, words", BAD.values(), ids=BAD)
def test_bad_arguments(options, words):
    options = (
        {
            "data": DATA,
            "seeds": [0],
            "optimizer": optax.sgd,
            "hyper": {"learning_rate": [0.1]},
        }
        | OPTIONS
        | options
    )
    with pytest.raises(ValueError, match=words):
        train.train_many(MODEL, **options)


def test_what_is_taken_by_fit_alone():
    x, y = np.zeros((4, 2), np.float32), np.zeros(4, int)
    common = {"seeds": [0], "loss": "cross_entropy", "optimizer": "adam", "verbose": 0}
    for options, words in [
        (
            {"data": data.RandomAccessSource(4, lambda rows: (x[rows], y[rows]))},
            "data is RandomAccessSource",
        ),
        ({"eval_data": train.Evaluation((x, y))}, "eval_data is Evaluation"),
        ({"batch_size": train.Batches(2)}, "expected the number of rows: pass batch_size=2"),
        ({"callbacks": [3]}, "logger is 3"),
    ]:
        with pytest.raises(ValueError, match=f"train_many: .*{words}"):
            train.train_many(nn.dense(2), **({"data": (x, y)} | common | options))
