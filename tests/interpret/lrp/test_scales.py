"""Operations that only scale: norms without variance, gates, forms of softmax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxdl import interpret
from tests.interpret.networks import array, double

X, W, V, U = array(0, 3, 8), array(1, 8, 8), array(2, 8, 8), array(3, 8, 3)
const, softmax = lax.stop_gradient, jax.nn.softmax


def scale(x, eps=1e-6):
    return lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + eps)


def centered(x):
    return x - x.mean(-1, keepdims=True)


def layer_norm(x):
    return centered(x) * scale(centered(x), 1e-12)


def half(x):
    return x / 2 + const(x / 2)


NORMS = {
    "three RMS norms": lambda x: jnp.tanh(jnp.tanh(x * scale(x) @ W) @ V) * scale(x @ W),
    "layer norms": lambda x: layer_norm(jax.nn.gelu(layer_norm(x) @ W) + x),
    "unit length": lambda x: x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-12),
    "range": lambda x: (x - x.min(-1, keepdims=True)) / (jnp.ptp(x, -1, keepdims=True) + 1e-9),
    "standard deviation": lambda x: centered(x) / (x.std(-1, keepdims=True) + 1e-8),
}


def test_deep_lift_of_norms_adds_up_at_a_baseline_without_variance():
    """In float32, where a scale of 1 / eps would leave no significant digits."""
    score = lambda f: lambda x: f(x) @ jnp.asarray(U, jnp.float32)

    @jax.jit
    def run(x):
        return {
            (name, base): (
                interpret.deep_lift(score(f), x, target=1, baseline=base),
                (score(f)(x) - score(f)(0 * x + base))[:, 1],
            )
            for name, f in NORMS.items()
            for base in (0.0, 0.5)
        }

    with jax.numpy_dtype_promotion("standard"):
        results = run(np.float32(X))
    for case, (values, due) in results.items():
        np.testing.assert_allclose(values.sum(1), due, atol=1e-3, err_msg=str(case))
        assert np.abs(values).max() < 50, case


def test_deep_lift_refuses_sums_that_are_lost_to_rounding():
    f = lambda x: (x[:, :1] * 1e9 + x[:, 1:2] - x[:, :1] * 1e9) @ jnp.ones((1, 1))
    x = np.float32([[1, 3e-3]])
    with pytest.raises(ValueError, match="add up to 0.003, expected the difference"):
        interpret.deep_lift(f, x)


def sparse_renormalized(p):
    top = lax.top_k(p, 4)[0]
    return jnp.tile(top / top.sum(-1, keepdims=True), 2)


GATES = {
    "as it is": lambda p: p,
    "guarded": jnp.nan_to_num,
    "normalized again": lambda p: p / (p.sum(-1, keepdims=True) + 1e-9),
    "sorted": jnp.sort,
    "the greatest": sparse_renormalized,
}


def exponentials(s):
    return jnp.exp(s - s.max(-1, keepdims=True))


SPELLINGS = {
    "by a reciprocal": lambda s: exponentials(s) * (1 / exponentials(s).sum(-1, keepdims=True)),
    "by its logarithm": lambda s: jnp.exp(jax.nn.log_softmax(s)),
    "by logsumexp": lambda s: jnp.exp(s - jax.nn.logsumexp(s, axis=-1, keepdims=True)),
    "along another axis": lambda s: jax.vmap(softmax, 1, 1)(s.swapaxes(0, 1)).swapaxes(0, 1),
}


def test_lrp_of_what_scales():
    """Equals the input times the gradient with detached scales."""
    a, b, s = (lambda x: x @ W), (lambda x: x @ V), (lambda x: scale(x @ W))
    scaled = {
        "scale first": (
            lambda x: (s(x) * a(x)) * b(x),
            lambda x: half(const(s(x)) * a(x)) * half(b(x)),
        ),
        "scale of another": (
            lambda x: a(x) * (s(x) * b(x)),
            lambda x: half(a(x)) * half(const(s(x)) * b(x)),
        ),
        "a root is a signal": (
            lambda x: jnp.sqrt(jax.nn.relu(a(x))) * b(x),
            lambda x: half(a(x) * const(jnp.sqrt(jax.nn.relu(a(x))) / a(x))) * half(b(x)),
        ),
    }
    for name, gate in GATES.items():
        scaled[name] = (
            lambda x, gate=gate: gate(softmax(a(x))) * b(x),
            lambda x, gate=gate: const(gate(softmax(a(x)))) * b(x),
        )

    def attention(softmax):
        return lambda x: softmax(x @ W @ x.T / 3) @ (x @ V)

    @jax.jit
    def run(x):
        def lrp(f, **options):
            whole = lambda x: (f(x[0]) @ U).sum(0, keepdims=True)
            return interpret.lrp(whole, x[None], target=1, **options)[0]

        pairs = {
            name: (lrp(f), x * jax.grad(lambda x, g=g: (g(x) @ U)[:, 1].sum())(x))
            for name, (f, g) in scaled.items()
        }
        for composite in ("cp_lrp", "attn_lrp"):
            expected = lrp(attention(softmax), composite=composite)
            pairs |= {
                f"{composite} {name}": (lrp(attention(f), composite=composite), expected)
                for name, f in SPELLINGS.items()
            }
        return pairs

    with double():
        for case, (r, expected) in run(X).items():
            error = np.abs(r - expected).max() / np.abs(expected).max()
            assert error < 1e-3, (case, error)


def test_masks_with_another_value_than_0_are_no_softmax():
    """A term that is replaced by a constant gives x no relevance."""
    keep = np.arange(8) < 5
    terms = lambda x: jnp.where(keep, jnp.exp(x), 1.0)
    share = lambda x: (terms(x) / terms(x).sum(-1, keepdims=True)) @ U
    log = lambda x: jnp.log(terms(x).sum(-1))
    with double():
        for f in (lambda x: share(x)[:, 1], log):
            values = interpret.deep_lift(f, X)
            np.testing.assert_allclose(values.sum(1), f(X) - f(0 * X), atol=1e-9)
            assert not np.any(values[:, ~keep])
        assert not np.any(interpret.lrp(share, X, target=1)[:, ~keep])


def test_rows_without_a_term_and_empty_batches():
    mask = np.array([True, True, False])[:, None]
    f = lambda x: (softmax(x @ x.mT, where=mask & np.ones((3, 3), bool)) @ x).sum((1, 2))
    with double():
        values = interpret.deep_lift(f, X[None])
        np.testing.assert_allclose(values.sum(), f(X[None])[0], atol=1e-9)
    f, empty = (lambda x: x @ U.astype(x.dtype)), np.zeros((0, 8), np.float32)
    assert interpret.lrp(f, empty, target=1).shape == (0, 8)
    assert interpret.deep_lift(f, empty, target=1).shape == (0, 8)
