import functools

import jax
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl import train, tree
from jaxdl.zoo.segmentation import unet as module
from jaxdl.zoo.segmentation.unet import padded_unet, unet
from tests.nn.filled import filled, normal
from tests.zoo.segmentation import pytorch


def shapes(model, *shape):
    """Returns the shapes of the parameters and of the output."""
    x = jax.ShapeDtypeStruct(shape, np.float32)
    params, state = jax.eval_shape(model.init, jax.random.key(0), x)
    return params, jax.eval_shape(model.apply, params, state, x)[0].shape


@pytest.mark.row("H05")
def test_the_network_of_the_paper():
    """572 pixels become 388; for three channels and 21 classes only the ends have more weights."""
    params, output = shapes(unet(), 1, 572, 572, 1)
    assert tree.count(params) == 31_030_658 and output == (1, 388, 388, 2)
    rgb = tree.count(params) + 9 * 2 * 64
    assert rgb == 31_031_810 and rgb + 19 * 65 == 31_033_045


@pytest.mark.row("H05")
def test_the_padded_forms():
    params, output = shapes(padded_unet(), 1, 37, 50, 3)
    assert tree.count(params) == 31_037_698 and output == (1, 37, 50, 2)
    params, output = shapes(padded_unet(bilinear=True), 1, 16, 16, 3)
    assert tree.count(params) == 17_263_042 and output == (1, 16, 16, 2)


GOLDEN = {
    "small": (
        lambda: padded_unet(width=8, depth=2),
        16,
        ([0.150319098187, -0.00651173162872, -0.037551334827], 0.221874894088, 9.51722669892),
    ),
    "small, bilinear": (
        lambda: padded_unet(width=8, depth=2, bilinear=True),
        16,
        ([0.00952234835429, 0.0852164541359, 0.00796700224521], 168.276429694, 10.6003542469),
    ),
    "milesial/Pytorch-UNet": (
        padded_unet,
        32,
        ([-0.156158932033, -0.7111058117, -0.146028896317], -1094.27913641, 34.9669811312),
    ),
}
"""The first three numbers, the sum and the norm. Those of the small networks are of the same layers
in torch.nn.functional, see `tests/parity/test_segmentation.py`."""


@pytest.mark.row("H02", "H05")
@pytest.mark.parametrize(
    "name",
    ["small", "small, bilinear", pytest.param("milesial/Pytorch-UNet", marks=pytest.mark.slow)],
)
def test_the_outputs_are_those_of_the_pytorch_model(name):
    make, size, (first, total, norm) = GOLDEN[name]
    y = pytorch.logits(make(), size)
    np.testing.assert_allclose(y[:3], first, rtol=1e-6)
    np.testing.assert_allclose([y.sum(), np.linalg.norm(y)], [total, norm], rtol=1e-6)


@functools.cache
def small(make, size):
    model = make(width=8, depth=2)
    x = np.zeros((1, size, size, 1), np.float32)
    return jax.jit(model.apply), *filled(model, x)


@pytest.mark.row("H05")
@given(st.integers(0, 1000), st.integers(-2, 2), st.integers(-2, 2))
def test_a_valid_network_moves_with_its_image(seed, down, right):
    """Without padding, output pixels depend on their surroundings only, in steps of 4 pixels."""
    apply, params, state = small(unet, 60)
    scene = np.random.default_rng(seed).normal(size=(1, 80, 80, 1)).astype(np.float32)
    cut = lambda i, j: scene[:, i : i + 60, j : j + 60]
    here = np.asarray(apply(params, state, cut(8, 8))[0])
    there = np.asarray(apply(params, state, cut(8 + 4 * down, 8 + 4 * right))[0])
    assert here.shape == (1, 20, 20, 2)
    inner = here[:, 8:12, 8:12]
    moved = there[:, 8 - 4 * down : 12 - 4 * down, 8 - 4 * right : 12 - 4 * right]
    np.testing.assert_allclose(moved, inner, rtol=1e-3, atol=1e-4 * np.abs(here).max())


def test_bilinear_upsampling_keeps_the_corners():
    x = np.asarray(normal(0, 1, 3, 4, 2))
    y = np.asarray(jax.jit(module.double_bilinear)(x))
    rows, columns = (np.linspace(0, n - 1, 2 * n) for n in (3, 4))
    for c in range(2):
        lines = np.stack([np.interp(columns, range(4), row) for row in x[0, :, :, c]])
        expected = np.stack([np.interp(rows, range(3), line) for line in lines.T], axis=1)
        np.testing.assert_allclose(y[0, :, :, c], expected, atol=1e-6)


@pytest.mark.row("H05")
def test_the_skip_is_the_centre_of_its_map():
    x = np.arange(49.0).reshape(1, 7, 7, 1)
    np.testing.assert_array_equal(module.crop_to(x, x[:, :3, :5]), x[:, 2:5, 1:6])
    padded = np.asarray(module.pad_to(x, np.zeros((1, 8, 10, 1))))
    np.testing.assert_array_equal(padded[:, :7, 1:8], x)
    assert padded.sum() == x.sum()


@pytest.mark.slow
@pytest.mark.row("H05", "H11")
def test_a_small_one_learns_to_separate_cells_from_their_borders():
    """Discs of any brightness: only their surroundings distinguish the border from the ground."""
    rng = np.random.default_rng(0)
    i, j = np.mgrid[:16, :16]
    distance = np.hypot(*(grid - rng.uniform(5, 11, (32, 1, 1)) for grid in (i, j))) - 4
    labels = np.where(np.abs(distance) < 1, 2, distance < 0).astype(np.int32)
    x = np.float32(rng.uniform(0.3, 1, (32, 1, 1)) * (distance < 0))[..., None]
    _, history = train.fit(
        padded_unet(num_classes=3, width=8, depth=1),
        (x, labels),
        loss="cross_entropy",
        optimizer=optax.adam(1e-2),
        epochs=train.Steps(60),
        metrics=["accuracy"],
        verbose=0,
    )
    assert history["accuracy"][0] < 0.7 < 0.9 < history["accuracy"][-1]


def test_sizes_that_lose_pixels(key):
    for size, nearest in ((571, 572), (100, 188), (580, 572)):
        with pytest.raises(ValueError, match=rf"188, 204, 220, .* {size} to {nearest}"):
            shapes(unet(), 1, 572, size, 1)
    shapes(unet(depth=1), 1, 18, 20, 1)
    with pytest.raises(ValueError, match=r"expected 18, 20, 22, \.\.\. a side for a depth of 1"):
        shapes(unet(depth=1), 1, 16, 20, 1)
    with pytest.raises(ValueError, match="expected at least 16 pixels a side"):
        shapes(padded_unet(), 1, 15, 64, 3)
    for make in (unet, padded_unet):
        with pytest.raises(ValueError, match="depth is 0; expected an integer of at least 1"):
            make(depth=0)
