import functools

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import jaxdl
from jaxdl import interpret, nn
from jaxdl.interpret.lrp import rules
from tests.interpret.lrp import models
from tests.interpret.networks import apply, array, double, linear, network, run, weights


def adds_up(f, x, base, atol=1e-9):
    @jax.jit
    def explain(x):
        found = interpret.deep_lift(f, x, target=1, baseline=base)
        return found, f(x), f(jnp.broadcast_to(base, x.shape))

    found, score, score_of_base = map(np.asarray, explain(x))
    expected = score[:, 1] - score_of_base[:, 1]
    np.testing.assert_allclose(found.reshape(len(x), -1).sum(1), expected, atol=atol)


class Everything(linen.Module):
    """GELU, SiLU, softplus, batch and layer norm, overlapping maxima, means, softmax."""

    @linen.compact
    def __call__(self, x):
        x = linen.gelu(linen.Conv(3, (3, 3), **models.WIDE)(x))
        x = linen.BatchNorm(use_running_average=True, **models.WIDE)(x)
        x = x + linen.silu(linen.Conv(3, (3, 3), **models.WIDE)(x))
        x = linen.max_pool(x, (3, 3), (2, 2))
        x = linen.LayerNorm(**models.WIDE)(linen.Dense(6, **models.WIDE)(x.reshape(len(x), -1)))
        return linen.softmax(linen.Dense(3, **models.WIDE)(linen.softplus(x)))


def test_a_flax_network_of_everything_adds_up():
    """Captum's delta is large with exp, products, softmax and LayerNorm (1085, 519, 351, 1357)."""
    with double():
        adds_up(models.flax(Everything(), models.IMAGES), models.IMAGES, 0.3, 1e-8)


class Attention(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = x + linen.MultiHeadDotProductAttention(2, qkv_features=4, **models.WIDE)(x)
        x = linen.RMSNorm(**models.WIDE)(x)
        return linen.log_softmax(linen.Dense(2, **models.WIDE)(x.mean(1)))


def test_attention_adds_up():
    with double():
        x = array(0, 2, 4, 4)
        adds_up(models.flax(Attention(), x), x, 0.1)


@pytest.mark.parametrize("model", ["flax", "gru"])
def test_recurrent_networks_add_up(model):
    with double():
        x = models.SEQUENCES
        gru = jaxdl.serial(nn.bidirectional(nn.gru(4)), lambda x: x.mean(1), nn.dense(2))
        f = models.flax(models.FlaxLSTM(), x) if model == "flax" else models.built(gru, x)
        adds_up(f, x, 0.1)


@functools.cache
def deep_lift_of(activation):
    return jax.jit(
        lambda own, x, base: interpret.deep_lift(
            lambda x: apply(own, x, activation), x, target=1, baseline=base
        )
    )


@settings(max_examples=5)
@given(st.integers(0, 99), st.sampled_from([jnp.tanh, jax.nn.relu, jax.nn.elu]))
def test_random_networks_add_up(seed, activation):
    with double():
        f = network(seed, activation=activation)
        x, base = array(seed + 5, 3, 5), array(seed + 6, 1, 5)
        found = np.asarray(deep_lift_of(activation)(weights(seed), x, base))
        np.testing.assert_allclose(found.sum(1), (f(x) - f(base))[:, 1], atol=1e-9)


@pytest.mark.row("Q10")
def test_of_a_linear_function_it_is_weight_times_difference():
    with double():
        f, w = linear()
        x, base = array(4, 3, 5), array(5, 1, 5)
        found = interpret.deep_lift(f, x, target=2, baseline=base)
        np.testing.assert_allclose(found, (x - base) * w[:, 2], atol=1e-12)
        slope = interpret.deep_lift(f, x, target=2, multiply=False)
        np.testing.assert_allclose(slope, np.broadcast_to(w[:, 2], x.shape), atol=1e-12)


def test_the_rule_of_the_paper_by_hand():
    """min(i1, i2) = i1 - relu(i1 - i2): Shrikumar et al. 2017, sec. 3.1: the smaller has all."""
    f = lambda x: x[:, 0] - jax.nn.relu(x[:, 0] - x[:, 1])
    found = interpret.deep_lift(f, jnp.array([[6.0, 2.0], [1.0, 5.0]]))
    np.testing.assert_allclose(found, [[0, 2], [1, 0]], atol=1e-6)


def test_without_biases_it_is_lrp_from_zero():
    with double():
        f = network(2, activation=jax.nn.relu, bias=False)
        x = array(3, 3, 5)
        lifted = run(interpret.deep_lift, f, x, target=0)
        tiny = {"composite": {"*": rules.epsilon(1e-12)}, "eps": 1e-12}
        np.testing.assert_allclose(run(interpret.lrp, f, x, target=0, **tiny), lifted, atol=1e-9)


def test_where_input_and_baseline_are_one_it_takes_the_derivative():
    with double():
        f, x = network(1), array(2, 3, 5)
        slope = run(interpret.deep_lift, f, x, target=0, baseline=x, multiply=False)
        expected = run(interpret.saliency, f, x, target=0, absolute=False)
        np.testing.assert_allclose(slope, expected, atol=1e-10)


def test_examples_stand_alone_and_chunks_change_nothing():
    """Captum's softmax takes a mean over the batch."""
    with double():
        g = network(3)
        f = lambda x: jax.nn.softmax(g(x))
        x, base = array(2, 4, 5), array(5, 1, 5)
        of = functools.partial(interpret.deep_lift, f, target=1, baseline=base)
        whole, alone, cut = jax.jit(lambda x: (of(x), of(x[2:3]), of(x, batch_size=2)))(x)
        np.testing.assert_allclose(alone[0], whole[2], atol=1e-12)
        np.testing.assert_allclose(cut, whole, atol=1e-12)


def test_several_baselines_by_expectation():
    with double():
        f, x, bases = network(3), array(2, 2, 5), array(7, 4, 5)
        found = run(interpret.expectation(interpret.deep_lift, bases), f, x, target=1, batch_size=2)
        expected = f(x)[:, 1] - f(bases)[:, 1].mean()
        np.testing.assert_allclose(found.sum(1), expected, atol=1e-9)


def test_what_it_cannot_do():
    x = jnp.ones((2, 3))
    with pytest.raises(ValueError, match="no rule for the operation 'reduce'"):
        interpret.deep_lift(lambda x: lax.reduce(x, 0.0, lambda a, b: a + b + a * b, (1,)), x)
    chooses = lambda x: lax.cond(x[0, 0] > 0, lambda x: x, jnp.sin, x)
    with pytest.raises(ValueError, match="'cond', at .*chooses by a value that depends on x"):
        interpret.deep_lift(chooses, x, target=0)
