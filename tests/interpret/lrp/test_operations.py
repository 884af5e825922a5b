"""DeepLIFT and LRP of many operations: attributions add up, or a ValueError names the operation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jaxdl import interpret
from tests.interpret.networks import array, double, run

X, BASE = array(0, 2, 6), array(1, 1, 6) / 2
W = array(2, 6, 6)
KEPT = np.arange(6) < 4
SEGMENTS = np.array([0, 1, 2, 0, 1, 2])
pairs = lambda f: lambda x: f(x[:, :3], x[:, 3:])
positive = lambda f: lambda x: f(abs(x) + 0.3)
tokens = lambda x: x.reshape(-1, 3, 2)
spectrum = jnp.fft.rfft


@jax.custom_vjp
def straight_through(x):
    return jnp.round(x)


straight_through.defvjp(lambda x: (jnp.round(x), None), lambda _, g: (g,))


def sparsemax(x):
    order = -jnp.sort(-x, 1)
    total = jnp.cumsum(order, 1)
    count = (1 + jnp.arange(1.0, 7) * order > total).sum(1, keepdims=True)
    last = jax.nn.one_hot(count[:, 0] - 1, 6, dtype=x.dtype)
    return jnp.maximum(x - ((total * last).sum(1, keepdims=True) - 1) / count, 0)


def flags(x):
    step = lambda c, h: ((c[0] | (h > 0.5), c[1] + jnp.where(c[0], 0, h)), c[1])
    return lax.scan(step, (jnp.zeros(len(x), bool), jnp.zeros(len(x))), x.T)[1].T


EXACT = {
    "elementwise": {
        "exp, log": positive(lambda x: jnp.log(jnp.exp(x) + 1) * jnp.sqrt(x)),
        "erf, gamma": positive(lambda x: lax.lgamma(x) + lax.erf(x) + lax.digamma(x)),
        "relu by a mask": lambda x: x * (x > 0) + jnp.where(x < 0, x**2, 0),
        "round, cast": lambda x: jnp.round(3 * x).astype(jnp.int32) * 1.0 + jnp.floor(x),
        "step": lambda x: jnp.heaviside(x, 0.5),
        "remainder": lambda x: x % 0.7,
        "x/|x|": lambda x: x / abs(x),
        "binary": pairs(lambda a, b: jnp.arctan2(a, b) + jnp.maximum(a, b) + a / (b * b + 0.1)),
        "power": positive(pairs(lambda a, b: a**b + jnp.hypot(a, b) + a % b)),
        "comparisons": pairs(lambda a, b: (a > b) * a + ((a > 0) | (b > 0))),
        "logaddexp": pairs(lambda a, b: jnp.logaddexp(30 * a, 30 * b)),
        "where": pairs(lambda a, b: jnp.where(a > b, jnp.exp(a), b)),
        "safe log": lambda x: jnp.where(x > 0, jnp.log(x), 0.0),
        "safe quotient": pairs(lambda a, b: jnp.where(a > 0, b / jnp.where(a > 0, a, 1), b)),
        "select": lambda x: jnp.select([x > 1, x > 0], [x, x**2], -x),
        "clamp": lambda x: lax.clamp(x[:, :2], x[:, 2:4], x[:, 4:]),
    },
    "reductions": {
        "prod, var": lambda x: x.prod(1, keepdims=True) + x.var(1, keepdims=True),
        "any, count": lambda x: (x > 0).any(1, keepdims=True) + (x > 0).sum(1, keepdims=True) * 1.0,
        "one_hot(argmax)": lambda x: jax.nn.one_hot(x.argmax(1), 6, dtype=x.dtype) * x,
        "sort, median": lambda x: jnp.sort(x, 1) + jnp.median(x, 1, keepdims=True),
        "top_k": lambda x: lax.top_k(x, 3)[0],
        "cumulative": lambda x: jnp.cumprod(x, 1) + lax.cummax(x, 1) + lax.cummin(x, 1, True),
        "cumlogsumexp": lambda x: lax.cumlogsumexp(30 * x, 1),
        "sparsemax": sparsemax,
        "norms": lambda x: x / jnp.linalg.norm(x, axis=1, keepdims=True),
    },
    "moves": {
        "stack": lambda x: jnp.stack([x, jnp.tanh(x)], 1),
        "tile, roll, pad": lambda x: jnp.pad(jnp.roll(jnp.tile(x, (1, 2)), 2, 1), ((0, 0), (1, 0))),
        "at.set": lambda x: x.at[:, :2].set(x[:, 3:5] ** 2).at[:, 2].set(1),
        "at.add": lambda x: x.at[:, np.array([0, 2, 2])].add(x[:, :3]),
        "at.max": lambda x: x.at[:, :2].max(x[:, 3:5]).at[:, 3].multiply(2),
        "segments": lambda x: jax.vmap(
            lambda h: jax.ops.segment_sum(h, SEGMENTS, 3) * jax.ops.segment_max(h, SEGMENTS, 3)
        )(x),
        "dynamic": lambda x: lax.dynamic_update_slice(x, x[:, :2] * x[:, 2:4], (0, 3)),
        "triangular": lambda x: jax.scipy.linalg.solve_triangular(W, x.T).T,
    },
    "complex": {
        "fft": lambda x: spectrum(x).real + spectrum(x).imag,
        "power": lambda x: jnp.log1p(abs(spectrum(x)) ** 2),
        "conj": lambda x: (spectrum(x) * spectrum(x**2).conj()).imag,
        "filter": lambda x: jnp.fft.irfft(spectrum(x) * (1 + 1j * np.arange(4)), 6),
        "exp": lambda x: jnp.exp(1j * x).real,
        "quotient": lambda x: abs(spectrum(x)[:, 1:] / (spectrum(x)[:, :1] + 3)),
    },
    "softmax": {
        "softmax": lambda x: jax.nn.softmax(30 * x),
        "where": lambda x: jax.nn.softmax(30 * x, where=KEPT),
        "-inf": lambda x: jax.nn.softmax(jnp.where(KEPT, x, -jnp.inf)),
        "by hand": lambda x: jnp.exp(30 * x) / jnp.exp(30 * x).sum(1, keepdims=True),
        "log": lambda x: jnp.where(KEPT, jax.nn.log_softmax(3000 * x, where=KEPT), 0),
        "two axes": lambda x: jax.nn.softmax(30 * x.reshape(-1, 2, 3), axis=(1, 2)),
        "logsumexp": lambda x: jax.nn.logsumexp(30 * x, 1, b=np.arange(1, 7), keepdims=True),
        "square": lambda x: jax.vmap(lambda a: a / a.sum(0)[:, None])(
            jnp.exp(tokens(x) @ W[:2, :3])
        ),
        "attention": lambda x: jax.nn.softmax(30 * tokens(x) @ tokens(x).mT) @ tokens(x),
        "other mask": lambda x: jax.nn.softmax(jnp.where(x > -0.5, x, -1e9)),
    },
    "control": {
        "fori_loop": lambda x: lax.fori_loop(0, 3, lambda i, h: jnp.tanh(h @ W), x),
        "flags": flags,
        "vmapped cond": jax.vmap(lambda h: lax.cond(h.sum() > 0, jnp.sin, jnp.cos, h)),
        "checkpoint": jax.checkpoint(lambda x: jnp.sin(x) * x),
        "straight through": lambda x: straight_through(3 * x),
        "grad": jax.grad(lambda x: (jnp.tanh(x @ W) ** 2).sum()),
    },
}


def total(f):
    """f(x) reduced to one score per example, in which every number counts differently."""

    def score(x):
        y = f(x).reshape(len(x), -1)
        return (y * jnp.cos(jnp.arange(y.shape[1]))).sum(1)

    return score


@pytest.mark.parametrize("kind", EXACT)
def test_deep_lift_adds_up_through(kind):
    with double(), jax.numpy_dtype_promotion("standard"):

        @jax.jit
        def explain(x, base):
            scores = [total(f) for f in EXACT[kind].values()]
            every = [interpret.deep_lift(f, x, baseline=base).sum(1) for f in scores]
            return every, [f(x) - f(base) for f in scores]

        sums, expected = jax.tree.map(np.asarray, explain(X, BASE))
        for name, one, due in zip(EXACT[kind], sums, expected, strict=True):
            np.testing.assert_allclose(one, due, rtol=1e-8, atol=1e-8, err_msg=name)
            assert abs(due).max() > 1e-3, name


REFUSED = {
    "'gather', at .* chooses by a value": lambda x: jnp.take_along_axis(x, jnp.argsort(x, 1), 1),
    "'top_k', at .* gives positions": lambda x: lax.top_k(x, 3)[1].astype(float),
    "'scatter-mul'": lambda x: x.at[:, :2].multiply(x[:, 2:4]),
    "'cholesky'": lambda x: jnp.linalg.cholesky(tokens(x).mT @ tokens(x) + 2 * np.eye(2)),
    "'while'": lambda x: lax.while_loop(lambda h: abs(h).sum() < 99, lambda h: h * 2, x),
    "'cond', at .* chooses by a value": lambda x: lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x),
    "-inf; expected their difference": lambda x: jnp.log(jnp.maximum(x[:, :1], 0)),
    "add up to nan": lambda x: jax.nn.softmax(jnp.where(x > 0, x, -jnp.inf)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_deep_lift_refuses(message):
    x = jnp.array([[1.0, -1, 2, 0.5, 3, 4]])
    with pytest.raises(ValueError, match=f"deep_lift: .*{message}"):
        interpret.deep_lift(total(REFUSED[message]), x)


def test_what_has_no_part_in_the_score_is_not_refused():
    f = lambda x: (lax.top_k(x, 2)[0], jnp.linalg.cholesky(x @ x.T))[0].sum(1)
    actual = interpret.deep_lift(f, jnp.array([[1.0, 3, 2]]))
    np.testing.assert_allclose(actual, [[0, 3, 2]], atol=1e-6)


def logarithmic_means(x, base):
    """(p - p') / ln(p / p') of two softmaxes, in NumPy."""
    p, q = (np.exp(v - v.max()) / np.exp(v - v.max()).sum() for v in (x, base))
    return np.where(p == q, p, (p - q) / np.where(p == q, 1, np.log(p / q)))


def test_multipliers_of_softmax_and_logsumexp_by_numpy():
    """diag(l) - l l^T / sum(l), and l / sum(l)."""
    with double():
        x, base, r = 3 * array(3, 1, 4), array(4, 1, 4), array(5, 4)
        x[0, 3] = base[0, 3]
        mean = logarithmic_means(x[0], base[0])
        weights = mean / mean.sum()
        f = lambda x: jax.nn.softmax(x) @ r + 2 * jax.nn.logsumexp(x, 1)
        slopes = run(interpret.deep_lift, f, x, baseline=base, multiply_by_inputs=False)
        expected = mean * r - weights * (mean @ r) + 2 * weights
        np.testing.assert_allclose(slopes[0], expected, atol=1e-12)


of_softmax = jax.jit(
    lambda x, base: interpret.deep_lift(jax.nn.softmax, x, target=1, baseline=base)
)


@settings(max_examples=30)
@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=8, max_size=8),
    st.floats(-300, 300, width=32),
    st.booleans(),
)
def test_softmax_of_any_logits_in_float32(values, shift, masked):
    """However sure both runs are: the sum is right, and no attribution is out of proportion."""
    x, base = np.array(values, np.float32).reshape(2, 1, 4)
    if masked:
        x[0, 2] = base[0, 2] = -np.inf
    actual = np.asarray(of_softmax(x, base), np.float64)
    p, q = (np.exp(v - v.max()) / np.exp(v - v.max()).sum() for v in np.float64([x, base]))
    size = np.abs(np.where(np.isinf(x), 0, x).astype(float) - np.where(np.isinf(x), 0, base)).max()
    np.testing.assert_allclose(actual.sum(), (p - q)[0, 1], atol=1e-5 + 1e-6 * size)
    assert abs(actual).max() <= 1 + size
    moved = np.asarray(of_softmax(x + np.float32(shift), base), np.float64)  # which changes nothing
    np.testing.assert_allclose(moved.sum(), (p - q)[0, 1], atol=1e-4 + 1e-5 * (size + abs(shift)))
    if masked:
        assert actual[0, 2] == 0


def test_a_confident_softmax_has_attributions_as_large_as_the_difference():
    for x in ([20.0, -20, 0], [90, 0, 0], [1e4, -1e4, 0]):
        x = np.array([x], np.float32)
        actual = np.asarray(interpret.deep_lift(jax.nn.softmax, x, target=0))
        np.testing.assert_allclose(actual.sum(), 2 / 3, rtol=1e-5)
        assert abs(actual).max() < 1
    lse = lambda x: jax.nn.logsumexp(x, 1) - x[:, 0]
    actual = interpret.deep_lift(
        lse, jnp.array([[1e4, 1e4 - 1, -jnp.inf]]), baseline=jnp.array([[0.0, 1, -jnp.inf]])
    )
    np.testing.assert_allclose(actual.sum(), np.log1p(np.exp(-1)) - np.log1p(np.e), atol=2e-3)


@pytest.mark.parametrize("method", [interpret.deep_lift, interpret.lrp])
class TestBoth:
    def test_masks_of_minus_infinity(self, method):
        x = np.float32(X[:1])
        f = {
            "attention": lambda x: (
                jax.nn.softmax(jnp.where(KEPT[:3], tokens(x) @ tokens(x).mT, -jnp.inf)) @ tokens(x)
            ),
            "where": lambda x: jax.nn.softmax(x, where=KEPT) @ np.float32(W),
            "maximum": lambda x: jnp.where(KEPT, x, -jnp.inf).max(1, keepdims=True),
            "logsumexp": lambda x: jax.nn.logsumexp(jnp.where(KEPT, x, -jnp.inf), 1, keepdims=True),
        }
        actual = jax.jit(lambda x: [method(total(g), x) for g in f.values()])(x)
        for name, one in zip(f, actual, strict=True):
            assert np.isfinite(one).all() and np.abs(one).max() > 0, name
            if name != "attention":
                np.testing.assert_array_equal(one[:, 4:], 0, err_msg=name)

    def test_a_power_spectrum_by_parseval(self, method):
        """sum |F x|^2 = n sum x^2: each x has n x^2."""
        with double():
            f = lambda x: (abs(jnp.fft.fft(x)) ** 2).sum(1)
            np.testing.assert_allclose(run(method, f, X), 6 * X**2, atol=1e-4)

    def test_scattered_and_stacked_values(self, method):
        with double():

            def f(x):
                sums = jax.vmap(lambda h: jax.ops.segment_sum(h, SEGMENTS, 3))(x)
                return jnp.stack([sums, x.at[:, 3:].set(1.0)[:, :3]], 1).reshape(-1, 6) @ W

            expected = X * (W[SEGMENTS, 1] + np.where(np.arange(6) < 3, W[3 + SEGMENTS, 1], 0))
            actual = run(method, f, X, target=1)
            np.testing.assert_allclose(actual, expected, atol=1e-3)

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
    def test_half_precision_layers_hand_back_float32(self, method, dtype):
        """The weights are rounded, the relevance is not: no bfloat16 has its numbers."""
        w, v = np.asarray(array(0, 6, 5), dtype), np.asarray(array(1, 5, 3), dtype)
        x = np.float32(np.asarray(X, dtype))

        def f(x):
            h = x.astype(dtype)
            h, _ = lax.scan(lambda h, _: (jax.nn.relu(h), None), h @ w, length=2)
            return (h @ v).astype(jnp.float32)

        exact = np.float64(x) @ np.float64(w)
        live = np.asarray(np.float32(exact), dtype) > 0
        expected = x * ((live * np.float64(v)[:, 1]) @ np.float64(w).T)
        actual = run(method, f, x, target=1)
        assert actual.dtype == np.float32
        # DeepLIFT multiplies by weights only; LRP divides by the rounded sums.
        tolerance = 1e-4 if method is interpret.deep_lift else 0.05
        np.testing.assert_allclose(actual, expected, atol=tolerance)
        narrow = method(f, jnp.asarray(x, dtype), target=1)
        assert narrow.dtype == dtype
        np.testing.assert_allclose(np.float32(narrow), actual, rtol=0.01, atol=1e-3)

    def test_a_derivative_of_its_own_changes_nothing(self, method):
        """Both explain the values: a straight-through estimator, a reversed gradient."""
        with double():
            reverse = jax.custom_vjp(lambda x: x * 1.0)
            reverse.defvjp(lambda x: (x * 1.0, None), lambda _, g: (-g,))
            f = lambda x: (reverse(x) + straight_through(2 * x)) @ W
            expected = (X + np.round(2 * X)) * W[:, 0]
            np.testing.assert_allclose(run(method, f, X, target=0), expected, atol=1e-4)


def test_order_statistics_have_what_moves_them():
    """Where the order stays, sorting moves differences; a value that stays has nothing."""
    with double():
        x, base = np.array([[3.0, 1, 2.5, 7]]), np.array([[2.0, 1, 2.2, 5]])
        f = lambda x: jnp.sort(x, 1) @ np.array([1.0, 10, 100, 1000])
        actual = run(interpret.deep_lift, f, x, baseline=base)
        assert actual[0, 1] == 0
        np.testing.assert_allclose(actual.sum(), (2.5 - 2) * 10 + (3 - 2.2) * 100 + 2000)
        np.testing.assert_allclose(actual[0, 3], 2000)


def test_lrp_passes_elementwise_functions_of_one_value_though_by_truth_values():
    with double():
        f = lambda x: (jnp.where(x > 0, 1.0, -1.0) + jnp.round(x).astype(int).astype(float)) @ W
        expected = (np.where(X > 0, 1, -1) + np.round(X)) * W[:, 0]
        np.testing.assert_allclose(run(interpret.lrp, f, X, target=0), expected, atol=1e-4)


@pytest.mark.parametrize(
    "f", [lambda x: jnp.argmax(x, 1).astype(float), lambda x: jnp.asarray(W)[jnp.argmax(x, 1), 0]]
)
def test_lrp_refuses_a_score_that_no_real_number_reaches(f):
    with double(), pytest.raises(ValueError, match="lrp: .* of 'argmax' at .*test_operations"):
        interpret.lrp(f, X)


def test_lrp_of_products_of_many_and_of_complex_values():
    with double():
        f = lambda x: x.prod(1)
        expected = np.repeat(X.prod(1, keepdims=True) / 6, 6, 1)
        np.testing.assert_allclose(run(interpret.lrp, f, X), expected, atol=1e-4)
        f = lambda x: (spectrum(x) * (spectrum(x) @ np.full((4, 4), 1j)).conj()).real.sum(1)
        np.testing.assert_allclose(run(interpret.lrp, f, X).sum(1), f(X), atol=1e-3)
        with pytest.raises(ValueError, match="lrp: no rule for the operation 'exp'"):
            interpret.lrp(lambda x: jnp.exp(spectrum(x)).real.sum(1), X)


def test_flax_mixed_precision():
    net = linen.Sequential(
        [linen.Dense(8, dtype=jnp.bfloat16), linen.relu, linen.Dense(3, dtype=jnp.bfloat16)]
    )
    x = np.float32(X)
    own = net.init(jax.random.key(0), x)
    f = lambda x: net.apply(own, x).astype(jnp.float32)
    lift, relevance = jax.jit(
        lambda x: [m(f, x, target=0) for m in (interpret.deep_lift, interpret.lrp)]
    )(x)
    np.testing.assert_allclose(lift.sum(1), f(x)[:, 0], rtol=0.03, atol=0.01)
    np.testing.assert_allclose(relevance, lift, atol=0.01)


def test_truth_values_and_types_of_several_widths_mix():
    with double():

        def f(x):
            count = (x > 0).sum(1).astype(x.dtype)
            chosen = jnp.where(x[:, :1] > 0, x, 2 * x).sum(1) * (x.max(1) > 1).astype(x.dtype)
            return (chosen + count).astype(jnp.float64) * jnp.exp(x[:, 0].astype(jnp.float64))

        x, base = np.float32(X), np.float32(BASE)
        actual = interpret.deep_lift(f, x, baseline=base)
        assert actual.dtype == np.float32
        np.testing.assert_allclose(actual.sum(1), f(x) - f(base), atol=1e-5)


def test_a_function_of_all_examples_together_is_refused():
    f = lambda x: x.sum(1) + x[0].sum()
    with pytest.raises(ValueError, match="add up to .*each example by itself"):
        interpret.deep_lift(f, np.float32([[1, 2], [3, 4]]))
