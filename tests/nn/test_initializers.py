import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from jaxdl import nn
from tests.nn.filled import filled, normal


@pytest.mark.row("D18")
@pytest.mark.parametrize("name", ["glorot_normal", "glorot_uniform"])
@pytest.mark.parametrize("shape", [(1000, 1000), (400, 2500)])
def test_glorot_variance(name, shape, key):
    """Glorot and Bengio 2010: Var(W) = 2 / (fan_in + fan_out)."""
    sample = np.asarray(nn.initializer(name)(key, shape, jnp.float32))
    assert np.var(sample) == pytest.approx(2 / sum(shape), rel=0.02)
    assert abs(np.mean(sample)) < 5 * np.sqrt(2 / sum(shape) / 1e6)


def variances(model, params, state, x):
    _, seen = jaxdl.capture(model, params, state, x)
    return {
        path: float(np.var(np.asarray(value)))
        for path, value in seen.items()
        if path.split("/")[-1].startswith(("dense", "conv"))
    }


def deep(width=32, depth=6):
    layers = [layer for _ in range(depth) for layer in (nn.dense(width), jnp.tanh)]
    return nn.serial(*layers, nn.dense(10))


@pytest.mark.row("D17")
@pytest.mark.parametrize("orthonormal", [True, False])
def test_after_lsuv_each_layers_output_has_variance_1(orthonormal):
    x = 0.1 * normal(0, 256, 20)
    model = deep()
    params, state = filled(model, x, scale=0.1)
    before = variances(model, params, state, x)
    assert max(before.values()) < 0.05
    key = jax.random.key(2) if orthonormal else None
    after = variances(model, nn.lsuv(model, params, state, x, key=key), state, x)
    assert len(after) == 7
    assert all(abs(v - 1) <= 0.1 for v in after.values())


@pytest.mark.row("D17")
def test_orthonormal_kernels_stay_orthogonal():
    x = normal(0, 64, 20)
    model = deep(depth=1)
    params, state = filled(model, x)
    scaled = nn.lsuv(model, params, state, x, key=jax.random.key(2))
    kernel = np.asarray(scaled["dense_1"]["kernel"])
    gram = kernel.T @ kernel
    chex.assert_trees_all_close(gram, gram[0, 0] * np.eye(10, dtype=np.float32), atol=1e-4)


def test_lsuv_scales_one_number_a_kernel_and_keeps_the_rest():
    x = normal(0, 64, 20)
    model = nn.serial(nn.dense(8), nn.batch_norm(), nn.dense(3))
    params, state = filled(model, x, scale=1 / np.sqrt(20))
    state = {"batch_norm_0": state["batch_norm_0"] | {"var": np.ones(8, np.float32)}}
    before = jax.tree.map(np.array, params)
    scaled = nn.lsuv(model, params, state, 10 * x)
    ratio = np.asarray(scaled["dense_0"]["kernel"]) / before["dense_0"]["kernel"]
    chex.assert_trees_all_close(ratio, np.full_like(ratio, ratio[0, 0]), rtol=1e-5)
    assert abs(ratio[0, 0] - 0.1) < 0.03
    chex.assert_trees_all_equal(scaled["batch_norm_0"], params["batch_norm_0"])
    chex.assert_trees_all_equal(params, before)


@pytest.mark.row("D17")
def test_composites_stacks_and_shared_parts():
    block = nn.residual(nn.serial(nn.conv(4), jax.nn.relu, nn.conv(4)))
    model = nn.serial(nn.conv(4), nn.scan_layers(block, 2), nn.flatten(), nn.dense(3))
    x = normal(0, 16, 6, 6, 2)
    params, state = filled(model, x, scale=0.2)
    after = variances(model, nn.lsuv(model, params, state, x), state, x)
    assert set(after) >= {"conv_0", "scan_layers_0/1/block/conv_1", "dense_0"}
    assert all(abs(v - 1) <= 0.1 for v in after.values())

    def twice(call, x):
        return call("dense", jnp.tanh(call("dense", x)))

    tied = jaxdl.compose("tied", {"dense": nn.dense(5)}, twice)
    x = 5 * normal(0, 64, 5)
    params, state = filled(tied, x)
    after = variances(tied, nn.lsuv(tied, params, state, x), state, x)
    assert abs(after["dense"] - 1) <= 0.1


def test_lsuv_of_a_single_layer_and_in_half_precision():
    x = 100 * normal(0, 64, 20, dtype=np.float16)
    layer = nn.dense(8)
    params, state = filled(layer, x, scale=1 / np.sqrt(20))
    scaled = nn.lsuv(layer, params, state, x)
    assert scaled["kernel"].dtype == jnp.float16
    y, _ = layer.apply(scaled, state, x)
    assert abs(np.var(np.asarray(y, np.float32)) - 1) <= 0.1


def test_lsuv_says_what_it_cannot_scale():
    x = np.ones((4, 3), np.float32)
    with pytest.raises(ValueError, match="lsuv: no module in serial has a kernel"):
        nn.lsuv(nn.serial(jax.nn.relu), {}, {}, x)
    model = nn.serial(nn.dense(5))
    params, state = filled(model, x)
    params["dense_0"]["bias"] = np.zeros(5, np.float32)
    with pytest.raises(ValueError, match=r"output of 'dense_0' has variance 0\.0"):
        nn.lsuv(model, params, state, 0 * x)
    with pytest.raises(ValueError, match="'dense_0' has variance nan"):
        nn.lsuv(model, params, state, x * np.float32(np.nan))
    biased = {"dense_0": params["dense_0"] | {"bias": np.arange(5, dtype=np.float32)}}
    with pytest.raises(
        ValueError, match="'dense_0' has variance .* after 10 scalings.* a large bias"
    ):
        nn.lsuv(model, biased, state, normal(1, 64, 3))


def test_initializers_by_name():
    for name in nn.INITIALIZERS:
        value = nn.initializer(name)(jax.random.key(0), (2, 3, 3), jnp.bfloat16)
        assert value.shape == (2, 3, 3) and value.dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="did you mean 'orthogonal'"):
        nn.initializer("ortogonal")
    with pytest.raises(ValueError, match="no initializer 3"):
        nn.initializer(3)
