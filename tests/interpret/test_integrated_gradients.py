import functools

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
from tests.interpret.networks import apply, array, double, linear, network, new_key, run, weights

RULES = ["gauss_legendre", "riemann_left", "riemann_middle", "riemann_right", "trapezoid"]


@functools.cache
def path_of(activation):
    """Integrated gradients of class 1 as a program of weights, x and baseline."""
    return jax.jit(
        lambda own, x, base: interpret.integrated_gradients(
            lambda x: apply(own, x, activation), x, target=1, baseline=base, steps=64
        )
    )


@given(st.integers(0, 100), st.sampled_from([jnp.tanh, jax.nn.sigmoid, jnp.sin]))
def test_completeness_of_smooth_networks(seed, activation):
    """The attributions add up to y(x) - y(baseline): 64 nodes to 1e-6."""
    with double():
        f, x, base = (
            network(seed, activation=activation),
            array(seed + 9, 4, 5),
            array(seed + 8, 1, 5),
        )
        found = np.asarray(path_of(activation)(weights(seed), x, base))
        np.testing.assert_allclose(found.sum(1), f(x)[:, 1] - f(base)[:, 1], atol=1e-6)


def polynomial(w, x):
    """sum over p and d of w[p, d] x_d^(p + 1), (N, D) -> (N,)."""
    powers = np.arange(1.0, len(w) + 1)[:, None]
    return ((x[:, None] ** powers) * w).sum((1, 2))


@functools.cache
def path_of_polynomial(steps):
    return jax.jit(
        lambda w, x, base: interpret.integrated_gradients(
            lambda x: polynomial(w, x), x, baseline=base, steps=steps
        )
    )


@given(st.integers(1, 6), st.integers(0, 50))
def test_gauss_legendre_is_exact_for_polynomials_of_twice_its_nodes(steps, seed):
    with double():
        w, x, base = array(seed, 12, 3), array(seed + 1, 2, 3), 0.3
        w[2 * steps :] = 0
        found = np.asarray(path_of_polynomial(steps)(w, x, base))
        expected = polynomial(w, x) - polynomial(w, np.full_like(x, base))
        np.testing.assert_allclose(found.sum(1), expected, rtol=1e-9, atol=1e-9)


def test_every_rule_converges():
    with double():
        f, x = network(3), array(1, 3, 5)

        @jax.jit
        def paths(x):
            of = lambda **options: interpret.integrated_gradients(f, x, target=0, **options)
            return of(steps=80), [[of(steps=n, rule=rule) for n in (10, 40, 160)] for rule in RULES]

        exact, by_rule = jax.tree.map(np.asarray, paths(x))
        for rule, several in zip(RULES, by_rule, strict=True):
            errors = [np.abs(found - exact).max() for found in several]
            assert errors[2] < 0.03 and errors[2] < max(errors[0] / 8, 1e-9), rule


@pytest.mark.row("Q10")
def test_of_a_linear_function_it_is_weight_times_difference():
    with double():
        f, w = linear()
        x, base = array(4, 3, 5), array(5, 1, 5)
        for rule in RULES:
            found = interpret.integrated_gradients(
                f, x, target=2, baseline=base, steps=3, rule=rule
            )
            np.testing.assert_allclose(found, (x - base) * w[:, 2], atol=1e-12)
        slope = interpret.integrated_gradients(f, x, target=2, steps=3, multiply=False)
        np.testing.assert_allclose(slope, np.broadcast_to(w[:, 2], x.shape), atol=1e-12)


def test_one_node_in_the_middle_is_the_gradient_there():
    with double():
        f, x = network(), array(2, 3, 5)
        found = run(interpret.integrated_gradients, f, x, target=0, steps=1, rule="riemann_middle")
        slope = run(interpret.saliency, f, x / 2, target=0, absolute=False)
        np.testing.assert_allclose(found, x * slope, atol=1e-12)


def test_chunks_change_nothing():
    with double():
        f, x = network(), array(2, 3, 5)
        chunks = (None, 1, 3, 7, 20, 100)

        @jax.jit
        def paths(x):
            of = functools.partial(interpret.integrated_gradients, f, x, target="argmax", steps=20)
            return [of(batch_size=chunk) for chunk in chunks]

        whole, *others = paths(x)
        for chunk, cut in zip(chunks[1:], others, strict=True):
            np.testing.assert_allclose(cut, whole, atol=1e-12, err_msg=f"chunk {chunk}")


def test_argmax_is_the_class_of_the_input_and_not_of_the_points_between():
    with double():
        f, x = network(), array(2, 6, 5)
        labels = np.argmax(f(x), 1)
        assert np.any(labels != np.argmax(f(x / 10), 1))
        of = jax.jit(
            lambda x, labels: [
                interpret.integrated_gradients(f, x, target=target) for target in ("argmax", labels)
            ]
        )
        chex.assert_trees_all_close(*of(x, labels))


def test_each_example_by_itself_jitted_and_vmapped_over_targets():
    with double():
        f, x = network(), array(2, 4, 5)
        of = lambda x, t: interpret.integrated_gradients(f, x, target=t, steps=8)
        whole = np.asarray(of(x, 1))
        compiled = jax.jit(of)
        alone = jax.lax.map(lambda x: of(x[None], 1)[0], x)
        np.testing.assert_allclose(alone, whole, atol=1e-12)
        np.testing.assert_allclose(compiled(x, 1), whole, atol=1e-12)
        every = jax.jit(jax.vmap(of, (None, 0)))(x, np.arange(3))
        np.testing.assert_allclose(every[1], whole, atol=1e-12)


def test_rewriting_the_function_changes_nothing():
    """Implementation invariance: the same function by another program."""
    with double():
        x, w = array(2, 4, 5), array(3, 5, 2)
        one = lambda x: jax.nn.relu(x @ w) @ np.ones((2, 1))
        other = jax.jit(
            lambda x: sum(jnp.where(x @ w[:, i] > 0, x @ w[:, i], 0) for i in range(2))[:, None]
        )
        found = [run(interpret.integrated_gradients, f, x, steps=9) for f in (one, other)]
        np.testing.assert_allclose(*found, atol=1e-12)


def test_symmetric_inputs_have_equal_parts_and_unused_ones_none():
    with double():
        f = lambda x: jnp.sin(x[:, 0] * x[:, 1]) + x[:, 0] + x[:, 1]
        found = run(interpret.integrated_gradients, f, np.asarray([[0.7, 0.7, 3.0]]))
        assert found[0, 0] == pytest.approx(found[0, 1], abs=1e-12) and found[0, 2] == 0


def test_trees_of_inputs():
    with double():
        f = lambda x: jnp.sum(x["a"] ** 2, 1) * x["b"]
        x = {"a": array(0, 3, 2), "b": array(1, 3)}
        found = run(interpret.integrated_gradients, f, x, steps=4)
        expected = (x["a"] ** 2).sum(1) * x["b"]
        np.testing.assert_allclose(found["a"].sum(1) + found["b"], expected, atol=1e-12)


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
        f, x, others = network(), array(2, 3, 5), array(7, 40, 5)
        linear_f, w = linear()
        first = others[:1]

        of = lambda f, x, others, **options: interpret.expected_gradients(
            f, x, others, key=new_key(), target=1, **options
        )
        found = run(of, f, x, others, samples=20_000, batch_size=2000)
        one = of(linear_f, x, first, samples=3)
        cut = run(of, linear_f, x, first, samples=3, batch_size=2)
        moved = run(of, linear_f, x, first, samples=3, noise=0.5)
        expected = f(x)[:, 1] - f(others)[:, 1].mean()
        np.testing.assert_allclose(found.sum(1), expected, atol=0.05)
        np.testing.assert_allclose(one, (x - first) * w[:, 1], atol=1e-12)
        np.testing.assert_allclose(cut, one, atol=1e-12)
        assert not np.allclose(moved, one)


def test_bad_arguments():
    f, x = (lambda x: x @ jnp.ones((5, 2))), jnp.ones((3, 5))
    bad = [
        ({"steps": 0}, "steps is 0; expected an integer of at least 1"),
        ({"steps": 1, "rule": "trapezoid"}, "at least 2"),
        ({"rule": "riemann"}, "no rule 'riemann'; did you mean"),
        ({"batch_size": 0}, "batch_size is 0"),
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
