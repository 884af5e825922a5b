import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from jaxdl import interpret, nn
from tests.interpret.networks import array, double, fill, run

W, V, U = (np.random.default_rng(i).normal(size=s) for i, s in enumerate([(4, 6), (6, 5), (5, 3)]))


def f(x):
    with jax.named_scope("first"):
        x = jnp.tanh(x @ W)
    with jax.named_scope("block"):
        with jax.named_scope("second"):
            x = jnp.tanh(x @ V)
    return x @ U


METHODS = (
    interpret.saliency,
    interpret.input_x_gradient,
    interpret.integrated_gradients,
    interpret.ablation,
    interpret.shapley_values,
    interpret.deep_lift,
)


@pytest.mark.parametrize("at", ["first", "second"])
def test_explained_by_a_layer(at):
    """By its path in f, and as the rest of f from the layer's value on."""
    with double():
        x = array(3, 3, 4)
        value = np.tanh(x @ W) if at == "first" else np.tanh(np.tanh(x @ W) @ V)
        rest = (lambda h: jnp.tanh(h @ V) @ U) if at == "first" else lambda h: h @ U
        np.testing.assert_allclose(interpret.intermediate(f, x, at), value, atol=1e-12)

        @jax.jit
        def explain(x, value):
            by_path = [method(f, x, target="argmax", layer=at) for method in METHODS]
            return by_path, [method(rest, value, target="argmax") for method in METHODS]

        for method, found, expected in zip(METHODS, *explain(x, value), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-10, err_msg=method.__name__)


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap])
def test_inside_of_a_transformation(transform):
    with double():
        x = array(3, 3, 4)
        found = interpret.saliency(transform(f), x, target=0, layer="block/second")
        assert found.shape == (3, 5)
        np.testing.assert_allclose(found, np.broadcast_to(np.abs(U[:, 0]), (3, 5)))


def test_paths_of_flax_and_of_jaxdl():
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.relu(linen.Dense(6, name="hidden")(x))
            return linen.Dense(3, name="out")(x)

    x = array(0, 2, 4).astype(np.float32)
    net = Net()
    variables = fill(jax.eval_shape(net.init, jax.random.key(0), x))
    hidden = x @ np.asarray(variables["params"]["hidden"]["kernel"])
    hidden += variables["params"]["hidden"]["bias"]
    g = lambda x: net.apply(variables, x)
    np.testing.assert_allclose(interpret.intermediate(g, x, "hidden"), hidden, rtol=1e-5)
    model = jaxdl.serial(nn.dense(6), jax.nn.relu, nn.dense(3))
    params, state = fill(jax.eval_shape(model.init, jax.random.key(0), x))
    ours = lambda x: model.apply(params, state, x)[0]
    of = lambda f, x: [interpret.intermediate(f, x, path) for path in ("dense_0", "relu_0")]
    seen = jax.jit(lambda x: jaxdl.capture(model, params, state, x)[1])(x)
    for path, value in zip(("dense_0", "relu_0"), run(of, ours, x), strict=True):
        np.testing.assert_allclose(value, seen[path], rtol=1e-5)
    # ReLU's derivative at 0 stays 0 on the way: jax.nn.relu's own.
    dead = run(interpret.saliency, ours, np.zeros_like(x), target=0, layer="dense_0")
    np.testing.assert_array_equal(dead, 0)


def test_a_shortcut_keeps_what_x_gives_it():
    with double():
        x = array(3, 3, 4)
        w = W[:, :4]

        def g(x):
            with jax.named_scope("inside"):
                y = x @ w
            return jnp.sum(y * x, 1)

        np.testing.assert_allclose(
            run(interpret.saliency, g, x, layer="inside"), abs(x), atol=1e-12
        )


@pytest.mark.row("Q13")
def test_token_ids_are_explained_by_their_embedding():
    with double():
        table, w = array(0, 9, 4), array(1, 4, 2)
        numbers = np.array([[1, 2, 8], [0, 5, 5]])
        rest = lambda x: jnp.tanh(x).sum(1) @ w

        def g(numbers):
            with jax.named_scope("embedding"):
                x = jnp.asarray(table)[numbers]
            return rest(x)

        methods = (
            interpret.saliency,
            interpret.integrated_gradients,
            interpret.deep_lift,
            interpret.lrp,
        )

        @jax.jit
        def explain(numbers, x):
            by_path = [method(g, numbers, target="argmax", layer="embedding") for method in methods]
            return by_path, [method(rest, x, target="argmax") for method in methods]

        for found, expected in zip(*explain(numbers, table[numbers]), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-10)
    with pytest.raises(ValueError, match="expected floating-point arrays"):
        interpret.lrp(g, numbers, target=0)


def test_chunks_of_examples_at_a_layer():
    with double():
        x = array(3, 5, 4)

        def g(x):
            with jax.named_scope("inside"):
                y = x @ W[:, :4]
            return jnp.tanh(y) * x

        for method in (interpret.saliency, interpret.input_x_gradient, interpret.deep_lift):
            found, whole = (
                run(method, g, x, target=2, layer="inside", **options)
                for options in ({"batch_size": 2}, {})
            )
            np.testing.assert_allclose(found, whole, atol=1e-12)


def test_conductance_of_a_layer_adds_up_and_internal_influence_is_the_mean_slope():
    with double():
        x, base = array(3, 3, 4), array(4, 1, 4)
        options = {"at": "first", "target": 1, "baseline": base, "steps": 60}
        found = run(interpret.conductance, f, x, batch_size=7, **options)
        in_numpy = lambda x: (np.tanh(np.tanh(x @ W) @ V) @ U)[:, 1]
        np.testing.assert_allclose(found.sum(1), in_numpy(x) - in_numpy(base), atol=1e-6)
        np.testing.assert_allclose(interpret.conductance(f, x, **options), found, atol=1e-12)
        nodes, weights = np.polynomial.legendre.leggauss(60)
        mean = 0.0
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            h = np.tanh((base + node * (x - base)) @ W)
            mean += weight * ((1 - np.tanh(h @ V) ** 2) * U[:, 1]) @ V.T
        influence = interpret.internal_influence(f, x, **options)
        np.testing.assert_allclose(influence, mean, atol=1e-9)


@pytest.mark.parametrize("n", [3, 6])
def test_a_place_inside_of_vmap_has_the_examples_first(n):
    """W.T @ row puts them last, and with 6 of them the shape does not say which axis is which."""
    with double():

        def row(x):
            with jax.named_scope("hidden"):
                h = W.T @ x
            return jnp.tanh(h) @ V[:, :2]

        x = array(3, n, 4)
        h = x @ W
        assert interpret.intermediate(jax.vmap(row), x, "hidden").shape == (n, 6)
        for f in (jax.vmap(row), jax.vmap(jax.jit(row))):
            found = run(interpret.input_x_gradient, f, x, target=1, layer="hidden")
            np.testing.assert_allclose(found, h * (1 - np.tanh(h) ** 2) * V[:, 1], atol=1e-12)
        fixed = lambda x: jax.vmap(row)(x + np.ones((6, 4)))
        if n == 6:
            with pytest.raises(ValueError, match="the axis of the examples is unclear"):
                interpret.saliency(fixed, x, target=1, layer="hidden")


def pair(x):
    with jax.named_scope("pair"):
        x, y = 2 * x, 3 * x
    with jax.named_scope("bins"):
        bins = (x > 0).astype(jnp.int32)
    return x + y + jnp.ones((2, 1), x.dtype)[bins][..., 0]


def loop(x):
    def cell(x, _):
        with jax.named_scope("cell"), jax.named_scope("inner"):
            return jnp.tanh(x), None

    return jax.lax.scan(cell, x, length=2)[0]


@pytest.mark.parametrize(
    "f, at, message",
    [
        (pair, "pair", r"gives 2 arrays .* \(it gives float32\[2, 4\], float32\[2, 4\]\)"),
        (pair, "bins", r"gives 0 arrays of floating-point .* \(it gives int32\[2, 4\]\)"),
        (pair, "", "no place ''"),
        (loop, "cell", "inside of 'scan'.*named_scope\\('cell'\\)"),
        (loop, "cell/inner", "inside of 'scan'"),
        (jax.vmap(lambda x: jax.lax.cond(x[0] > 0, loop, jnp.sin, x)), "cell", "inside of 'scan'"),
        (lambda x: jax.lax.cond(True, loop, jnp.sin, x), "inner", "inside of 'cond'"),
        (loop, "elsewhere", r"places: none. Name a value by .*named_scope.*from_nnx"),
    ],
)
def test_places_without_one_value(f, at, message):
    with pytest.raises(ValueError, match=message):
        interpret.saliency(f, np.ones((2, 4), np.float32), target=0, layer=at)


def test_names_that_name_no_value():
    x = jnp.ones((2, 4), jnp.float32)
    g = lambda x: jax.jit(linear)(x, W) + jax.jit(linear)(2 * x, W)

    def linear(x, w):
        with jax.named_scope("twice"):
            return x @ jnp.asarray(w, x.dtype)

    with pytest.raises(ValueError, match="no place 'frist'"):
        interpret.saliency(g, x, target=0, layer="frist")
    with pytest.raises(ValueError, match="layer='twice' gives 2 arrays"):
        interpret.saliency(g, x, target=0, layer="twice")

    def h(x):
        for name in ("a", "b"):
            with jax.named_scope(name), jax.named_scope("same"):
                x = jnp.sin(x)
        return x

    with pytest.raises(ValueError, match="may be a/same or b/same"):
        interpret.saliency(h, x, target=0, layer="same")
