import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import interpret
from tests.interpret.networks import array, double, linear, network, new_key, run


@pytest.mark.parametrize("name", ["kernel_shap", "lime"])
def test_of_a_linear_function_each_is_weight_times_difference(name):
    with double():
        f, w = linear()
        x, base = array(2, 3, 5), array(3, 1, 5)
        options = {"ridge": 0.0} if name == "lime" else {"samples": 20}
        method = getattr(interpret, name)
        actual = method(f, x, key=new_key(), target=1, baseline=base, **options)
        np.testing.assert_allclose(actual, (x - base) * w[:, 1], atol=1e-9)
        again = run(method, f, x, key=new_key(), target=1, baseline=base, batch_size=7, **options)
        np.testing.assert_allclose(again, actual, atol=1e-9)


def test_kernel_shap_over_all_coalitions_is_exact():
    with double():
        f, x, base = network(1), array(2, 2, 5), array(3, 1, 5)
        options = {"target": 2, "baseline": base}
        exact = run(interpret.shapley_values, f, x, **options)
        actual = run(interpret.kernel_shap, f, x, key=new_key(), samples=30, **options)
        np.testing.assert_allclose(actual, exact, atol=1e-10)


def test_kernel_shap_from_samples_adds_up_and_comes_near():
    with double():
        f, x = network(1, d=12), array(2, 2, 12)
        exact = run(interpret.shapley_values, f, x, target=0)
        actual = run(interpret.kernel_shap, f, x, key=new_key(), target=0, samples=600)
        np.testing.assert_allclose(actual.sum(1), (f(x) - f(0 * x))[:, 0], atol=1e-9)
        assert np.abs(actual - exact).max() < 0.1 * np.abs(exact).max()


def test_lime_is_the_weighted_ridge_regression():
    with double():
        f, x = network(1), array(2, 1, 5)
        seen, scores = [], []

        def spy(x):
            y = f(x)
            jax.debug.callback(lambda a, b: (seen.append(a), scores.append(b)), x, y[:, 0])
            return y

        actual = run(
            interpret.lime,
            spy,
            x,
            key=new_key(),
            target=0,
            samples=40,
            width=0.5,
            ridge=0.3,
            batch_size=1,
        )
        jax.effects_barrier()
        z = np.concatenate(seen) != 0
        share = np.exp(-((1 - np.sqrt(z.mean(1))) ** 2) / (2 * 0.5**2))
        rows = np.column_stack([z, np.ones(len(z))])
        normal = (rows.T * share) @ rows + np.diag([0.3] * 5 + [0])
        fit = np.linalg.solve(normal, (rows.T * share) @ np.concatenate(scores))
        np.testing.assert_allclose(actual[0], fit[:-1], atol=1e-6)


def test_superpixels_have_one_weight():
    with double():
        mask = np.kron(np.arange(4).reshape(2, 2), np.ones((2, 2), int))[..., None]
        f = lambda x: x[:, :2, :2].sum((1, 2, 3)) * 2 + x[:, 3, 3, 0]
        x = array(0, 2, 4, 4, 1)
        for method, options in ((interpret.kernel_shap, {}), (interpret.lime, {"ridge": 0.0})):
            actual = run(method, f, x, key=new_key(), mask=mask, **options)
            np.testing.assert_allclose(actual[:, 0, 0], actual[:, 1, 1])
            np.testing.assert_allclose(
                actual[:, 0, 0, 0], 2 * x[:, :2, :2].sum((1, 2, 3)), atol=1e-8
            )


def test_bad_arguments():
    f, x = (lambda x: x.sum(1)), jnp.ones((2, 5))
    with pytest.raises(
        ValueError, match="of 5 features: samples is 9; expected an integer of at least 10"
    ):
        interpret.kernel_shap(f, x, key=new_key(), samples=9)
    with pytest.raises(
        ValueError, match="lime of 5 features: samples is 5; expected an integer of at least 6"
    ):
        interpret.lime(f, x, key=new_key(), samples=5)
    with pytest.raises(ValueError, match="expected images .N, H, W, C."):
        interpret.rise(f, x, key=new_key())
    with pytest.raises(ValueError, match="x has 1 example"):
        interpret.permutation(f, x[:1], key=new_key())


def test_sizes_are_drawn_so_that_features_without_effect_have_no_value():
    """A product of six: with all sizes alike the other six would have 0.03 each, the six 0.136."""
    with double():
        f = lambda x: jnp.prod(x[:, :6], axis=1)
        explain = lambda x: interpret.kernel_shap(f, x, key=new_key(), samples=2000)
        actual = np.asarray(jax.jit(explain)(jnp.ones((1, 12))))[0]
        np.testing.assert_allclose(actual[:6].mean(), 1 / 6, atol=0.012)
        np.testing.assert_allclose(actual[6:].mean(), 0, atol=0.012)


def test_a_linear_function_has_its_exact_values_for_every_number_of_samples():
    """In float32, from the fewest samples on, also where few are drawn beside single features."""
    w, x = (array(seed, 1, 64).astype(np.float32) for seed in (0, 1))
    for samples in (128, 130, 200, None):
        explain = jax.jit(
            lambda x, key, samples=samples: interpret.kernel_shap(
                lambda x: x @ w[0] + 3, x, key=key, samples=samples
            )
        )
        for seed in range(3):
            actual = explain(x, jax.random.key(seed))
            np.testing.assert_allclose(actual, w * x, atol=2e-5, err_msg=f"{samples}")


def test_the_fewest_samples_compare_each_feature_alone_with_all_others():
    """Covert and Lee's constrained regression on single features, solved by hand."""
    with double():
        v, x = array(2, 9, 9), array(3, 2, 9)
        f = lambda x: ((x @ v) ** 2).sum(1)
        actual = run(interpret.kernel_shap, f, x, key=new_key(), samples=18)
        alone = np.stack([f(x * np.eye(9)[i]) for i in range(9)], 1)
        without = np.stack([f(x * (1 - np.eye(9)[i])) for i in range(9)], 1)
        half = (alone - without) / 2
        expected = half - half.mean(1, keepdims=True) + f(x)[:, None] / 9
        np.testing.assert_allclose(actual, expected, atol=1e-9)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_solved_in_single(dtype):
    x, w = np.ones((1, 4), dtype), np.arange(4).astype(dtype)
    for name, tolerance in (("kernel_shap", 1e-6), ("lime", 0.04)):
        actual = run(getattr(interpret, name), lambda x: x @ w, x, key=new_key())
        assert actual.dtype == dtype, name
        np.testing.assert_allclose(actual[0].astype(np.float32), np.arange(4), atol=tolerance)


def test_lime_without_ridge_where_samples_do_not_tell_features_apart_is_the_least_fit():
    """Two samples of one feature may be the same: finite values, never NaN."""
    x = np.ones((1, 1), np.float32)
    explain = jax.jit(
        lambda key: interpret.lime(lambda x: 2 * x[:, 0], x, key=key, samples=2, ridge=0.0)
    )
    actual = np.array([explain(jax.random.key(seed))[0, 0] for seed in range(8)])
    narrow = {"width": 1e-3, "ridge": 0.0, "samples": 9}
    far = run(interpret.lime, lambda x: 2 * x.sum(1), np.ones((1, 7)), key=new_key(), **narrow)
    assert np.isfinite(far).all()
    assert np.all(np.isclose(actual, 2, atol=1e-3) | (actual == 0)) and {0.0} < set(actual)
