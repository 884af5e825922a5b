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
        found = method(f, x, key=new_key(), target=1, baseline=base, **options)
        np.testing.assert_allclose(found, (x - base) * w[:, 1], atol=1e-9)
        again = run(method, f, x, key=new_key(), target=1, baseline=base, batch_size=7, **options)
        np.testing.assert_allclose(again, found, atol=1e-9)


def test_kernel_shap_over_all_coalitions_is_exact():
    with double():
        f, x, base = network(1), array(2, 2, 5), array(3, 1, 5)
        options = {"target": 2, "baseline": base}
        exact = run(interpret.shapley_values, f, x, **options)
        found = run(interpret.kernel_shap, f, x, key=new_key(), samples=30, **options)
        np.testing.assert_allclose(found, exact, atol=1e-10)


def test_kernel_shap_from_samples_adds_up_and_comes_near():
    with double():
        f, x = network(1, d=12), array(2, 2, 12)
        exact = run(interpret.shapley_values, f, x, target=0)
        found = run(interpret.kernel_shap, f, x, key=new_key(), target=0, samples=600)
        np.testing.assert_allclose(found.sum(1), (f(x) - f(0 * x))[:, 0], atol=1e-9)
        assert np.abs(found - exact).max() < 0.1 * np.abs(exact).max()


def test_lime_is_the_weighted_ridge_regression():
    with double():
        f, x = network(1), array(2, 1, 5)
        seen, scores = [], []

        def spy(x):
            y = f(x)
            jax.debug.callback(lambda a, b: (seen.append(a), scores.append(b)), x, y[:, 0])
            return y

        found = run(
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
        np.testing.assert_allclose(found[0], fit[:-1], atol=1e-6)


def test_superpixels_have_one_weight():
    with double():
        mask = np.kron(np.arange(4).reshape(2, 2), np.ones((2, 2), int))[..., None]
        f = lambda x: x[:, :2, :2].sum((1, 2, 3)) * 2 + x[:, 3, 3, 0]
        x = array(0, 2, 4, 4, 1)
        for method, options in ((interpret.kernel_shap, {}), (interpret.lime, {"ridge": 0.0})):
            found = run(method, f, x, key=new_key(), mask=mask, **options)
            np.testing.assert_allclose(found[:, 0, 0], found[:, 1, 1])
            np.testing.assert_allclose(
                found[:, 0, 0, 0], 2 * x[:, :2, :2].sum((1, 2, 3)), atol=1e-8
            )


def test_rise_finds_the_pixel_that_decides():
    with double():
        f = lambda x: x[:, 5, 2, 0] * 3.0
        x = np.ones((2, 8, 8, 1))
        found = run(interpret.rise, f, x, key=new_key(), samples=400, cells=4)
        assert found.shape == (2, 8, 8)
        assert [divmod(int(i), 8) for i in np.argmax(found.reshape(2, -1), 1)] == [(5, 2)] * 2
        cut = run(interpret.rise, f, x, key=new_key(), samples=400, cells=4, batch_size=None)
        np.testing.assert_allclose(found, cut, atol=1e-10)


def test_rise_of_one_mask_by_hand():
    """With every cell kept the mask is 1: the map is the score over keep."""
    with double():
        f = lambda x: x.sum((1, 2, 3))
        x = array(0, 2, 6, 6, 1)
        found = interpret.rise(f, x, key=new_key(), samples=3, cells=2, keep=1 - 1e-12)
        np.testing.assert_allclose(
            found, np.broadcast_to(f(x)[:, None, None], (2, 6, 6)), rtol=1e-6
        )


def test_permutation_of_a_linear_function():
    with double():
        f, w = linear()
        x = array(2, 2, 5)
        found = interpret.permutation(f, x, key=new_key(), target=1)
        swapped = (x - x[::-1]) * w[:, 1]
        same = np.isclose(found, swapped) | np.isclose(found, 0)
        assert np.all(same) and np.any(np.abs(found) > 1e-6)
        cut = run(interpret.permutation, f, x, key=new_key(), target=1, batch_size=2)
        np.testing.assert_allclose(cut, found, atol=1e-12)


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
