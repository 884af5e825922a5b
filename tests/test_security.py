"""What SECURITY.md promises: files from strangers run no code, name no path and no module."""

import ast
import pathlib
import pickle
import zipfile

import jax
import numpy as np
import optax
import pytest

import jaxdl
from jaxdl import data, nn, train
from jaxdl.data._files import read_npz
from jaxdl.interop import safetensors

SOURCES = sorted(pathlib.Path(jaxdl.__file__).parent.rglob("*.py"))
FORBIDDEN_MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "yaml",
    "h5py",
}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_source_file_can_run_what_it_reads(path):
    """No pickle, no eval, no allow_pickle=True."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            assert not FORBIDDEN_MODULES & {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in FORBIDDEN_MODULES
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                assert node.func.id not in FORBIDDEN_CALLS
            if isinstance(node.func, ast.Attribute):
                assert (ast.unparse(node.func)) not in ("torch.load", "np.fromfile", "os.system")
                assert node.func.attr not in ("extractall", "unsafe_load")
            for keyword in node.keywords:
                if keyword.arg == "allow_pickle":
                    assert isinstance(keyword.value, ast.Constant) and keyword.value.value is False


class Evil:
    def __reduce__(self):
        return (pathlib.Path("evil was here").touch, ())


@pytest.fixture
def quiet(tmp_path, monkeypatch):
    """A folder to be in, in which nothing may appear that the test did not put there."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not (tmp_path / "evil was here").exists()


def test_pickles_are_refused_by_every_reader(quiet):
    bad = pickle.dumps(Evil())
    path = quiet / "bad"
    path.write_bytes(bad)
    with pytest.raises(ValueError):
        safetensors.load_weights(path)
    with pytest.raises(ValueError):
        data.read_idx(path)
    with pytest.raises(ValueError):
        data.read_wav(path)
    array = np.empty(1, object)
    array[0] = Evil()
    np.save(quiet / "a.npy", array, allow_pickle=True)
    with zipfile.ZipFile(quiet / "bad.npz", "w") as archive:
        archive.write(quiet / "a.npy", "a.npy")
    with pytest.raises(ValueError, match="expected"):
        read_npz(quiet / "bad.npz", {"a": ((1,), "<f4")})


NAMES = ["../outside", "/absolute", "nul\0byte", "x" * 5000, "..", "con", "a\nb", "{evil}", "%s"]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:12].encode().hex())
def test_names_in_a_checkpoint_are_never_paths(quiet, name):
    """Parameters may have any name: it stays a name."""
    state = train.init_state(nn.dense(2), optax.sgd(0.1), jax.random.key(0), np.ones((1, 2)))
    state = state.replace(params={name: state.params["kernel"]})
    checkpoints = train.Checkpointer(quiet / "run")
    with checkpoints.writing():
        checkpoints.save(state)
    actual = checkpoints.restore(state).state
    np.testing.assert_array_equal(actual.params[name], state.params[name])
    assert [path.name for path in quiet.iterdir()] == ["run"]
    files = [path.name for path in (quiet / "run").rglob("*")]
    assert not any("evil" in file or "outside" in file or len(file) > 100 for file in files)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:12].encode().hex())
def test_names_in_a_weights_file_are_never_paths(quiet, name):
    try:
        safetensors.save_weights(quiet / "w", {name: np.ones(2, np.float32)})
    except ValueError:
        assert "/" in name
        return
    params, _ = safetensors.load_weights(quiet / "w")
    assert list(params) == [name]
    assert [path.name for path in quiet.iterdir()] == ["w"]


def test_a_checkpoint_that_links_elsewhere_is_damaged(quiet):
    state = train.init_state(nn.dense(2), optax.sgd(0.1), jax.random.key(0), np.ones((1, 2)))
    checkpoints = train.Checkpointer(quiet / "run")
    with checkpoints.writing():
        checkpoints.save(state)
    (path,) = checkpoints.paths()
    secret = quiet / "secret"
    secret.write_bytes((path / "record.json").read_bytes())
    (path / "record.json").unlink()
    (path / "record.json").symlink_to(secret)
    with (
        pytest.warns(UserWarning, match="record.json is missing"),
        pytest.raises(train.CheckpointCorrupt),
    ):
        checkpoints.restore(state)


def test_a_record_that_claims_a_great_array_allocates_nothing(quiet):
    import tracemalloc

    from jaxdl.train.checkpoint_format import write_manifest

    state = train.init_state(nn.dense(2), optax.sgd(0.1), jax.random.key(0), np.ones((1, 2)))
    checkpoints = train.Checkpointer(quiet / "run")
    with checkpoints.writing():
        checkpoints.save(state, extra={"a": np.ones(3, np.float32)})
    (path,) = checkpoints.paths()
    record = path / "record.json"
    record.write_text(record.read_text().replace("float32[3]", "float32[300000000000]"))
    write_manifest(path)
    tracemalloc.start()
    with pytest.raises(ValueError):
        checkpoints.restore(state)
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def test_security_md_says_so():
    text = (SOURCES[0].parent.parent / "SECURITY.md").read_text("utf-8")
    assert "at worst give you wrong numbers or a typed error" in " ".join(text.split())
