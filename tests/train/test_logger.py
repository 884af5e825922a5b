"""Loggers: one line of JSON a call, and services by their own libraries."""

import json
import sys
import types

import optax
import pytest

from jaxdl import train
from tests.train import toy

MODEL, DATA, SGD = toy.mlp(), toy.data(), optax.sgd(0.1)


def fit(**options):
    options = {"epochs": 3, "batch_size": 10, "verbose": 0} | options
    return train.fit(MODEL, DATA, loss="cross_entropy", optimizer=SGD, **options)


class Memory:
    def __init__(self):
        self.rows, self.closed = [], 0

    def log(self, step, values):
        self.rows.append((step, dict(values)))

    def close(self):
        self.closed += 1


def test_any_object_with_the_two_methods():
    one, two = Memory(), Memory()
    _, history = fit(callbacks=[one, two])
    assert [step for step, _ in one.rows] == [5, 10, 15] and one.rows == two.rows
    for name, values in history.items():
        assert values == [row[name] for _, row in one.rows]
    assert one.closed == two.closed == 1


def test_it_is_closed_when_the_run_fails():
    class Bad(train.Callback):
        def on_epoch_end(self, context):
            raise RuntimeError

    memory = Memory()
    with pytest.raises(RuntimeError):
        fit(callbacks=[memory, Bad()])
    assert memory.closed == 1


def test_lines_of_json_beside_the_checkpoints(tmp_path):
    for epochs in (1, 3):
        _, history = fit(checkpoint=tmp_path, epochs=epochs)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [5, 10, 15]
    assert [row["loss"] for row in rows] == history["loss"]


def test_lines_are_valid_json_and_those_taken_again_go(tmp_path):
    path = tmp_path / "deep" / "log.jsonl"
    logger = train.JSONLines(path)
    for step in (1, 2, 3):
        logger.log(step, {"loss": float("nan"), "rate": 0.5, "high": float("inf")})
    logger.close()
    huge = '{"step": 1' + 400 * "0" + "}\n"
    path.write_text(path.read_text() + huge + '{"step": 4, "lo')  # a killed run
    logger = train.JSONLines(path)
    logger.log(3, {"loss": 1.0})
    logger.close()
    logger.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 1, "loss": None, "rate": 0.5, "high": None},
        {"step": 2, "loss": None, "rate": 0.5, "high": None},
        {"step": 3, "loss": 1.0},
    ]


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_is_read_back(tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is not installed",
    )
    _, history = fit(callbacks=[train.TensorBoard(tmp_path)])
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    for name in ("loss", "accuracy"):
        actual = [(event.step, event.value) for event in events.Scalars(name)]
        assert actual == [(5 * (i + 1), pytest.approx(v)) for i, v in enumerate(history[name])]


def service(name, monkeypatch):
    """A stand-in for a service's library that notes its calls."""
    calls = []

    def note(what):
        return lambda *args, **options: calls.append((what, args, options))

    run = types.SimpleNamespace(log=note("log"), finish=note("finish"))

    def init(**options):
        calls.append(("init", (), options))
        return run

    module = types.ModuleType(name)
    for what in ("log", "finish", "start_run", "log_metrics", "end_run"):
        setattr(module, what, note(what))
    module.init = init
    monkeypatch.setitem(sys.modules, name, module)
    return calls


@pytest.mark.parametrize(
    "name, make, names",
    [
        ("wandb", lambda: train.WandB(project="p"), ["init", "log", "finish"]),
        ("mlflow", lambda: train.MLflow(run_name="p"), ["start_run", "log_metrics", "end_run"]),
        ("trackio", lambda: train.Trackio("p"), ["init", "log", "finish"]),
    ],
)
def test_services(name, make, names, monkeypatch):
    calls = service(name, monkeypatch)
    _, history = fit(callbacks=[make()], epochs=1)
    assert [what for what, _, _ in calls] == names
    assert "p" in calls[0][2].values()
    _, args, options = calls[1]
    assert args[0]["loss"] == history["loss"][0] and options == {"step": 5}


@pytest.mark.parametrize(
    "name, make",
    [
        ("wandb", train.WandB),
        ("mlflow", train.MLflow),
        ("trackio", lambda: train.Trackio("p")),
        ("tensorboardX", lambda: train.TensorBoard("p")),
    ],
)
def test_what_is_not_installed_is_named(name, make, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=f"needs the package {name}: pip install {name}"):
        make()


def test_something_else_is_refused():
    with pytest.raises(
        ValueError, match=r"contains 'tensorboard'; expected .* log\(step, values\)"
    ):
        fit(callbacks=["tensorboard"])
