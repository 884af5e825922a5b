"""Parametrizations against NumPy's Fourier transforms, and by round trips."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.interpret import feature_vis

RNG = np.random.default_rng(0)
MATRIX = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 0.5], [0.3, 0.0, 1.0]])


def decode(image, theta):
    return np.asarray(jax.jit(image.decode)(theta))


@pytest.mark.parametrize("shape", [(6, 7, 3), (5, 4, 1), (9, 2), (4, 3, 6, 1)])
def test_fourier_is_the_inverse_transform_of_scaled_coefficients(shape):
    *space, channels = shape
    decorrelate = MATRIX if channels == 3 else True
    image = feature_vis.fourier(shape, None, decay=1.5, decorrelate=decorrelate)
    theta = np.asarray(jax.jit(image.init)(jax.random.key(0)))
    axes = [np.fft.fftfreq(n) for n in space[:-1]] + [np.fft.rfftfreq(space[-1])]
    lengths = np.linalg.norm(np.stack(np.meshgrid(*axes, indexing="ij")), axis=0)
    assert theta.shape == (2, channels, *lengths.shape)
    lengths[(0,) * len(space)] = 1 / max(space)
    scale = np.sqrt(np.prod(space)) / np.maximum(lengths, 1 / max(space)) ** 1.5
    spectrum = (theta[0] + 1j * theta[1]) * scale
    planes = np.fft.irfftn(spectrum, s=space, axes=range(1, len(space) + 1)) / 4
    expected = np.moveaxis(planes, 0, -1)
    if channels == 3:
        expected = np.einsum("...c,dc->...d", expected, MATRIX)
    chex.assert_trees_all_close(decode(image, theta), expected.astype(np.float32), atol=1e-6)


def test_bounds_by_a_sigmoid_and_the_size_of_the_start():
    free, bounded = (feature_vis.fourier((16, 16, 1), bounds, sd=0.5) for bounds in (None, (-2, 3)))
    theta = jax.jit(free.init)(jax.random.key(0))
    values = decode(free, theta)
    chex.assert_trees_all_close(decode(bounded, theta), -2 + 5 / (1 + np.exp(-values)), atol=1e-5)
    assert np.std(theta) == pytest.approx(0.5, rel=0.1)


def test_colors_have_the_covariance_of_the_images():
    images = RNG.normal(size=(5, 8, 8, 3)) @ MATRIX + 0.7
    matrix = np.asarray(feature_vis.color_matrix(images.astype(np.float32)))
    covariance = np.cov(images.reshape(-1, 3).T, bias=True)
    actual = matrix @ matrix.T
    chex.assert_trees_all_close(
        actual, (covariance / np.linalg.eigvalsh(covariance)[-1]), atol=1e-5
    )
    assert np.linalg.norm(matrix, axis=0).max() == pytest.approx(1, abs=1e-6)


def test_default_colors_are_those_of_imagenet():
    image = feature_vis.fourier((4, 4, 3), None)
    theta = np.zeros((2, 3, 4, 3), np.float32)
    theta[0, :, 0, 0] = 1, 0, 0  # the mean of the first, gray axis
    columns = np.array([0.26, 0.27, 0.27]) / np.sqrt(0.26**2 + 2 * 0.27**2)
    actual = decode(image, theta)
    chex.assert_trees_all_close(
        actual / actual.max(), np.broadcast_to(columns / columns.max(), (4, 4, 3)), atol=1e-6
    )


@pytest.mark.parametrize("shape", [(6, 8, 2), (5, 7, 1), (8, 1), (4, 5, 6, 1)])
def test_phases_leave_the_magnitudes_of_the_images(shape):
    images = RNG.uniform(size=(3, *shape)).astype(np.float32)
    axes = range(1, len(shape))
    expected = np.abs(np.fft.rfftn(np.moveaxis(images, -1, 1), axes=[a + 1 for a in axes])).mean(0)
    magnitude = feature_vis.mean_magnitude(images)
    chex.assert_trees_all_close(magnitude, expected.astype(np.float32), rtol=1e-5)
    image = feature_vis.phase(shape, magnitude, None)
    theta = RNG.uniform(-3, 3, expected.shape).astype(np.float32)
    spectrum = np.fft.rfftn(np.moveaxis(decode(image, theta), -1, 0), axes=axes)
    chex.assert_trees_all_close(
        np.abs(spectrum).astype(np.float32), expected.astype(np.float32), atol=1e-4
    )


def test_an_image_is_decoded_from_its_own_magnitudes_and_phases():
    picture = RNG.uniform(0.2, 1, size=(5, 7, 3)).astype(np.float32) + 1
    magnitude = feature_vis.mean_magnitude(picture[None], decorrelate=MATRIX)
    colors = picture @ np.linalg.inv(MATRIX).T
    spectrum = np.fft.rfftn(np.moveaxis(colors, -1, 0), axes=(1, 2))
    signs = np.sign(spectrum[:, :1, :1].real)  # a mean below 0 has the phase pi, which is lost
    image = feature_vis.phase((5, 7, 3), magnitude, None, decorrelate=MATRIX * signs[:, 0, 0])
    actual = decode(image, np.angle(spectrum * signs).astype(np.float32))
    chex.assert_trees_all_close(actual, picture, atol=1e-4)


def test_phase_within_bounds_is_standardized_first():
    magnitude = feature_vis.mean_magnitude(RNG.uniform(size=(2, 8, 8, 1)).astype(np.float32))
    free, bounded = (feature_vis.phase((8, 8, 1), magnitude, bounds) for bounds in (None, (0, 1)))
    theta = jax.jit(free.init)(jax.random.key(0))
    values = decode(free, theta)
    expected = 1 / (1 + np.exp(-(values - values.mean()) / values.std()))
    chex.assert_trees_all_close(decode(bounded, theta), expected, atol=1e-5)
    assert np.abs(theta).max() <= np.pi and np.std(theta) == pytest.approx(np.pi / 3**0.5, rel=0.2)


def test_cppn_is_a_network_of_coordinates():
    image = feature_vis.cppn((3, 5, 2), (-1, 1), layers=2, width=4)
    theta = jax.jit(image.init)(jax.random.key(0))
    chex.assert_trees_all_close(decode(image, theta), np.zeros((3, 5, 2), np.float32), atol=1e-7)
    theta = [(np.asarray(w), np.asarray(b)) for w, b in theta]
    theta[-1] = (RNG.normal(size=(8, 2)).astype(np.float32), np.float32([0.1, 0.2]))
    i, j = np.meshgrid(np.linspace(-1, 1, 3), np.linspace(-1, 1, 5), indexing="ij")
    values = np.stack([i, j], -1) * np.sqrt(3)
    for w, b in theta[:-1]:
        angle = np.arctan(values @ w + b)
        values = np.concatenate([angle / 0.67, angle**2 / 0.6], -1)
    expected = np.tanh((values @ theta[-1][0] + theta[-1][1]) / 2)  # 2 sigmoid(v) - 1
    chex.assert_trees_all_close(decode(image, theta), expected.astype(np.float32), atol=1e-5)


def test_generator_and_its_prior():
    a = RNG.normal(size=(4, 6)).astype(np.float32)
    image = feature_vis.generator(lambda z: (z @ a).reshape(len(z), 2, 3), (4,), prior=0.5, sd=2.0)
    z = np.asarray(jax.jit(image.init)(jax.random.key(0)))
    chex.assert_trees_all_close(image.decode(z), (z @ a).reshape(2, 3), rtol=1e-5)
    chex.assert_trees_all_close(float(image.penalty(z)), float(0.5 * (z**2).sum()), rtol=1e-6)
    other = feature_vis.generator(lambda z: z, (4,), prior=lambda z: jnp.sum(jnp.abs(z)))
    chex.assert_trees_all_close(float(other.penalty(z)), float(np.abs(z).sum()), rtol=1e-6)


def test_pixels_start_in_the_middle_and_stay_in_bounds():
    image = feature_vis.pixels((2, 2), (1, 3), sd=0.0)
    chex.assert_trees_all_close(image.init(jax.random.key(0)), np.full((2, 2), 2, np.float32))
    chex.assert_trees_all_close(image.project(jnp.array([0.0, 2.5, 9.0])), np.float32([1, 2.5, 3]))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: feature_vis.pixels((0, 2)), r"pixels: shape is \(0, 2\); expected positive"),
        (lambda: feature_vis.pixels((2,), (1, 1)), r"bounds are \(1, 1\); expected low < high"),
        (lambda: feature_vis.pixels((2,), start=np.ones(3)), r"start has shape \(3,\)"),
        (lambda: feature_vis.fourier((3,)), r"fourier: shape is \(3,\); expected \(\*space, C\)"),
        (lambda: feature_vis.fourier((4, 4, 1), decay=np.nan), "decay is nan"),
        (
            lambda: feature_vis.fourier((4, 4, 3), decorrelate=np.eye(2)),
            r"decorrelate has shape \(2, 2\); .* \(3, 3\)",
        ),
        (
            lambda: feature_vis.phase((4, 4, 1), np.ones((1, 4, 4))),
            r"magnitude has shape \(1, 4, 4\); expected \(1, 4, 3\)",
        ),
        (lambda: feature_vis.mean_magnitude(np.ones((1, 4))), "mean_magnitude: images are"),
        (lambda: feature_vis.mean_magnitude(np.ones((1, 4, 4, 1), int)), "images are int"),
        (lambda: feature_vis.color_matrix(np.ones((1, 2, 2, 3))), "all pixels have one color"),
        (lambda: feature_vis.color_matrix(np.ones(3, int)), "color_matrix: images are int"),
        (lambda: feature_vis.cppn((4, 4, 1), layers=0), "layers is 0"),
        (lambda: feature_vis.generator(lambda z: z, (2,), prior=-1), "prior is -1"),
    ],
)
def test_bad_arguments(call, words):
    with pytest.raises(ValueError, match=words):
        call()
