"""Maps of features of either sign, and their stretching."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import interpret
from tests.interpret.networks import array, double, run


def signed(x):
    with jax.named_scope("features"):
        x = jnp.concatenate([x, -x - 1], -1)
    return x.mean((1, 2)) @ np.array([[1.0], [0.5]])


def test_maps_are_never_below_0():
    """The weighted sums are, here: half of x - 1 and the like."""
    with double():
        methods = [interpret.grad_cam_plus_plus, interpret.layer_cam, interpret.score_cam]
        maps = jax.jit(
            lambda x: [f(signed, x, layer="features", target=0, resize=False) for f in methods]
        )
        for method, found in zip(methods, maps(3 * array(0, 2, 6, 6, 1)), strict=True):
            assert found.min() == 0 < found.max(), method.__name__


def stretched(a, size, axis):
    """Linear between the middles of the cells, and constant beyond the outer ones."""
    at = (np.arange(size) + 0.5) * a.shape[axis] / size - 0.5
    line = lambda row: np.interp(at, np.arange(len(row)), row)
    return np.apply_along_axis(line, axis, a)


def test_maps_are_stretched_linearly():
    def halved(x):
        with jax.named_scope("features"):
            x = x[:, ::2, ::2] * 1.0
        return x.sum((1, 2))

    with double():
        x = array(1, 2, 8, 6, 1)
        of = lambda f, x: [
            interpret.cam(f, x, layer="features", target=0, resize=resize)
            for resize in (False, True)
        ]
        small, large = run(of, halved, x)
        assert small.shape == (2, 4, 3)
        np.testing.assert_allclose(large, stretched(stretched(small, 8, 1), 6, 2), atol=1e-12)
