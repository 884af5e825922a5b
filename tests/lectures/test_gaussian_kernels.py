"""The two 7x7 tables of the deck 002: normalised Gaussians, printed to four decimals."""

import chex
import jax
import numpy as np
import pytest

from jaxdl import nn


def gaussian(sigma, radius=3):
    """g_ij = exp(-(i^2 + j^2) / 2 sigma^2) over the sum of all."""
    offsets = np.arange(-radius, radius + 1)
    line = np.exp(-(offsets**2) / (2 * sigma**2))
    kernel = np.outer(line, line)
    return kernel / kernel.sum()


@pytest.mark.row("S19")
@pytest.mark.parametrize("sigma, total", [(1.0, 1.0004), (10.0, 0.9996)])
def test_the_printed_tables_do_not_sum_to_1_and_the_kernels_do(sigma, total):
    kernel = gaussian(sigma)
    assert kernel.sum() == pytest.approx(1, abs=1e-15)
    assert np.round(kernel, 4).sum() == pytest.approx(total, abs=1e-12)


@pytest.mark.row("S19")
def test_kernel_a_is_normalised_by_its_sum_and_not_by_2_pi_sigma_squared():
    kernel = gaussian(1.0)
    assert kernel[3, 3] == pytest.approx(0.15924, abs=5e-6)
    density = kernel / kernel[3, 3] / (2 * np.pi)
    assert density[3, 3] == pytest.approx(0.15915, abs=5e-6)
    assert not np.array_equal(np.round(kernel, 4), np.round(density, 4))


@pytest.mark.row("S19")
def test_kernel_b_is_nearly_flat_and_its_sigma_known_to_a_few_percent():
    table = np.round(gaussian(10.0), 4)
    for sigma in (9.92, 10.22):
        assert np.array_equal(np.round(gaussian(sigma), 4), table)
    for sigma in (9.90, 10.24):
        assert not np.array_equal(np.round(gaussian(sigma), 4), table)
    assert gaussian(10.0).max() / gaussian(10.0).min() < 1.1


@jax.jit
def blur(image, kernel):
    x, k = image[None, :, :, None], kernel[:, :, None, None]
    return nn.functional.conv(x, k, padding="VALID")[0, :, :, 0]


@pytest.mark.row("S19")
@pytest.mark.parametrize("sigma", [1.0, 10.0])
def test_as_filters_they_blur_and_keep_the_mean(sigma):
    kernel = np.float32(gaussian(sigma))
    impulse = np.zeros((13, 13), np.float32)
    impulse[6, 6] = 1
    chex.assert_trees_all_close(blur(impulse, kernel), kernel, atol=1e-7)
    flat = np.asarray(blur(np.ones((13, 13), np.float32), kernel))
    chex.assert_trees_all_close(flat, np.ones_like(flat), rtol=1e-5)
