"""Top patches against a brute force, and their reconstructions."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import interpret
from jaxdl.interpret import feature_vis

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(6, 9, 8, 2)).astype(np.float32)
K1 = RNG.normal(size=(3, 3, 2, 4)).astype(np.float32)
K2 = RNG.normal(size=(2, 2, 4, 3)).astype(np.float32)


def convolve(x, kernel, stride=1, padding="VALID"):
    return jax.lax.conv_general_dilated(
        x,
        jnp.asarray(kernel),
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def network(x, padding="VALID"):
    with jax.named_scope("first"):
        x = jax.nn.relu(convolve(x, K1, 2, padding))
    with jax.named_scope("second"):
        x = jax.nn.relu(convolve(x, K2, 1, padding))
    return x.mean((1, 2))


def second(x):
    """The second layer, a unit for each patch of 5 x 5 pixels."""
    x = np.asarray(x, np.float64)

    def valid(x, kernel, stride):
        h, w = kernel.shape[:2]
        rows = range(0, x.shape[1] - h + 1, stride)
        columns = range(0, x.shape[2] - w + 1, stride)
        windows = [[x[:, i : i + h, j : j + w] for j in columns] for i in rows]
        return np.maximum(np.einsum("ijnhwc,hwck->nijk", np.array(windows), kernel), 0)

    return valid(valid(x, K1, 2), K2, 1)


@pytest.mark.row("Q09")
def test_the_strongest_patches_of_a_data_set():
    values = second(IMAGES)[..., 1]
    best = values.max((1, 2))
    order = np.argsort(-best)[:4]
    actual = feature_vis.top_patches(network, IMAGES, "second", 1, 4)
    assert actual.image.tolist() == order.tolist()
    chex.assert_trees_all_close(actual.activation, best[order].astype(np.float32), rtol=1e-4)
    assert actual.patch.shape == (4, 5, 5, 2)
    for patch, n, position, corner in zip(
        *(np.asarray(a) for a in (actual.patch, actual.image, actual.position, actual.corner)),
        strict=True,
    ):
        assert values[n][tuple(position)] == best[n]
        i, j = corner
        chex.assert_trees_all_equal(patch, IMAGES[n, i : i + 5, j : j + 5])
        # The patch alone gives the same activation.
        chex.assert_trees_all_close(second(patch[None])[0, 0, 0, 1], best[n], rtol=1e-5)


def test_batches_do_not_matter():
    whole = feature_vis.top_patches(network, IMAGES, "second", 0, 3)
    parts = feature_vis.top_patches(network, IMAGES, "second", 0, 3, batch_size=4)
    chex.assert_trees_all_close(whole, parts, rtol=1e-5)


def test_patches_at_the_edge_lie_inside_of_the_image():
    padded = lambda x: network(x, "SAME")
    actual = feature_vis.top_patches(padded, IMAGES, "first", 0, 6)
    assert actual.patch.shape == (6, 3, 3, 2)
    for patch, n, (i, j) in zip(actual.patch, actual.image, np.asarray(actual.corner), strict=True):
        chex.assert_trees_all_equal(patch, IMAGES[n, i : i + 3, j : j + 3])


@pytest.mark.row("Q09")
@pytest.mark.parametrize("method", [interpret.deconvnet, interpret.guided_backprop])
def test_reconstructions_lie_in_the_patch(method):
    top = feature_vis.top_patches(network, IMAGES, "second", 1, 3)
    layer = lambda x: interpret.intermediate(network, x, "second")[..., 1]
    maps = np.asarray(method(layer, IMAGES[top.image], target=lambda a: a.max((1, 2))))
    inside = np.zeros_like(maps)
    for n, (i, j) in enumerate(np.asarray(top.corner)):
        inside[n, i : i + 5, j : j + 5] = 1
    assert (np.abs(maps).max((1, 2, 3)) > 0).all()
    chex.assert_trees_all_equal(maps, maps * inside)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"count": 7}, "count is 7 for 6 images"),
        ({"channel": 3}, r"channel is 3 and layer 'second' has shape \(1, 3, 2, 3\)"),
        ({"layer": "third"}, "no layer 'third'"),
        ({"images": IMAGES.astype(int)}, "expected floating-point arrays"),
    ],
)
def test_bad_arguments(options, words):
    options = {"images": IMAGES, "layer": "second", "channel": 0, "count": 2} | options
    with pytest.raises(ValueError, match=words):
        feature_vis.top_patches(network, **options)
