import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxdl
from jaxdl import interpret, nn
from jaxdl.interpret.lrp import COMPOSITES, epsilon_gamma_box, rules
from jaxdl.interpret.lrp.composites import Composite
from jaxdl.interpret.lrp.operations import REGISTERED
from tests.interpret.lrp import models
from tests.interpret.networks import array, double, fill, run

TINY = 1e-10
SMALL = {"composite": {"*": rules.epsilon(TINY)}, "eps": TINY}


def total(r):
    return r.reshape(len(r), -1).sum(1)


def explained(f, x, target, **options):
    """Returns the relevances and the output, compiled as one program."""
    explain = lambda f, x: (interpret.lrp(f, x, target=target, **options), f(x))
    return run(explain, f, x)


@pytest.mark.row("Q08")
def test_residual_network_of_flax_adds_up_and_is_input_times_gradient():
    """Captum and Zennit: a `+` is no module, a ReLU used twice one module (captum 546, 1082,
    zennit 236). Here each is an operation of its own."""
    with double():
        f = models.flax(models.ResidualCNN(), models.IMAGES)
        r, y = explained(f, models.IMAGES, 1, **SMALL)
        np.testing.assert_allclose(total(r), y[:, 1], atol=1e-7)
        slope = run(interpret.input_x_gradient, f, models.IMAGES, target=1)
        np.testing.assert_allclose(r, slope, atol=1e-6)
        inside = jax.jit(jax.vmap(lambda x: interpret.lrp(f, x[None], target=1, **SMALL)))
        np.testing.assert_allclose(inside(models.IMAGES)[:, 0], r, atol=1e-12)


@pytest.mark.parametrize("name", ["epsilon", "gamma", "epsilon_plus_flat"])
def test_composites_hand_on_all_the_relevance(name):
    with double():
        f = models.flax(models.ResidualCNN(), models.IMAGES)
        r, y = explained(f, models.IMAGES, 1, composite=name)
        np.testing.assert_allclose(total(r), y[:, 1], atol=1e-4)


@pytest.mark.parametrize("library", ["equinox", "nnx"])
def test_networks_of_equinox_and_nnx_add_up(library):
    with double():
        f = models.equinox_mlp() if library == "equinox" else models.nnx_mlp()
        r, y = explained(f, array(0, 3, 5), "argmax", **SMALL)
        np.testing.assert_allclose(r.sum(1), y.max(1), atol=1e-8)


def test_a_network_of_haiku_adds_up():
    with double(), jax.numpy_dtype_promotion("standard"):  # its pooling mixes integers and floats
        f = models.haiku_cnn(models.IMAGES)
        r, y = explained(f, models.IMAGES, 1, **SMALL)
        np.testing.assert_allclose(total(r), y[:, 1], atol=1e-7)
        # Without biases a black image scores zero.
        ig = run(interpret.integrated_gradients, f, models.IMAGES, target=1, steps=256)
        np.testing.assert_allclose(total(ig), y[:, 1], rtol=1e-2, atol=1e-2)
        maps = run(interpret.deep_lift, f, models.IMAGES, target=1)
        np.testing.assert_allclose(total(maps), y[:, 1], atol=1e-8)
        inside = jax.jit(jax.vmap(lambda x: interpret.saliency(f, x[None], target=1)))
        result = run(interpret.saliency, f, models.IMAGES, target=1)
        np.testing.assert_allclose(inside(models.IMAGES)[:, 0], result, atol=1e-12)


def test_flax_lstm_has_a_relevance_for_every_step():
    with double():
        f = models.flax(models.FlaxLSTM(), models.SEQUENCES)
        r, y = explained(f, models.SEQUENCES, 0)
        np.testing.assert_allclose(total(r), y[:, 0], atol=1e-4)
        assert np.all(np.abs(r).sum(2) > 0)


@pytest.mark.parametrize("cell", ["lstm", "gru", "elman"])
def test_a_loop_and_the_same_written_out(cell):
    """One scan over all steps equals a Python loop, also for the fused forms."""
    with double():
        layer = getattr(nn, cell)(4)
        model = jaxdl.serial(layer, lambda x: x[:, -1], nn.dense(3, use_bias=False))
        plain = jaxdl.serial(
            nn.rnn(getattr(nn, cell)(4), implementation="scan", unroll=5),
            lambda x: x[:, -1],
            nn.dense(3, use_bias=False),
        )
        init = lambda model: jax.eval_shape(model.init, jax.random.key(1), models.SEQUENCES)
        params, state = fill(init(model))
        other = jax.tree.unflatten(jax.tree.structure(init(plain)[0]), jax.tree.leaves(params))
        (r, y), (written_out, same) = (
            explained(lambda x, f=f, p=p: f(p, state, x)[0], models.SEQUENCES, 2)
            for f, p in ((model.apply, params), (plain.apply, other))
        )
        np.testing.assert_allclose(same, y, atol=1e-12)
        # The sums have another form, and epsilon is added at other places.
        np.testing.assert_allclose(written_out, r, atol=1e-10 if cell == "elman" else 1e-5)
        np.testing.assert_allclose(total(r), y[:, 2], atol=1e-4)


def lstm_by_hand(w, u, v, x, target, eps=1e-10):
    """Arras et al. 2017, sec. 2: the signal takes all, sums are shared."""
    size = len(u)
    sigmoid = lambda a: 1 / (1 + np.exp(-a))
    stab = lambda a: a + np.where(a >= 0, eps, -eps)
    h = c = np.zeros(size)
    past = []
    for step in x:
        z = step @ w + h @ u
        i, f, g, o = (
            sigmoid(z[:size]),
            sigmoid(z[size : 2 * size]),
            np.tanh(z[2 * size : 3 * size]),
            0,
        )
        o = sigmoid(z[3 * size :])
        past.append((h, c, i, f, g, z[2 * size : 3 * size]))
        c = f * c + i * g
        h = o * np.tanh(c)
    of_h = h * v[:, target] * 1.0
    of_c, out = np.zeros(size), np.zeros_like(x)
    for t in reversed(range(len(x))):
        h, old, i, f, g, z = past[t]
        of_c = of_c + of_h
        now = f * old + i * g
        of_g = of_c * i * g / stab(now)
        of_c = of_c * f * old / stab(now)
        share = of_g / stab(z)
        out[t] = x[t] * (w[:, 2 * size : 3 * size] @ share)
        of_h = h * (u[:, 2 * size : 3 * size] @ share)
    return out


def test_lstm_against_the_equations():
    with double():
        w, u, v = array(0, 3, 16), array(1, 4, 16), array(2, 4, 2)
        x = array(3, 2, 5, 3)

        def f(x):
            def step(carry, x):
                h, c = carry
                i, f, g, o = jnp.split(x @ w + h @ u, 4, axis=-1)
                c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
                h = jax.nn.sigmoid(o) * jnp.tanh(c)
                return (h, c), h

            zero = jnp.zeros((len(x), 4))
            (h, _), _ = jax.lax.scan(step, (zero, zero), x.swapaxes(0, 1))
            return h @ v

        result = interpret.lrp(f, x, target=1, **SMALL)
        expected = [lstm_by_hand(w, u, v, one, 1) for one in x]
        np.testing.assert_allclose(result, expected, atol=1e-7)


def by_matrix(name, w, b, x, r, eps=1e-6):
    """Each rule for one layer, term by term."""
    z = x[:, None] * w
    stab = lambda a: a + (eps if a >= 0 else -eps)
    out = np.zeros(len(x))
    for k in range(w.shape[1]):
        terms = {
            "epsilon": z[:, k],
            "z_plus": np.maximum(z[:, k], 0),
            "w_square": w[:, k] ** 2,
            "flat": np.ones(len(x)),
            "box": z[:, k] - np.where(w[:, k] > 0, -2.0, 3.0) * w[:, k],
        }[name]
        bias = b[k] if name == "epsilon" else 0.0
        out += terms * r[k] / stab(terms.sum() + bias)
    return out


@pytest.mark.row("Q08")
@pytest.mark.parametrize("name", ["epsilon", "z_plus", "w_square", "flat", "box"])
def test_rules_term_by_term(name):
    with double():
        w, b, x = array(0, 4, 3), array(1, 3), array(2, 1, 4)
        rule = rules.box(-2.0, 3.0) if name == "box" else getattr(rules, name)()
        r = interpret.lrp(
            lambda x: x @ w + b, x, target=lambda y: y.sum(1), composite=lambda layer: rule
        )
        y = (x @ w + b)[0]
        share = y * y.sum() / (y.sum() + 1e-6 * np.sign(y.sum()))
        expected = by_matrix(name, w, b, x[0], share)
        np.testing.assert_allclose(r[0], expected, rtol=1e-5, atol=1e-9)


LIMITS = {
    "z_plus": rules.z_plus(TINY),
    "alpha_beta": rules.alpha_beta(1, 0, TINY),
    "no_gamma": rules.gamma(0.0, TINY),
    "epsilon": rules.epsilon(TINY),
    "much_gamma": rules.gamma(1e9, TINY),
    "box_of_zero": rules.box(0.0, 0.0, TINY),
}


@jax.jit
def by_rules(w, x):
    """Returns the relevances of class 0 of x @ w by each of the rules above."""
    by = lambda rule: interpret.lrp(lambda x: x @ w, x, target=0, composite=lambda layer: rule)
    return {name: by(rule) for name, rule in LIMITS.items()}


@settings(max_examples=5)
@given(st.integers(0, 50))
def test_limits_of_the_rules(seed):
    """alpha 1, beta 0 is z+; gamma 0 is epsilon; large gamma is z+ if y > 0."""
    with double():
        w, x = array(seed, 4, 3), np.abs(array(seed + 1, 2, 4))
        r = {name: np.asarray(value) for name, value in by_rules(w, x).items()}
        np.testing.assert_array_equal(r["z_plus"], r["alpha_beta"])
        np.testing.assert_allclose(r["no_gamma"], r["epsilon"], atol=1e-8)
        np.testing.assert_allclose(r["box_of_zero"], r["epsilon"], atol=1e-8)
        positive = (x @ w)[:, 0] > 0
        np.testing.assert_allclose(r["much_gamma"][positive], r["z_plus"][positive], atol=1e-6)


def test_batch_norm_folds_into_the_convolution_before_it():
    """Relevances equal those of weights with the batch norm folded in."""
    with double():
        w, b, w2 = array(0, 3, 3, 1, 4), array(1, 4), array(2, 144, 3)
        mean, var, scale, offset = array(3, 4), np.abs(array(4, 4)) + 0.5, array(5, 4), array(6, 4)
        numbers = ("NHWC", "HWIO", "NHWC")
        conv = lambda x, w: jax.lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=numbers
        )
        rest = lambda y: jax.nn.relu(y).reshape(len(y), -1) @ w2
        apart = lambda x: rest((conv(x, w) + b - mean) / np.sqrt(var + 1e-5) * scale + offset)
        by = scale / np.sqrt(var + 1e-5)
        folded = lambda x: rest(conv(x, w * by) + (b - mean) * by + offset)
        result = [
            interpret.lrp(f, models.IMAGES, target=0, composite="epsilon_alpha2_beta1")
            for f in (apart, folded)
        ]
        np.testing.assert_allclose(*result, atol=1e-9)


@pytest.mark.parametrize("name", ["gamma", "z_plus", "epsilon_alpha2_beta1", "epsilon_plus_flat"])
def test_a_layer_is_one_under_vmap_and_in_mixed_precision(name):
    """Layout changes and casts between a product, its bias and its batch norm."""
    w, v, x = array(0, 3, 3, 2, 4), array(1, 4, 3), array(2, 3, 5, 5, 2)
    bias, mean, scale, offset = array(3, 4, 4)
    conv = lambda x, w, order: jax.lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=order
    )
    last, first = ("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW")
    norm = lambda y, shape: (
        (y + bias.reshape(shape) - mean.reshape(shape)) * scale.reshape(shape)
        + offset.reshape(shape)
    )

    def batched(x):
        return jax.nn.relu(norm(conv(x, w, last), -1)).mean((1, 2)) @ v

    def single(x):
        y = conv(x.transpose(2, 0, 1)[None], w.transpose(3, 2, 0, 1), first)[0]
        return v.T @ jax.nn.relu(norm(y, (4, 1, 1))).mean((1, 2))

    def mixed(x):
        y = conv(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16), last).astype(x.dtype)
        return jax.nn.relu(norm(y, -1)).mean((1, 2)) @ v

    with double():
        explain = lambda f: explained(f, x, 1, composite=name, check=False)[0]
        expected = explain(batched)
        for f, tolerance in ((jax.vmap(single), 1e-9), (mixed, 0.02)):
            error = np.abs(explain(f) - expected).max() / np.abs(expected).max()
            assert error < tolerance, (error, f)


def test_relevance_between_layers():
    with double():
        f = models.normed(models.IMAGES)
        places = ["conv_0", "batch_norm_0", "relu_0", "max_pool_0", "dense_0", "gelu_0"]

        @jax.jit
        def explain(x):
            return {name: interpret.lrp(f, x, target=0, layer=name) for name in places}, f(x)[:, 0]

        result, score = jax.tree.map(np.asarray, explain(models.IMAGES))
        assert result["conv_0"].shape == (2, 6, 6, 4) and result["dense_0"].shape == (2, 5)
        below = [total(result[name]) for name in ("conv_0", "relu_0", "max_pool_0")]
        chex.assert_trees_all_close(*below, atol=1e-5)
        without_bias = total(result["gelu_0"])
        assert np.all(np.abs(without_bias - score) < np.abs(score) + 1)


@pytest.mark.parametrize("n", [3, 6])
def test_relevance_at_a_place_inside_of_vmap_has_the_examples_first(n):
    """`w.T @ row` puts examples last; with 6 of them the shape is ambiguous."""
    with double():
        w, v, x = array(0, 4, 6), array(2, 6, 2), array(3, n, 4)

        def row(x):
            with jax.named_scope("hidden"):
                h = w.T @ x
            return v.T @ jax.nn.relu(h) + 1

        def batch(x):
            with jax.named_scope("hidden"):
                h = x @ w
            return jax.nn.relu(h) @ v + 1

        explain = lambda f, x: interpret.lrp(f, x, target=1, layer="hidden", **SMALL)
        for f in (batch, jax.vmap(row), jax.vmap(jax.jit(row))):
            relevance = run(explain, f, x)
            np.testing.assert_allclose(relevance, np.maximum(x @ w, 0) * v[:, 1], atol=1e-7)


def test_relevances_are_differentiable_in_the_parameters():
    """Compares with finite differences; Zennit does not support this (issue 183)."""
    with double():
        w, v, x = array(0, 4, 5), array(1, 5, 2), array(2, 3, 4)

        def size(w):
            f = lambda x: jax.nn.relu(x @ w + 0.1) @ v
            return jnp.sum(interpret.lrp(f, x, target=0) ** 2)

        way, step = array(3, 4, 5), 1e-5
        gradient = np.asarray(jax.jit(jax.grad(size))(w))
        compiled = jax.jit(size)
        slope = (compiled(w + step * way) - compiled(w - step * way)) / (2 * step)
        np.testing.assert_allclose(np.sum(gradient * way), slope, rtol=1e-5)


def test_batches_examples_and_targets():
    with double():
        w, v, x = array(0, 4, 5), array(1, 5, 3), array(2, 5, 4)
        f = lambda x: jnp.tanh(x @ w) @ v
        of = lambda x, t, **o: interpret.lrp(f, x, target=t, **o)
        labels = np.array([0, 1, 2, 1, 0])

        @jax.jit
        def explain(x):
            both = of(x, np.stack([labels, labels * 0]))
            return of(x, labels), of(x, labels, batch_size=2), of(x[3:4], 1), both

        whole, cut, alone, both = explain(x)
        np.testing.assert_allclose(cut, whole, atol=1e-12)
        np.testing.assert_allclose(alone[0], whole[3], atol=1e-12)
        assert both.shape == (2, 5, 4)
        np.testing.assert_allclose(both[0], whole, atol=1e-12)


@pytest.mark.parametrize("gating", ["signal_take_all", "uniform"])
def test_attention(gating):
    """Attention weights take none or half; masked scores leave it finite."""
    with double():
        x, v = array(0, 2, 4, 3), array(1, 3, 2)

        def f(x):
            scores = jnp.where(np.arange(4) < 3, jnp.einsum("nqd,nkd->nqk", x, x), -jnp.inf)
            return jnp.einsum("nqk,nkd->nqd", jax.nn.softmax(scores), x)[:, 0] @ v

        r, y = explained(f, x, 0, gating=gating)
        assert np.all(np.isfinite(r))
        assert not np.any(r[:, 3]) and np.any(r[:, 1])
        if gating == "signal_take_all":
            np.testing.assert_allclose(total(r), y[:, 0], atol=1e-4)
            weights = np.exp(np.einsum("nd,nkd->nk", x[:, 0], x[:, :3]))
            weights /= weights.sum(1, keepdims=True)
            expected = weights[..., None] * x[:, :3] * v[:, 0]
            np.testing.assert_allclose(r[:, :3], expected, atol=1e-4)


def test_layer_norm_by_the_rule_for_it():
    """x * (s - mean(s)) with s = r / (x - mean(x)): Ali et al. 2022, sec. 3."""
    with double():
        x, v = array(0, 2, 6), array(1, 6)
        f = lambda x: (x - x.mean(1, keepdims=True)) * jax.lax.rsqrt(x.var(1, keepdims=True)) @ v
        r = interpret.lrp(f, x, **SMALL)
        centred = x - x.mean(1, keepdims=True)
        s = centred / np.sqrt(x.var(1, keepdims=True)) * v / centred
        np.testing.assert_allclose(r, x * (s - s.mean(1, keepdims=True)), atol=1e-4)


def test_a_condition_takes_its_branch():
    with double():
        w, x = array(0, 4, 2), array(1, 3, 4)
        f = lambda flag: lambda x: jax.lax.cond(flag, lambda x: x @ w, lambda x: (2 * x) @ w, x)
        for flag, factor in ((True, 1), (False, 2)):
            r = np.asarray(interpret.lrp(f(jnp.asarray(flag)), x, target=0))
            np.testing.assert_allclose(r.sum(1), factor * (x @ w)[:, 0], atol=1e-5)


def test_operations_without_a_rule_are_reported_with_their_line():
    x = jnp.ones((2, 3))
    f = lambda x: jnp.cumprod(x, axis=1)
    with pytest.raises(ValueError, match=r"no rule for the operation 'cumprod', at .*test_lrp.py:"):
        interpret.lrp(f, x, target=0)
    interpret.register_rule("cumprod", lambda inputs, outputs, relevances, params: relevances)
    try:
        assert interpret.lrp(f, x, target=0)[0].tolist() == [1, 0, 0]
    finally:
        REGISTERED.pop("cumprod")


def test_bad_arguments():
    f, x = (lambda x: x @ jnp.ones((3, 2))), jnp.ones((2, 3))
    bad = [
        (
            {"composite": "epsilon_pluss"},
            "no composite 'epsilon_pluss'; did you mean 'epsilon_plus'",
        ),
        ({"composite": 3}, "composite is 3; expected a name"),
        ({"gating": "all"}, "gating='all'"),
        ({"start": 2}, "start=2"),
        ({"layer": "nowhere"}, "no layer 'nowhere'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"eps": -1}, "eps is -1; expected a number of 0 or more"),
        ({"eps": np.nan}, "eps is nan"),
    ]
    for options, words in bad:
        with pytest.raises(ValueError, match=words):
            interpret.lrp(f, x, target=0, **options)
    with pytest.raises(ValueError, match="alpha - beta = 1"):
        rules.alpha_beta(2, 2)
    with pytest.raises(ValueError, match="expected 0 or more"):
        rules.gamma(-1)
    assert isinstance(epsilon_gamma_box(0, 1), Composite) and "epsilon" in COMPOSITES


def test_rules_by_path():
    with double():
        f = models.normed(models.IMAGES)
        table = {"conv_*": rules.z_plus(), "dense_*": "epsilon"}
        by_path, by_name = (
            run(interpret.lrp, f, models.IMAGES, target=0, composite=composite)
            for composite in (table, "epsilon_plus")
        )
        np.testing.assert_allclose(by_path, by_name, atol=1e-12)
