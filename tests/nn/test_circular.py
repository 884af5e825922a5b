import numpy as np
import pytest

from jaxdl import nn


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_a_window_goes_round_the_edge_and_an_even_one_reaches_further_after(width):
    rng = np.random.default_rng(0)
    x, kernel = (rng.normal(size=shape).astype("f") for shape in ((1, 6, 1), (width, 1, 1)))
    actual = nn.functional.conv(x, kernel, padding="CIRCULAR", implementation="xla")
    before = (width - 1) // 2
    expected = sum(kernel[i, 0, 0] * np.roll(x, before - i, axis=1) for i in range(width))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
