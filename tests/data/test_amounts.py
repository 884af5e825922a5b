import jax
import numpy as np
import pytest

from jaxdl.data import augment


def test_noise_of_a_quarter(key):
    images = np.zeros((20, 28, 28, 1), np.float32)
    added = np.asarray(jax.jit(augment.noise, static_argnums=2)(key, images, 0.25))
    assert added.std() == pytest.approx(0.25, rel=0.03)


@pytest.mark.row("E03")
def test_images_turn_to_either_side(key):
    """A dot on the right moves up where its image turns counter-clockwise."""
    images = np.zeros((200, 9, 9, 1), np.float32)
    images[:, 4, 7] = 1
    turned = np.asarray(jax.jit(augment.rotate, static_argnums=2)(key, images, 30.0))
    up = turned[:, :4].sum((1, 2, 3)) > turned[:, 5:].sum((1, 2, 3))
    assert abs(up.mean() - 0.5) < 5 * 0.5 / np.sqrt(200)
