"""Histograms of gradients against a loop over pixels, and against images of known direction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.zoo.classic.oriented_gradients import cell_histograms, hog
from tests.nn.filled import normal

IMAGES = np.asarray(normal(0, 2, 8, 8, 1))
cells_of = jax.jit(cell_histograms, static_argnums=(1, 2), static_argnames="signed")


def by_loops(x, cell, bins, turn):
    """The votes of each pixel for the two directions next to its gradient's."""
    n, height, width, channels = x.shape
    found = np.zeros((n, height // cell, width // cell, bins))
    for i, r, c, k in np.ndindex(n, height, width, channels):
        down = x[i, min(r + 1, height - 1), c, k] - x[i, max(r - 1, 0), c, k]
        right = x[i, r, min(c + 1, width - 1), k] - x[i, r, max(c - 1, 0), k]
        place = np.degrees(np.arctan2(down, right)) % turn / turn * bins
        low, share = int(place), place - int(place)
        norm = np.sqrt(down**2 + right**2)
        found[i, r // cell, c // cell, low % bins] += norm * (1 - share)
        found[i, r // cell, c // cell, (low + 1) % bins] += norm * share
    return found


@pytest.mark.row("A16", "A17")
@pytest.mark.parametrize("cell, bins, signed", [(4, 9, False), (2, 8, True)])
def test_histograms_are_the_votes_of_each_pixel(cell, bins, signed):
    expected = by_loops(IMAGES.astype(np.float64), cell, bins, 360 if signed else 180)
    found = np.asarray(cells_of(IMAGES, cell, bins, signed=signed))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.row("A17")
def test_a_ramp_votes_for_its_own_direction():
    """Brightness grows to the right, the bottom, the left or the top: bins 0, 2, 4, 6 of 8."""
    rows, columns = np.mgrid[:8, :8].astype(np.float32)
    ramps = np.stack([columns, rows, -columns, -rows])[..., None]
    found = np.asarray(cells_of(ramps, 2, 8, signed=True))[:, 1, 1]  # away from the border
    np.testing.assert_allclose(found, 8 * np.eye(8)[[0, 2, 4, 6]], atol=1e-4)


@pytest.mark.row("A16")
def test_blocks_are_the_cells_around_a_corner_with_norm_1():
    cells = by_loops(IMAGES.astype(np.float64), 2, 9, 180)
    found = np.asarray(jax.jit(lambda x: hog(x, cell=2))(IMAGES))
    assert found.shape == (2, 3, 3, 36)
    block = np.concatenate([cells[1, 2, 0], cells[1, 2, 1], cells[1, 3, 0], cells[1, 3, 1]])
    expected = block / np.sqrt(block @ block + 0.01)
    np.testing.assert_allclose(found[1, 2, 0], expected, rtol=1e-4, atol=1e-5)
    brighter = np.asarray(jax.jit(lambda x: hog(x, cell=2))(100 * IMAGES + 7))
    np.testing.assert_allclose(brighter, found, atol=2e-3)  # contrast and brightness drop out
    assert not np.any(hog(jnp.ones((1, 8, 8, 1)), cell=2))


def test_bad_input():
    with pytest.raises(ValueError, match=r"x is \(2, 8, 8, 1\) and cell 3; .* multiples of cell"):
        cell_histograms(IMAGES, 3, 9)
    with pytest.raises(ValueError, match=r"x is \(8, 8\)"):
        cell_histograms(IMAGES[0, ..., 0], 2, 9)
    with pytest.raises(ValueError, match="x is of uint8; expected floats"):
        cell_histograms(jnp.zeros((2, 8, 8, 1), jnp.uint8), 2, 9)
    with pytest.raises(ValueError, match="bins is 1; expected 2 or more"):
        cell_histograms(IMAGES, 2, 1)
    with pytest.raises(ValueError, match="block is 3 for 2 x 2 cells"):
        hog(IMAGES, 4, block=3)
