import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl.zoo.segmentation.border_weights import border_weights

CELLS = np.zeros((9, 12), int)
CELLS[1:5, 1:4], CELLS[2:7, 5:8], CELLS[6:8, 10] = 3, 1, 7


@pytest.mark.row("H05")
@given(st.sampled_from([1.0, 2.5, 5.0]), st.sampled_from([0.0, 10.0]))
def test_the_map_is_equation_2(sigma, w0):
    weights = border_weights(CELLS, w0=w0, sigma=sigma, class_weight=(1.5, 0.5))
    for place in np.ndindex(CELLS.shape):
        distances = sorted(
            min(np.hypot(*np.subtract(place, other)) for other in np.argwhere(CELLS == cell))
            for cell in (1, 3, 7)
        )
        border = w0 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2))
        expected = 0.5 if CELLS[place] else 1.5 + border
        assert weights[place] == pytest.approx(expected, rel=1e-5), place


def test_classes_are_balanced_and_one_cell_has_no_border():
    cells = np.zeros((4, 5), int)
    cells[0, :4] = 2
    weights = border_weights(cells)
    assert weights.dtype == np.float32 and weights[cells == 2].sum() == 10
    np.testing.assert_allclose(weights[cells == 0], 20 / (2 * 16))
    np.testing.assert_array_equal(border_weights(0 * cells), np.full((4, 5), 0.5, np.float32))


def test_invalid_input():
    with pytest.raises(ValueError, match=r"cells are float64\[9, 12\]; expected integers"):
        border_weights(CELLS * 1.0)
    with pytest.raises(ValueError, match="sigma 0 and .*expected numbers of at least 0"):
        border_weights(CELLS, sigma=0)
