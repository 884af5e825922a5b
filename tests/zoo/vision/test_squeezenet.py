"""Fire modules; SqueezeNet's sizes."""

import jax
import numpy as np
import pytest

import jaxdl
from jaxdl.zoo.vision.squeezenet import fire, squeezenet
from tests.nn.filled import filled
from tests.zoo.vision.test_vision import image, init_shapes, parameters


@pytest.mark.row("G13")
def test_numbers_of_parameters():
    for version, expected in (("1.0", 1_248_424), ("1.1", 1_235_496)):
        assert parameters(squeezenet(version), image(48)) == expected
    assert 60_965_224 / 1_248_424 == pytest.approx(48.8, abs=0.1)  # "50 times fewer than AlexNet"


@pytest.mark.row("G13")
def test_maps_of_table_1():
    model, x = squeezenet(), image(224)
    shapes = init_shapes(model, x)
    _, seen = jax.eval_shape(lambda p, s, x: jaxdl.capture(model, p, s, x), *shapes, x)
    # The paper has 111, 55, 27 and 13: its first convolution pads by 2, which no release does.
    sides = {name: seen[name].shape[1] for name in ("conv1", "pool1", "pool4", "pool8")}
    assert sides == {"conv1": 109, "pool1": 54, "pool4": 27, "pool8": 13}
    assert seen["fire9"].shape == (1, 13, 13, 512) and seen["mean"].shape == (1, 1000)


@pytest.mark.row("G13")
def test_a_fire_module_is_its_equation():
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 5)).astype(np.float32)
    module = fire(3, 4)
    params, _ = filled(module, x)
    y = np.asarray(jax.jit(module.apply)(params, {}, x)[0])
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    s = np.maximum(x @ p["squeeze"]["kernel"][0, 0] + p["squeeze"]["bias"], 0)
    one = s @ p["expand1x1"]["kernel"][0, 0] + p["expand1x1"]["bias"]
    padded = np.pad(s, ((0, 0), (1, 1), (1, 1), (0, 0)))
    cells = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    three = np.einsum("nhwcij,ijcf->nhwf", cells, p["expand3x3"]["kernel"]) + p["expand3x3"]["bias"]
    expected = np.maximum(np.concatenate([one, three], -1), 0)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_a_version_that_is_none():
    with pytest.raises(ValueError, match="version is '2.0'; expected one of 1.0, 1.1"):
        squeezenet("2.0")
