import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import interpret
from tests.interpret.networks import array, double, new_key, run


def test_sizes_are_drawn_so_that_features_without_effect_have_no_value():
    """A product of six: with all sizes alike the other six would have 0.03 each, the six 0.136."""
    with double():
        f = lambda x: jnp.prod(x[:, :6], axis=1)
        explain = lambda x: interpret.kernel_shap(f, x, key=new_key(), samples=2000)
        found = np.asarray(jax.jit(explain)(jnp.ones((1, 12))))[0]
        np.testing.assert_allclose(found[:6].mean(), 1 / 6, atol=0.012)
        np.testing.assert_allclose(found[6:].mean(), 0, atol=0.012)


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
            found = explain(x, jax.random.key(seed))
            np.testing.assert_allclose(found, w * x, atol=2e-5, err_msg=f"{samples}")


def test_the_fewest_samples_compare_each_feature_alone_with_all_others():
    """Covert and Lee's constrained regression on single features, solved by hand."""
    with double():
        v, x = array(2, 9, 9), array(3, 2, 9)
        f = lambda x: ((x @ v) ** 2).sum(1)
        found = run(interpret.kernel_shap, f, x, key=new_key(), samples=18)
        alone = np.stack([f(x * np.eye(9)[i]) for i in range(9)], 1)
        without = np.stack([f(x * (1 - np.eye(9)[i])) for i in range(9)], 1)
        half = (alone - without) / 2
        expected = half - half.mean(1, keepdims=True) + f(x)[:, None] / 9
        np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_solved_in_single(dtype):
    x, w = np.ones((1, 4), dtype), np.arange(4).astype(dtype)
    for name, tolerance in (("kernel_shap", 0), ("lime", 0.04)):
        found = run(getattr(interpret, name), lambda x: x @ w, x, key=new_key())
        assert found.dtype == dtype, name
        np.testing.assert_allclose(found[0].astype(np.float32), np.arange(4), atol=tolerance)


def test_lime_without_ridge_where_samples_do_not_tell_features_apart_is_the_least_fit():
    """Two samples of one feature may be the same: finite values, never NaN."""
    x = np.ones((1, 1), np.float32)
    explain = jax.jit(
        lambda key: interpret.lime(lambda x: 2 * x[:, 0], x, key=key, samples=2, ridge=0.0)
    )
    found = np.array([explain(jax.random.key(seed))[0, 0] for seed in range(8)])
    narrow = {"width": 1e-3, "ridge": 0.0, "samples": 9}
    far = run(interpret.lime, lambda x: 2 * x.sum(1), np.ones((1, 7)), key=new_key(), **narrow)
    assert np.isfinite(far).all()
    assert np.all(np.isclose(found, 2, atol=1e-3) | (found == 0)) and {0.0} < set(found)
