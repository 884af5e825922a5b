import jax
import numpy as np

from jaxdl import nn
from tests.nn.filled import normal


def laid_down(x, kernel, stride, dilation=1, rest=0):
    """Each cell of x adds its multiple of the kernel at its own place, and `rest` cells follow."""
    n, size, _ = x.shape
    window, _, features = kernel.shape
    y = np.zeros((n, (size - 1) * stride + (window - 1) * dilation + 1 + rest, features))
    for i, m in np.ndindex(size, window):
        y[:, i * stride + m * dilation] += x[:, i] @ kernel[m]
    return y


def test_dilated_kernels_and_steps_wider_than_the_window():
    x, kernel = np.asarray(normal(0, 2, 4, 3)), np.asarray(normal(1, 2, 3, 5))

    @jax.jit
    def run(x, kernel):
        dilated = nn.functional.conv_transpose(
            x, kernel, stride=2, dilation=3, padding=0, flip=True
        )
        return dilated, nn.functional.conv_transpose(
            x, kernel, stride=3, padding="VALID", flip=True
        )

    dilated, wide = run(x, kernel)
    np.testing.assert_allclose(dilated, laid_down(x, kernel, 2, 3), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(wide, laid_down(x, kernel, 3, rest=1), rtol=1e-5, atol=1e-5)
