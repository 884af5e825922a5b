"""The channel shuffle and the units around it; ShuffleNetV2's sizes."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl.zoo.vision.shufflenet import shuffle, shuffle_unit, shufflenet_v2
from tests.nn.filled import filled
from tests.zoo.vision.test_vision import image, parameters

COUNTS = {0.5: 1_366_792, 1.0: 2_278_604, 1.5: 3_503_624, 2.0: 7_393_996}


@pytest.mark.row("G13")
@pytest.mark.parametrize(
    "width", [pytest.param(w, marks=[] if w == 1 else pytest.mark.slow) for w in COUNTS]
)
def test_numbers_of_parameters(width):
    assert parameters(shufflenet_v2(width), image(32)) == COUNTS[width]


@pytest.mark.row("G13")
@given(st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_a_shuffle_interleaves_the_groups(groups):
    x = np.arange(2 * 12.0, dtype=np.float32).reshape(2, 1, 1, 12)
    y = np.asarray(shuffle(x, groups))
    size = 12 // groups
    expected = [x[..., g * size + c] for c in range(size) for g in range(groups)]
    np.testing.assert_array_equal(y, np.stack(expected, -1))
    np.testing.assert_array_equal(shuffle(y, size), x)


@pytest.mark.row("G13")
def test_a_unit_keeps_one_half_of_the_channels():
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 8)).astype(np.float32)
    unit = shuffle_unit(8, 8, 1)
    params, state = filled(unit, x)
    state = jax.tree.map(np.ones_like, state)
    y = np.asarray(jax.jit(unit.apply)(params, state, x)[0])
    np.testing.assert_array_equal(y[..., ::2], x[..., :4])
    branch = unit.children["branch2"]
    convolved = jax.jit(branch.apply)(params["branch2"], state["branch2"], x[..., 4:])[0]
    np.testing.assert_allclose(y[..., 1::2], convolved, rtol=1e-6)


@pytest.mark.row("G13")
def test_a_downsampling_unit_reads_all_channels_twice():
    unit, x = shuffle_unit(6, 16, 2), image(8)
    x = jax.ShapeDtypeStruct((1, 8, 8, 6), np.float32)
    params, state = jax.eval_shape(unit.init, jax.random.key(0), x)
    assert jax.eval_shape(unit.apply, params, state, x)[0].shape == (1, 4, 4, 16)
    assert params["branch1"]["conv1"]["kernel"].shape == (3, 3, 1, 6)
    assert params["branch2"]["conv1"]["kernel"].shape == (1, 1, 6, 8)


def test_arguments_that_are_none():
    with pytest.raises(ValueError, match="width is 0.75; expected one of 0.5, 1.0, 1.5, 2.0"):
        shufflenet_v2(0.75)
    with pytest.raises(ValueError, match="shuffle: 5 channels; expected a multiple of the 2"):
        shuffle(np.zeros((1, 5)))
