"""Feature pyramids: the four schemes of the paper's figure 1."""

import functools

import jax
import numpy as np
import pytest

from jaxdl.combine import serial
from jaxdl.core import compose
from jaxdl.nn import avg_pool
from jaxdl.zoo.detection import fpn
from jaxdl.zoo.detection.backbone import resnet_backbone
from jaxdl.zoo.vision.resnet import basic_block
from tests.nn.filled import filled


def halves():
    """A backbone without parameters: means over 1, 2 and 4 pixels."""
    children = {"pool": serial(pool=avg_pool(2))}

    def forward(call, x):
        maps = [x, call("pool", x)]
        return (*maps, call("pool", maps[-1]))

    return compose("halves", children, forward)


X = np.random.default_rng(0).normal(size=(1, 8, 8, 2)).astype(np.float32)
SCHEMES = {
    "featurized image pyramid": lambda body: fpn.featurized_image_pyramid(body, 2, 3),
    "single feature map": lambda body: fpn.single_feature_map(body, 3),
    "pyramidal feature hierarchy": lambda body: fpn.pyramidal_feature_hierarchy(body, 3, 3),
    "feature pyramid network": lambda body: fpn.feature_pyramid_network(body, 3, 3),
}


@functools.cache
def run(name):
    model = SCHEMES[name](halves())
    params, state = filled(model, X)
    return params, jax.jit(model.apply)(params, state, X)[0]


def mean(x, size):
    n, height, width, channels = x.shape
    return x.reshape(n, height // size, size, width // size, size, channels).mean((2, 4))


def project(x, layer):
    return x @ np.asarray(layer["kernel"])[0, 0] + np.asarray(layer["bias"])


@pytest.mark.row("H10")
def test_an_image_pyramid_runs_the_backbone_at_each_scale():
    params, maps = run("featurized image pyramid")
    assert [x.shape for x in maps] == [(1, 2, 2, 3), (1, 1, 1, 3)]
    np.testing.assert_allclose(maps[0], project(mean(X, 4), params["inner"]), atol=1e-5)
    small = np.asarray(jax.image.resize(X, (1, 4, 4, 2), "linear"))
    np.testing.assert_allclose(maps[1], project(mean(small, 4), params["inner"]), atol=1e-5)


@pytest.mark.row("H10")
def test_a_single_map_is_the_last_one():
    params, maps = run("single feature map")
    assert len(maps) == 1
    np.testing.assert_allclose(maps[0], project(mean(X, 4), params["inner"]), atol=1e-5)


@pytest.mark.row("H10")
def test_a_hierarchy_has_no_way_down():
    params, maps = run("pyramidal feature hierarchy")
    for k, x in enumerate(maps):
        np.testing.assert_allclose(x, project(mean(X, 2**k), params[f"inner{k + 1}"]), atol=1e-5)


@pytest.mark.row("H10")
def test_a_feature_pyramid_adds_the_coarser_map():
    params, maps = run("feature pyramid network")
    lateral = [project(mean(X, 2**k), params["fpn"][f"inner{k + 1}"]) for k in range(3)]
    double = lambda x: x.repeat(2, 1).repeat(2, 2)
    merged = [None, None, lateral[2]]
    merged[1] = lateral[1] + double(merged[2])
    merged[0] = lateral[0] + double(merged[1])
    for k, x in enumerate(merged):
        layer = params["fpn"][f"layer{k + 1}"]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        size = x.shape[1]
        expected = sum(
            padded[:, i : i + size, j : j + size] @ np.asarray(layer["kernel"])[i, j]
            for i in range(3)
            for j in range(3)
        )
        np.testing.assert_allclose(maps[k], expected + layer["bias"], atol=1e-4)


@pytest.mark.row("H10")
def test_numbers_of_torchvision():
    """Two maps whose sizes are no multiples of each other, and kernels of zeros and ones."""
    fine = np.arange(15, dtype=np.float32).reshape(1, 3, 5, 1)
    coarse = np.arange(10, 70, 10, dtype=np.float32).reshape(1, 2, 3, 1)
    model = fpn.feature_pyramid(2, 1, extra_level=True)
    params, state = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(model.init, jax.random.key(0), fine, coarse),
    )
    for k in (1, 2):
        params[f"inner{k}"]["kernel"][:] = 1
        params[f"layer{k}"]["kernel"][1, 1] = 1
    params["layer1"]["kernel"][0, 0] = 0.5
    first, second, third = jax.jit(model.apply)(params, state, fine, coarse)[0]
    expected = [[10, 11, 22, 23, 34], [15, 21, 32.5, 39, 50.5], [50, 58.5, 70, 76.5, 88]]
    np.testing.assert_allclose(first[0, ..., 0], expected)
    np.testing.assert_array_equal(second, coarse)
    np.testing.assert_array_equal(third, coarse[:, ::2, ::2])


def test_the_maps_of_a_residual_backbone():
    model = resnet_backbone(basic_block, (1, 2, 1), features=4)
    image = jax.ShapeDtypeStruct((1, 64, 96, 3), np.float32)
    params, state = jax.eval_shape(model.init, jax.random.key(0), image)
    names = ["conv1", "layer1_0", "layer2_0", "layer2_1", "layer3_0", "norm1"]
    assert sorted(params) == names
    maps, _ = jax.eval_shape(model.apply, params, state, image)
    assert [x.shape[1:] for x in maps] == [(16, 24, 4), (8, 12, 8), (4, 6, 16)]


def test_invalid_input():
    with pytest.raises(ValueError, match="levels is 0"):
        fpn.feature_pyramid(0)
    with pytest.raises(ValueError, match="got 1 maps; expected 2"):
        jax.eval_shape(fpn.feature_pyramid(2).init, jax.random.key(0), X)
