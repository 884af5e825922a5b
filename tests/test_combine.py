"""`serial`, `residual` and `scan_layers` against the same networks evaluated by hand."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from jaxdl import data, nn
from tests.nn.filled import filled

N, X = 3, jnp.asarray(np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4))


def test_serial_names_children_by_kind_and_count_or_by_keyword(key):
    model = nn.serial(nn.dense(3), jax.nn.relu, nn.dense(3), lambda x: 2 * x, jnp.tanh)
    assert list(model.children) == ["dense_0", "relu_0", "dense_1", "lambda_0", "tanh_0"]
    named = nn.serial(inner=nn.dense(3), act=jax.nn.relu)
    assert list(named.children) == ["inner", "act"]
    assert list(jaxdl.init(named, key, X)[0]) == ["inner"]


def test_serial_is_the_nested_composition(key):
    model = nn.serial(nn.dense(3), jax.nn.relu, nn.dense(2))
    params, state = jaxdl.init(model, key, X)
    p0, p1 = params["dense_0"], params["dense_1"]
    expected = nn.functional.dense(jax.nn.relu(nn.functional.dense(X, **p0)), **p1)
    chex.assert_trees_all_equal(model.apply(params, state, X)[0], expected)


def test_serial_takes_layers_by_position_or_by_keyword():
    with pytest.raises(ValueError, match="got 1 and 1: name all of them or none"):
        nn.serial(nn.dense(3), act=jax.nn.relu)
    with pytest.raises(ValueError, match="got 0 and 0"):
        nn.serial()


@pytest.mark.parametrize("shortcut", [None, nn.dense(4)], ids=["identity", "projection"])
def test_residual_adds_its_input_or_a_projection(key, shortcut):
    model = nn.residual(nn.dense(4), shortcut)
    params, state = jaxdl.init(model, key, X)
    skip = X if shortcut is None else nn.functional.dense(X, **params["shortcut"])
    expected = skip + nn.functional.dense(X, **params["block"])
    chex.assert_trees_all_close(model.apply(params, state, X)[0], expected)


def test_residual_refuses_terms_of_different_shapes(key):
    with pytest.raises(ValueError, match=r"block gives \(2, 5\), the shortcut \(2, 4\).*shortcut="):
        jaxdl.init(nn.residual(nn.dense(5)), key, X)


# scan_layers: n copies of a block as one scan


def noise():
    """Adds random numbers in train mode, a stand-in for any random layer."""

    def apply(params, state, x, *, train=False, key=None, **_):
        return (x + jax.random.normal(key, x.shape, x.dtype) if train else x), state

    return jaxdl.Module(lambda key, x: ({}, {}), apply, "noise")


def total():
    """Adds the running sum of the batches seen, a stand-in for any layer with a state."""

    def apply(params, state, x, *, train=False, **_):
        new = {"sum": state["sum"] + x.sum(0)} if train else state
        return x + new["sum"], new

    return jaxdl.Module(
        lambda key, x: ({}, {"sum": jnp.zeros(x.shape[-1], x.dtype)}), apply, "total"
    )


@pytest.fixture(scope="module")
def block():
    return nn.serial(nn.dense(4), jnp.tanh, total(), noise())


@pytest.fixture(scope="module")
def stacked(block):
    """The stack, its parameters, and a state that differs from copy to copy."""
    model = nn.scan_layers(block, N)
    params, state = jaxdl.init(model, jax.random.key(0), X)
    different = lambda s: jnp.asarray(np.arange(12, dtype=np.float32).reshape(s.shape))
    return model, params, jax.tree.map(different, state)


def by_hand(block, params, state, x, *, train=False, key=None):
    """The copies one after another, each with its slice and its key."""
    keys = jax.random.split(key, N) if key is not None else [None] * N
    states = []
    for i in range(N):
        p, s = jax.tree.map(lambda leaf, i=i: leaf[i], (params, state))
        x, s = block.apply(p, s, x, train=train, key=keys[i])
        states.append(s)
    return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def test_every_copy_has_parameters_of_its_own(stacked):
    _, params, state = stacked
    assert jax.tree.map(jnp.shape, params) == {"dense_0": {"kernel": (N, 4, 4), "bias": (N, 4)}}
    assert jax.tree.map(jnp.shape, state) == {"total_0": {"sum": (N, 4)}}
    kernels = params["dense_0"]["kernel"]
    assert not np.array_equal(kernels[0], kernels[1])


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_scan_tap_and_hand_agree(block, stacked, train):
    """Values, state, random numbers and gradients; in float64, for their order is not the same."""
    with jax.enable_x64(True):
        compare_the_three(block, stacked, train)


def compare_the_three(block, stacked, train):
    model, *trees = stacked
    params, state, x = jax.tree.map(lambda a: np.asarray(a, np.float64), (*trees, X))
    key = lambda: jax.random.key(5) if train else None
    tap = lambda path, value: value

    def run(apply, **options):
        def loss(params, x):
            y, new = apply(params, state, x, train=train, key=key(), **options)
            return jnp.sum(jnp.sin(y)), (y, new)

        return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, x)

    scanned, unrolled = run(model.apply), run(model.apply, tap=tap)
    expected = run(lambda *args, **options: by_hand(block, *args, **options))
    chex.assert_trees_all_close(scanned, expected, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(unrolled, expected, rtol=1e-5, atol=1e-6)


def test_copies_draw_different_random_numbers():
    model = nn.scan_layers(noise(), 2)
    y, _ = model.apply({}, {}, X, train=True, key=jax.random.key(1))
    _, seen = jaxdl.capture(model, {}, {}, X, train=True, key=jax.random.key(1))
    first, second = seen["0"] - X, seen["1"] - seen["0"]
    assert not np.allclose(first, second)
    chex.assert_trees_all_close(y, seen["1"], atol=1e-5)


def test_paths_begin_with_the_number_of_the_copy(stacked):
    model, params, state = stacked
    output, seen = jaxdl.capture(
        nn.serial(model), {"scan_layers_0": params}, {"scan_layers_0": state}, X
    )
    layers = ["dense_0", "tanh_0", "total_0", "noise_0"]
    copies = [
        [f"scan_layers_0/{i}/{name}" for name in layers] + [f"scan_layers_0/{i}"] for i in range(N)
    ]
    assert list(seen) == sum(copies, []) + ["scan_layers_0"]
    chex.assert_trees_all_equal(seen["scan_layers_0/2"], output)


def test_one_trace_however_many_copies():
    traces = []

    def counted(x):
        traces.append(x)
        return x + 1

    deep = nn.scan_layers(counted, 50)
    chex.assert_trees_all_close(deep.apply({}, {}, X)[0], X + 50)
    assert len(traces) == 1


def test_further_inputs_go_to_every_copy():
    def forward(call, x, shift):
        return call("layer", x) + shift

    model = nn.scan_layers(jaxdl.compose("shifted", dict(layer=jnp.negative), forward), 3)
    assert jaxdl.init(model, jax.random.key(0), X, X) == ({}, {})
    chex.assert_trees_all_close(model.apply({}, {}, X, 2 * X)[0], X, atol=1e-6)  # -(-(-x+2x)+2x)+2x


@pytest.mark.parametrize("n", [0, -1, 2.0, True, None])
def test_the_number_of_copies_is_a_positive_integer(n):
    with pytest.raises(ValueError, match="scan_layers: n is .*expected a positive integer"):
        nn.scan_layers(nn.dense(4), n)


def test_a_block_that_changes_shape_or_dtype_is_refused(key):
    wider = nn.scan_layers(nn.dense(5), 2)
    params, state = jaxdl.init(wider, key, X)
    with pytest.raises(ValueError, match=r"dense maps float32\[2, 4\] to float32\[2, 5\]"):
        wider.apply(params, state, X)
    halved = nn.scan_layers(lambda x: x.astype(jnp.bfloat16), 2)
    with pytest.raises(ValueError, match=r"to bfloat16\[2, 4\].*Put layers that change them"):
        halved.apply({}, {}, X)


# lengths through serial

RAGGED = np.random.default_rng(1).integers(0, 9, (3, 6)).astype(np.int32)
LENGTHS = np.array([6, 2, 4], np.int32)


def classifier(read):
    return nn.serial(nn.embedding(9, 4), *read, nn.dense(2))


@functools.cache
def readers():
    """Each reads the steps before the padding alone."""
    cell = nn.gru(3)
    made = {
        "last": classifier([nn.rnn(cell, returns="last")]),
        "deep": classifier([nn.layer_norm(), cell, jnp.tanh, nn.rnn(cell, returns="last")]),
        "both ways": classifier([nn.bidirectional(cell, returns="last")]),
        "around": classifier([nn.residual(nn.gru(4)), nn.rnn(cell, returns="last")]),
        "inside": classifier([nn.serial(cell, jnp.tanh), nn.global_avg_pool()]),
        "copies": classifier([nn.scan_layers(nn.gru(4), 2), nn.global_max_pool()]),
    }
    params = {name: filled(model, RAGGED, LENGTHS)[0] for name, model in made.items()}

    @jax.jit
    def run(ids, lengths):
        return {name: made[name].apply(params[name], {}, ids, lengths)[0] for name in made}

    @jax.jit
    def alone(ids):
        return {name: made[name].apply(params[name], {}, ids)[0] for name in made}

    return run, alone


def test_padding_changes_nothing_through_serial():
    run, alone = readers()
    values = run(RAGGED, LENGTHS)
    rubbish = np.where(np.arange(6) < LENGTHS[:, None], RAGGED, 8 - RAGGED)
    chex.assert_trees_all_equal(run(rubbish, LENGTHS), values)
    for i, n in enumerate(LENGTHS):
        row = jax.tree.map(lambda a, i=i: a[i : i + 1], values)
        chex.assert_trees_all_close(alone(RAGGED[i : i + 1, :n]), row, atol=1e-6)


@pytest.mark.parametrize(
    "model, words",
    [
        (nn.serial(nn.embedding(9, 4), nn.flatten()), "2 inputs, but the first layer embedding_0"),
        (
            nn.serial(nn.embedding(9, 4), nn.conv(4, (3,)), nn.gru(3)),
            r"conv_0 mixes the steps of an input \(3, 6, 4\) and takes no lengths",
        ),
        (
            nn.serial(nn.embedding(9, 4), nn.residual(nn.batch_norm()), nn.gru(3)),
            "residual_0 mixes the steps",
        ),
        (
            nn.serial(nn.embedding(9, 4), lambda x: x[:, ::2], nn.gru(3)),
            r"gru_0 takes lengths, but its input has shape \(3, 3, 4\) and x \(3, 6\)",
        ),
        *[
            (nn.serial(nn.embedding(9, 4), mix, nn.gru(3)), r"lambda_0 mixes the steps of")
            for mix in (
                lambda v: v - v.mean(1, keepdims=True),
                lambda v: v[:, ::-1],
                lambda v: jax.nn.softmax(v, axis=1),
                lambda v: v - v.min(1, keepdims=True),
            )
        ],
    ],
)
def test_serial_raises_where_it_cannot_pass_lengths(key, model, words):
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(model.init, key, RAGGED, LENGTHS)


def test_composites_with_an_input_lengths_receive_lengths():
    last = lambda call, x, lengths: call("read", x, lengths)
    other = lambda call, x, mask: call("read", x, mask)
    children = {"read": nn.gru(3)}
    assert jaxdl.compose("last", children, last).takes_lengths
    assert not jaxdl.compose("other", children, other).takes_lengths
    assert not nn.residual(nn.dense(4)).takes_lengths


@pytest.mark.skipif("'JAXDL_DATA' not in os.environ", reason="JAXDL_DATA is not set")
def test_padding_changes_nothing_on_real_sentences():
    """Film reviews padded to the longest, and to twice that with other words in the padding."""
    texts = [data.tokenize(text) for text in data.movie_reviews()[0][0][:6]]
    vocabulary = data.Vocabulary(texts)
    rows = [vocabulary.encode(text) for text in texts]
    model = nn.serial(
        nn.embedding(len(vocabulary), 4), nn.rnn(nn.gru(3), returns="last"), nn.dense(2)
    )
    x, lengths = data.pad(rows)
    params, state = filled(model, x, lengths)
    scores = np.asarray(model.apply(params, state, x, lengths)[0])
    longer, _ = data.pad(rows, length=2 * x.shape[1], value=5)
    assert len(set(lengths.tolist())) > 3
    chex.assert_trees_all_close(model.apply(params, state, longer, lengths)[0], scores, atol=1e-6)
    unmasked, _ = model.apply(params, state, x)
    assert np.abs(unmasked - scores)[lengths < x.shape[1]].max() > 1e-3


def test_frozen_values_come_together(key):
    x = jnp.ones((4, 3))
    params, state = jaxdl.init(nn.batch_norm(), key, x)
    with pytest.raises(ValueError, match="params without state.*Pass state="):
        jaxdl.init(jaxdl.frozen(nn.batch_norm(), params), key, x)
    with pytest.raises(ValueError, match="state without params.*Pass params="):
        jaxdl.init(jaxdl.frozen(nn.batch_norm(), state=state), key, x)
