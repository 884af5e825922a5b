"""Transformations against SciPy, and their identities."""

import chex
import jax
import numpy as np
import pytest
from scipy import ndimage

from jaxdl.interpret.feature_vis import transform

IMAGES = np.random.default_rng(0).uniform(size=(24, 9, 7, 2)).astype(np.float32)


def apply(change, images=IMAGES, seed=0):
    return np.asarray(jax.jit(change)(jax.random.key(seed), images))


@pytest.mark.parametrize(
    "change",
    [
        transform.pad(0, 0.5),
        transform.jitter(0),
        transform.roll(0),
        transform.scale([1.0]),
        transform.rotate([0.0]),
        transform.blur(0.0),
        transform.noise(0.0),
        transform.random_crop(1.0, 1.0),
        transform.resize((9, 7)),
        transform.chain(),
        transform.chain(transform.pad(3), lambda key, x: x[:, 3:-3, 3:-3]),
    ],
)
def test_identity_at_zero(change):
    chex.assert_trees_all_close(apply(change), IMAGES, atol=1e-6)


def test_padding():
    chex.assert_trees_all_close(
        apply(transform.pad(2, 0.5)),
        np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=0.5),
    )
    chex.assert_trees_all_close(
        apply(transform.pad(2)), np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    )


def test_jitter_takes_every_window_and_different_ones_for_different_images():
    actual = apply(transform.jitter(1))
    windows = [(i, j) for i in range(2) for j in range(2)]
    chosen = set()
    for image, result in zip(IMAGES, actual, strict=True):
        equal = [
            w for w in windows if np.array_equal(image[w[0] : w[0] + 8, w[1] : w[1] + 6], result)
        ]
        assert len(equal) == 1
        chosen |= set(equal)
    assert chosen == set(windows)


def test_cyclic_shifts_keep_all_pixels():
    shifts = set()
    for image, result in zip(IMAGES, apply(transform.roll(1)), strict=True):
        every = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        equal = [s for s in every if np.array_equal(np.roll(image, s, (0, 1)), result)]
        assert len(equal) == 1
        shifts |= set(equal)
    assert len(shifts) > 5


@pytest.mark.parametrize("factor", [0.7, 1.6])
def test_scaling_is_bilinear_with_repeated_edges(factor):
    expected = np.empty_like(IMAGES)
    for n, c in np.ndindex(24, 2):
        offset = [(s - 1) / 2 * (1 - 1 / factor) for s in (9, 7)]
        expected[n, ..., c] = ndimage.affine_transform(
            IMAGES[n, ..., c], np.eye(2) / factor, offset, order=1, mode="nearest"
        )
    chex.assert_trees_all_close(apply(transform.scale([factor])), expected, atol=1e-5)


@pytest.mark.parametrize("degrees", [25.0, -130.0])
def test_rotation_is_bilinear_with_repeated_edges(degrees):
    expected = np.empty_like(IMAGES)
    turn = np.deg2rad(degrees)
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    middle = np.array([4.0, 3.0])
    for n, c in np.ndindex(24, 2):
        expected[n, ..., c] = ndimage.affine_transform(
            IMAGES[n, ..., c], matrix, middle - matrix @ middle, order=1, mode="nearest"
        )
    chex.assert_trees_all_close(apply(transform.rotate([degrees])), expected, atol=1e-4)


def test_a_quarter_turn():
    square = IMAGES[:, :7]
    chex.assert_trees_all_close(
        apply(transform.rotate([90.0]), square), np.rot90(square, axes=(1, 2)), atol=1e-5
    )


def test_each_image_gets_one_of_the_factors():
    ramp = np.broadcast_to(np.arange(9, dtype=np.float32)[:, None, None], (24, 9, 7, 1))
    slopes = np.diff(apply(transform.scale([1.0, 2.0]), ramp)[:, 4:6, 3, 0], axis=1).ravel()
    chex.assert_trees_all_close(np.unique(slopes.round(5)), np.float32([0.5, 1]))


def test_blur_has_the_mass_of_the_image_and_constants_stay():
    point = np.zeros((24, 41, 41, 1), np.float32)
    point[:, 20, 20] = 1
    actual = apply(transform.blur(3.0), point)
    chex.assert_trees_all_close(actual.sum((1, 2, 3)), np.ones(24, np.float32), atol=1e-5)
    rows = actual.sum((2, 3))
    variances = (rows * (np.arange(41) - 20) ** 2).sum(1)
    assert 0 <= variances.min() < 2 and 5 < variances.max() < 9.1
    one = actual[np.argmax(variances), ..., 0]
    expected = ndimage.gaussian_filter(point[0, ..., 0], variances.max() ** 0.5, truncate=8)
    chex.assert_trees_all_close(one, expected, atol=1e-5)
    flat = np.full((24, 9, 7, 1), 0.3, np.float32)
    chex.assert_trees_all_close(apply(transform.blur(3.0), flat), flat, atol=1e-6)


def test_random_boxes_lie_inside_and_have_the_stated_sides():
    i, j = np.meshgrid(np.arange(21.0), np.arange(11.0), indexing="ij")
    ramps = np.broadcast_to(np.stack([i, j], -1), (400, 21, 11, 2)).astype(np.float32)
    boxes = apply(transform.random_crop(0.2, 0.5), ramps)
    sides = (boxes[:, -1, -1] - boxes[:, 0, 0]) / [20, 10]
    chex.assert_trees_all_close(sides[:, 0], sides[:, 1], atol=1e-5)
    assert 0.2 <= sides.min() < 0.22 and 0.48 < sides.max() <= 0.5001
    assert boxes[..., 0].min() < 1 and boxes[..., 0].max() > 19
    assert boxes.min() >= 0 and boxes[..., 0].max() <= 20 and boxes[..., 1].max() <= 10


def test_standard_keeps_a_constant_image_and_repeats_with_its_key():
    flat = np.full((2, 40, 30, 3), 0.5, np.float32)
    change = jax.jit(transform.standard())
    actual = np.asarray(change(jax.random.key(0), flat))
    chex.assert_trees_all_close(actual, np.full((2, 52, 42, 3), 0.5, np.float32), atol=1e-5)
    noisy = np.random.default_rng(1).uniform(size=flat.shape).astype(np.float32)
    one, two, other = (np.asarray(change(jax.random.key(seed), noisy)) for seed in (0, 0, 1))
    assert np.array_equal(one, two) and not np.allclose(one, other)


def test_gradients_are_finite_where_nothing_changes():
    change = transform.chain(transform.blur(0.0), transform.rotate([0.0]), transform.scale([1.0]))
    slope = jax.jit(jax.grad(lambda x: change(jax.random.key(0), x).sum()))(IMAGES)
    chex.assert_trees_all_close(slope, np.ones_like(IMAGES), atol=1e-5)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: transform.pad(-1), "pad: pixels is -1"),
        (
            lambda: transform.jitter(7)(jax.random.key(0), IMAGES),
            r"pixels is 7 for images of \(9, 7\)",
        ),
        (lambda: transform.roll(1.5), "roll: pixels is 1.5"),
        (lambda: transform.scale([]), r"scale: factors is \[\]; expected a list of numbers"),
        (lambda: transform.scale([0.0, 1.0]), "expected numbers above 0"),
        (lambda: transform.rotate([np.inf]), "rotate: degrees is"),
        (lambda: transform.blur(-1.0), "blur: sigma is -1.0"),
        (lambda: transform.noise(-1.0), "noise: sd is -1.0"),
        (lambda: transform.random_crop(0.6, 0.5), "low and high are 0.6 and 0.5"),
        (lambda: transform.resize((0, 3)), r"resize: size\[0\] is 0"),
    ],
)
def test_bad_arguments(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("change", [transform.scale([1.3]), transform.random_crop(0.5, 0.5)])
def test_positions_are_not_rounded_to_half_precision(change):
    row = np.linspace(0, 1, 300, dtype=np.float32)
    x = np.broadcast_to(row[:, None], (1, 2, 300, 1))
    key = jax.random.key(0)
    half = change(key, jax.numpy.asarray(x, jax.numpy.bfloat16))
    assert half.dtype == jax.numpy.bfloat16
    assert float(half.max()) <= 1.01 and float(half.min()) >= -0.01
