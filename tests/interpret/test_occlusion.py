import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl import interpret
from tests.interpret.networks import apply, array, double, linear, network, run, weights

METHODS = {
    "ablation": interpret.ablation,
    "occlusion": lambda f, x, **o: interpret.occlusion(f, x, (1,), **o),
    "shapley": interpret.shapley_values,
    "sampling": lambda f, x, **o: interpret.shapley_sampling(f, x, key=jax.random.key(0), **o),
}


def by_orders(v, n):
    """Shapley values as the mean over all orders, from the set function v."""
    values = np.zeros(n)
    for order in itertools.permutations(range(n)):
        here = set()
        for i in order:
            before = v(frozenset(here))
            here.add(i)
            values[i] += v(frozenset(here)) - before
    return values / math.factorial(n)


@pytest.mark.row("Q01")
@pytest.mark.parametrize("name", METHODS)
def test_of_a_linear_function_each_is_weight_times_difference(name):
    with double():
        f, w = linear()
        x, base = array(2, 3, 5), array(3, 1, 5)
        found = METHODS[name](f, x, target=1, baseline=base)
        np.testing.assert_allclose(found, (x - base) * w[:, 1], atol=1e-10)


@functools.cache
def shapley_of_network():
    return jax.jit(
        lambda own, x, base: interpret.shapley_values(
            lambda x: apply(own, x), x, target=2, baseline=base
        )
    )


@settings(max_examples=12)
@given(st.integers(0, 30))
def test_shapley_values_are_the_mean_over_all_orders(seed):
    with double():
        f, x, base = network(seed, d=4), array(seed + 1, 1, 4), array(seed + 2, 1, 4)

        @functools.cache
        def v(members):
            keep = np.array([i in members for i in range(4)])
            return float(f(np.where(keep, x, base))[0, 2])

        found = np.asarray(shapley_of_network()(weights(seed, d=4), x, base))
        np.testing.assert_allclose(found[0], by_orders(v, 4), atol=1e-10)
        total = float((f(x) - f(base))[0, 2])
        assert float(found.sum()) == pytest.approx(total, abs=1e-12)


@functools.cache
def sampled(orders):
    return jax.jit(
        lambda own, x, key: interpret.shapley_sampling(
            lambda x: apply(own, x), x, key=key, target=0, orders=orders, batch_size=2
        )
    )


@settings(max_examples=8)
@given(st.integers(1, 6), st.integers(0, 20))
def test_sampled_values_add_up_for_every_number_of_orders(orders, seed):
    with double():
        f, x = network(seed), array(seed + 1, 2, 5)
        found = np.asarray(sampled(orders)(weights(seed), x, jax.random.key(seed)))
        np.testing.assert_allclose(found.sum(1), (f(x) - f(0 * x))[:, 0], atol=1e-10)


def test_sampled_values_approach_the_exact_ones():
    with double():
        f, x = network(1), array(2, 2, 5)
        exact = run(interpret.shapley_values, f, x, target=0)
        few, many = (
            run(
                interpret.shapley_sampling,
                f,
                x,
                key=jax.random.key(0),
                target=0,
                orders=orders,
                batch_size=min(orders, 50),
            )
            for orders in (4, 400)
        )
        error = np.abs(many - exact).max()
        assert error < 0.05 and error < np.abs(few - exact).max()


def test_an_order_and_its_reverse_are_exact_where_features_meet_in_pairs():
    with double():
        w, x = array(0, 5, 5), array(1, 2, 5)
        f = lambda x: ((x @ w) * x).sum(1)
        exact = run(interpret.shapley_values, f, x)
        found = run(interpret.shapley_sampling, f, x, key=jax.random.key(0), orders=1)
        np.testing.assert_allclose(found, exact, atol=1e-10)


@pytest.mark.row("Q14")
def test_segments_are_left_out_as_one():
    with double():
        f = lambda x: x[:, 0, 0, 0] * x[:, 0, 1, 0] + x[:, 3, 3, 0]
        x = array(0, 2, 4, 4, 1) + 3
        segments = np.arange(16).reshape(4, 4, 1) // 8  # above and below
        found = run(interpret.ablation, f, x, mask=segments)
        covered = [x.copy(), x.copy()]
        covered[0][:, :2] = covered[1][:, 2:] = 0
        above, below = (f(x) - f(hidden) for hidden in covered)
        np.testing.assert_allclose(found[:, 0, 0, 0], above)
        np.testing.assert_allclose(found[:, 1, 3, 0], above)
        np.testing.assert_allclose(found[:, 3, 0, 0], below)


@pytest.mark.row("Q13")
def test_words_of_a_sentence():
    """(T, D) embeddings: a word is a step, and its importance is the fall without it."""
    with double():
        w = array(0, 3)
        f = lambda x: (x @ w).max(axis=1)
        x = array(1, 2, 6, 3)
        found = run(interpret.ablation, f, x, mask=np.arange(6)[:, None], baseline=-9.0)
        for t in range(6):
            without = x.copy()
            without[:, t] = -9.0
            fall = f(x) - f(without)
            np.testing.assert_allclose(found[:, t], np.repeat(fall[:, None], 3, 1))


@pytest.mark.row("Q01")
def test_occlusion_by_a_loop_with_overlap_and_edges():
    with double():
        w = array(0, 7 * 6)
        f = lambda x: (x.reshape(len(x), -1) @ w) ** 3
        x = array(1, 2, 7, 6, 1) / 4
        total, times = np.zeros_like(x), np.zeros(x.shape[1:])
        for r, c in itertools.product([0, 2, 4], [0, 2, 4]):  # the last one reaches over the edge
            hidden = x.copy()
            hidden[:, r : r + 3, c : c + 3] = 0.5
            total[:, r : r + 3, c : c + 3] += (f(x) - f(hidden))[:, None, None, None]
            times[r : r + 3, c : c + 3] += 1
        found = run(interpret.occlusion, f, x, (3, 3, 1), stride=(2, 2, 1), baseline=0.5)
        np.testing.assert_allclose(found, total / times, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_chunks_change_nothing_and_examples_stand_alone(name):
    with double():
        f, x = network(), array(5, 3, 5)
        method = METHODS[name]

        @jax.jit
        def explain(x):
            cut = [method(f, x, target="argmax", batch_size=chunk) for chunk in (1, 3)]
            return method(f, x, target="argmax"), cut, method(f, x[1:2], target="argmax")

        whole, cut, alone = explain(x)
        for chunk, found in zip((1, 3), cut, strict=True):
            np.testing.assert_allclose(found, whole, atol=1e-12, err_msg=f"chunk {chunk}")
        np.testing.assert_allclose(alone[0], whole[1], atol=1e-12)


def test_symmetry_dummy_and_additivity_of_shapley_values():
    with double():
        f = lambda x: jnp.sin(x[:, 0] * x[:, 1])
        g = lambda x: x[:, 0] ** 2
        x = np.asarray([[0.7, 0.7, 3.0]])
        both, of_f, of_g = (
            run(interpret.shapley_values, h, x)[0] for h in (lambda x: f(x) + g(x), f, g)
        )
        assert of_f[0] == pytest.approx(of_f[1], abs=1e-12) and of_f[2] == 0
        np.testing.assert_allclose(both, of_f + of_g, atol=1e-12)


def test_arrays_of_jax_are_masks_and_windows():
    """Of a sum over ones, a feature's value is its size."""
    f, x = (lambda x: x["a"].sum(1)), {"a": jnp.ones((2, 3))}
    mask = {"a": jnp.array([0, 1, 1])}
    explain = lambda x: interpret.ablation(f, x, mask=mask)["a"]
    for of in (explain, jax.jit(explain)):
        np.testing.assert_array_equal(of(x), [[1, 2, 2]] * 2)
    for name in ("shapley_values", "kernel_shap"):
        options = {"key": jax.random.key(0)} if name == "kernel_shap" else {}
        found = getattr(interpret, name)(f, x, mask=mask, **options)["a"]
        np.testing.assert_allclose(found, [[1, 2, 2]] * 2, rtol=1e-5)
    whole = interpret.occlusion(f, x, jnp.array([3]), stride=jnp.array(3))["a"]
    np.testing.assert_array_equal(whole, np.full((2, 3), 3))


def test_bad_arguments():
    f, x = (lambda x: x.reshape(len(x), -1).sum(1)), jnp.ones((2, 4, 4))
    with pytest.raises(ValueError, match="the mask is float64; expected integers"):
        interpret.ablation(f, x, mask=np.ones((4, 4)))
    with pytest.raises(ValueError, match=r"the mask has shape \(3,\) for 2 examples of \(4, 4\)"):
        interpret.ablation(f, x, mask=np.arange(3))
    with pytest.raises(ValueError, match=r"the mask is traced; .*outside of jax.jit"):
        jax.jit(lambda x, mask: interpret.ablation(f, x, mask=mask))(x, jnp.arange(4))
    with pytest.raises(ValueError, match="expected at most 16"):
        interpret.shapley_values(f, jnp.ones((2, 5, 5)))
    for window, stride in (((5, 1), 1), ((2,), 1), ((2, 2), 3), ((2, 2), 0)):
        with pytest.raises(ValueError, match="expected a size for each axis"):
            interpret.occlusion(f, x, window, stride=stride)
    with pytest.raises(ValueError, match="orders is 0"):
        interpret.shapley_sampling(f, x, key=jax.random.key(0), orders=0)
