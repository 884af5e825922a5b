"""A model's logits for weights and an image by a formula, as PyTorch lists them."""

import jax
import numpy as np

from tests.zoo.vision.test_vision import filled, u


def logits(model, size):
    """Returns the logits of one class after another, in double precision."""
    with jax.enable_x64(True):
        image = (2 * u(-1, 3 * size * size) - 1).reshape(1, 3, size, size).transpose(0, 2, 3, 1)
        params, state = filled(model, image)
        y = jax.jit(model.apply)(params, state, image)[0]
        assert y.shape[:3] == image.shape[:3]
        return np.asarray(y)[0].transpose(2, 0, 1).reshape(-1)
