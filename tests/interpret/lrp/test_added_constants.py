"""LRP of added constants, against input x gradient of a linearized network.

The epsilon rule with detached normalizations, activations x * const(act(x) / x) and, by mode,
detached or halved products is input times gradient (Ali et al. 2022, Achtibat et al. 2024).
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxdl import interpret
from jaxdl.interpret.lrp import rules
from tests.interpret.networks import array, double

TINY = 1e-12
const = lax.stop_gradient


def linear(act):
    """An activation as the product of its input and a constant."""
    return lambda x: x * const(act(x) / x)


def half(x):
    """x with half its gradient."""
    return x / 2 + const(x / 2)


def layer_norm(x, scale, bias, hold=lambda x: x):
    centered = x - x.mean(-1, keepdims=True)
    return centered / hold(jnp.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)) * scale + bias


def rms_norm(x, hold=lambda x: x):
    return x * hold(((x * x).mean(-1, keepdims=True) + 1e-5) ** -0.5)


W, V, B = array(1, 8, 8), array(2, 8, 3), array(3, 8)
S = 1 + 0.1 * B
relu, gelu, silu = jax.nn.relu, jax.nn.gelu, jax.nn.silu
CASES = {
    "layer norms": (
        lambda x: layer_norm(gelu(layer_norm(x, S, B) @ W), S, B) @ V,
        lambda x: layer_norm(linear(gelu)(layer_norm(x, S, B, const) @ W), S, B, const) @ V,
    ),
    "rms norm, its power a product": (
        lambda x: (rms_norm(x) * S + B) @ V,
        lambda x: (rms_norm(x, const) * S + B) @ V,
    ),
    "unit length, by a reciprocal": (
        lambda x: (x * (1 / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)) + B) @ V,
        lambda x: (x / const(jnp.linalg.norm(x, axis=-1, keepdims=True)) + B) @ V,
    ),
    "pre-activation batch norm beside a shortcut": (
        lambda x: (x + relu((x - B) * S + 2 * B) @ W) @ V,
        lambda x: (x + linear(relu)((x - B) * S + 2 * B) @ W) @ V,
    ),
    "positions after an activation": (
        lambda x: (relu(x @ W) + B) @ V,
        lambda x: (linear(relu)(x @ W) + B) @ V,
    ),
    "positions of the input, added to 0": (lambda x: (x - X[:1] + B) @ V,) * 2,
    "constants around a gate": (
        lambda x: (silu(x + B) + B) @ V,
        lambda x: (linear(silu)(x + B) + B) @ V,
    ),
    "constants within a function": (
        lambda x: jax.nn.hard_swish(x + B) @ V + jnp.log(x * x + 1) @ V,
        lambda x: linear(jax.nn.hard_swish)(x + B) @ V + linear(lambda x: jnp.log1p(x * x))(x) @ V,
    ),
    "a number added": (
        lambda x: relu(x - 0.3) @ V + (jnp.exp(x) - 1) @ V,
        lambda x: linear(relu)(x - 0.3) @ V + linear(jnp.expm1)(x) @ V,
    ),
    "pooling": (
        lambda x: (x.reshape(-1, 2, 4).mean(1) + x.reshape(-1, 2, 4).max(1) + B[:4]) @ V[:4],
    )
    * 2,
    "subtracted from a constant, twice": (lambda x: ((B - x) / 3 - B) @ V,) * 2,
    "in a loop": (
        lambda x: lax.scan(lambda h, _: (gelu((h * S + B) @ W / 5), None), x, None, 3)[0] @ V,
        lambda x: (
            lax.scan(lambda h, _: (linear(gelu)((h * S + B) @ W / 5), None), x, None, 3)[0] @ V
        ),
    ),
}
X = array(0, 2, 8)


@jax.jit
def explain(x):
    options = {"target": 1, "eps": TINY, "composite": {"*": rules.epsilon(TINY)}}
    modes = {"signal_take_all": CASES, "uniform": {name: CASES[name] for name in list(CASES)[:4]}}
    relevance = {
        (mode, name): interpret.lrp(f, x, gating=mode, **options)
        for mode, cases in modes.items()
        for name, (f, _) in cases.items()
    }
    reference = {
        name: x * jax.grad(lambda x, g=g: g(x)[:, 1].sum())(x) for name, (_, g) in CASES.items()
    }
    return relevance, reference


@pytest.mark.row("Q08")
def test_a_constant_added_takes_its_share():
    with double():
        relevance, reference = explain(X)
        for (mode, name), r in relevance.items():
            expected = reference[name]
            error = np.abs(r - expected).max() / np.abs(expected).max()
            assert error < 1e-8, (mode, name, error)


def test_attn_lrp_and_cp_lrp_of_attention():
    with double():
        x, w, u = array(0, 5, 8), array(1, 8, 24) / 3, array(2, 8, 3)

        def net(x, cut, hold):
            q, k, v = (cut(a) for a in jnp.split(layer_norm(x, S, B, hold) @ w, 3, axis=-1))
            p = jax.nn.softmax(jnp.where(jnp.tri(5, dtype=bool), q @ k.T, -jnp.inf))
            p = {half: half, const: const}.get(cut if cut is half else hold, lambda p: p)(p)
            return (x + p @ v)[-1:] @ u

        same = lambda a: a
        f = lambda x: jax.vmap(lambda x: net(x, same, same)[0])(x)
        for composite, cut in (("cp_lrp", same), ("attn_lrp", half)):
            expected = x * jax.grad(lambda x, cut=cut: net(x, cut, const)[0, 1])(x)
            r = interpret.lrp(f, x[None], target=1, composite=composite)[0]
            np.testing.assert_allclose(r, expected, atol=1e-4 * np.abs(expected).max())


def test_centered_pixels_before_a_flat_layer_keep_their_relevance():
    with double():
        f = lambda x: ((x - B) / 3) @ W
        r = interpret.lrp(f, X, target=1, composite={"*": rules.flat()})
        np.testing.assert_allclose(r, (f(X)[:, 1:2] / 8).repeat(8, 1), rtol=1e-5)


def test_warnings():
    """Amplified, absorbed and infinite relevance warns, but not under jit."""
    x = jnp.asarray([[1.0, 1.0, 2.0]])
    amplified = lambda x: (
        jnp.tanh(x[:, :1] - x[:, 1:2] + 1e-5) @ jnp.ones((1, 2)) + jnp.cos(x[:, :1] - x[:, 1:2])
    )
    with pytest.warns(UserWarning, match=r"example 0 is amplified \(.* sums near 0.*check=False"):
        interpret.lrp(lambda x: 1e-3 * amplified(x), x, target=0)
    absorbed = lambda x: jax.nn.relu(x @ jnp.full((3, 2), -0.1) + 5) @ jnp.ones((2, 1))
    with pytest.warns(UserWarning, match=r"does not reach x \(0 in all and 0 at most, of 9.2"):
        interpret.lrp(absorbed, x, composite="z_plus")
    infinite = lambda x: x @ jnp.asarray([[jnp.inf], [1.0], [1.0]])
    with pytest.warns(UserWarning, match="is not finite"):
        interpret.lrp(infinite, x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        interpret.lrp(absorbed, x, composite="z_plus", check=False)
        jax.jit(lambda x: interpret.lrp(absorbed, x, composite="z_plus"))(x)
        interpret.lrp(absorbed, x)
