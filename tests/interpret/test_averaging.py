import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import interpret
from tests.interpret.networks import double, draw, linear, network


@pytest.mark.row("Q03")
def test_smoothing_is_the_mean_over_noisy_copies():
    with double():
        f, x, key = network(), draw(0, 3, 5), jax.random.key(1)
        smooth = interpret.smooth(interpret.saliency, sigma=0.3, samples=4)
        found = smooth(f, x, target=1, key=key, absolute=False)
        copies = []
        for i in range(4):
            (own,) = jax.random.split(jax.random.fold_in(key, i), 1)
            noise = jax.random.normal(own, x.shape, x.dtype)
            copies.append(interpret.saliency(f, x + 0.3 * noise, target=1, absolute=False))
        np.testing.assert_allclose(found, np.mean(copies, 0), atol=1e-12)
        square = interpret.smooth(interpret.saliency, sigma=0.3, samples=4, kind="square")
        np.testing.assert_allclose(
            square(f, x, target=1, key=key), np.mean(np.square(copies), 0), atol=1e-12
        )
        variance = interpret.smooth(interpret.saliency, sigma=0.3, samples=4, kind="variance")
        np.testing.assert_allclose(
            variance(f, x, target=1, key=key, absolute=False), np.var(copies, 0), atol=1e-12
        )


@pytest.mark.row("Q03")
def test_without_noise_or_without_curvature_it_is_the_method_itself():
    with double():
        x = draw(0, 3, 5)
        for method in (interpret.saliency, interpret.integrated_gradients):
            f = network()
            still = interpret.smooth(method, sigma=0.0, samples=3)
            np.testing.assert_allclose(
                still(f, x, target=0, key=jax.random.key(0)), method(f, x, target=0), atol=1e-12
            )
        f, w = linear()
        noisy = interpret.smooth(interpret.saliency, sigma=2.0, samples=5)
        found = noisy(f, x, target=0, key=jax.random.key(0), absolute=False)
        np.testing.assert_allclose(found, jnp.broadcast_to(w[:, 0], x.shape), atol=1e-12)
        varied = interpret.smooth(interpret.saliency, sigma=2.0, samples=5, kind="variance")
        np.testing.assert_allclose(varied(f, x, target=0, key=jax.random.key(0)), 0, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 2, 5, 9])
def test_chunks_change_nothing(chunk):
    with double():
        f, x = network(), draw(0, 3, 5)
        smooth = interpret.smooth(interpret.saliency, sigma=0.3, samples=9)
        options = {"target": "argmax"}
        whole = smooth(f, x, key=jax.random.key(3), **options)
        np.testing.assert_allclose(
            smooth(f, x, key=jax.random.key(3), chunk=chunk, **options), whole, atol=1e-12
        )


def test_expectation_over_baselines_is_their_mean():
    with double():
        f, x, bases = network(), draw(0, 3, 5), draw(1, 4, 5)
        for method in (interpret.integrated_gradients, interpret.ablation):
            found = interpret.expectation(method, bases)(f, x, target="argmax", chunk=3)
            target = jnp.argmax(f(x), 1)
            loop = [method(f, x, target=target, baseline=base) for base in bases]
            np.testing.assert_allclose(found, np.mean(loop, 0), atol=1e-12)


@pytest.mark.parametrize("bad", [{"samples": 0}, {"sigma": -1}, {"kind": "median"}])
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match="expected at least one sample"):
        interpret.smooth(interpret.saliency, **{"sigma": 0.1, **bad})
