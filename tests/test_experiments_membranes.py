"""Parts of the experiment on membranes; whole smoke runs are made by `.ci/run`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments import membranes


def symmetries(image):
    return [np.rot90(side, turns) for side in (image, image[::-1]) for turns in range(4)]


def test_tiles_turn_to_all_eight_symmetries_with_their_labels(key):
    image = np.arange(9, dtype=np.float32).reshape(3, 3)
    x = np.tile(image[None, ..., None], (64, 1, 1, 1))
    turned = np.asarray(jax.jit(membranes.turn)(key, x))[..., 0]
    expected = {tuple(side.ravel()) for side in symmetries(image)}
    assert len(expected) == 8 and {tuple(one.ravel()) for one in turned} == expected


def test_labels_move_with_their_tiles(key):
    """Slices of two grey values, which are the labels: far from edges they still agree."""
    y = np.zeros((4, 64, 64), np.int32)
    y[:, 16:40, 24:56] = 1
    x = np.float32(2 * y - 1)[..., None]
    tiles, labels = jax.jit(functools.partial(membranes.deform_tiles, 48))(key, x, y)
    assert tiles.shape == (4, 48, 48, 1) and labels.shape == (4, 48, 48)
    agree = (np.asarray(tiles)[..., 0] > 0) == (np.asarray(labels) == 1)
    assert agree.mean() > 0.98 and 0.1 < np.asarray(labels).mean() < 0.6


def test_probabilities_are_averaged_over_symmetries_in_place():
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 1)).astype(np.float32)
    ramp = np.linspace(-1, 1, 36, dtype=np.float32).reshape(6, 6)

    def predict(x):
        scores = x[..., 0] + ramp
        return jnp.stack([jnp.zeros_like(scores), scores], -1)

    expected = np.mean([1 / (1 + np.exp(-x[..., 0] - side)) for side in symmetries(ramp)], axis=0)
    np.testing.assert_allclose(membranes.average_symmetries(predict, x), expected, rtol=1e-5)


def test_made_up_cells_are_separated_by_their_membranes():
    cells = membranes.draw_cells(np.random.default_rng(0), size=64)
    x, y = cells.test
    assert x.shape == (6, 64, 64, 1) and y.shape == (6, 64, 64) and cells.train.x.shape[0] == 24
    assert membranes.rand_score(np.float32(y), y, 0.5) == 1
    assert membranes.rand_score(np.float32(y), y, -1.0) < 0.5  # all pixels are one cell
    assert x[..., 0][y == 0].mean() < x[..., 0][y == 1].mean() - 0.2
