"""Blocks of networks for images: their ways around, strides, poolings and dropout."""

import functools
import itertools

import jax
import numpy as np
import pytest
import scipy.ndimage

import jaxdl
from jaxdl import nn
from jaxdl.zoo.vision.alexnet import alexnet
from jaxdl.zoo.vision.efficientnet import efficientnet, inverted_residual
from jaxdl.zoo.vision.googlenet import googlenet, inception
from jaxdl.zoo.vision.resnet import bottleneck
from jaxdl.zoo.vision.vgg import vgg16
from tests.nn.filled import filled, normal


@pytest.mark.row("G12")
@pytest.mark.parametrize("features", [8, 4])
def test_an_inverted_residual_goes_around_its_layers_where_shapes_agree(features):
    """With weights of zero nothing comes through the layers themselves."""
    x = np.asarray(normal(0, 1, 4, 4, 8))
    block = inverted_residual(8, features, expansion=2, kernel_size=3, stride=1)
    params, state = jax.tree.map(np.zeros_like, filled(block, x))
    y = jax.jit(block.apply)(params, state, x)[0]
    np.testing.assert_array_equal(y, x if features == 8 else np.zeros((1, 4, 4, 4)))


@pytest.mark.row("G12")
def test_an_inverted_residual_is_its_equations():
    """Wide with silu, depthwise with silu, gated, and narrow without an activation."""
    x = np.asarray(normal(0, 1, 4, 4, 8))
    block = inverted_residual(8, 8, expansion=2, kernel_size=3, stride=1)
    params, state = filled(block, x)
    state = jax.tree.map(np.ones_like, state)  # means and variances
    y = jax.jit(block.apply)(params, state, x)[0]
    p = jax.tree.map(np.asarray, params)
    norm = lambda a, i: (a - 1) * p[f"norm{i}"]["scale"] + p[f"norm{i}"]["bias"]
    affine = lambda a, layer: a @ layer["kernel"] + layer["bias"]
    sigmoid = lambda a: 1 / (1 + np.exp(-a))
    silu = lambda a: a * sigmoid(a)
    wide = silu(norm(x @ p["expand"]["kernel"][0, 0], 1))
    padded = np.pad(wide, ((0, 0), (1, 1), (1, 1), (0, 0)))
    window = p["depthwise"]["kernel"][:, :, 0]
    cells = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    deep = silu(norm(np.einsum("nhwcij,ijc->nhwc", cells, window), 2))
    gate = p["gate"]
    opened = sigmoid(affine(silu(affine(deep.mean((1, 2)), gate["reduce"])), gate["expand"]))
    expected = x + norm((deep * opened[:, None, None]) @ p["project"]["kernel"][0, 0], 3)
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.row("G04")
def test_a_bottleneck_halves_the_map_in_its_middle_convolution():
    block, x = bottleneck(2, 2, True), jax.ShapeDtypeStruct((1, 8, 8, 3), np.float32)
    params, state = jax.eval_shape(block.init, jax.random.key(0), x)
    _, seen = jax.eval_shape(functools.partial(jaxdl.capture, block), params, state, x)
    sizes = [seen[f"conv{i}"].shape[1:] for i in (1, 2, 3)]
    assert sizes == [(8, 8, 2), (4, 4, 2), (4, 4, 8)]


@pytest.mark.row("G06")
def test_three_residual_blocks_are_eight_paths():
    """Of linear blocks, output and gradient are the sums over all sets of blocks gone through."""
    model = nn.serial(*(nn.residual(nn.dense(3, use_bias=False)) for _ in range(3)))
    x = np.asarray(normal(0, 2, 3))
    params, _ = filled(model, x)

    @jax.jit
    def output_and_slope(params, x):
        y, pull = jax.vjp(lambda x: model.apply(params, {}, x)[0], x)
        return y, pull(jax.numpy.cos(y))[0]

    for deleted in (None, "residual_1"):
        kept = jax.tree.map(np.asarray, params)
        if deleted:
            kept |= {deleted: jax.tree.map(np.zeros_like, kept[deleted])}
        y, slope = output_and_slope(kept, x)
        kernels = [kept[f"residual_{i}"]["block"]["kernel"] for i in range(3)]
        paths = [
            np.linalg.multi_dot([np.eye(3), *chosen, np.eye(3)])
            for n in range(4)
            for chosen in itertools.combinations(kernels, n)
        ]
        assert sum(map(np.any, paths)) == (4 if deleted else 8)
        np.testing.assert_allclose(y, x @ sum(paths), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(slope, np.cos(y) @ sum(paths).T, rtol=1e-4, atol=1e-5)


@pytest.mark.row("G03")
def test_the_last_branch_of_an_inception_module_is_of_the_maxima_around():
    module, x = inception(1, 1, 1, 1, 1, 2), np.asarray(normal(0, 1, 6, 6, 5))
    params, state = filled(module, x)
    look = functools.partial(jaxdl.capture, module, paths={"branch_pool"})
    _, seen = jax.jit(look)(params, state, x)
    largest = scipy.ndimage.maximum_filter(x, (1, 3, 3, 1), mode="constant", cval=-np.inf)
    conv = jax.tree.map(np.asarray, params["branch_pool"]["conv1"])
    expected = np.maximum(largest @ conv["kernel"][0, 0] + conv["bias"], 0)
    np.testing.assert_allclose(seen["branch_pool"], expected, rtol=1e-4, atol=1e-5)


def test_dropout_is_that_of_the_papers():
    def rates(model):
        layers = model.children.values()
        return [layer.config["rate"] for layer in layers if layer.kind == "dropout"]

    assert rates(alexnet()) == rates(vgg16()) == [0.5, 0.5] and rates(googlenet()) == [0.4]
    sizes = dict(b0=0.2, b1=0.2, b2=0.3, b3=0.3, b4=0.4, b5=0.4, b6=0.5, b7=0.5)
    assert {size: rates(efficientnet(size)) for size in sizes} == {
        size: [rate] for size, rate in sizes.items()
    }


def test_normalizations_have_the_eps_of_torchvision():
    """Weights of B5 to B7 come from TensorFlow, where eps is larger."""

    def eps(module):
        return {module.config.get("eps")}.union(*map(eps, module.children.values())) - {None}

    for n in range(8):
        assert eps(efficientnet(f"b{n}")) == {1e-5 if n < 5 else 1e-3}, n
