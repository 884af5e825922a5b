"""ResNet in ResNet: what is left of its streams without some of the convolutions."""

import functools

import jax
import numpy as np
import pytest

import jaxdl
from jaxdl import nn, tree
from jaxdl.zoo.vision.resnet import basic_block
from jaxdl.zoo.vision.resnet_in_resnet import generalized_residual, resnet_in_resnet, rir_block
from tests.nn.filled import filled, normal

R, T = abs(normal(0, 1, 6, 6, 4)), abs(normal(1, 1, 6, 6, 4))


@functools.cache
def block():
    layer = generalized_residual(4)
    return layer, jax.jit(lambda params, r, t: layer.apply(params, identity(layer), r, t)[0])


def identity(layer, *inputs):
    """Running statistics with which a norm of scale 1 and bias 0 changes nothing."""
    _, state = jax.eval_shape(layer.init, jax.random.key(0), *(inputs or (R, T)))
    fill = lambda path, leaf: np.full(leaf.shape, "var" in str(path) and 1 - 1e-5, leaf.dtype)
    return jax.tree_util.tree_map_with_path(fill, state)


def parameters(layer, *inputs, seed=0, without=()):
    """Random kernels, those of some children zero, and norms without effect."""
    params = filled(layer, *inputs, seed=seed, scale=0.2)[0]

    def edit(path, leaf):
        path = jax.tree_util.keystr(path, simple=True, separator="/")
        if path.endswith(("scale", "bias")):
            return np.full(leaf.shape, path.endswith("scale"), leaf.dtype)
        return np.asarray(leaf) * np.float32(path.split("/")[-2] not in without)

    return jax.tree_util.tree_map_with_path(edit, params)


CROSS = ("residual_to_transient", "transient_to_residual")


@pytest.mark.row("G08")
def test_without_cross_convolutions_the_streams_are_a_resnet_and_a_plain_network():
    layer, run = block()
    params = parameters(layer, R, T, without=CROSS)
    r, t = run(params, R, T)
    resnet = nn.residual(nn.conv(4, 3, use_bias=False))
    expected, _ = resnet.apply({"block": params["residual"]}, {}, R)
    np.testing.assert_allclose(r, np.maximum(expected, 0), rtol=1e-4, atol=1e-5)
    plain, _ = nn.conv(4, 3, use_bias=False).apply(params["transient"], {}, T)
    np.testing.assert_allclose(t, np.maximum(plain, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.row("G08")
def test_cross_convolutions_alone_make_two_blocks_one_block_of_a_resnet():
    """Figure 1: the transient stream is then the inside of the residual block."""
    layer, run = block()
    first, second = (
        parameters(layer, R, T, seed=seed, without=("residual", "transient")) for seed in (0, 1)
    )
    r, _ = run(second, *run(first, R, 0 * T))
    resnet = basic_block(4, 1, False)
    expected = jax.tree.map(np.asarray, parameters(resnet, R))
    expected["conv1"] = first["residual_to_transient"]
    expected["conv2"] = second["transient_to_residual"]
    y, _ = jax.jit(resnet.apply)(expected, identity(resnet, R), R)
    np.testing.assert_allclose(r, y, rtol=1e-4, atol=1e-5)


@pytest.mark.row("G08")
def test_a_whole_block_is_equation_1_within_a_residual_block():
    outer = rir_block(4)
    params = parameters(outer, R, T)
    streams = (R, T)
    for name in ("block1", "block2"):
        streams = block()[1](params[name], *streams)
    y = jax.jit(outer.apply)(params, identity(outer), R, T)[0]
    for stream, new, old in zip(y, streams, (R, T), strict=True):
        np.testing.assert_allclose(stream, new + old, rtol=1e-4, atol=1e-5)
    # One convolution of both streams together has the four kernels as its blocks.
    p = params["block1"]
    rows = [[p["residual"], p[CROSS[0]]], [p[CROSS[1]], p["transient"]]]
    kernel = np.block([[np.asarray(part["kernel"]) for part in row] for row in rows])
    both = np.concatenate([R, T], -1)
    z = np.asarray(nn.functional.conv(both, kernel)) + np.concatenate([R, 0 * T], -1)
    r, t = block()[1](p, R, T)
    np.testing.assert_allclose(np.concatenate([r, t], -1), np.maximum(z, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.row("G08", "G14")
def test_sizes():
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    model = resnet_in_resnet()
    params, _ = jax.eval_shape(model.init, jax.random.key(0), x)
    count = 27 * 96 + 2 * 96 + 385 * 10  # the stem, its norm and the output
    widths = [48] * 2 + [96] * 3 + [192] * 3
    for before, width in zip([48, *widths], widths, strict=False):
        count += 36 * (before + width) * width + 8 * width
        count += 3 * before * width if before != width else 0
    assert tree.count(params) == count == 9_539_050
    assert jaxdl.depth(resnet_in_resnet((4, 4), (1, 2)), x) == 2 + 2 * 3
    with pytest.raises(ValueError, match="expected equal shapes. Pass project=True"):
        jax.eval_shape(generalized_residual(8).init, jax.random.key(0), R[..., :1], T)
    with pytest.raises(ValueError, match="2 widths and 1 depths"):
        resnet_in_resnet((4, 8), (1,))
