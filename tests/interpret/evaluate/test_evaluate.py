import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import interpret
from jaxdl.interpret import evaluate
from jaxdl.interpret.evaluate.road import impute
from tests.interpret.networks import array, double, linear, network, new_key, run


def test_completeness_is_what_is_missing():
    with double():
        f, x, base = network(), array(1, 3, 5), array(2, 1, 5)
        path = run(interpret.integrated_gradients, f, x, target=0, baseline=base, steps=64)
        left = evaluate.completeness(f, x, path, target=0, baseline=base)
        np.testing.assert_allclose(left, 0, atol=1e-6)
        left = evaluate.completeness(f, x, path * 0, target=0)
        np.testing.assert_allclose(left, -f(x)[:, 0])
    with pytest.raises(ValueError, match="attributions of"):
        evaluate.completeness(f, jnp.ones((2, 5)), jnp.ones((2, 4)), target=0)


@pytest.mark.parametrize("name", ["insertion", "deletion"])
def test_of_an_additive_function_the_true_order_is_the_best(name):
    """All orders of five features by brute force."""
    with double():
        w = jnp.array([3.0, -1.0, 2.0, 0.5, -2.0])
        f, x = (lambda x: x @ w), jnp.ones((1, 5))
        curve = jax.jit(lambda a: getattr(evaluate, name)(f, x, a, steps=5).area[0])
        areas = [float(curve(jnp.array([p], float))) for p in itertools.permutations(range(5))]
        best = max(areas) if name == "insertion" else min(areas)
        assert float(curve(w[None])) == pytest.approx(best, abs=1e-12)


def test_curves_by_a_loop():
    with double():
        f, x, a = network(2, d=12), array(1, 2, 2, 2, 3), array(2, 2, 2, 2)
        actual = run(evaluate.deletion, f, x, a, target=1, steps=4, baseline=0.5, batch_size=2)
        for n in range(2):
            order = np.argsort(-a[n].ravel())
            image = x[n].copy()
            for step in range(5):
                assert actual.scores[n, step] == pytest.approx(f(image[None])[0, 1])
                if step < 4:
                    image[divmod(order[step], 2)] = 0.5
        trapezoid = (actual.scores[:, 1:] + actual.scores[:, :-1]).mean(1) / 2
        np.testing.assert_allclose(actual.area, trapezoid)
        grown = evaluate.insertion(f, x, -a, target=1, steps=4, baseline=0.5)
        np.testing.assert_allclose(grown.scores[:, ::-1], actual.scores, atol=1e-12)
        flipped = evaluate.pixel_flipping(f, x, a, target=1)
        np.testing.assert_allclose(flipped.scores[:, -1], f(-x)[:, 1])


def test_infidelity_of_the_gradient_of_a_linear_function_is_zero():
    with double():
        f, w = linear()
        x = array(1, 3, 5)
        slope = np.broadcast_to(w[:, 0], x.shape)

        of = lambda f, x, parts, **options: evaluate.infidelity(
            f, x, parts, key=new_key(), target=0, **options
        )
        right = run(of, f, x, slope, batch_size=30)
        wrong = run(of, f, x, slope + 1, sigma=0.5, batch_size=30)
        whole = of(f, x, slope + 1, sigma=0.5)
        np.testing.assert_allclose(right, 0, atol=1e-20)
        np.testing.assert_allclose(wrong, 0.25 * 5, rtol=0.5)  # E (sum of noise)^2
        np.testing.assert_allclose(wrong, whole)


def test_correlation_with_the_fall_is_one_for_a_linear_function():
    with double():
        f, w = linear()
        x = array(1, 3, 5)
        parts = x * w[:, 0]

        of = lambda f, x, parts, **options: evaluate.faithfulness_correlation(
            f, x, parts, key=new_key(), target=0, size=2, **options
        )
        whole, cut = run(of, f, x, parts), run(of, f, x, parts, batch_size=20)
        opposite = of(f, x, -parts)
        for actual, expected in ((whole, 1), (cut, 1), (opposite, -1)):
            np.testing.assert_allclose(actual, expected, atol=1e-9)


def test_sensitivity_of_a_constant_gradient_is_zero():
    with double():
        f, _ = linear()
        x = array(1, 3, 5)
        of = lambda f, x, method, **options: evaluate.sensitivity_max(
            method, f, x, key=new_key(), target=0, **options
        )
        np.testing.assert_allclose(of(f, x, interpret.saliency), 0, atol=1e-12)
        times = run(of, f, x, interpret.input_x_gradient, radius=0.1, batch_size=3)
        assert np.all(times > 0) and np.all(times < 1)


def test_counts_by_hand():
    one, even = jnp.array([[0.0, 0, -5, 0]]), jnp.ones((1, 4))
    assert evaluate.sparseness(one)[0] == 0.75 and evaluate.sparseness(even)[0] == 0
    assert evaluate.complexity(one)[0] == 0
    assert float(evaluate.complexity(even)[0]) == pytest.approx(np.log(4), rel=1e-6)
    assert evaluate.effective_complexity(one).tolist() == [1]


def test_localization_by_hand():
    a = jnp.array([[[3.0, 1.0], [-2.0, 0.0]], [[0.0, 1.0], [2.0, 4.0]]])
    mask = jnp.array([[[True, False], [True, False]], [[True, True], [False, False]]])
    assert evaluate.pointing_game(a, mask).tolist() == [True, False]
    np.testing.assert_allclose(evaluate.relevance_mass(a, mask), [0.75, 1 / 7], rtol=1e-6)
    np.testing.assert_allclose(evaluate.relevance_rank(a, mask), [0.5, 0])
    np.testing.assert_allclose(evaluate.top_k_intersection(a, mask, 3), [1 / 3, 1 / 3], rtol=1e-6)
    itself = mask.astype(jnp.float32)
    assert evaluate.relevance_mass(itself, mask).tolist() == [1, 1]
    assert evaluate.relevance_rank(itself, mask).tolist() == [1, 1]
    with pytest.raises(ValueError, match="truth values of the same shape"):
        evaluate.pointing_game(a, mask.astype(jnp.int32))
    with pytest.raises(ValueError, match="k is 5"):
        evaluate.top_k_intersection(a, mask, 5)
    with pytest.raises(ValueError, match="attributions are .*'a'.*; expected one array of each"):
        evaluate.relevance_mass({"a": a}, {"a": mask})
    with pytest.raises(ValueError, match="expected one array of each"):
        evaluate.relevance_rank(a, [mask])


def test_removed_pixels_solve_the_linear_system():
    with double():
        x = array(0, 2, 7, 6, 2)
        gone = np.random.default_rng(1).random((2, 7, 6, 1)) < 0.6
        filled = np.asarray(jax.jit(impute)(x, gone))
        np.testing.assert_array_equal(
            filled[~np.broadcast_to(gone, x.shape)], x[~np.broadcast_to(gone, x.shape)]
        )
        for n, r, c in np.argwhere(gone[..., 0]):
            total, weights = 0.0, 0.0
            for i, j in itertools.product((-1, 0, 1), repeat=2):
                if (i, j) != (0, 0) and 0 <= r + i < 7 and 0 <= c + j < 6:
                    weight = 1 / 6 if 0 in (i, j) else 1 / 12
                    total, weights = total + weight * filled[n, r + i, c + j], weights + weight
            np.testing.assert_allclose(filled[n, r, c], total / weights, atol=1e-5)


def test_road_falls_faster_by_the_true_order():
    with double():
        w = array(0, 8, 8)
        f = lambda x: jnp.einsum("nhwc,hw->n", x, w)
        x = np.random.default_rng(1).random((2, 8, 8, 1))
        parts = x[..., 0] * w
        first = evaluate.road(f, x, parts, key=new_key(), noise=0.0)
        last = run(evaluate.road, f, x, parts, key=new_key(), noise=0.0, most=False)
        np.testing.assert_allclose(first.scores[:, 0], parts.sum((1, 2)))
        assert np.all(first.area < last.area) and first.scores.shape == (2, 8)
    with pytest.raises(ValueError, match="increasing shares"):
        evaluate.road(f, x, parts, key=new_key(), shares=(0.5, 0.2))


def test_random_networks_have_other_explanations_unless_the_method_ignores_them():
    x = array(0, 4, 6).astype(np.float32)

    def redraw(key):
        a, b = jax.random.split(key)
        return jax.random.normal(a, (6, 8)), jax.random.normal(b, (8, 3))

    apply = lambda params, x: jnp.tanh(x @ params[0]) @ params[1]
    params = [array(1, 6, 8).astype(np.float32), array(2, 8, 3).astype(np.float32)]
    explain = lambda params: interpret.saliency(lambda x: apply(params, x), x, target=0)
    of = lambda explain, redraw, **options: np.asarray(
        evaluate.random_parameters(explain, params, redraw, key=new_key(), **options)
    )
    actual = of(explain, redraw, models=50)
    assert actual.shape == (50, 4) and abs(actual.mean()) < 0.3
    np.testing.assert_allclose(of(explain, redraw, models=50, batching="vmap"), actual, atol=1e-5)
    np.testing.assert_allclose(of(lambda params: x, redraw, models=3), 1, rtol=1e-6)
    np.testing.assert_allclose(of(explain, lambda key: params, models=2), 1, rtol=1e-6)


def test_another_label_has_another_explanation():
    f = lambda x: jnp.stack([x[:, 0] * x[:, 1], x[:, 2] * x[:, 3]], 1)
    x = array(0, 5, 4).astype(np.float32)
    options = {"target": 0, "num_classes": 2}
    of = lambda key: evaluate.random_label(interpret.saliency, f, x, key=key, **options)
    actual = np.asarray(jax.jit(of)(new_key()))
    assert np.all(actual < 0.5)
    blind = lambda f, x, target: x
    np.testing.assert_allclose(
        evaluate.random_label(blind, f, x, key=new_key(), **options), 1, rtol=1e-6
    )
    with pytest.raises(ValueError, match="num_classes is 1"):
        evaluate.random_label(blind, f, x, key=new_key(), target=0, num_classes=1)


def test_unused_features_and_shifted_inputs():
    f = lambda x: x[:, 0] * 2.0
    x = jnp.ones((2, 4))
    right = jnp.array([[1.0, 0, 0, 0]] * 2)
    assert evaluate.non_sensitivity(f, x, right).tolist() == [0, 0]
    assert evaluate.non_sensitivity(f, x, right + 1).tolist() == [0.75, 0.75]
    moved = lambda method: evaluate.input_invariance(method, f, x, 0.5).tolist()
    assert moved(interpret.saliency) == [0, 0] and moved(interpret.input_x_gradient) == [1, 1]


def test_bad_arguments():
    f, x = (lambda x: x.sum(1)), jnp.ones((2, 5))
    with pytest.raises(ValueError, match="one number for all channels of a position"):
        evaluate.deletion(f, x, jnp.ones((2, 4)))
    with pytest.raises(ValueError, match="steps is 0"):
        evaluate.insertion(f, x, x, steps=0)
    with pytest.raises(ValueError, match="size is 9"):
        evaluate.faithfulness_correlation(f, x, x, key=new_key(), size=9)
    with pytest.raises(ValueError, match="samples is 0"):
        evaluate.sensitivity_max(interpret.saliency, f, x, key=new_key(), samples=0)
