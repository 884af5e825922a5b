import jax
import numpy as np

from jaxdl import train
from jaxdl.train.precision import GROWTH, first_scale


def test_it_begins_below_the_largest_number_of_float16():
    scale = first_scale("float16")
    assert (float(scale.value), int(scale.steps)) == (2.0**15, 0)
    assert 2.0**15 < float(np.finfo(np.float16).max) < 2.0**16
    assert first_scale("bfloat16") is None


def test_it_grows_no_further_than_float32_reaches():
    adjusted = jax.jit(train.LossScale.adjust)
    scale = train.LossScale(np.float32(2.0**125), np.int32(GROWTH - 1))
    for _ in range(2):
        scale = adjusted(train.LossScale(scale.value, np.int32(GROWTH - 1)), True)
        assert float(scale.value) == 2.0**126
