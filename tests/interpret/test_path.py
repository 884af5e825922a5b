import chex
import equinox
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl import interpret
from tests.interpret.networks import double, draw, linear, network

RULES = ["gauss_legendre", "riemann_left", "riemann_middle", "riemann_right", "trapezoid"]


@given(st.integers(0, 100), st.sampled_from([jnp.tanh, jax.nn.sigmoid, jnp.sin]))
def test_completeness_of_smooth_networks(seed, activation):
    """The attributions add up to y(x) - y(baseline): 64 nodes to 1e-6."""
    with double():
        f, x, base = (
            network(seed, activation=activation),
            draw(seed + 9, 4, 5),
            draw(seed + 8, 1, 5),
        )
        found = interpret.integrated_gradients(f, x, target=1, baseline=base, steps=64)
        np.testing.assert_allclose(found.sum(1), f(x)[:, 1] - f(base)[:, 1], atol=1e-6)


@given(st.integers(1, 6), st.integers(0, 50))
def test_gauss_legendre_is_exact_for_polynomials_of_twice_its_nodes(steps, seed):
    with double():
        powers, w = jnp.arange(1, 2 * steps + 1), draw(seed, 2 * steps, 3)
        f = lambda x: jnp.einsum("npd,pd->n", x[:, None] ** powers[:, None].astype(x.dtype), w)
        x, base = draw(seed + 1, 2, 3), 0.3
        found = interpret.integrated_gradients(f, x, baseline=base, steps=steps)
        expected = f(x) - f(jnp.full_like(x, base))
        np.testing.assert_allclose(found.sum(1), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_converges(rule):
    with double():
        f, x = network(3), draw(1, 3, 5)
        exact = interpret.integrated_gradients(f, x, target=0, steps=80)
        errors = []
        for steps in (10, 40, 160):
            found = interpret.integrated_gradients(f, x, target=0, steps=steps, rule=rule)
            errors.append(float(jnp.abs(found - exact).max()))
        assert errors[2] < 0.03 and errors[2] < max(errors[0] / 8, 1e-9)


@pytest.mark.row("Q10")
def test_of_a_linear_function_it_is_weight_times_difference():
    with double():
        f, w = linear()
        x, base = draw(4, 3, 5), draw(5, 1, 5)
        for rule in RULES:
            found = interpret.integrated_gradients(
                f, x, target=2, baseline=base, steps=3, rule=rule
            )
            np.testing.assert_allclose(found, (x - base) * w[:, 2], atol=1e-12)
        slope = interpret.integrated_gradients(f, x, target=2, steps=3, multiply=False)
        np.testing.assert_allclose(slope, jnp.broadcast_to(w[:, 2], x.shape), atol=1e-12)


def test_one_node_in_the_middle_is_the_gradient_there():
    with double():
        f, x = network(), draw(2, 3, 5)
        found = interpret.integrated_gradients(f, x, target=0, steps=1, rule="riemann_middle")
        slope = interpret.saliency(f, x / 2, target=0, absolute=False)
        np.testing.assert_allclose(found, x * slope, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 3, 7, 20, 100])
def test_chunks_change_nothing(chunk):
    with double():
        f, x = network(), draw(2, 3, 5)
        whole = interpret.integrated_gradients(f, x, target="argmax", steps=20)
        cut = interpret.integrated_gradients(f, x, target="argmax", steps=20, chunk=chunk)
        np.testing.assert_allclose(cut, whole, atol=1e-12)


def test_argmax_is_the_class_of_the_input_and_not_of_the_points_between():
    with double():
        f, x = network(), draw(2, 6, 5)
        labels = jnp.argmax(f(x), 1)
        assert jnp.any(labels != jnp.argmax(f(x / 10), 1))
        chex.assert_trees_all_close(
            interpret.integrated_gradients(f, x, target="argmax"),
            interpret.integrated_gradients(f, x, target=labels),
        )


def test_each_example_by_itself_jitted_and_vmapped_over_targets():
    with double():
        f, x = network(), draw(2, 4, 5)
        of = lambda x, t: interpret.integrated_gradients(f, x, target=t, steps=8)
        whole = of(x, 1)
        for i in range(4):
            np.testing.assert_allclose(of(x[i : i + 1], 1)[0], whole[i], atol=1e-12)
        np.testing.assert_allclose(jax.jit(of)(x, 1), whole, atol=1e-12)
        every = jax.vmap(lambda t: of(x, t))(jnp.arange(3))
        np.testing.assert_allclose(every[1], whole, atol=1e-12)


def test_rewriting_the_function_changes_nothing():
    """Implementation invariance: the same function by another program."""
    with double():
        x, w = draw(2, 4, 5), draw(3, 5, 2)
        one = lambda x: jax.nn.relu(x @ w) @ jnp.ones((2, 1))
        other = jax.jit(
            lambda x: sum(jnp.where(x @ w[:, i] > 0, x @ w[:, i], 0) for i in range(2))[:, None]
        )
        found = [interpret.integrated_gradients(f, x, steps=9) for f in (one, other)]
        np.testing.assert_allclose(*found, atol=1e-12)


def test_symmetric_inputs_have_equal_parts_and_unused_ones_none():
    with double():
        f = lambda x: jnp.sin(x[:, 0] * x[:, 1]) + x[:, 0] + x[:, 1]
        x = jnp.asarray([[0.7, 0.7, 3.0]])
        found = interpret.integrated_gradients(f, x)
        assert found[0, 0] == pytest.approx(float(found[0, 1]), abs=1e-12) and found[0, 2] == 0


def test_trees_of_inputs():
    with double():
        f = lambda x: jnp.sum(x["a"] ** 2, 1) * x["b"]
        x = {"a": draw(0, 3, 2), "b": draw(1, 3)}
        found = interpret.integrated_gradients(f, x, steps=4)
        np.testing.assert_allclose(found["a"].sum(1) + found["b"], f(x), atol=1e-12)


@pytest.mark.slow
def test_networks_of_other_libraries():
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            for _ in range(2):
                x = x + linen.Dense(5)(jax.nn.gelu(linen.LayerNorm()(x)))  # GELU used twice
            return linen.Dense(3)(x)

    x = jax.random.normal(jax.random.key(0), (2, 5))
    variables = Net().init(jax.random.key(1), x)
    mlp = equinox.nn.MLP(5, 3, 8, 2, activation=jnp.tanh, key=jax.random.key(2))
    for f in (lambda x: Net().apply(variables, x), jax.vmap(mlp)):
        base = jnp.arange(5.0)[None]
        found = interpret.integrated_gradients(f, x, target=1, baseline=base, steps=80)
        chex.assert_trees_all_close(found.sum(1), f(x)[:, 1] - f(base)[0, 1], atol=1e-4)


def test_expected_gradients_add_up_to_the_difference_from_the_mean():
    with double():
        f, x, others = network(), draw(2, 3, 5), draw(7, 40, 5)
        options = {"target": 1, "key": jax.random.key(0)}
        found = interpret.expected_gradients(f, x, others, samples=20_000, chunk=2000, **options)
        expected = f(x)[:, 1] - f(others)[:, 1].mean()
        np.testing.assert_allclose(found.sum(1), expected, atol=0.05)
        linear_f, w = linear()
        one = interpret.expected_gradients(linear_f, x, others[:1], samples=3, **options)
        np.testing.assert_allclose(one, (x - others[:1]) * w[:, 1], atol=1e-12)
        again = interpret.expected_gradients(linear_f, x, others[:1], samples=3, chunk=2, **options)
        np.testing.assert_allclose(again, one, atol=1e-12)
        moved = interpret.expected_gradients(
            linear_f, x, others[:1], samples=3, noise=0.5, **options
        )
        assert not np.allclose(moved, one)


def test_bad_arguments():
    f, x = (lambda x: x @ jnp.ones((5, 2))), jnp.ones((3, 5))
    bad = [
        ({"steps": 0}, "steps is 0; expected an integer of at least 1"),
        ({"steps": 1, "rule": "trapezoid"}, "at least 2"),
        ({"rule": "riemann"}, "no rule 'riemann'; did you mean"),
        ({"chunk": 0}, "chunk is 0"),
        ({"baseline": jnp.ones(4)}, "the baseline has shape"),
        ({"target": None}, "no target is given"),
    ]
    for options, words in bad:
        with pytest.raises(ValueError, match=words):
            interpret.integrated_gradients(f, x, **{"target": 0, **options})
    with pytest.raises(ValueError, match="background of"):
        interpret.expected_gradients(f, x, jnp.ones((2, 4)), key=jax.random.key(0), target=0)
    with pytest.raises(ValueError, match="x has batches of"):
        interpret.integrated_gradients(lambda x: x[0], (jnp.ones(3), jnp.ones(4)))
