"""What every layer must do, driven by the records in `layer_specs.py`."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxdl
from tests.nn.layer_specs import SPECS

each_layer = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
KEY = jax.random.key(5)


def built(spec, dtype=jnp.float32):
    """The layer, parameters away from their initial values, state, inputs."""
    layer, inputs = spec.make(), spec.inputs(dtype=dtype)
    params, state = jaxdl.init(layer, jax.random.key(1), *inputs)
    noisy = lambda a: a + 0.1 * jax.random.normal(jax.random.key(2), a.shape, a.dtype)
    return layer, jax.tree.map(noisy, params), state, inputs


def options(spec, train):
    return {"train": train, "key": jax.random.key(5) if spec.random and train else None}


@each_layer
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_eval_shape_jit_and_one_trace(spec, train):
    layer, params, state, inputs = built(spec)
    apply = lambda p, s, *x: layer.apply(p, s, *x, **options(spec, train))
    eager = apply(params, state, *inputs)
    chex.assert_trees_all_equal_shapes_and_dtypes(
        eager, jax.eval_shape(apply, params, state, *inputs)
    )
    chex.clear_trace_counter()
    compiled = jax.jit(chex.assert_max_traces(apply, n=1))
    chex.assert_trees_all_close(eager, compiled(params, state, *inputs), atol=1e-5, rtol=1e-5)
    compiled(params, state, *inputs)
    chex.assert_trees_all_equal_structs(state, eager[1])


@each_layer
def test_init_is_shapes_only_and_keyed(spec):
    layer, inputs = spec.make(), spec.inputs()
    abstract = jax.eval_shape(layer.init, KEY, *inputs)
    chex.assert_trees_all_equal_shapes_and_dtypes(abstract, jaxdl.init(layer, KEY, *inputs))
    chex.assert_trees_all_equal(
        jaxdl.init(layer, KEY, *inputs), jaxdl.init(layer, KEY, *spec.inputs(seed=9))
    )


@each_layer
def test_vmap_is_the_loop(spec):
    layer, params, state, _ = built(spec)
    apply = lambda *x: layer.apply(params, state, *x)[0]
    several = [spec.inputs(seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *several)
    loop = jnp.stack([apply(*x) for x in several])
    chex.assert_trees_all_close(jax.vmap(apply)(*stacked), loop, atol=1e-5, rtol=1e-5)


@each_layer
def test_rows_are_independent_in_eval_mode(spec):
    if not spec.rows_independent:
        pytest.skip("the layer mixes rows by definition")
    layer, params, state, inputs = built(spec)
    whole, _ = layer.apply(params, state, *inputs)
    for i in range(inputs[0].shape[0]):
        row, _ = layer.apply(params, state, *(x[i : i + 1] for x in inputs))
        chex.assert_trees_all_close(row[0], whole[i], atol=1e-5, rtol=1e-5)


@each_layer
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_gradients_are_the_differences(spec, train):
    with jax.enable_x64(True):
        layer, params, state, inputs = built(spec)
        wide = lambda tree: jax.tree.map(
            lambda a: a.astype(jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree
        )
        params, state, inputs = wide(params), wide(state), wide(inputs)
        if spec.ids is not None:
            f = lambda p: layer.apply(p, state, *inputs, **options(spec, train))[0]
            args = (params,)
        else:
            f = lambda p, *x: layer.apply(p, state, *x, **options(spec, train))[0]
            args = (params, *inputs)
        check_grads(f, args, order=1, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5, eps=1e-6)


@each_layer
def test_dtypes_are_kept(spec):
    for dtype in spec.dtypes:
        layer, inputs = spec.make(), spec.inputs(dtype=dtype)
        params, state = jaxdl.init(layer, KEY, *inputs)
        output, _ = layer.apply(params, state, *inputs)
        if spec.ids is None:
            assert output.dtype == dtype
            assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(params))
        assert np.all(np.isfinite(output.astype(jnp.float32)))


@each_layer
def test_numpy_reference(spec):
    if spec.reference is None:
        pytest.skip("no closed form in NumPy; see the layer's own test")
    layer, params, state, inputs = built(spec)
    to_numpy = lambda tree: jax.tree.map(np.asarray, tree)
    expected = spec.reference(to_numpy(params), to_numpy(state), *map(np.asarray, inputs))
    output, _ = layer.apply(params, state, *inputs)
    chex.assert_trees_all_close(output, expected.astype(np.float32), atol=1e-5, rtol=1e-5)


@each_layer
def test_an_empty_batch_stays_empty(spec):
    layer, params, state, inputs = built(spec)
    output, _ = layer.apply(params, state, *(x[:0] for x in inputs))
    assert output.shape[0] == 0


@each_layer
def test_random_layers_need_and_obey_the_key(spec):
    if not spec.random:
        pytest.skip("the layer draws no random numbers")
    layer, params, state, inputs = built(spec)
    with pytest.raises(ValueError, match="key"):
        layer.apply(params, state, *inputs, train=True)
    run = lambda seed: layer.apply(params, state, *inputs, train=True, key=jax.random.key(seed))[0]
    chex.assert_trees_all_equal(run(1), run(1))
    assert not np.array_equal(run(1), run(2))


BAD = [(spec, inputs, words) for spec in SPECS for inputs, words in spec.bad]


@pytest.mark.parametrize("spec, inputs, words", BAD, ids=[f"{s.name}-{w}" for s, _, w in BAD])
def test_bad_inputs_are_refused(spec, inputs, words):
    with pytest.raises(ValueError, match=words):
        jaxdl.init(spec.make(), KEY, *inputs)
