"""Inverted residuals without an activation at the end; MobileNetV2's sizes."""

import jax
import numpy as np
import pytest

from jaxdl.zoo.vision.mobilenet import inverted_residual, mobilenet_v2
from tests.nn.filled import filled
from tests.zoo.vision.test_vision import counted


@pytest.mark.row("G13")
def test_numbers_of_parameters():
    model = mobilenet_v2()
    assert counted(model, 3) == (3_504_872, 1000)
    # torchvision's of other widths; the last convolution is not narrowed
    assert counted(mobilenet_v2(0.5), 3) == (1_968_680, 1000)
    assert counted(mobilenet_v2(1.4), 3) == (6_108_776, 1000)
    blocks = [child for child in model.children.values() if child.kind == "inverted_residual"]
    assert [block.config["stride"] for block in blocks].count(2) == 4 and len(blocks) == 17


@pytest.mark.row("G13")
def test_a_block_is_its_equation():
    """Wide with relu6, depthwise with relu6, and narrow without an activation."""
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 4)).astype(np.float32)
    block = inverted_residual(4, 4, expansion=3, kernel_size=3, stride=1)
    params, state = filled(block, x, scale=2.0)
    state = jax.tree.map(np.ones_like, state)  # means and variances
    y = jax.jit(block.apply)(params, state, x)[0]
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def norm(a, i):
        return (a - 1) / np.sqrt(1 + 1e-5) * p[f"norm{i}"]["scale"] + p[f"norm{i}"]["bias"]

    wide = np.clip(norm(x @ p["expand"]["kernel"][0, 0], 1), 0, 6)
    padded = np.pad(wide, ((0, 0), (1, 1), (1, 1), (0, 0)))
    cells = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    deep = norm(np.einsum("nhwcij,ijc->nhwc", cells, p["depthwise"]["kernel"][:, :, 0]), 2)
    assert (deep < 0).any() and (deep > 6).any()
    expected = x + norm(np.clip(deep, 0, 6) @ p["project"]["kernel"][0, 0], 3)
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.row("G13")
def test_separable_convolutions_need_fewer_operations():
    """Section 3.1: by about k^2 = 9 where the channels are many."""
    side, channels = 14, 384
    dense = side**2 * channels**2 * 9
    separable = side**2 * channels * (9 + channels)
    assert dense / separable == pytest.approx(1 / (1 / channels + 1 / 9)) and 8 < dense / separable
    block = inverted_residual(64, 64, expansion=6, kernel_size=3, stride=1)
    count, _ = counted(block, 64)
    assert count == 64 * 384 + 9 * 384 + 384 * 64 + 2 * (384 + 384 + 64)


@pytest.mark.parametrize("width", [0, -1.0, float("nan"), "wide"])
def test_a_width_that_is_none(width):
    with pytest.raises(ValueError, match="mobilenet_v2: width is .*; expected a number above 0"):
        mobilenet_v2(width)
