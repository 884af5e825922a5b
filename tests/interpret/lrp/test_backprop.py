import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from hypothesis import given
from hypothesis import strategies as st

from jaxdl import interpret
from jaxdl.interpret.lrp.relu import Elementwise
from jaxdl.jaxpr.program import trace
from tests.interpret.networks import array, double, run

METHODS = ["guided_backprop", "deconvnet", "beta_smooth"]


def relu_by_maximum(x):
    return jnp.maximum(x, 0)


@pytest.mark.parametrize("relu", [jax.nn.relu, relu_by_maximum])
def test_two_layers_by_hand(relu):
    """One ReLU used twice, by itself and by jnp.maximum."""
    with double():
        w, v, u, x = array(0, 4, 6), array(1, 6, 5), array(2, 5, 2), array(3, 3, 4)
        f = lambda x: relu(relu(x @ w) @ v) @ u
        g = np.broadcast_to(u[:, 1], (3, 5))
        b = np.maximum(x @ w, 0) @ v

        def by(slope):
            return slope(x @ w, slope(b, g) @ v.T) @ w.T

        expected = {
            "guided_backprop": by(lambda z, g: np.where((z > 0) & (g > 0), g, 0)),
            "deconvnet": by(lambda z, g: np.maximum(g, 0)),
            "beta_smooth": by(lambda z, g: g / (1 + np.exp(-10 * z))),
        }
        with jax.numpy_dtype_promotion("standard"):
            for name in METHODS:
                found = run(getattr(interpret, name), f, x, target=1)
                np.testing.assert_allclose(found, expected[name], atol=1e-10)


@pytest.mark.parametrize("name", METHODS)
def test_without_a_relu_it_is_the_gradient(name):
    with double():
        w, v, x = array(0, 4, 6), array(1, 6, 2), array(3, 3, 4)
        f = lambda x: jnp.tanh(x @ w) @ v
        slope = (1 - np.tanh(x @ w) ** 2) * v[:, 0] @ w.T
        with pytest.warns(UserWarning, match=f"{name}: no ReLU in f"):
            found = getattr(interpret, name)(f, x, target=0)
        np.testing.assert_allclose(found, slope, atol=1e-12)


@jax.custom_vjp
def guided(z):
    return jnp.maximum(z, 0)


guided.defvjp(lambda z: (guided(z), z), lambda z, g: (jnp.where(z > 0, jnp.maximum(g, 0), 0),))
X, W, V = (array(i, *shape).astype(np.float32) for i, shape in enumerate([(3, 6), (6, 6), (6, 2)]))
zeros = np.zeros((3, 6), np.float32)


def network(activation):
    return lambda x: activation(activation(x @ W) @ W * 3) @ V


def gradient(f, x):
    return jax.grad(lambda x: f(x)[:, 0].sum())(x)


RELUS = {
    "clip": lambda z: jnp.clip(z, 0),
    "where": lambda z: jnp.where(z > 0, z, 0),
    "where of at most 0": lambda z: jnp.where(z <= 0, 0, z),
    "z * (z > 0)": lambda z: z * (z > 0),
    "leaky_relu": lambda z: jax.nn.leaky_relu(z, 0.0),
    "abs": lambda z: (z + jnp.abs(z)) / 2,
    "sqrt": lambda z: 0.5 * (z + jnp.sqrt(z**2)),
    "-min": lambda z: -jnp.minimum(-z, 0),
    "z - min": lambda z: z - jnp.minimum(z, 0),
    "zeros": lambda z: jnp.maximum(jnp.zeros_like(z), z),
    "an array": lambda z: jax.jit(jnp.maximum)(z, zeros),
    "clamp": lambda z: jax.lax.clamp(0.0, z, np.float32(np.inf)),
    "nan": lambda z: jnp.where(jnp.isnan(z), 0, jax.nn.relu(z)),
    "remat": jax.checkpoint(jax.nn.relu),
    "vmap": jax.vmap(jax.vmap(lambda z: jnp.where(z > 0, z, 0))),
    "cond": lambda z: jax.lax.cond(z[0, 0] < 1e9, lambda z: z * (z > 0), jnp.sin, z),
    "scan": lambda z: jax.lax.scan(lambda c, z: (c, jnp.maximum(z, zeros[0])), 0, z)[1],
    "relu(relu)": lambda z: jax.nn.relu(jax.nn.relu(z)),
}
CLIPS = {
    "relu6": jax.nn.relu6,
    "clip": lambda z: jnp.clip(z, 0, 6),
    "clamp": lambda z: jax.lax.clamp(0.0, z, 6.0),
    "min first": lambda z: jnp.maximum(jnp.minimum(z, 6), 0),
}


def test_relus_however_they_are_written():
    cases = [(f"relu {name}", relu, guided) for name, relu in RELUS.items()]
    capped = lambda z: jnp.minimum(guided(z), 6)
    cases += [(f"relu6 {name}", relu, capped) for name, relu in CLIPS.items()]
    half = lambda relu: lambda z: relu(z.astype(jnp.bfloat16)).astype(jnp.float32)
    cases += [("bfloat16", half(RELUS["where"]), half(guided))]

    @jax.jit
    def explain(x):
        return [interpret.guided_backprop(network(relu), x, target=0) for _, relu, _ in cases]

    @jax.jit
    def expect(x):
        slopes = {id(own): gradient(network(own), x) for *_, own in cases}
        return [slopes[id(own)] for *_, own in cases]

    with jax.numpy_dtype_promotion("standard"):
        pairs = zip(cases, explain(X), expect(X), strict=True)
    for (name, *_), found, expected in pairs:
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5, err_msg=name)


def layer_norm(z):
    mean = z.mean(-1, keepdims=True)
    return (z - mean) / jnp.sqrt(jnp.square(z - mean).mean(-1, keepdims=True) + 1e-5)


AROUND = {
    "a skip": lambda relu, z: z + relu(z),
    "a square": lambda relu, z: relu(z) * relu(z),
    "x / (1 + x)": lambda relu, z: (lambda y: y / (1 + y))(relu(z)),
    "log1p": lambda relu, z: jnp.log1p(relu(z)),
    "both signs": lambda relu, z: jnp.concatenate([relu(z), relu(-z)], 1) @ np.tile(W, (2, 1)),
    "a gate": lambda relu, z: relu(z) * (z @ W),
    "squeeze and excitation": lambda relu, z: z * jax.nn.sigmoid(relu(z @ W[:, :2]) @ W[:2]),
    "a threshold": lambda relu, z: (lambda y: jnp.where(y > 0.5, y, 0))(relu(z)),
    "a norm": lambda relu, z: layer_norm(relu(layer_norm(z))),
    "shares": lambda relu, z: relu(z) / (relu(z).sum(-1, keepdims=True) + 0.1),
    "a scale of 0": lambda relu, z: z @ W + relu(z) * 0.0,
}


def test_relus_in_any_surroundings():
    @jax.jit
    def explain(x):
        def both(block):
            f = lambda relu: lambda x: block(relu, x @ W * 2) @ V
            found = interpret.guided_backprop(f(jax.nn.relu), x, target=0)
            return found, gradient(f(guided), x)

        return [both(block) for block in AROUND.values()]

    for name, (found, expected) in zip(AROUND, explain(X), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5, err_msg=name)


def normalized(clamp, power):
    def norm(z):
        mean = z.mean(-1, keepdims=True)
        variance = clamp((z * z).mean(-1, keepdims=True) - mean**2)
        return (z - mean) * power(variance + 1e-5)

    return norm


def distances(z):
    return jnp.square(z).sum(-1, keepdims=True) - 2 * z @ W + np.square(W).sum(0)


slopes = np.full(6, 0.3, np.float32)
OTHERS = {
    name: getattr(jax.nn, name)
    for name in "gelu silu elu celu selu softplus squareplus hard_tanh hard_sigmoid hard_swish "
    "log_sigmoid sparse_plus sparse_sigmoid mish leaky_relu".split()
} | {
    "abs": lambda z: jax.nn.relu(z) + jax.nn.relu(-z),
    "logaddexp": lambda z: jnp.logaddexp(z, 0.0),
    "PReLU": lambda z: jnp.maximum(z, 0) + slopes * jnp.minimum(z, 0),
    "leaky": lambda z: 0.1 * z + 0.9 * jax.nn.relu(z),
    "soft thresholding": lambda z: jnp.sign(z) * jnp.maximum(jnp.abs(z) - 0.1, 0),
    "hard tanh by clip": lambda z: jnp.clip(z + 1, 0, 2) - 1,
    "hard sigmoid by clip": lambda z: jnp.clip(0.2 * z + 0.5, 0, 1),
    "a bump": lambda z: jax.nn.relu(1 - z**2),
    "a small number": lambda z: jnp.maximum(z, 1e-3),
    "cross entropy": lambda z: jnp.maximum(z, 0) - z * slopes + jnp.log1p(jnp.exp(-jnp.abs(z))),
    "straight through": lambda z: z + jax.lax.stop_gradient(jax.nn.relu(z) - z),
    "flax": lambda z: linen.LayerNorm(use_bias=False, use_scale=False).apply({}, z),
    "variance": normalized(lambda v: jnp.clip(v, 0), lambda v: v**-0.5),
    "deviation": normalized(jax.nn.relu, lambda v: 1 / jnp.sqrt(v)),
    "norm": lambda z: z / (jnp.maximum(jnp.abs(z).sum(-1, keepdims=True), 0) + 1e-3),
    "kernel": lambda z: jnp.exp(-jnp.maximum(distances(z), 0)),
    "loop": lambda z: jax.lax.scan(lambda z, _: (jax.nn.celu(z), None), z, length=2)[0],
}


def test_other_functions_keep_their_gradient():
    @jax.jit
    def explain(x):
        def both(f):
            return interpret.deconvnet(f, x, target=0), gradient(f, x)

        return [both(lambda x, g=g: g(x @ W) @ V) for g in OTHERS.values()]

    with jax.numpy_dtype_promotion("standard"), pytest.warns(UserWarning, match="no ReLU"):
        pairs = explain(X)
    for name, (found, expected) in zip(OTHERS, pairs, strict=True):
        tolerance = 1e-4 * np.abs(expected).max()
        np.testing.assert_allclose(found, expected, atol=tolerance, err_msg=name)


def test_derivatives_that_f_defines_and_hinges_of_a_target_stay():
    reverse = jax.custom_vjp(lambda z: z)
    reverse.defvjp(lambda z: (z, None), lambda _, g: (-g,))
    f = lambda x: reverse(jax.nn.relu(x @ W)) @ V
    hinge = lambda y: jnp.maximum(0, 1 - y[:, 0])
    found = run(interpret.guided_backprop, f, X, target=hinge)
    expected = jax.jit(jax.grad(lambda x: hinge(reverse(guided(x @ W)) @ V).sum()))(X)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(found).max() > 0


@given(
    sign=st.sampled_from([-1.0, 1.0]),
    slope=st.sampled_from([0.0, 0.0, 0.01, -1.0, 1.0]),
    cap=st.sampled_from([0.5, 1.0, 20.0, np.inf]),
    dtype=st.sampled_from([jnp.float32, jnp.bfloat16]),
)
def test_a_clip_is_found_with_its_sign_and_cap(sign, slope, cap, dtype):
    def f(z):
        below = jnp.where(z > 0, 0.0, z) if sign < 0 else jnp.where(z > 0, z, 0.0)
        return jnp.clip(sign * below + slope * z, -cap, cap)

    program, _ = trace(f, jax.ShapeDtypeStruct((2, 3), dtype))
    relus = list(Elementwise(program, set(program.inputs), {}).relus())
    assert bool(relus) == (slope in (0, -sign))  # relu(z) - z is relu(-z)


def test_with_positive_weights_alone_guided_backprop_is_the_gradient():
    with double():
        w, v, x = np.abs(array(0, 4, 6)), np.abs(array(1, 6, 2)), array(3, 5, 4)
        f = lambda x: jax.nn.relu(x @ w) @ v
        slope = (x @ w > 0) * v[:, 0] @ w.T
        found = run(interpret.guided_backprop, f, x, target=0, batch_size=2)
        np.testing.assert_allclose(found, slope, atol=1e-12)
        sharp = run(interpret.beta_smooth, f, x, beta=1e9, target=0)
        np.testing.assert_allclose(sharp, slope, atol=1e-12)


def test_inside_a_loop():
    with double():
        w, x = array(0, 4, 4), array(1, 3, 4)

        def f(x):
            y, _ = jax.lax.scan(lambda y, _: (jax.nn.relu(y @ w), None), x, length=3)
            return y

        g = lambda x: jax.nn.relu(jax.nn.relu(jax.nn.relu(x @ w) @ w) @ w)
        found = [run(interpret.guided_backprop, h, x, target=1) for h in (f, g)]
        np.testing.assert_allclose(*found, atol=1e-12)


def test_beta_is_above_zero():
    with pytest.raises(ValueError, match="beta is 0"):
        interpret.beta_smooth(lambda x: x, jnp.ones((2, 3)), beta=0, target=0)
