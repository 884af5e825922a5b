import jax
import numpy as np

from jaxdl.interpret import evaluate
from tests.interpret.networks import array, new_key


def test_removed_pixels_have_noise_and_channels_are_added_up():
    """Of an image of ones, only the noise is left: 0.3^2 for each of 128 pixels' two channels."""
    x, parts = np.ones((2, 16, 16, 2), np.float32), array(0, 2, 16, 16, 2).astype(np.float32)
    away = lambda x: ((x - 1) ** 2).sum((1, 2, 3))
    of = lambda x, parts: (
        evaluate.road(away, x, parts, key=new_key(), shares=(0.5,), noise=0.3).scores
    )
    actual, summed = jax.jit(lambda x, parts: (of(x, parts), of(x, parts.sum(-1))))(x, parts)
    np.testing.assert_allclose(actual[:, 0], 0, atol=1e-6)
    np.testing.assert_allclose(actual[:, 1], 0.09 * 128 * 2, rtol=0.3)
    np.testing.assert_allclose(actual, summed, rtol=1e-4)
