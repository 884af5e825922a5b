"""Equinox networks: Equinox itself is the reference."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdl
from jaxdl import interpret, train

eqx = pytest.importorskip("equinox", reason="equinox is not installed")

from jaxdl.interop.equinox import from_equinox, to_equinox  # noqa: E402

X = np.random.default_rng(7).normal(size=(6, 5)).astype(np.float32)
Y = np.arange(6, dtype=np.int32) % 3


class Net(eqx.Module):
    """With a running state in one of two forms, dropout, a buffer of integers and a static part."""

    hidden: eqx.nn.Linear
    norms: list
    drop: eqx.nn.Dropout
    order: jax.Array
    out: eqx.nn.Linear

    def __init__(self, key, width=4):
        first, last = jax.random.split(key)
        self.hidden = eqx.nn.Linear(5, width, key=first)
        self.norms = [eqx.nn.BatchNorm(width, "batch", mode=mode) for mode in ("batch", "ema")]
        self.drop = eqx.nn.Dropout(0.5)
        self.order = jnp.array(np.arange(width)[::-1])
        self.out = eqx.nn.Linear(width, 3, key=last)

    def __call__(self, x, state, *, key=None):
        x = self.hidden(x)
        for norm in self.norms:
            x, state = norm(x, state)
        x = self.drop(jax.nn.tanh(x)[self.order], key=key)
        return self.out(x), state


def reference(network, state, x, key=None):
    """As Equinox's documentation runs it."""
    keys = None if key is None else jax.random.split(key, len(x))
    state = jax.tree.map(lambda a: a, state)  # a State can be used once
    run = jax.vmap(lambda x, key: network(x, state, key=key), out_axes=(0, None), axis_name="batch")
    with jax.numpy_dtype_promotion("standard"):
        return run(x, keys)


MODEL = from_equinox(eqx.nn.make_with_state(Net))
APPLY = jax.jit(MODEL.apply, static_argnames="train")


@pytest.fixture(scope="module")
def trees():
    """Parameters and statistics that are not those of init."""
    params, state = jaxdl.init(MODEL, jax.random.key(0), X)
    params = jax.tree.map(lambda a: a + np.float32(0.1), params)
    return params, APPLY(params, state, X + 1, train=True, key=jax.random.key(5))[1]


def test_params_and_state_are_named_by_attribute(trees):
    params, state = trees
    assert sorted(params) == ["hidden", "norms", "out"]
    assert params["hidden"]["weight"].shape == (4, 5)
    assert sorted(params["norms"]) == ["0", "1"]
    assert state["order"].tolist() == [3, 2, 1, 0]
    assert sorted(state["norms"]["0"]) == ["batch_counter", "batch_state_index"]
    assert not any(getattr(leaf, "weak_type", False) for leaf in jax.tree.leaves(state))
    other, _ = jaxdl.init(MODEL, jax.random.key(1), X)
    again, _ = jaxdl.init(MODEL, jax.random.key(0), X)
    assert not np.array_equal(other["out"]["weight"], again["out"]["weight"])


def test_outputs_states_and_gradients_are_equinox_s(trees):
    network, inner = to_equinox(MODEL, *trees)

    @eqx.filter_jit
    def expected(network, inner):
        def loss(params, rest):
            output, new = reference(eqx.combine(params, rest), inner, X, jax.random.key(3))
            return jnp.sum(output**2), (output, new)

        params, rest = eqx.partition(network, eqx.is_inexact_array)
        grads, (trained, new) = jax.grad(loss, has_aux=True)(params, rest)
        tested, _ = reference(eqx.nn.inference_mode(network), inner, X)
        return tested, trained, grads, new

    @jax.jit
    def ours(params, state):
        def loss(params):
            output, new = MODEL.apply(params, state, X, train=True, key=jax.random.key(3))
            return jnp.sum(output**2), (output, new)

        grads, (trained, new) = jax.grad(loss, has_aux=True)(params)
        tested, same = MODEL.apply(params, state, X)
        return tested, trained, grads, new, same

    tested, trained, grads, new, same = ours(*trees)
    expected_tested, expected_trained, expected_grads, expected_new = expected(network, inner)
    chex.assert_trees_all_close(tested, expected_tested, atol=1e-6)
    chex.assert_trees_all_close(trained, expected_trained, atol=1e-6)
    assert not np.allclose(tested, trained)
    back, back_state = to_equinox(MODEL, grads, new)
    leaves = lambda tree: jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))
    chex.assert_trees_all_close(leaves(back), leaves(expected_grads), atol=1e-5)
    chex.assert_trees_all_close(back_state, expected_new, atol=1e-6)
    chex.assert_trees_all_equal(same, trees[1])
    assert not np.array_equal(*(leaves(s)[0] for s in (inner, back_state)))


def test_each_example_has_its_own_dropout(trees):
    same = np.repeat(X[:1], 6, 0)
    run = lambda seed: APPLY(*trees, same, train=True, key=jax.random.key(seed))[0]
    (first, again, other) = run(1), run(1), run(2)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other) and len(np.unique(first[:, 0].round(4))) > 1


def test_fit_trains_it_and_saliency_explains_it():
    model = from_equinox(eqx.nn.MLP(5, 3, 8, depth=1, key=jax.random.key(0)))
    options = dict(loss="cross_entropy", optimizer=optax.sgd(0.5), batch_size=3, verbose=0)
    state, history = train.fit(model, (X, Y), epochs=20, **options)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    network, _ = to_equinox(model, state.params, state.model_state)
    output = jax.jit(jax.vmap(network))(X)
    chex.assert_trees_all_close(train.predict(model, state, X), output, atol=1e-5)
    saliency = interpret.saliency(train.predictor(model, state), X, target=1)
    expected = jax.jit(jax.vmap(jax.grad(lambda x: network(x)[1])))(X)
    chex.assert_trees_all_close(saliency, np.abs(expected), atol=1e-5)


def test_bad_arguments(trees):
    params, state = trees
    network, inner = eqx.nn.make_with_state(Net)(jax.random.key(0))
    with pytest.raises(ValueError, match=r"has state.*from_equinox\(network, state\)"):
        from_equinox(network)
    chex.assert_trees_all_equal_shapes(from_equinox(network, inner).init(None), trees)
    chex.assert_trees_all_equal_shapes(from_equinox(Net(jax.random.key(0))).init(None), trees)
    with pytest.raises(ValueError, match="got a int; expected an equinox.Module"):
        from_equinox(3)
    with pytest.raises(ValueError, match=r"make\(key\) raises .*lambda key: Net"):
        from_equinox(eqx.nn.MLP)
    with pytest.raises(ValueError, match=r"make\(key\) returns a .*; expected an equinox.Module"):
        from_equinox(lambda key: key)
    with pytest.raises(ValueError, match="axis_name 'batch' and the batch 'rows'; .*'batch'"):
        from_equinox(network, inner, axis_name="rows")
    with pytest.raises(ValueError, match="hidden/weight of params is missing"):
        MODEL.apply({}, state, X)
    wide, _ = jaxdl.init(from_equinox(lambda key: Net(key, width=5)), jax.random.key(0), X)
    with pytest.raises(ValueError, match=r"hidden/weight of params is \[5, 5\]; expected \[4, 5\]"):
        to_equinox(MODEL, wide, state)
    with pytest.raises(ValueError, match="model is a dense; expected one of from_equinox"):
        to_equinox(jaxdl.nn.dense(3), params, state)
