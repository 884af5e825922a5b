"""Dense blocks keep all earlier channels and grow by k; DenseNet's sizes."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl import tree
from jaxdl.zoo.vision import densenet
from tests.nn.filled import filled
from tests.zoo.vision.test_vision import counted, image


@pytest.mark.row("G10")
def test_numbers_of_parameters():
    expected = {121: 7_978_856, 161: 28_681_000, 169: 14_149_480, 201: 20_013_928}
    for depth, count in expected.items():
        model = getattr(densenet, f"densenet{depth}")()
        assert counted(model, 3) == (count, 1000), depth
        weights = [name for name in model.children if "_layer" in name or "transition" in name]
        assert 2 * len(weights) - 3 + 2 == depth  # two a layer, one a transition, first and last


@pytest.mark.row("G10")
def test_every_layer_adds_k_channels_to_all_before_it():
    model, x = densenet.densenet((3, 2), growth_rate=4, stem=6, num_classes=5), image(16)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    y, seen = jax.eval_shape(lambda p, s, x: jaxdl.capture(model, p, s, x), *shapes, x)
    channels = {name: value.shape[-1] for name, value in seen.items() if "/" not in name}
    for layer in (1, 2, 3):  # k_0 + k l
        assert channels[f"denseblock1_layer{layer}"] == 6 + 4 * layer
    assert channels["transition1"] == 9 and seen["transition1"].shape[1:3] == (2, 2)
    assert channels["denseblock2_layer2"] == 9 + 8 and channels["logits"] == 5
    inner = [seen[f"denseblock1_layer2/conv{i}"].shape[-1] for i in (1, 2)]
    assert inner == [16, 4]


LAYER, SHAPE = densenet.dense_layer(2), (2, 4, 4, 3)
RUN = jax.jit(LAYER.apply)


@pytest.mark.row("G10")
@given(st.integers(0, 2**32 - 1))
def test_a_dense_layer_is_its_equation(seed):
    x = np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)
    params, state = filled(LAYER, x, seed=seed)
    state = jax.tree.map(np.ones_like, state)  # means and variances
    y = np.asarray(RUN(params, state, x)[0])
    np.testing.assert_array_equal(y[..., :3], x)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def norm_relu(a, norm):
        return np.maximum((a - 1) / np.sqrt(1 + 1e-5) * norm["scale"] + norm["bias"], 0)

    wide = norm_relu(x, p["norm1"]) @ p["conv1"]["kernel"][0, 0]
    padded = np.pad(norm_relu(wide, p["norm2"]), ((0, 0), (1, 1), (1, 1), (0, 0)))
    cells = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    expected = np.einsum("nhwcij,ijcf->nhwf", cells, p["conv2"]["kernel"])
    np.testing.assert_allclose(y[..., 3:], expected, rtol=1e-3, atol=1e-4)
    assert tree.count(params) == 2 * (3 + 8) + 3 * 8 + 9 * 8 * 2


def test_sizes_that_are_none():
    with pytest.raises(ValueError, match=r"densenet: depths\[1\] is 0; expected an integer of"):
        densenet.densenet((6, 0))
    with pytest.raises(ValueError, match="densenet: growth_rate is 2.5"):
        densenet.densenet((6, 6), growth_rate=2.5)
