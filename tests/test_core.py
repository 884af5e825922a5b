"""A model is two pure functions: composites, weight tying, plain callables, `init`."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl import nn
from tests.nn.filled import filled

X = jnp.asarray(np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4))


def shapes(tree):
    return jax.tree.map(jnp.shape, tree)


def mlp(hidden=3, classes=2):
    children = dict(hidden=nn.dense(hidden), logits=nn.dense(classes))

    def forward(call, x):
        return call("logits", jax.nn.relu(call("hidden", x)))

    return jaxdl.compose("mlp", children, forward, hidden=hidden, classes=classes)


def test_one_forward_gives_init_and_apply(key, variant):
    model = mlp()
    params, state = jaxdl.init(model, key, X)
    assert state == {}
    assert shapes(params) == {
        "hidden": {"kernel": (4, 3), "bias": (3,)},
        "logits": {"kernel": (3, 2), "bias": (2,)},
    }
    output, new_state = variant(model.apply)(params, state, X)
    p = jax.tree.map(np.asarray, params)
    hidden = np.maximum(X @ p["hidden"]["kernel"] + p["hidden"]["bias"], 0)
    expected = hidden @ p["logits"]["kernel"] + p["logits"]["bias"]
    chex.assert_trees_all_close(output, expected, atol=1e-6)
    assert new_state == {}


def test_the_whole_tree_of_a_nested_model(key):
    block = lambda: nn.serial(nn.dense(4, use_bias=False), jax.nn.relu)
    model = nn.serial(nn.residual(block()), nn.scan_layers(block(), 3), mlp(), nn.dense(1))
    params, state = jaxdl.init(model, key, X)
    assert state == {}
    assert shapes(params) == {
        "residual_0": {"block": {"dense_0": {"kernel": (4, 4)}}},
        "scan_layers_0": {"dense_0": {"kernel": (3, 4, 4)}},
        "mlp_0": {
            "hidden": {"kernel": (4, 3), "bias": (3,)},
            "logits": {"kernel": (3, 2), "bias": (2,)},
        },
        "dense_0": {"kernel": (2, 1), "bias": (1,)},
    }


def test_several_inputs_through_the_top_level_and_through_serial(key):
    def forward(call, a, b):
        return call("left", a) + call("right", b)

    merge = jaxdl.compose("merge", dict(left=nn.dense(3), right=nn.dense(3)), forward)
    model = nn.serial(merge, nn.dense(2))
    a, b = X, X[:, :2]
    params, state = jaxdl.init(model, key, a, b)
    assert shapes(params["merge_0"]) == {
        "left": {"kernel": (4, 3), "bias": (3,)},
        "right": {"kernel": (2, 3), "bias": (3,)},
    }
    merged = nn.functional.dense(a, **params["merge_0"]["left"]) + nn.functional.dense(
        b, **params["merge_0"]["right"]
    )
    expected = nn.functional.dense(merged, **params["dense_0"])
    chex.assert_trees_all_close(model.apply(params, state, a, b)[0], expected, atol=1e-6)


def test_inputs_and_outputs_may_be_trees(key):
    def forward(call, batch):
        return {"y": call("layer", batch["x"]), "size": batch["x"].shape[0]}

    model = jaxdl.compose("wrapped", dict(layer=nn.dense(3)), forward)
    params, state = jaxdl.init(model, key, {"x": X})
    output, _ = model.apply(params, state, {"x": X})
    assert output["y"].shape == (2, 3) and output["size"] == 2


def test_optional_children_have_parameters_only_where_used(key):
    def forward(call, x):
        return x if x.shape[-1] == 3 else call("project", x)

    make = lambda **options: jaxdl.compose("to3", dict(project=nn.dense(3)), forward, **options)
    model = make(optional=["project"])
    assert jaxdl.init(model, key, X[:, :3]) == ({}, {})
    assert list(jaxdl.init(model, key, X)[0]) == ["project"]
    with pytest.raises(ValueError, match="to3: forward never calls 'project'.*optional="):
        jaxdl.init(make(), key, X[:, :3])


def counter():
    """Counts its calls in train mode, a stand-in for any layer with a state."""

    def apply(params, state, x, *, train=False, **_):
        return x, {"calls": state["calls"] + 1} if train else state

    return jaxdl.Module(lambda key, x: ({}, {"calls": jnp.zeros((), int)}), apply, "counter")


def test_the_state_is_handed_on_and_the_given_one_kept(key):
    children = dict(a=counter(), b=nn.serial(counter()), c=nn.dense(4))
    model = jaxdl.compose(
        "m", children, lambda call, x: call("c", call("b", call("a", call("a", x))))
    )
    params, state = jaxdl.init(model, key, X)
    start = {"a": {"calls": 0}, "b": {"counter_0": {"calls": 0}}}
    chex.assert_trees_all_equal(state, start)
    _, after = model.apply(params, state, X, train=True)
    chex.assert_trees_all_equal(after, {"a": {"calls": 2}, "b": {"counter_0": {"calls": 1}}})
    chex.assert_trees_all_equal(state, start)
    chex.assert_trees_all_equal(model.apply(params, after, X)[1], after)


# Weight tying


def test_a_child_called_twice_shares_its_parameters(key):
    children = dict(layer=nn.dense(4))
    model = jaxdl.compose("twice", children, lambda call, x: call("layer", call("layer", x)))
    params, state = jaxdl.init(model, key, X)
    assert list(params) == ["layer"]
    layer = params["layer"]
    expected = nn.functional.dense(nn.functional.dense(X, **layer), **layer)
    chex.assert_trees_all_equal(model.apply(params, state, X)[0], expected)

    grad = jax.grad(lambda p: model.apply(p, state, X)[0].sum())(params)
    untied = lambda first, second: nn.functional.dense(
        nn.functional.dense(X, **first), **second
    ).sum()
    both = jax.tree.map(jnp.add, *jax.grad(untied, (0, 1))(layer, layer))
    chex.assert_trees_all_close(grad, {"layer": both}, atol=1e-6)


def test_params_of_a_child_tie_what_is_no_call(key):
    def forward(call, x):
        return call("encode", x) @ call.params("encode")["kernel"].T

    model = jaxdl.compose("autoencoder", dict(encode=nn.dense(2, use_bias=False)), forward)
    params, state = jaxdl.init(model, key, X)
    w = params["encode"]["kernel"]
    chex.assert_trees_all_close(model.apply(params, state, X)[0], X @ w @ w.T, atol=1e-6)

    early = jaxdl.compose(
        "early", dict(a=nn.dense(2)), lambda call, x: call("a", x) + call.params("b")["bias"]
    )
    with pytest.raises(ValueError, match=r"early: call.params\('b'\) before call\('b', ...\)"):
        jaxdl.init(early, key, X)


# The Module itself


def test_init_needs_only_shapes_and_dtypes(key):
    model = mlp()
    made = jaxdl.init(model, key, X)
    chex.assert_trees_all_equal(made, jaxdl.init(model, key, X + 1))
    chex.assert_trees_all_equal(made, jaxdl.init(model, key, np.asarray(X)))
    chex.assert_trees_all_equal(
        made, jaxdl.init(model, key, jax.ShapeDtypeStruct(X.shape, X.dtype))
    )
    abstract = jax.eval_shape(model.init, key, X)
    chex.assert_trees_all_equal_shapes_and_dtypes(made, abstract)
    half, _ = jaxdl.init(model, key, jax.ShapeDtypeStruct(X.shape, jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype(jnp.bfloat16)}


def test_init_takes_both_kinds_of_key():
    old, new = jax.random.PRNGKey(3), jax.random.key(3)
    chex.assert_trees_all_equal(jaxdl.init(mlp(), old, X), jaxdl.init(mlp(), new, X))


def test_a_module_is_a_static_argument_and_traced_once(key):
    @functools.partial(jax.jit, static_argnums=0)
    @chex.assert_max_traces(n=1)
    def run(model, params, state, x):
        return model.apply(params, state, x)[0]

    chex.clear_trace_counter()
    model = mlp()
    params, state = jaxdl.init(model, key, X)
    first = run(model, params, state, X)
    chex.assert_trees_all_equal(first, run(model, params, state, X))
    assert model != mlp() and len({model, mlp(), model}) == 2


def test_repr_shows_kind_configuration_and_children():
    model = nn.serial(nn.dense(3), nn.residual(nn.serial(inner=nn.dense(3), act=jax.nn.relu)))
    assert repr(model) == (
        "serial() {\n"
        "  dense_0: dense(features=3, use_bias=True)\n"
        "  residual_0: residual() {\n"
        "    block: serial() {\n"
        "      inner: dense(features=3, use_bias=True)\n"
        "      act: relu()\n"
        "    }\n"
        "  }\n"
        "}"
    )
    shown = jaxdl.compose("net", dict(a=abs), lambda call, x: call("a", x), act=jax.nn.relu)
    assert repr(shown) == "net(act=relu) {\n  a: abs()\n}"


class Scale:
    def __call__(self, x):
        return 3 * x


@pytest.mark.parametrize(
    "layer, kind, expected",
    [
        (lambda x: x + 1, "lambda", X + 1),
        (jnp.tanh, "tanh", np.tanh(X)),
        (functools.partial(jax.nn.leaky_relu, negative_slope=0.5), "leaky_relu", None),
        (functools.partial(functools.partial(jnp.clip, min=0), max=0.5), "clip", X.clip(0, 0.5)),
        (Scale(), "Scale", 3 * X),
    ],
    ids=["lambda", "ufunc", "partial", "partial of partial", "object"],
)
def test_a_plain_callable_is_a_layer_without_parameters(key, layer, kind, expected):
    module = jaxdl.as_module(layer)
    assert module.kind == kind and jaxdl.as_module(module) is module
    assert jaxdl.init(module, key, X) == ({}, {})
    output, state = module.apply({}, {}, X, train=True, key=key)
    expected = np.where(X > 0, X, X / 2) if expected is None else expected
    chex.assert_trees_all_close(output, expected, atol=1e-6)
    assert state == {}


# Random small composites of dense, relu and residual, all of width 3

layers = st.recursive(
    st.sampled_from(["dense", "relu"]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3), st.tuples(st.just("residual"), inner)
    ),
    max_leaves=6,
)


def build(spec):
    if isinstance(spec, list):
        return nn.serial(*map(build, spec))
    if isinstance(spec, tuple):
        return nn.residual(build(spec[1]))
    return {"dense": nn.dense(3), "relu": jax.nn.relu}[spec]


def kind(spec):
    return {list: "serial", tuple: "residual"}.get(type(spec)) or spec


def by_hand(spec, params, x):
    """The same network, evaluated over the tree of parameters alone."""
    if isinstance(spec, list):
        for i, layer in enumerate(spec):
            count = [kind(before) for before in spec[:i]].count(kind(layer))
            x = by_hand(layer, params.get(f"{kind(layer)}_{count}", {}), x)
        return x
    if isinstance(spec, tuple):
        return x + by_hand(spec[1], params.get("block", {}), x)
    return np.maximum(x, 0) if spec == "relu" else x @ params["kernel"] + params["bias"]


@given(st.lists(layers, min_size=1, max_size=3))
def test_apply_is_the_hand_evaluation_of_the_tree(spec):
    model, x = build(spec), X[:, :3]
    params, state = filled(model, x)
    expected = by_hand(spec, jax.tree.map(np.asarray, params), np.asarray(x))
    chex.assert_trees_all_close(model.apply(params, state, x)[0], expected, atol=1e-4, rtol=1e-4)
