import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl import nn, train
from jaxdl.interop.safetensors import load_weights, save_weights


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.safetensors"


def file_of(header, body=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def entry(shape=(2,), offsets=(0, 8), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.row("V05")
def test_a_model_comes_back_as_it_was(key, path):
    model = jaxdl.serial(nn.dense(5), nn.batch_norm(), nn.dense(3))
    x = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    params, state = jaxdl.init(model, key, x)
    save_weights(path, params, state)
    loaded = load_weights(path, like=jax.eval_shape(model.init, key, x))
    chex.assert_trees_all_equal(loaded, (params, state))
    apply = jax.jit(model.apply)
    chex.assert_trees_all_equal(apply(*loaded, x), apply(params, state, x))


@given(
    st.sampled_from(["float32", "float16", "bfloat16", "int32", "uint8", "bool"]),
    st.lists(st.integers(0, 3), max_size=3),
)
def test_every_dtype_and_shape_comes_back(tmp_path_factory, dtype, shape):
    path = tmp_path_factory.mktemp("weights") / "w"
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(jnp.dtype(dtype))
    params = {"a": {"kernel": jax.device_put(values)}}
    save_weights(path, params)
    loaded, state = load_weights(path)
    chex.assert_trees_all_equal_shapes_and_dtypes(loaded, params)
    chex.assert_trees_all_equal(loaded, params)
    assert state == {}


def test_strided_arrays_are_stored_by_value(path):
    square = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    params = {"t": square.T, "s": square[:, ::2], "r": square[::-1]}
    save_weights(path, params)
    chex.assert_trees_all_equal(load_weights(path)[0], params)


def test_the_file_is_replaced_whole_or_not_at_all(path, key):
    save_weights(path, {"a": jnp.ones(2)})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="key<.*key_data"):
        save_weights(path, {"a": jnp.zeros(2), "key": key})
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]
    save_weights(path, {"a": jnp.zeros(2)})
    assert list(path.parent.iterdir()) == [path] and not load_weights(path)[0]["a"].any()


def test_a_name_with_a_slash_is_refused(path):
    with pytest.raises(ValueError, match="contains '/'"):
        save_weights(path, {"a/b": jnp.ones(2)})


def test_another_model_is_refused_with_all_that_differs(path):
    save_weights(path, {"a": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, "c": jnp.ones(1)})
    like = {"a": {"kernel": jnp.ones((2, 4)), "bias": jnp.ones(3, jnp.bfloat16)}, "b": jnp.ones(1)}
    with pytest.raises(ValueError) as error:
        load_weights(path, like=(like, {}))
    for words in (
        "missing params/b",
        "unexpected params/c",
        "params/a/kernel is float32[2, 3], expected float32[2, 4]",
        "params/a/bias is float32[3], expected bfloat16[3]",
    ):
        assert words in str(error.value)


def test_what_is_no_pair_of_trees(path, key):
    state = train.init_state(nn.dense(2), optax.sgd(0.1), key, np.ones((1, 3), np.float32))
    weights = {"a": np.ones(2, np.float32)}
    save_weights(path, weights)
    for call, words in (
        (lambda: save_weights(path, state), r"save_weights\(path, state.params, state.model_state"),
        (lambda: save_weights(path, (weights, {})), "params is a tuple; expected a nested dict"),
        (lambda: save_weights(path, weights, [1]), "state is a list; expected a nested dict"),
        (lambda: save_weights(path, {"a": 1.0}), "a is a float; expected an array"),
        (lambda: load_weights(path, like=weights), r"like is a dict; .*like=\(params, state\)"),
        (lambda: load_weights(path, like=state), r"like=\(state.params, state.model_state\)"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    chex.assert_trees_all_equal(load_weights(path, like=(weights, {}))[0], weights)


BODY = bytes(8)
DUPLICATE = f'{{"params/a": {json.dumps(entry())}, "params/a": {json.dumps(entry())}}}'.encode()
MALFORMED = {
    "empty": (b"", "claims a header"),
    "too short": (b"\0" * 7, "claims a header"),
    "header longer than the file": (file_of({}, length=10**6), "claims a header"),
    "header longer than allowed": (file_of({}, length=2**63), "claims a header"),
    "not JSON": (file_of(b"{nonsense"), "damaged"),
    "not UTF-8": (file_of(b"\xff\xfe{}"), "damaged"),
    "not a dict": (file_of([1]), "not a dict"),
    "deep JSON": (file_of(b"[" * 100_000), "damaged"),
    "duplicate names": (file_of(DUPLICATE, BODY), "twice"),
    "truncated": (file_of({"params/a": entry()}, BODY[:4]), "cannot be read"),
    "trailing bytes": (file_of({"params/a": entry()}, BODY + b"x"), "cannot be read"),
    "lying shape": (file_of({"params/a": entry((2**40, 2**40))}, BODY), "cannot be read"),
    "offsets beyond the end": (file_of({"params/a": entry((2,), (8, 16))}, BODY), "cannot be read"),
    "unknown dtype": (file_of({"params/a": entry(dtype="Q9")}, BODY), "cannot be read"),
    "float64": (file_of({"params/a": entry((1,), dtype="F64")}, BODY), "enable_x64"),
    "other names": (file_of({"../../etc/passwd": entry()}, BODY), "expected names like"),
    "empty name": (file_of({"params//a": entry()}, BODY), "expected names like"),
    "deep name": (file_of({"params" + "/a" * 1000: entry()}, BODY), "expected names like"),
    "leaf and folder": (
        file_of({"params/a": entry((1,), (0, 4)), "params/a/b": entry((1,), (4, 8))}, BODY),
        "leaf",
    ),
}


@pytest.mark.parametrize("content, words", MALFORMED.values(), ids=MALFORMED)
def test_malformed_files_are_refused(path, content, words):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        load_weights(path)


def test_no_file(path):
    with pytest.raises(FileNotFoundError):
        load_weights(path)
