"""A model in a file runs where there is no jaxdl; a model card holds the history's numbers."""

import json
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

import jaxdl
from jaxdl import nn, train
from jaxdl.interop.export import export
from jaxdl.interop.model_card import write_model_card
from tests.train import toy

DATA = toy.data()

RUN = """
import json, sys
import jax, numpy as np
for path, names in json.loads(sys.argv[1]).items():
    with open(path, "rb") as file:
        predict = jax.export.deserialize(bytearray(file.read()))
    for name in names:
        np.save(name + ".out.npy", predict.call(np.load(name)))
assert not any(name.split(".")[0] in ("jaxdl", "flax", "optax") for name in sys.modules)
"""
KINDS = {
    "mlp": (toy.noisy(), (4,)),
    "cnn": (
        jaxdl.serial(
            nn.conv(4, 3),
            nn.batch_norm(),
            jax.nn.relu,
            nn.max_pool(2),
            nn.flatten(),
            nn.dense(3),
        ),
        (6, 6, 1),
    ),
    "lstm": (jaxdl.serial(nn.lstm(5), lambda x: x[:, -1], nn.dense(3)), (7, 2)),
}


def test_they_run_in_a_process_without_jaxdl(tmp_path):
    pytest.importorskip("flatbuffers", reason="flatbuffers is not installed")
    rng = np.random.default_rng(0)
    files, expected = {}, {}
    for kind, (model, shape) in KINDS.items():
        x = rng.normal(size=(9, *shape)).astype(np.float32)
        state = train.init_state(model, optax.sgd(0.1), jax.random.key(0), x)
        path = export(model, state, tmp_path / f"{kind}.bin", x)
        names = {rows: str(tmp_path / f"{kind}_{rows}.npy") for rows in (1, 3, 9)}
        for rows, name in names.items():
            np.save(name, x[:rows])
            expected[name] = np.asarray(train.predict(model, state, x))[:rows]
        files[str(path)] = list(names.values())
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(files)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for name, output in expected.items():
        found = np.load(name + ".out.npy")
        np.testing.assert_allclose(found, output, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_file_for_other_platforms_has_plain_convolutions(tmp_path):
    """On a CPU, convolutions of few channels are written otherwise."""
    pytest.importorskip("flatbuffers", reason="flatbuffers is not installed")
    model = jaxdl.serial(nn.conv(8), jax.nn.relu, nn.conv(1))
    x = np.ones((3, 6, 6, 1), np.float32)
    state = train.init_state(model, optax.sgd(0.1), jax.random.key(0), x)
    path = export(model, state, tmp_path / "model.bin", x, platforms=["cpu", "cuda"])
    read = jax.export.deserialize(bytearray(path.read_bytes()))
    assert read.platforms == ("cpu", "cuda")
    assert read.mlir_module().count("= stablehlo.convolution(") >= 2
    np.testing.assert_allclose(read.call(x), train.predict(model, state, x), rtol=1e-5, atol=1e-6)


def test_a_model_that_fixes_its_batch_is_told(tmp_path):
    pytest.importorskip("flatbuffers", reason="flatbuffers is not installed")
    model = jaxdl.as_module(lambda x: x.reshape(int(x.shape[0]), -1))
    state = train.init_state(model, optax.sgd(0.1), jax.random.key(0), DATA[0])
    with pytest.raises(ValueError, match="expected a model for any size"):
        export(model, state, tmp_path / "model.bin", DATA[0])
    assert not list(tmp_path.iterdir())


def test_what_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(ImportError, match="export needs the package flatbuffers"):
        export(toy.mlp(), None, tmp_path / "x", DATA[0])


HISTORY = {"loss": [1.0, 0.25], "eval_accuracy": [0.5, 0.75], "seconds": [1.0, 1.0]}


def card(path, **options):
    options = {
        "config": {"optimizer": "sgd(0.1)", "note": "a|b\nc"},
        "description": "Tells flowers apart.",
        "limits": "Nothing but flowers.",
        "license": "apache-2.0",
        "datasets": ["iris"],
    } | options
    return write_model_card(path, options.pop("name", "flowers"), HISTORY, **options)


def test_the_card(tmp_path):
    path = card(tmp_path)
    assert path == tmp_path / "README.md"
    _, head, body = path.read_text("utf-8").split("---\n", 2)
    front = {
        line.partition(": ")[0]: json.loads(line.partition(": ")[2]) for line in head.splitlines()
    }
    assert front["library_name"] == "jaxdl" and front["license"] == "apache-2.0"
    (result,) = front["model-index"][0]["results"]
    values = {metric["name"]: metric["value"] for metric in result["metrics"]}
    assert values == {"loss": 0.25, "eval_accuracy": 0.75}
    assert "| loss | 0.25 |" in body and "| epochs | 2 |" in body
    assert r"| note | a\|b c |" in body and "seconds" not in body


def test_a_name_cannot_break_out_of_its_place(tmp_path):
    evil = 'x"\\: {{}}'
    head = card(tmp_path, name=evil).read_text("utf-8").split("---\n")[1]
    index = next(line for line in head.splitlines() if line.startswith("model-index: "))
    assert json.loads(index.partition(": ")[2])[0]["name"] == evil
    for name in ("", "two\nlines"):
        with pytest.raises(ValueError, match="expected one line"):
            card(tmp_path, name=name)
    with pytest.raises(ValueError, match="history has no numbers"):
        write_model_card(
            tmp_path, "x", {"seconds": [1.0]}, config={}, description="", limits="", license="mit"
        )


@pytest.mark.parametrize(
    "change, words",
    [
        ({"history": (None, {"loss": [1.0]})}, "history is a tuple; .*state, history = train.fit"),
        ({"history": {"loss": [1.0, np.nan]}}, "last value of loss is .*nan.*; expected a finite"),
        ({"history": {"loss": np.ones((2, 3))}}, "each epoch of one run"),
        ({"config": "adam"}, "config is a str; expected a dict"),
        ({"datasets": "iris"}, r"datasets is 'iris'; expected several names: \['iris'\]"),
        ({"license": None}, "license is a NoneType; expected a string"),
        ({"name": 3}, "name is a int; expected a string"),
    ],
)
def test_a_card_of_wrong_kinds(tmp_path, change, words):
    good = dict(config={}, description="", limits="", license="mit", name="x", history=HISTORY)
    with pytest.raises(ValueError, match=words):
        write_model_card(tmp_path, **(good | change))


def test_an_export_of_wrong_kinds(tmp_path, key):
    x = DATA[0]
    model, _ = KINDS["mlp"]
    state = train.init_state(model, optax.sgd(0.1), key, x)
    for arguments, words in (
        ((lambda p, x: x, state, tmp_path, x), "model is the function.*jaxdl.Module"),
        ((model, state.params, tmp_path, x), "state is a dict; expected a train.TrainState"),
        ((model, state, tmp_path), "inputs are missing; .*leading batch axis"),
        ((model, state, tmp_path, 1.0), "inputs are float; .*leading batch axis"),
    ):
        with pytest.raises(ValueError, match=words):
            export(*arguments)
