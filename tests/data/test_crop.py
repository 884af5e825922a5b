import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data import augment


def test_windows_reach_all_places(key):
    images = jnp.tile(jnp.arange(20.0).reshape(1, 4, 5, 1), (300, 1, 1, 1))
    corners = np.asarray(jax.jit(lambda key: augment.crop(key, images, 3))(key))[:, 0, 0, 0]
    assert set(corners.tolist()) == {0, 1, 2, 5, 6, 7}


def test_shifts_go_both_ways_equally_far(key):
    images = jnp.zeros((300, 5, 5, 1)).at[:, 2, 2].set(1)
    moved = np.asarray(jax.jit(lambda key: augment.shift(key, images, 2))(key))
    assert {(i, j) for _, i, j, _ in np.argwhere(moved).tolist()} == {
        (i, j) for i in range(5) for j in range(5)
    }
