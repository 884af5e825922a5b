"""The decks' convolutions and poolings. Lecture rows F01-F12, S07-S11, S15-S18."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from jaxdl import nn
from tests.nn.filled import filled

IMAGE = np.array(
    [
        [1, 0, 0, 0, 0, 1],
        [0, 1, 0, 0, 1, 0],
        [0, 0, 1, 1, 0, 0],
        [1, 0, 0, 0, 1, 0],
        [0, 1, 0, 0, 1, 0],
        [0, 0, 1, 0, 1, 0],
    ]
)
KERNEL_1 = np.array([[1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
KERNEL_2 = np.array([[-1, 1, -1], [-1, 1, -1], [-1, 1, -1]])
MAP_1 = np.array([[3, -1, -3, -1], [-3, 1, 0, -3], [-3, -3, 0, 1], [3, -2, -2, -1]])
MAP_2 = np.array([[-1, -1, -1, -1], [-1, -1, -2, 1], [-1, -1, -2, 1], [-1, 0, -4, 3]])


def convolve(image, kernel, **options):
    """One channel in, one kernel."""
    x, k = (jnp.asarray(a, jnp.float32) for a in (image, kernel))
    options = {"padding": "VALID"} | options
    return nn.functional.conv(x[None, ..., None], k[..., None, None], **options)[0, ..., 0]


@pytest.mark.row("S07")
def test_the_first_feature_map():
    """Misprint: the fifth deck prints -3, -1 and -3 at (0, 0), (1, 1) and (3, 0)."""
    ours = convolve(IMAGE, KERNEL_1)
    chex.assert_trees_all_equal(ours, MAP_1.astype(np.float32))
    printed = MAP_1.copy()
    printed[0, 0], printed[1, 1], printed[3, 0] = -3, -1, -3
    assert np.argwhere(np.asarray(ours) != printed).tolist() == [[0, 0], [1, 1], [3, 0]]


@pytest.mark.row("S08", "F04")
def test_stride_two_leaves_the_last_row_and_column():
    chex.assert_trees_all_equal(
        convolve(IMAGE, KERNEL_1, stride=2), jnp.array([[3.0, -3], [-3, 0]])
    )


@pytest.mark.row("S09")
def test_the_second_feature_map():
    chex.assert_trees_all_equal(convolve(IMAGE, KERNEL_2), MAP_2.astype(np.float32))
    chex.assert_trees_all_equal(
        convolve(IMAGE, KERNEL_2, stride=2), jnp.array([[-1.0, -1], [-1, -2]])
    )


@pytest.mark.row("S10", "F12")
def test_pooling_both_maps():
    maps = jnp.stack([convolve(IMAGE, KERNEL_1), convolve(IMAGE, KERNEL_2)], -1)[None]
    pooled = nn.functional.max_pool(maps, 2)[0]
    chex.assert_trees_all_equal(pooled[..., 0], jnp.array([[3.0, 0], [3, 1]]))
    chex.assert_trees_all_equal(pooled[..., 1], jnp.array([[-1.0, 1], [0, 3]]))
    chex.assert_trees_all_equal(
        jax.nn.relu(maps)[0, ..., 0], np.maximum(MAP_1, 0).astype(np.float32)
    )


@pytest.mark.row("F11", "F12")
def test_from_the_image_through_pooled_maps_to_a_dense_layer():
    """The pooled maps above, rectified and read row by row with the channels last."""
    layers = [nn.conv(2, 3, padding="VALID", use_bias=False), jax.nn.relu, nn.max_pool(2)]
    model = nn.serial(*layers, nn.flatten(), nn.dense(1, use_bias=False))
    kernels = np.stack([KERNEL_1, KERNEL_2], -1)[:, :, None].astype(np.float32)
    flat = [3, 0, 0, 1, 3, 0, 1, 3]
    params = {
        "conv_0": {"kernel": kernels},
        "dense_0": {"kernel": np.arange(1, 9, dtype=np.float32)[:, None]},
    }
    y, _ = jax.jit(model.apply)(params, {}, IMAGE[None, ..., None].astype(np.float32))
    assert y.tolist() == [[np.dot(flat, range(1, 9))]] == [[53]]


@pytest.mark.row("F11")
def test_two_rounds_of_convolution_and_pooling_on_an_image_of_mnists_size():
    """28, 26, 13, 11, 5 cells a side; 25 and 50 kernels, 1250 numbers, 10 classes."""
    rounds = [[nn.conv(n, 3, padding="VALID"), jax.nn.relu, nn.max_pool(2)] for n in (25, 50)]
    model = nn.serial(*rounds[0], *rounds[1], nn.flatten(), nn.dense(10))
    x = np.random.default_rng(0).normal(size=(2, 28, 28, 1)).astype(np.float32)
    params, state = filled(model, x)
    y, seen = jax.jit(functools.partial(jaxdl.capture, model))(params, state, x)
    shapes = [
        *((26, 26, 25), (26, 26, 25), (13, 13, 25), (11, 11, 50), (11, 11, 50), (5, 5, 50)),
        *((1250,), (10,)),
    ]
    assert [seen[name].shape[1:] for name in model.children] == shapes

    a = x.astype(np.float64)
    for name in ("conv_0", "conv_1"):
        kernel, bias = np.asarray(params[name]["kernel"]), np.asarray(params[name]["bias"])
        windows = np.lib.stride_tricks.sliding_window_view(a, (3, 3), (1, 2))
        a = np.maximum(np.einsum("nhwcij,ijco->nhwo", windows, kernel, optimize=True) + bias, 0)
        n, side = len(a), a.shape[1] // 2
        cells = a[:, : 2 * side, : 2 * side].reshape(n, side, 2, side, 2, -1)
        a = cells.max((2, 4))
    expected = a.reshape(len(a), -1) @ np.asarray(params["dense_0"]["kernel"])
    expected += np.asarray(params["dense_0"]["bias"])
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-3)


FIVE = np.array(
    [[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]]
)
THREE = np.array([[0, 1, 2], [2, 2, 0], [0, 1, 2]])


@pytest.mark.row("S11", "F01", "F05")
def test_the_five_by_five_example():
    """Misprint: the deck defines convolution with a turned kernel, and does not turn it here."""
    printed = [[12, 12, 17], [10, 17, 19], [9, 6, 14]]
    turned = [[18, 20, 19], [10, 9, 17], [11, 8, 14]]
    padded = [
        *([6, 14, 17, 11, 3], [14, 12, 12, 17, 11], [8, 10, 17, 19, 13]),
        *([11, 9, 6, 14, 12], [6, 4, 4, 6, 4]),
    ]
    equal = lambda a, b: chex.assert_trees_all_equal(a, np.array(b, np.float32))
    equal(convolve(FIVE, THREE), printed)
    equal(convolve(FIVE, THREE, flip=True), turned)
    equal(convolve(FIVE, THREE, stride=2), [[12, 17], [9, 14]])
    equal(convolve(FIVE, THREE, padding=1), padded)
    equal(convolve(FIVE, THREE, padding="SAME"), padded)
    equal(convolve(FIVE, THREE, padding=1, stride=2), [[6, 17, 3], [8, 17, 13], [6, 4, 4]])


def shape(x, layer):
    return jax.eval_shape(lambda x: layer.apply(layer.init(jax.random.key(0), x)[0], {}, x)[0], x)


@pytest.mark.row("S15", "F04")
def test_sizes_of_seven_by_seven():
    x = jnp.ones((1, 7, 7, 1))
    for stride, size in ((1, 5), (2, 3)):
        layer = nn.conv(1, 3, stride=stride, padding="VALID")
        assert shape(x, layer).shape == (1, size, size, 1)


@pytest.mark.row("S16", "F03")
def test_six_kernels_on_a_colour_image(key):
    x, layer = jnp.ones((1, 32, 32, 3)), nn.conv(6, 5, padding="VALID")
    assert shape(x, layer).shape == (1, 28, 28, 6)
    params, _ = jaxdl.init(layer, key, x)
    assert params["kernel"].shape == (5, 5, 3, 6)
    assert params["kernel"].size == 450 and jaxdl.tree.count(params) == 456
    assert 32 * 32 * 3 * 28 * 28 * 6 == 14_450_688


@pytest.mark.row("S17", "F09")
def test_pooling_a_table():
    """Misprint: the printed averages 3, 2, 3, 6 are cut off, not rounded."""
    table = jnp.array([[1.0, 5, 4, 3], [2, 6, 4, 0], [3, 1, 7, 9], [2, 8, 6, 5]])[None, ..., None]
    chex.assert_trees_all_equal(
        nn.functional.max_pool(table)[0, ..., 0], jnp.array([[6.0, 4], [8, 9]])
    )
    mean = nn.functional.avg_pool(table)[0, ..., 0]
    chex.assert_trees_all_equal(mean, jnp.array([[3.5, 2.75], [3.5, 6.75]]))
    chex.assert_trees_all_equal(jnp.floor(mean), jnp.array([[3.0, 2], [3, 6]]))


@pytest.mark.row("S18", "F09")
def test_pooling_another_table():
    table = jnp.array([[1.0, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]])[None, ..., None]
    chex.assert_trees_all_equal(
        nn.functional.max_pool(table)[0, ..., 0], jnp.array([[6.0, 8], [3, 4]])
    )
    chex.assert_trees_all_equal(
        nn.functional.avg_pool(table)[0, ..., 0], jnp.array([[3.25, 5.25], [2.0, 2.0]])
    )


@pytest.mark.row("F01")
def test_convolution_commutes_and_is_numpys():
    f, g = np.array([1.0, 2, -1, 3], np.float32), np.array([0.5, -1, 2], np.float32)

    def full(f, g):
        edge = len(g) - 1
        x = jnp.asarray(f)[None, :, None]
        return nn.functional.conv(x, jnp.asarray(g)[:, None, None], padding=edge, flip=True)[
            0, :, 0
        ]

    chex.assert_trees_all_close(full(f, g), np.convolve(f, g), atol=1e-6)
    chex.assert_trees_all_close(full(f, g), full(g, f), atol=1e-6)


@pytest.mark.row("F02")
def test_the_edge_kernel():
    kernel = np.array([[1, 0, -1], [0, 0, 0], [-1, 0, 1]])
    i, j = np.mgrid[:6, :6]
    for flat in (np.ones((6, 6)), i, j):
        assert not np.any(convolve(flat, kernel))
    chex.assert_trees_all_equal(convolve(i * j, kernel), jnp.full((4, 4), 4.0))
    chex.assert_trees_all_equal(convolve(IMAGE, kernel), convolve(IMAGE, kernel, flip=True))


def as_matrix(kernel):
    """Row by output cell, column by input cell: the convolution of a 6x6 image as a dense layer."""
    cells = np.eye(36).reshape(36, 6, 6)
    return np.stack([np.asarray(convolve(cell, kernel)).ravel() for cell in cells], 1)


@pytest.mark.row("F06")
def test_convolution_is_a_sparse_dense_layer_of_shared_weights():
    matrix = as_matrix(np.arange(1, 10).reshape(3, 3))
    assert matrix.shape == (16, 36) and matrix.size == 576
    assert np.all((matrix != 0).sum(1) == 9) and len(np.unique(matrix)) == 1 + 9
    chex.assert_trees_all_equal(
        as_matrix(KERNEL_1) @ IMAGE.ravel(), MAP_1.ravel().astype(np.float64)
    )


@pytest.mark.row("F07")
def test_the_gradient_of_a_shared_weight_is_the_sum_over_its_ties():
    kernel = jnp.asarray(KERNEL_1, jnp.float32)
    shared = jax.grad(lambda k: jnp.sum(convolve(IMAGE, k) ** 2))(kernel)
    image = IMAGE.ravel().astype(np.float32)
    free = jax.grad(lambda m: jnp.sum((m @ image) ** 2))(jnp.asarray(as_matrix(KERNEL_1)))
    ties = as_matrix(np.arange(1, 10).reshape(3, 3))
    sums = [np.asarray(free)[ties == weight].sum() for weight in range(1, 10)]
    chex.assert_trees_all_close(shared.ravel(), np.array(sums), atol=1e-4)


@pytest.mark.row("F08")
def test_a_shifted_image_has_a_shifted_map():
    image = np.zeros((10, 10))
    image[2:5, 3:6] = KERNEL_2
    moved = np.roll(image, (3, 2), (0, 1))
    maps = [np.asarray(convolve(picture, KERNEL_1)) for picture in (image, moved)]
    np.testing.assert_allclose(maps[1], np.roll(maps[0], (3, 2), (0, 1)))
