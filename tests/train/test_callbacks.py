import chex
import jax
import jax.numpy as jnp
import optax
import pytest

from jaxdl import train
from tests.train import toy

MODEL, SGD = toy.mlp(), optax.sgd(0.1)
DATA = toy.data()


def fit(**options):
    options = {"optimizer": SGD, "verbose": 0} | options
    return train.fit(MODEL, DATA, loss="cross_entropy", batch_size=10, **options)


class Script(train.Callback):
    """Puts given values into the history, an epoch each, and keeps the states."""

    def __init__(self, values, name="eval_loss"):
        self.values, self.name, self.states = values, name, []

    def on_epoch_end(self, context):
        self.states.append(jax.tree.map(jnp.copy, context.state))
        return {self.name: self.values[context.epoch - 1]}


NAN = float("nan")


@pytest.mark.row("E04")
@pytest.mark.parametrize(
    "values, patience, min_delta, stops, best",
    [
        ([3, 2, 1, 2, 2, 0], 2, 0, 5, 3),
        ([3, 2, 1, 2, 0, 2, 2, 2], 2, 0, 7, 5),
        ([3, 2, 1, 1, 1, 1], 2, 0, 5, 3),
        ([3, 2.95, 2.9, 0, 0, 0], 2, 0.2, 3, 1),
        ([3, 2, 1, 0, -1, -2], 1, 0, 6, 6),
        ([NAN, 2, NAN, NAN, 1, 1], 2, 0, 4, 2),
        ([NAN, NAN, NAN, 1, 1, 1], 2, 0, 2, 0),
    ],
)
def test_early_stopping_stops_at_the_minimum_with_patience(
    values, patience, min_delta, stops, best, capsys
):
    script = Script(values)
    stopping = train.EarlyStopping(patience=patience, min_delta=min_delta)
    state, history = fit(epochs=len(values), callbacks=[script, stopping], verbose=2)
    assert len(history["loss"]) == stops and stopping.best_epoch == best
    expected = script.states[(best or stops) - 1]
    chex.assert_trees_all_equal(toy.plain(state), toy.plain(expected))
    said = "has not improved" in capsys.readouterr().out
    assert said == (stops < len(values) or best < stops)


@pytest.mark.row("E04")
def test_the_last_state_where_the_best_is_not_wanted():
    script = Script([1, 2, 3])
    stopping = train.EarlyStopping(patience=1, restore_best=False)
    state, _ = fit(epochs=3, callbacks=[script, stopping])
    chex.assert_trees_all_equal(toy.plain(state), toy.plain(script.states[1]))


@pytest.mark.row("E04")
def test_accuracies_are_the_better_the_larger():
    stopping = train.EarlyStopping("eval_accuracy", patience=1)
    fit(epochs=4, callbacks=[Script([0.1, 0.5, 0.4, 0.9], "eval_accuracy"), stopping])
    assert stopping.best == 0.5
    stopping = train.EarlyStopping("eval_accuracy", patience=1, mode="min")
    fit(epochs=4, callbacks=[Script([0.1, 0.5, 0.4, 0.9], "eval_accuracy"), stopping])
    assert stopping.best == 0.1


def test_a_callback_is_reset_at_every_run():
    stopping = train.EarlyStopping(patience=1)
    fit(epochs=3, callbacks=[Script([1, 2, 3]), stopping])
    _, history = fit(epochs=3, callbacks=[Script([5, 4, 3]), stopping])
    assert len(history["loss"]) == 3 and stopping.best == 3


def test_save_last_and_best():
    last, best = [], []
    callbacks = [
        Script([3, 2, NAN, 2.5, 1]),
        train.SaveCheckpoint(lambda state, context: last.append((int(state.step), context.epoch))),
        train.SaveCheckpoint(lambda state, context: best.append(context.epoch), when="best"),
    ]
    fit(epochs=5, callbacks=callbacks)
    assert last == [(5, 1), (10, 2), (15, 3), (20, 4), (25, 5)] and best == [1, 2, 5]


def test_the_learning_rate_of_a_schedule():
    schedule = optax.linear_schedule(1.0, 0.0, 10)
    _, history = fit(epochs=2, optimizer=optax.sgd(schedule), callbacks=[train.LRLogger(schedule)])
    assert history["learning_rate"] == pytest.approx([0.6, 0.1])


def test_the_learning_rate_of_an_injected_hyperparameter():
    schedule = optax.linear_schedule(1.0, 0.0, 10)
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=schedule)
    _, history = fit(epochs=2, optimizer=optimizer, callbacks=[train.LRLogger()])
    assert history["learning_rate"] == pytest.approx([0.6, 0.1])


def test_the_events_and_their_order():
    seen = []

    class All(train.Callback):
        def on_fit_begin(self, context):
            seen.append(("begin", context.epoch, dict(context.history)))

        def on_eval_end(self, context):
            seen.append(("eval", context.epoch, context.history["eval_loss"]))

        def on_epoch_end(self, context):
            seen.append(("epoch", context.epoch, len(context.history["loss"])))
            if context.epoch == 2:
                return train.Stop("enough")

        def on_fit_end(self, context):
            seen.append(("end", context.epoch, int(context.state.step)))

    _, history = fit(epochs=5, eval_data=DATA, callbacks=[All()])
    evals = tuple(history["eval_loss"])
    assert seen == [
        ("begin", 0, {}),
        ("eval", 1, evals[:1]),
        ("epoch", 1, 1),
        ("eval", 2, evals),
        ("epoch", 2, 2),
        ("end", 2, 10),
    ]


def test_an_error_reaches_the_callbacks_and_is_raised():
    calls = []

    class Fails(train.Callback):
        def on_epoch_end(self, context):
            raise RuntimeError("disk full")

        def on_exception(self, context, error):
            calls.append((context.epoch, str(error)))

    with pytest.raises(RuntimeError, match="disk full"):
        fit(epochs=3, callbacks=[Fails()])
    assert calls == [(1, "disk full")]


def test_the_history_is_not_the_callbacks_to_change():
    class Meddles(train.Callback):
        def on_epoch_end(self, context):
            context.history["loss"] = ()

    _, history = fit(callbacks=[Meddles()])
    assert len(history["loss"]) == 1


def test_bad_arguments():
    with pytest.raises(ValueError, match="patience is 0"):
        train.EarlyStopping(patience=0)
    with pytest.raises(ValueError, match="mode is 'down'; expected 'min'"):
        train.EarlyStopping(mode="down")
    with pytest.raises(ValueError, match="when is 'always'"):
        train.SaveCheckpoint(print, when="always")
    with pytest.raises(ValueError, match="monitor is 'eval_loss'; .*Pass eval_data= to fit"):
        fit(callbacks=[train.EarlyStopping()])
    with pytest.raises(ValueError, match="did you mean 'accuracy'"):
        fit(callbacks=[train.SaveCheckpoint(print, when="best", monitor="acuracy", mode="max")])
    with pytest.raises(ValueError, match="LRLogger: .*pass the schedule"):
        fit(callbacks=[train.LRLogger()])
    with pytest.raises(ValueError, match="callbacks.*train.Callback"):
        fit(callbacks=[print])
