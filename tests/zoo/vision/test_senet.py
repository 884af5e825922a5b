"""Gates of channels and the blocks around them; sizes of the squeeze-and-excitation networks."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxdl
from jaxdl.zoo.vision import senet
from tests.nn.filled import filled
from tests.zoo.vision.test_vision import counted, image


@pytest.mark.row("G11")
def test_numbers_of_parameters():
    expected = {
        "se_resnet50": 28_088_024,
        "se_resnet101": 49_326_872,
        "se_resnet152": 66_821_848,
        "se_resnext50": 27_559_896,
        "senet154": 115_088_984,
    }
    for name, count in expected.items():
        assert counted(getattr(senet, name)(), 3) == (count, 1000), name


GATE, SHAPE = senet.squeeze_excite(6, 2), (2, 3, 4, 6)
RUN = jax.jit(GATE.apply)


@pytest.mark.row("G11")
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 1))
def test_gates_are_between_0_and_1_and_of_whole_channels(seed, scale):
    x = np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)
    params, _ = filled(GATE, x, seed=seed, scale=scale)
    y = np.asarray(RUN(params, {}, x)[0])
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    affine = lambda a, layer: a @ layer["kernel"] + layer["bias"]
    hidden = np.maximum(affine(x.mean((1, 2)), p["reduce"]), 0)
    gate = 1 / (1 + np.exp(-affine(hidden, p["expand"])))
    assert ((gate > 0) & (gate < 1)).all()
    np.testing.assert_allclose(y, x * gate[:, None, None], rtol=1e-3, atol=1e-5)


@pytest.mark.row("G11")
@pytest.mark.parametrize("kind, sizes", [("resnet", [4, 4, 4]), ("resnext", [8, 4, 4])])
def test_strides_are_those_of_the_caffe_models(kind, sizes):
    block, x = senet.se_block(kind, 16, stride=2, project=True), image(8)
    shapes = jax.eval_shape(block.init, jax.random.key(0), x)
    _, seen = jax.eval_shape(lambda p, s, x: jaxdl.capture(block, p, s, x), *shapes, x)
    assert [seen[f"conv{i}"].shape[1] for i in (1, 2, 3)] == sizes
    assert seen["shortcut/conv"].shape == (1, 4, 4, 64)


@pytest.mark.row("G11")
def test_the_gate_scales_what_is_added_to_the_shortcut():
    """With gates of one half: y = relu(x + F(x) / 2)."""
    block = senet.se_block("resnet", 4, stride=1, project=False)
    x = np.random.default_rng(0).normal(size=(1, 3, 3, 16)).astype(np.float32)
    params, state = filled(block, x)
    state = jax.tree.map(np.ones_like, state)
    params["gate"] = jax.tree.map(np.zeros_like, params["gate"])
    y, seen = jax.jit(lambda p, s, x: jaxdl.capture(block, p, s, x))(params, state, x)
    np.testing.assert_allclose(y, np.maximum(x + seen["norm3"] / 2, 0), rtol=1e-5, atol=1e-6)


def test_a_kind_that_is_none():
    with pytest.raises(ValueError, match="kind is 'vgg'; expected one of resnet, resnext"):
        senet.se_resnet("vgg", (1, 1))
