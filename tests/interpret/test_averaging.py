import jax
import numpy as np
import pytest

from jaxdl import interpret
from tests.interpret.networks import array, double, linear, network, new_key, run


def smooth_saliency(**options):
    return interpret.smooth(interpret.saliency, **options)


@pytest.mark.row("Q03")
def test_smoothing_is_the_mean_over_noisy_copies():
    with double():
        f, x = network(), array(0, 3, 5)
        slope = lambda x: interpret.saliency(f, x, target=1, absolute=False)

        @jax.jit
        def explain(x):
            copies = []
            for i in range(4):
                (own,) = jax.random.split(jax.random.fold_in(new_key(), i), 1)
                copies.append(slope(x + 0.3 * jax.random.normal(own, x.shape, x.dtype)))
            return copies, [
                smooth_saliency(sigma=0.3, samples=4, **kind)(
                    f, x, target=1, key=new_key(), absolute=False
                )
                for kind in ({}, {"kind": "square"}, {"kind": "variance"})
            ]

        copies, (mean, square, variance) = explain(x)
        np.testing.assert_allclose(mean, np.mean(copies, 0), atol=1e-12)
        np.testing.assert_allclose(square, np.mean(np.square(copies), 0), atol=1e-12)
        np.testing.assert_allclose(variance, np.var(copies, 0), atol=1e-12)


@pytest.mark.row("Q03")
def test_without_noise_or_without_curvature_it_is_the_method_itself():
    with double():
        f, x = network(), array(0, 3, 5)
        for method in (interpret.saliency, interpret.integrated_gradients):
            still = interpret.smooth(method, sigma=0.0, samples=3)
            found = run(still, f, x, target=0, key=new_key())
            np.testing.assert_allclose(found, run(method, f, x, target=0), atol=1e-12)
        f, w = linear()
        noisy = smooth_saliency(sigma=2.0, samples=5)
        found = noisy(f, x, target=0, key=new_key(), absolute=False)
        np.testing.assert_allclose(found, np.broadcast_to(w[:, 0], x.shape), atol=1e-12)
        varied = smooth_saliency(sigma=2.0, samples=5, kind="variance")
        found = run(varied, f, x, target=0, key=new_key())
        np.testing.assert_allclose(found, 0, atol=1e-12)


def test_chunks_change_nothing():
    with double():
        f, x = network(), array(0, 3, 5)
        chunks = (None, 1, 2, 5, 9)

        @jax.jit
        def explain(x):
            smooth = smooth_saliency(sigma=0.3, samples=9)
            return [smooth(f, x, key=new_key(), target="argmax", chunk=chunk) for chunk in chunks]

        whole, *others = explain(x)
        for chunk, cut in zip(chunks[1:], others, strict=True):
            np.testing.assert_allclose(cut, whole, atol=1e-12, err_msg=f"chunk {chunk}")


@pytest.mark.parametrize("method", [interpret.integrated_gradients, interpret.ablation])
def test_expectation_over_baselines_is_their_mean(method):
    with double():
        f, x, bases = network(), array(0, 3, 5), array(1, 4, 5)
        explain = interpret.expectation(method, bases)
        found = explain(f, x, target="argmax", chunk=3)
        target = np.argmax(f(x), 1)
        of_base = jax.jit(lambda x, base: method(f, x, target=target, baseline=base))
        loop = [of_base(x, base) for base in bases]
        np.testing.assert_allclose(found, np.mean(loop, 0), atol=1e-12)


@pytest.mark.parametrize(
    "bad, words",
    [
        ({"samples": 0}, "samples is 0; expected an integer of at least 1"),
        ({"sigma": -1}, "sigma=-1.*expected sigma of 0 or more"),
        ({"kind": "median"}, "kind='median'; expected"),
    ],
)
def test_bad_arguments(bad, words):
    with pytest.raises(ValueError, match=words):
        interpret.smooth(interpret.saliency, **{"sigma": 0.1, **bad})
