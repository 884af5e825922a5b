"""What every layer must do, driven by the records in `layer_specs.py`."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from tests.nn.filled import filled, normal_like
from tests.nn.layer_specs import SPECS

each_layer = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
KEY = jax.random.key(5)
to_numpy = functools.partial(jax.tree.map, np.asarray)


class Case:
    """A spec's layer with inputs, parameters and state from NumPy, and its compiled `apply`."""

    def __init__(self, spec, dtype):
        self.spec, self.layer, self.inputs = spec, spec.make(), spec.inputs(dtype=dtype)
        self.params, state = filled(self.layer, *self.inputs)
        draw = np.random.default_rng(1).uniform
        self.state = jax.tree.map(lambda a: jnp.asarray(draw(0.5, 1.5, a.shape), a.dtype), state)
        self.compiled = jax.jit(self.apply, static_argnames="train")
        self.traces = 0

    def apply(self, params, state, *inputs, train=False, key=None):
        self.traces += 1
        return self.layer.apply(params, state, *inputs, train=train, key=key)

    def options(self, train):
        return {"train": train, "key": jax.random.key(5) if self.spec.random and train else None}

    @property
    def modes(self):
        """Values of `train` with a program of their own; see `test_train_mode_is_another_...`."""
        return (False, True) if self.spec.random or self.state else (False,)


@functools.cache
def built(spec, dtype=jnp.float32):
    return Case(spec, dtype)


@each_layer
def test_train_mode_is_another_program_only_where_it_draws_or_keeps_statistics(spec):
    """So the other tests run layers without randomness and state in eval mode only."""
    case = built(spec)
    programs = set()
    for train in (False, True):
        f = functools.partial(case.apply, **case.options(train))
        program = str(jax.make_jaxpr(f)(case.params, case.state, *case.inputs))
        programs.add(re.sub("0x[0-9a-f]+", "", program))
    assert len(programs) == len(case.modes)


@each_layer
def test_eval_shape_jit_and_one_trace(spec):
    case = built(spec)
    args = (case.params, case.state, *case.inputs)
    for train in case.modes:
        run = functools.partial(case.compiled, train=train)
        eager = case.layer.apply(*args, **case.options(train))
        abstract = jax.eval_shape(functools.partial(case.apply, **case.options(train)), *args)
        chex.assert_trees_all_equal_shapes_and_dtypes(eager, abstract)
        compiled = run(*args, key=case.options(train)["key"])
        chex.assert_trees_all_close(eager, compiled, atol=1e-5, rtol=1e-5)
        traces = case.traces
        run(case.params, compiled[1], *spec.inputs(seed=1), key=case.options(train)["key"])
        assert case.traces == traces, f"a second trace with train={train}"
        chex.assert_trees_all_equal_structs(case.state, eager[1])


@each_layer
def test_init_is_shapes_only_and_keyed(spec):
    layer, inputs = spec.make(), spec.inputs()
    abstract = jax.eval_shape(layer.init, KEY, *inputs)
    concrete = jaxdl.init(layer, KEY, *inputs)
    chex.assert_trees_all_equal_shapes_and_dtypes(abstract, concrete)
    chex.assert_trees_all_equal(concrete, jaxdl.init(layer, KEY, *spec.inputs(seed=9)))


@each_layer
def test_vmap_is_the_loop(spec):
    case = built(spec)
    several = [spec.inputs(seed) for seed in range(3)]
    stacked = [jnp.asarray(np.stack(x)) for x in zip(*several, strict=True)]
    axes = (None, None, *(0 for _ in stacked))
    mapped, _ = jax.jit(jax.vmap(case.apply, axes, (0, None)))(case.params, case.state, *stacked)
    loop = np.stack([case.compiled(case.params, case.state, *x)[0] for x in several])
    chex.assert_trees_all_close(mapped, loop, atol=1e-5, rtol=1e-5)


@each_layer
def test_rows_are_independent_in_eval_mode(spec):
    if not spec.rows_independent:
        pytest.skip("the layer mixes rows by definition")
    case = built(spec)
    whole, _ = case.compiled(case.params, case.state, *case.inputs)
    for i, inputs in enumerate(zip(*map(np.asarray, case.inputs), strict=True)):
        row, _ = case.compiled(case.params, case.state, *(x[None] for x in inputs))
        chex.assert_trees_all_close(row[0], whole[i], atol=1e-5, rtol=1e-5)


def compare_slopes(f, args, seeds=(0, 1), step=1e-6):
    """Forward and reverse mode against central differences, along random directions, compiled."""

    def dot(a, b):
        return sum(map(jnp.vdot, jax.tree.leaves(a), jax.tree.leaves(b)))

    @jax.jit
    def slopes(args, direction, cotangent):
        move = lambda h: jax.tree.map(lambda a, d: a + h * d, args, direction)
        ahead, behind = jax.lax.map(lambda h: f(*move(h)), jnp.array([step, -step]))
        difference = (ahead - behind) / (2 * step)
        _, forward = jax.jvp(f, args, direction)
        reverse = dot(jax.vjp(f, *args)[1](cotangent), direction)
        return (forward, reverse), (difference, dot(cotangent, difference))

    output = jax.eval_shape(f, *args)
    for seed in seeds:
        direction, cotangent = normal_like((args, output), seed)
        chex.assert_trees_all_close(*slopes(args, direction, cotangent), atol=1e-5, rtol=1e-5)


@each_layer
def test_gradients_are_the_differences(spec):
    with jax.enable_x64(True):
        case = Case(spec, jnp.float64)
        wide = functools.partial(jax.tree.map, lambda a: jnp.asarray(np.asarray(a, np.float64)))
        params, state = wide((case.params, case.state))
        for train in case.modes:

            def f(params, *inputs, train=train):
                inputs = inputs or case.inputs
                return case.apply(params, state, *inputs, **case.options(train))[0]

            args = (params,) if spec.ids is not None else (params, *case.inputs)
            compare_slopes(f, args)


@each_layer
def test_dtypes_are_kept(spec):
    cases = [built(spec, dtype) for dtype in spec.dtypes]
    run = jax.jit(lambda *args: [case.apply(*a)[0] for case, a in zip(cases, args, strict=True)])
    outputs = run(*[(case.params, case.state, *case.inputs) for case in cases])
    for dtype, case, output in zip(spec.dtypes, cases, outputs, strict=True):
        if spec.ids is None:
            assert output.dtype == dtype
            assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(case.params))
        assert np.all(np.isfinite(np.asarray(output, np.float32))), dtype


@each_layer
def test_numpy_reference(spec):
    if spec.reference is None:
        pytest.skip("no closed form in NumPy; see the layer's own test")
    case = built(spec)
    expected = spec.reference(*to_numpy((case.params, case.state, *case.inputs)))
    output, _ = case.compiled(case.params, case.state, *case.inputs)
    chex.assert_trees_all_close(output, expected.astype(np.float32), atol=1e-5, rtol=1e-5)


@each_layer
def test_an_empty_batch_stays_empty(spec):
    case = built(spec)
    output, _ = case.compiled(case.params, case.state, *(np.asarray(x)[:0] for x in case.inputs))
    assert output.shape[0] == 0


@each_layer
def test_random_layers_need_and_obey_the_key(spec):
    if not spec.random:
        pytest.skip("the layer draws no random numbers")
    case = built(spec)
    args = (case.params, case.state, *case.inputs)
    with pytest.raises(ValueError, match="key"):
        case.layer.apply(*args, train=True)
    run = lambda seed: case.compiled(*args, train=True, key=jax.random.key(seed))[0]
    chex.assert_trees_all_equal(run(1), run(1))
    assert not np.array_equal(run(1), run(2))


BAD = [(spec, inputs, words) for spec in SPECS for inputs, words in spec.bad]


@pytest.mark.parametrize("spec, inputs, words", BAD, ids=[f"{s.name}-{w}" for s, _, w in BAD])
def test_bad_inputs_are_refused(spec, inputs, words):
    with pytest.raises(ValueError, match=words):
        jaxdl.init(spec.make(), KEY, *inputs)
