import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn
from tests.nn.filled import filled, normal

X = normal(0, 32, 4)


def test_the_variances_of_he_and_lecun(key):
    """2 / fan_in after He et al. 2015, for ReLUs; 1 / fan_in after LeCun et al. 1998."""
    shape = (200, 500)
    share = {"he_normal": 2, "he_uniform": 2, "lecun_normal": 1, "lecun_uniform": 1}

    @jax.jit
    def draw(keys):
        return {
            name: jnp.var(nn.initializer(name)(key, shape, jnp.float32))
            for name, key in zip(share, keys, strict=True)
        }

    for name, variance in draw(jax.random.split(key, len(share))).items():
        assert float(variance) == pytest.approx(share[name] / shape[0], rel=0.03), name


def test_lsuv_begins_layers_of_one_shape_from_kernels_of_their_own(key):
    model = nn.serial(nn.dense(4), jnp.tanh, nn.dense(4))
    scaled = nn.lsuv(model, *filled(model, X), X, key=key)
    first, second = (
        kernel / np.linalg.norm(kernel)
        for kernel in (np.asarray(scaled[name]["kernel"]) for name in ("dense_0", "dense_1"))
    )
    assert not np.allclose(first, second, atol=0.01)


def test_lsuv_without_biases_needs_one_scaling():
    model = nn.serial(nn.dense(4, use_bias=False))
    params, state = filled(model, X, scale=3.0)
    kernel = np.asarray(params["dense_0"]["kernel"])
    scaled = nn.lsuv(model, params, state, X, max_iterations=1)
    expected = kernel / np.std(np.asarray(X) @ kernel)
    np.testing.assert_allclose(scaled["dense_0"]["kernel"], expected, rtol=1e-5)
