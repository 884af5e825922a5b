"""Checkpoints are whole or not there, and no run goes on from another's."""

import functools
import json
import os
import signal
import subprocess
import sys
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl import nn, serial, train
from tests.train import toy

MODEL, NOISY, SGD = toy.mlp(), toy.noisy(), optax.sgd(0.1, momentum=0.9)
DATA, OTHER = toy.data(), toy.data(rows=31, seed=1)


def fit(directory=None, model=MODEL, data=DATA, **options):
    options = {"loss": "cross_entropy", "optimizer": SGD, "batch_size": 8, "verbose": 0} | options
    return train.fit(model, data, checkpoint=directory, **options)


def same(a, b):
    chex.assert_trees_all_equal(toy.plain(a), toy.plain(b))


def numbers(history):
    return {name: values for name, values in history.items() if not name.endswith("seconds")}


@functools.cache
def first_state(model=MODEL, optimizer=SGD, **options):
    return train.init_state(model, optimizer, jax.random.key(0), DATA[0][:8], **options)


def saved(directory, *steps, state=None, **options):
    """Checkpoints of a state at some steps."""
    checkpoints = train.Checkpointer(directory, **options)
    state = first_state() if state is None else state
    with checkpoints.writing():
        for step in steps:
            checkpoints.save(state.replace(step=jnp.int32(step)), {"history": {"loss": [step]}})
    return checkpoints


def names(directory):
    return sorted(path.name for path in train.Checkpointer(directory).paths())


# A run in parts


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"execution": train.Execution(steps_per_call=1)},
        {"execution": train.Execution(resident_bytes=0)},
    ],
)
def test_a_run_in_parts_is_the_run(tmp_path, options):
    whole = fit(model=NOISY, epochs=5, eval_data=OTHER, **options)
    for epochs in (1, 3, 5):
        parts = fit(tmp_path, model=NOISY, epochs=epochs, eval_data=OTHER, **options)
    same(parts[0], whole[0])
    assert numbers(parts[1]) == numbers(whole[1])
    again = fit(tmp_path, model=NOISY, epochs=5, eval_data=OTHER, **options)
    same(again[0], whole[0])
    assert again[1] == parts[1]


def test_early_stopping_goes_on_where_it_stood(tmp_path):
    class Script(train.Callback):
        values = [3.0, 1.0, 2.0, 2.5, 0.5, 2.0, 2.0, 2.0, 2.0]

        def on_epoch_end(self, context):
            return {"eval_loss": self.values[context.epoch - 1]}

    make = lambda: [Script(), train.EarlyStopping(patience=3)]
    whole = fit(callbacks=make(), epochs=9)
    assert len(whole[1]["loss"]) == 8
    for epochs in (1, 4, 7, 9):
        parts = fit(tmp_path, callbacks=make(), epochs=epochs)
    same(parts[0], whole[0])
    assert numbers(parts[1]) == numbers(whole[1])
    again = fit(tmp_path, callbacks=make(), epochs=20)  # it had ended
    same(again[0], whole[0])


def test_the_best_so_far_is_remembered_by_save(tmp_path):
    class Script(train.Callback):
        def on_epoch_end(self, context):
            return {"eval_loss": [2.0, 1.0, 1.5][context.epoch - 1]}

    kept = []
    for epochs in (2, 3):
        save = train.SaveCheckpoint(lambda state, context: kept.append(context.epoch), when="best")
        fit(tmp_path, callbacks=[Script(), save], epochs=epochs)
    assert kept == [1, 2]


def test_where_it_goes_on_is_said(tmp_path, capsys):
    fit(tmp_path, epochs=1, verbose=2)
    assert "resumed" not in capsys.readouterr().out
    fit(tmp_path, epochs=2, verbose=2)
    said = capsys.readouterr().out
    assert "resumed at step 7" in said and "epoch 1/" not in said


def test_from_a_checkpoint_by_its_path(tmp_path):
    fit(tmp_path / "a", epochs=3)
    first = train.Checkpointer(tmp_path / "a").paths()[0]
    whole = fit(epochs=4)
    same(fit(train.Checkpointer(tmp_path / "b", resume=first), epochs=4)[0], whole[0])
    with pytest.raises(ValueError, match="To continue from an earlier step"):
        fit(train.Checkpointer(tmp_path / "a", resume=first), epochs=4)


def test_every_so_many_steps(tmp_path):
    fit(train.Checkpointer(tmp_path, every=5, keep=None), epochs=3)
    assert names(tmp_path) == [f"step_{n:09d}" for n in (5, 10, 15, 20, 21)]
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [7, 14, 21]


@pytest.fixture(scope="module")
def after_an_epoch(tmp_path_factory):
    """A directory with the checkpoint of an epoch's end, which no test changes."""
    directory = tmp_path_factory.mktemp("after an epoch")
    fit(directory, epochs=1)
    return directory


def layers(width=8, activation=jax.nn.relu):
    return serial(nn.dense(width), activation, nn.dense(3))


OTHERS = {
    "batch": ({"batch_size": 10}, "run: batch size was 8, is 10. Set"),
    "seed": ({"seed": 3}, "run: seed was 0, is 3. Set"),
    "rate": (
        {"optimizer": optax.sgd(0.2, momentum=0.9)},
        r"run: optimizer: a constant \(learning rate, .*\) was 0.1, is 0.2. Set",
    ),
    "momentum": ({"optimizer": optax.sgd(0.1, momentum=0.8)}, r"\) was 0.9, is 0.8. Set"),
    "uphill": ({"optimizer": optax.sgd(-0.1, momentum=0.9)}, "has another sign or place. Set"),
    "schedule": (
        {"optimizer": optax.sgd(optax.cosine_decay_schedule(0.1, 70), momentum=0.9)},
        "run: optimizer: its state was trace, is count, trace. Set",
    ),
    "adam": (
        {"optimizer": optax.adam(0.1)},
        "run: optimizer: its state was trace, is count, mu, nu. Set",
    ),
    "nesterov": (
        {"optimizer": optax.sgd(0.1, momentum=0.9, nesterov=True)},
        "run: optimizer: it computes another update. Set",
    ),
    "layers": (
        {"model": toy.noisy()},
        r"model: layer /batch_norm_0 is batch_norm\(.*; model: layer /dropout_0 is .*not there",
    ),
    "width": (
        {"model": layers(9)},
        "run: model: layer /dense_0 was features=8, is features=9. Set",
    ),
    "activation": (
        {"model": layers(activation=jax.nn.tanh)},
        r"run: model: layer /relu_0 was relu\(\), not there now; model: layer /tanh_0 is tanh",
    ),
    "loss": ({"loss": "hinge"}, "run: loss was cross_entropy, is hinge. Set"),
    "metrics": (
        {"metrics": {"accuracy": "accuracy", "other": "accuracy"}},
        r"run: metrics was \[accuracy\], is \[accuracy, \[other, ",
    ),
    "rows": ({"data": toy.data(rows=48)}, "run: rows of the data was 50, is 48"),
    "columns": (
        {"data": (DATA[0][:, :3], DATA[1])},
        r"run: a row of x was float32\[4\], is float32\[3\]. Set",
    ),
    "other rows": (
        {"data": toy.data(seed=3)},
        "run: data: the first row of x and the last row of x .*differ: other data",
    ),
    "other order": ({"data": (DATA[0][::-1], DATA[1][::-1])}, "or in another order. Set"),
    "nonfinite": (
        {"execution": train.Execution(on_nonfinite="skip")},
        "run: on_nonfinite was raise, is skip. Set",
    ),
    "precision": (
        {"execution": train.Execution(precision="bfloat16")},
        "run: precision was float32, is bfloat16. Set",
    ),
    "several": (
        {"seed": 1, "batch_size": 10, "optimizer": optax.sgd(0.2, momentum=0.9)},
        "run: seed was 0, is 1; batch size was 8, is 10; optimizer: a constant .* is 0.2. Set",
    ),
}


@pytest.mark.parametrize("change, words", OTHERS.values(), ids=OTHERS)
def test_another_run_is_refused_with_what_differs(after_an_epoch, change, words):
    with pytest.raises(ValueError, match=words):
        fit(after_an_epoch, epochs=2, **change)
    assert names(after_an_epoch) == ["step_000000007"]


def test_a_rate_in_the_optimizers_state_is_compared(tmp_path):
    """The checkpoint's rate would be taken in place of the new one, without a word."""
    make = optax.inject_hyperparams(optax.sgd)
    fit(tmp_path, optimizer=make(learning_rate=0.1))
    with pytest.raises(ValueError, match="was 0.1, is 0.2"):
        fit(tmp_path, optimizer=make(learning_rate=0.2), epochs=2)


def test_the_same_data_rounded_otherwise_are_the_same_run(tmp_path):
    fit(tmp_path, epochs=1)
    x, y = DATA
    _, history = fit(tmp_path, data=(x * np.float32(1 + 1e-4), y), epochs=2)
    assert len(history["loss"]) == 2


def test_a_directory_with_checkpoints_is_not_started_over(after_an_epoch):
    with pytest.raises(ValueError, match="has 1 checkpoints and resume is False"):
        fit(train.Checkpointer(after_an_epoch, resume=False), epochs=1)
    with pytest.raises(ValueError, match="is at step 7, past step 3"):
        fit(after_an_epoch, epochs=train.Steps(3))


def test_one_made_by_hand_is_distinguished_from_one_of_fit(tmp_path):
    saved(tmp_path, 3)
    with pytest.raises(ValueError, match="was not written by fit"):
        fit(tmp_path, epochs=2)
    record = dict.fromkeys(("history", "totals", "seconds"), {}) | {"began": 0}
    with pytest.raises(ValueError, match="was not written by fit"):
        train.resume.validate_setup("a", record | {"setup": {"rows": 3}}, {"rows": "3"})


# What is kept


def test_the_newest_and_the_best_are_kept(tmp_path):
    class Script(train.Callback):
        def on_epoch_end(self, context):
            return {"eval_loss": [3.0, 1.0, 2.0, 2.0, 2.0][context.epoch - 1]}

    checkpoints = train.Checkpointer(tmp_path, keep=2, monitor="eval_loss")
    fit(checkpoints, callbacks=[Script()], epochs=5)
    assert names(tmp_path) == ["step_000000014", "step_000000028", "step_000000035"]
    assert checkpoints.best().name == "step_000000014"
    assert int(checkpoints.restore(first_state(), path=checkpoints.best()).state.step) == 14


def test_what_others_put_there_stays(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "step_7").mkdir()
    (tmp_path / ".saving-mine").mkdir()
    checkpoints = saved(tmp_path, 1, keep=1)
    mine = tmp_path / "step_000000001" / "mine.txt"
    mine.write_text("mine")
    for step in (2, 3):
        saved(tmp_path, step, keep=1)
    assert names(tmp_path) == ["step_000000003"]
    assert (tmp_path / ".removing-step_000000001" / "mine.txt").read_text() == "mine"
    assert all((tmp_path / name).exists() for name in ("notes.txt", "step_7", ".saving-mine"))
    assert checkpoints.restore(first_state()).path.name == "step_000000003"


def test_a_damaged_one_is_skipped_kept_and_not_counted(tmp_path):
    saved(tmp_path, 1, 2)
    broken = tmp_path / "step_000000002" / "record.json"
    broken.write_bytes(broken.read_bytes()[:-1])
    checkpoints = train.Checkpointer(tmp_path, keep=2)
    with checkpoints.writing():
        with pytest.warns(UserWarning, match="is skipped: record.json is damaged"):
            state = checkpoints.restore(first_state()).state
        assert int(state.step) == 1
        for step in (2, 3):
            checkpoints.save(state.replace(step=jnp.int32(step)))
    assert names(tmp_path) == ["step_000000002", "step_000000002_2", "step_000000003"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert int(train.Checkpointer(tmp_path).restore(state).state.step) == 3


def test_where_all_are_damaged_nothing_begins(tmp_path):
    saved(tmp_path, 1)
    (tmp_path / "step_000000001" / "manifest.json").unlink()
    with (
        pytest.warns(UserWarning, match="manifest.json cannot be read"),
        pytest.raises(train.CheckpointCorrupt, match="none of 1 is intact"),
    ):
        fit(tmp_path)


def test_half_written_ones_are_cleared_away(tmp_path):
    saved(tmp_path, 1)
    (tmp_path / ".saving-step_000000002" / "arrays").mkdir(parents=True)
    saved(tmp_path, 3)
    assert names(tmp_path) == ["step_000000001", "step_000000003"]
    assert not list(tmp_path.glob(".saving-*"))


def test_nothing_there(tmp_path):
    assert train.Checkpointer(tmp_path / "none").restore(first_state()) is None
    assert train.Checkpointer(tmp_path / "none").paths() == []


# Any state comes back as it was


@settings(max_examples=10)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1),
        st.sampled_from(["float32", "bfloat16", "float16", "int32", "uint8", "bool"]).flatmap(
            lambda dtype: st.tuples(st.just(dtype), st.lists(st.integers(0, 3), max_size=3))
        ),
        max_size=4,
    )
)
def test_any_tree_comes_back(tmp_path_factory, described):
    rng = np.random.default_rng(0)
    params = {
        name: jax.device_put(rng.integers(0, 2, shape).astype(jnp.dtype(dtype)))
        for name, (dtype, shape) in described.items()
    }
    directory = tmp_path_factory.mktemp("any")
    state = first_state().replace(params=params, opt_state=())
    actual = saved(directory, 5, state=state).restore(state).state
    same(actual, state.replace(step=jnp.int32(5)))
    assert {k: v.dtype for k, v in actual.params.items()} == {k: v.dtype for k, v in params.items()}


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_every_kind_of_key_comes_back(tmp_path, kind):
    state = first_state().replace(key=jax.random.key(3, impl=kind))
    actual = saved(tmp_path, 1, state=state).restore(jax.eval_shape(lambda: state)).state
    assert actual.key.dtype == state.key.dtype
    np.testing.assert_array_equal(*map(jax.random.key_data, (actual.key, state.key)))


def test_a_restored_state_can_be_consumed(tmp_path):
    state = saved(tmp_path, 1).restore(first_state()).state
    consume = jax.jit(lambda s: jax.tree.map(lambda a: a + 1, s.params), donate_argnums=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # leaves that the function does not use
        consume(state)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


# Disks and directories


def test_unicode_spaces_and_symlinks(tmp_path):
    real = tmp_path / "模型 ünï 🙂"
    link = tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    whole = fit(epochs=2)
    fit(link, epochs=1)
    same(fit(real, epochs=2)[0], whole[0])


def test_a_file_in_the_place_of_the_directory(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written .*expected a directory"):
        fit(tmp_path / "file")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc here")
def test_a_file_system_that_is_read_only():
    with pytest.raises(ValueError, match="expected a directory that you may write"):
        fit("/proc/jaxdl")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written(tmp_path):
    (tmp_path / "fixed").mkdir(mode=0o500)
    with pytest.raises(ValueError, match="expected a directory that you may write"):
        fit(tmp_path / "fixed")


FULL = """
import resource, signal, sys
import jax, numpy as np
from tests.train.test_checkpoint import first_state, saved
from jaxdl import train
directory = sys.argv[1]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
saved(directory, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
checkpoints = train.Checkpointer(directory)
try:
    with checkpoints.writing():
        checkpoints.save(first_state().replace(step=np.int32(2)))
except OSError as error:
    print("told:", error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
print("newest:", int(checkpoints.restore(first_state()).state.step))
saved(directory, 3)
print("left:", sorted(path.name for path in checkpoints.directory.iterdir()))
"""


def test_a_full_disk(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, timeout=120
    )
    assert "told: checkpoint" in done.stdout, done.stderr[-2000:]
    assert "Check the free space" in done.stdout
    assert "newest: 1" in done.stdout
    assert "left: ['lock', 'step_000000001', 'step_000000003']" in done.stdout


LOCKED = """
import sys, time
from jaxdl import train
with train.Checkpointer(sys.argv[1]).writing():
    print("holds", flush=True)
    time.sleep(600)
"""


def test_one_writer_at_a_time_and_its_name(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", LOCKED, tmp_path], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "holds\n"
        with pytest.raises(ValueError, match=f"is being written by process {holder.pid} on "):
            fit(tmp_path)
    finally:
        holder.kill()
        holder.communicate()
    fit(tmp_path)  # the lock ends with its holder


def test_two_writers_in_one_process(tmp_path):
    with train.Checkpointer(tmp_path).writing():
        with pytest.raises(ValueError, match=f"process {os.getpid()} on "):
            fit(tmp_path)


def test_the_last_good_checkpoint_outlives_a_run_that_diverges(tmp_path):
    hot = optax.sgd(optax.piecewise_constant_schedule(0.1, {14: 1e30}))
    with pytest.raises(train.NonFiniteError):
        fit(tmp_path, optimizer=hot, epochs=5)
    actual = train.Checkpointer(tmp_path).restore(first_state(optimizer=hot)).state
    assert int(actual.step) == 14
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(actual.params))


def test_an_error_in_a_callback_lets_go_of_everything(tmp_path):
    class Bad(train.Callback):
        def on_epoch_end(self, context):
            raise RuntimeError("mine")

    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(RuntimeError, match="mine"):
        fit(tmp_path, callbacks=[Bad()], epochs=2)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    fit(tmp_path, epochs=1)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"every": 0}, "every is 0"),
        ({"keep": -1}, "keep is -1"),
        ({"monitor": "eval_loss", "mode": "up"}, "mode is 'up'"),
        ({"monitor": "eval_loss", "every": 5}, "expected one of the two"),
    ],
)
def test_bad_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        train.Checkpointer(tmp_path, **options)
