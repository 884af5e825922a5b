import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import interpret
from tests.interpret.networks import array, double, run

K, W, B = (
    np.random.default_rng(i).normal(size=s) for i, s in enumerate([(3, 3, 1, 5), (5, 3), (3,)])
)
METHODS = ["cam", "grad_cam", "grad_cam_plus_plus", "layer_cam", "score_cam"]


def f(x):
    with jax.named_scope("features"):
        x = jax.nn.relu(
            jax.lax.conv_general_dilated(
                x, K, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        )
    return x.mean((1, 2)) @ W + B


def features_and_scores(f, x):
    return interpret.intermediate(f, x, "features"), f(x)


@pytest.mark.row("Q07")
def test_cam_is_the_weighted_sum_of_features_and_its_mean_the_score():
    with double():
        x = array(0, 2, 6, 6, 1)
        a, y = run(features_and_scores, f, x)
        found = interpret.cam(f, x, at="features", target=2)
        np.testing.assert_allclose(found, a @ W[:, 2], atol=1e-12)
        np.testing.assert_allclose(np.mean(found, (1, 2)), y[:, 2] - B[2], atol=1e-12)
        grad_cam = interpret.grad_cam(f, x, at="features", target=2)
        np.testing.assert_allclose(grad_cam, np.maximum(found, 0) / 36, atol=1e-12)


def test_the_others_by_their_equations():
    with double():
        x = array(0, 2, 6, 6, 1)
        a, _ = run(features_and_scores, f, x)
        g = np.broadcast_to(W[:, 1] / 36, (2, 6, 6, 5))
        alpha = g**2 / (2 * g**2 + a.sum((1, 2), keepdims=True) * g**3)
        weights = (alpha * np.maximum(g, 0)).sum((1, 2), keepdims=True)
        found = interpret.grad_cam_plus_plus(f, x, at="features", target=1)
        np.testing.assert_allclose(found, np.maximum((weights * a).sum(-1), 0), atol=1e-10)
        found = interpret.layer_cam(f, x, at="features", target=1)
        np.testing.assert_allclose(found, (np.maximum(g, 0) * a).sum(-1), atol=1e-12)
        masks = a - a.min((1, 2), keepdims=True)
        masks = masks / masks.max((1, 2), keepdims=True)
        compiled = jax.jit(f)
        scores = [compiled(x * masks[..., c, None])[:, 1] for c in range(5)]
        shares = np.exp(np.stack(scores, 1))
        shares /= shares.sum(1, keepdims=True)
        expected = np.maximum((a * shares[:, None, None]).sum(-1), 0)
        found = interpret.score_cam(f, x, at="features", target=1)
        np.testing.assert_allclose(found, expected, atol=1e-10)
        found = run(interpret.score_cam, f, x, at="features", target=1, chunk=2)
        np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("name", METHODS)
def test_maps_have_the_images_size(name):
    def half(x):
        with jax.named_scope("features"):
            x = jnp.concatenate([x, -x], -1)[:, ::2, ::2]
        return x.sum((1, 2))

    @jax.jit
    def explain(x):
        of = functools.partial(getattr(interpret, name), half, x, at="features")
        return (
            of(target=0),
            of(target=0, resize=False),
            of(target="argmax"),
            of(target="argmax", chunk=1),
            of(target=np.array([[0, 0], [1, 1]])),
        )

    found, small, whole, cut, both = explain(array(0, 2, 8, 6, 1).astype(np.float32))
    assert found.shape == (2, 8, 6) and small.shape == (2, 4, 3) and both.shape == (2, 2, 8, 6)
    np.testing.assert_allclose(cut, whole, atol=1e-5)


def test_guided_grad_cam_and_sequences():
    with double():
        x = array(0, 2, 6, 6, 1)
        fine = run(interpret.guided_backprop, f, x, target=1)
        found = interpret.guided_grad_cam(f, x, at="features", target=1)
        where = run(interpret.grad_cam, f, x, at="features", target=1)
        np.testing.assert_allclose(found, fine * where[..., None], atol=1e-12)

        def g(x):
            with jax.named_scope("steps"):
                x = jnp.tanh(x @ W.T)
            return x.mean(1)

        of_steps = run(interpret.grad_cam, g, array(1, 2, 7, 3), at="steps", target=0)
        assert of_steps.shape == (2, 7)


def test_flat_features_have_no_map():
    def g(x):
        with jax.named_scope("flat"):
            x = x.reshape(len(x), -1)
        return x

    with pytest.raises(ValueError, match=r"the features have shape \(2, 36\)"):
        interpret.grad_cam(g, jnp.ones((2, 6, 6, 1)), at="flat", target=0)
