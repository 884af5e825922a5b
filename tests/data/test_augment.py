import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxdl import data
from jaxdl.data import augment

IMAGES = jnp.asarray(data.digits().train.x[:6])
rotate_by = jax.jit(augment.rotate_by)
ALL = [
    augment.rotate,
    augment.shift,
    augment.flip,
    functools.partial(augment.crop, size=6, padding=1),
    augment.noise,
    functools.partial(augment.cutout, size=4),
    augment.elastic,
]


def smooth(n=32):
    i, j = np.mgrid[:n, :n] / n
    return (np.sin(5 * i) * np.cos(4 * j))[None, :, :, None].astype(np.float32)


@pytest.mark.row("E03")
def test_turning_there_and_back_is_the_image_inside():
    image = smooth()
    turned = np.asarray(rotate_by(image, 15.0))
    back = np.asarray(rotate_by(turned, -15.0))
    chex.assert_trees_all_close(back[:, 8:-8, 8:-8], image[:, 8:-8, 8:-8], atol=0.01)
    assert np.abs(turned - image)[:, 8:-8, 8:-8].max() > 0.1


@pytest.mark.row("E03")
def test_turning_is_scipys(variant):
    expected = scipy.ndimage.rotate(smooth()[0, :, :, 0], 15, reshape=False, order=1)
    turned = np.asarray(variant(augment.rotate_by)(smooth(), 15.0))[0, :, :, 0]
    chex.assert_trees_all_close(turned[6:-6, 6:-6], expected[6:-6, 6:-6], atol=1e-4)


def test_quarter_turns_are_exact():
    for quarter in range(4):
        turned = rotate_by(IMAGES, 90.0 * quarter)
        chex.assert_trees_all_close(turned, np.rot90(IMAGES, quarter, (1, 2)), atol=1e-5)


@pytest.mark.parametrize(
    "function", ALL, ids=["rotate", "shift", "flip", "crop", "noise", "cutout", "elastic"]
)
def test_keyed_compiled_and_mapped(function):
    compiled = jax.jit(function)
    run = lambda seed, apply=compiled: apply(jax.random.key(seed), IMAGES)
    one = run(0)
    chex.assert_trees_all_equal(one, run(0))
    chex.assert_trees_all_close(one, run(0, function), atol=1e-5)
    assert one.dtype == IMAGES.dtype and not np.array_equal(one, run(3))
    keys = jax.vmap(jax.random.key)(np.arange(2))
    mapped = jax.jit(jax.vmap(function))(keys, np.stack([IMAGES, IMAGES]))
    chex.assert_trees_all_close(mapped[1], run(1), atol=1e-5)
    with pytest.raises(ValueError, match=r"shape \(8, 8, 1\)"):
        function(jax.random.key(0), IMAGES[0])


def test_shifts_are_whole_pixels_with_zeros_moving_in(key):
    images = np.ones((200, 5, 5, 1), np.float32)
    shifted = jax.jit(augment.shift, static_argnums=2)(key, images, 2)
    counts = set(np.asarray(shifted).sum((1, 2, 3)).tolist())
    assert counts == {float(a * b) for a in (3, 4, 5) for b in (3, 4, 5)}


def test_flips_are_half_of_the_images(key):
    images = np.tile(np.float32([0, 1]).reshape(1, 1, 2, 1), (1000, 1, 1, 1))
    mirrored = np.asarray(jax.jit(augment.flip)(key, images))[:, 0, 0, 0]
    assert abs(mirrored.mean() - 0.5) < 0.06


def test_crops_are_windows(key):
    image = np.arange(25, dtype=np.float32).reshape(1, 5, 5, 1)
    window = np.asarray(jax.jit(augment.crop, static_argnums=2)(key, image, 3))[0, :, :, 0]
    chex.assert_trees_all_equal(window - window[0, 0], image[0, :3, :3, 0])
    with pytest.raises(ValueError, match="window of \\(6, 6\\)"):
        augment.crop(key, image, 6)


def test_cutout_is_one_box_with_its_centre_anywhere(key):
    """A box of 2x3 in 5x5 pixels: rows 1 or 2, columns 2 or 3 where the edge cuts it."""
    images = np.ones((2000, 5, 5, 1), np.float32)
    holes = np.asarray(jax.jit(augment.cutout, static_argnums=2)(key, images, (2, 3)))[..., 0] == 0
    rows, columns = holes.any(2), holes.any(1)
    np.testing.assert_array_equal(holes, rows[:, :, None] & columns[:, None])
    # Of the five centres, one row and two columns lead to a box that is cut.
    np.testing.assert_allclose((rows.sum(1) == 1).mean(), 0.2, atol=0.03)
    np.testing.assert_allclose((columns.sum(1) == 2).mean(), 0.4, atol=0.03)
    covered = holes.mean(0)
    expected = np.outer([2, 2, 2, 2, 1], [2, 3, 3, 3, 2]) / 25
    np.testing.assert_allclose(covered, expected, atol=0.04)
    with pytest.raises(ValueError, match="size"):
        augment.cutout(key, images, 0)


@pytest.mark.row("S23")
def test_noise_is_gaussian_of_unit_deviation(key):
    added = np.asarray(augment.noise(key, np.zeros((50, 28, 28, 1), np.float32)))
    assert abs(added.mean()) < 0.02 and abs(added.std() - 1) < 0.02
    # Of a uniform distribution of this deviation 42 % lie outside of one, and none of two.
    outside = [np.mean(np.abs(added) > deviations) for deviations in (1, 2)]
    np.testing.assert_allclose(outside, [0.3173, 0.0455], atol=0.01)


def test_elastic_deformations_are_smooth_fields_of_displacements(key):
    """On ramps the image is its own coordinate: the field is noise that SciPy smooths alike."""
    alpha, sigma = 30.0, 3.0
    i, j = np.mgrid[:40, :48].astype(np.float32)
    ramps = np.stack([i, j, np.floor(i)], -1)[None]
    deform = jax.jit(functools.partial(augment.elastic, alpha=alpha, sigma=sigma))
    deformed = np.asarray(deform(key, ramps))[0]
    noise = np.asarray(
        jax.random.uniform(jax.random.clone(key), (1, 2, 40, 48), np.float32, -1, 1)
    )[0]
    inner = np.s_[6:-6, 6:-6]
    for axis in (0, 1):
        field = alpha * scipy.ndimage.gaussian_filter(
            noise[axis], sigma, mode="constant", truncate=9
        )
        assert np.abs(field).max() < 6
        expected = (ramps[0, ..., axis] + field)[inner]
        chex.assert_trees_all_close(deformed[..., axis][inner], expected, atol=1e-3)
    spread = np.std(deformed[..., :2][inner] - ramps[0, ..., :2][inner])
    assert spread == pytest.approx(alpha / (6.1 * sigma), rel=0.25)
    with pytest.raises(ValueError, match="elastic: sigma is 0; expected a number above 0"):
        augment.elastic(None, ramps, sigma=0)


def test_masks_move_with_interpolated_images_and_stay_labels(key):
    images = np.arange(2 * 12 * 12, dtype=np.float32).reshape(2, 12, 12, 1)
    labels = np.int32(images[..., 0] > 140)
    move = functools.partial(augment.elastic, alpha=20.0, sigma=2.0)
    both = jax.jit(augment.both(move, functools.partial(move, order=0)))
    moved, masks, weight = both(key, images, labels, np.float32(labels))
    chex.assert_trees_all_equal(weight, np.float32(masks))
    assert masks.dtype == np.int32 and set(np.unique(masks)) == {0, 1}
    clear = np.abs(np.asarray(moved)[..., 0] - 140) > 12
    chex.assert_trees_all_equal(
        np.asarray(masks)[clear], np.int32(np.asarray(moved)[..., 0] > 140)[clear]
    )
