"""RoI pooling and RoI align, against loops in NumPy and numbers of torchvision."""

import functools
import math
from fractions import Fraction

import jax
import numpy as np
import pytest

from jaxdl.zoo.detection.roi import pyramid_roi_align, roi_align, roi_pool

X = (np.arange(48) % 11).reshape(6, 8, 1).astype(np.float32)
ROIS = np.array([[2, 2, 13, 9], [5, 1, 30, 11]], np.float32)
FEATURES = np.random.default_rng(0).normal(size=(9, 12, 2)).astype(np.float32)
REGIONS = np.array(
    [[0, 0, 23, 17], [3.2, 4.1, 15.7, 9.6], [-6, 5, 8, 30], [10, 10, 10.5, 10.2], [40, 40, 50, 50]],
    np.float32,
)


@pytest.mark.row("H08")
def test_numbers_of_torchvision():
    expected = [[[10, 10], [10, 9]], [[10, 0], [10, 0]]]
    pool = jax.jit(functools.partial(roi_pool, size=2, scale=0.5))
    np.testing.assert_array_equal(pool(X, ROIS)[..., 0], expected)
    expected = {
        False: [[[6.203125, 4.892578], [2.833008, 5.25]], [[4.40625, 0], [3.78125, 0]]],
        True: [[[6.666016, 4.270508], [3.5, 5.981445]], [[3.78125, 0], [5.326172, 0]]],
    }
    for aligned, values in expected.items():
        y = jax.jit(functools.partial(roi_align, size=2, scale=0.5, aligned=aligned))(X, ROIS)
        np.testing.assert_allclose(y[..., 0], values, atol=1e-5)


def test_pooling_keeps_what_is_not_finite():
    """The 2 x 2 bins of the first map, with a NaN and infinities; the last bin is outside."""
    x = np.zeros((4, 4, 1), np.float32)
    x[0, 0], x[0, 3], x[3, :2] = np.nan, np.inf, -np.inf
    x[2, :2] = -np.inf
    bins = roi_pool(x, np.array([[0, 0, 3, 3], [9, 9, 12, 12]], np.float32), size=2)[..., 0]
    np.testing.assert_array_equal(bins, [[[np.nan, np.inf], [-np.inf, 0]], [[0, 0], [0, 0]]])


def pool_by_loops(features, rois, size, scale):
    height, width, channels = features.shape
    y = np.zeros((len(rois), size, size, channels))
    for r, roi in enumerate(rois):
        x0, y0, x1, y1 = map(int, np.floor(roi * scale + 0.5))
        w, h = Fraction(max(x1 - x0 + 1, 1), size), Fraction(max(y1 - y0 + 1, 1), size)
        for p in range(size):
            rows = np.clip([math.floor(p * h) + y0, math.ceil((p + 1) * h) + y0], 0, height)
            for q in range(size):
                columns = np.clip([math.floor(q * w) + x0, math.ceil((q + 1) * w) + x0], 0, width)
                cells = features[slice(*rows), slice(*columns)].reshape(-1, channels)
                y[r, p, q] = cells.max(0) if len(cells) else 0
    return y


@pytest.mark.row("H08")
def test_pooling_is_the_maximum_of_each_bin():
    pool = jax.jit(functools.partial(roi_pool, size=3, scale=0.5))
    np.testing.assert_allclose(
        pool(FEATURES, REGIONS), pool_by_loops(FEATURES, REGIONS, 3, 0.5), atol=1e-6
    )
    gradient = jax.jit(jax.grad(lambda x: pool(x, REGIONS[:1]).sum()))(FEATURES)
    assert gradient.sum() == 18 and set(np.unique(gradient).tolist()) <= {0, 1, 2, 3, 4}


def align_by_loops(features, rois, size, scale, ratio, aligned):
    features, rois = features.astype(np.float64), rois.astype(np.float64)
    height, width, channels = features.shape

    def value(y, x):
        if not (-1 <= y <= height and -1 <= x <= width):
            return np.zeros(channels)
        y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
        total = np.zeros(channels)
        for i in range(height):
            for j in range(width):
                total += max(0, 1 - abs(y - i)) * max(0, 1 - abs(x - j)) * features[i, j]
        return total

    result = np.zeros((len(rois), size, size, channels))
    for r, roi in enumerate(rois):
        x0, y0, x1, y1 = roi * scale - (0.5 if aligned else 0)
        w, h = (x1 - x0, y1 - y0) if aligned else (max(x1 - x0, 1), max(y1 - y0, 1))
        for p in range(size):
            for q in range(size):
                places = (np.arange(ratio) + 0.5) / ratio
                samples = [
                    value(y0 + (p + a) * h / size, x0 + (q + b) * w / size)
                    for a in places
                    for b in places
                ]
                result[r, p, q] = np.mean(samples, axis=0)
    return result


@functools.partial(jax.jit, static_argnames="aligned")
def align(features, rois, aligned=True):
    return roi_align(features, rois, size=3, scale=0.5, aligned=aligned)


@pytest.mark.parametrize("aligned", [False, True])
def test_align_is_the_mean_of_bilinear_samples(aligned):
    expected = align_by_loops(FEATURES, REGIONS, 3, 0.5, 2, aligned)
    np.testing.assert_allclose(align(FEATURES, REGIONS, aligned), expected, atol=1e-5)


def test_align_is_exact_on_a_plane_and_moves_with_the_map():
    y, x = np.mgrid[:9, :12].astype(np.float32)
    plane = np.stack([2 * x - y, 0 * x + 3], -1)
    roi = np.array([[4.0, 6, 16, 12]], np.float32)
    centres = np.stack(np.meshgrid(np.arange(3) * 2 + 3, np.arange(3) + 3.5), -1) - 0.5
    expected = np.stack([2 * centres[..., 0] - centres[..., 1], np.full((3, 3), 3)], -1)
    np.testing.assert_allclose(align(plane, roi)[0], expected, atol=1e-5)
    moved = np.roll(FEATURES, (1, 2), (0, 1))
    shift = np.array([4, 2, 4, 2], np.float32)
    inside = np.array([[2.5, 3, 11, 9]], np.float32)
    np.testing.assert_allclose(align(moved, inside + shift), align(FEATURES, inside), atol=1e-5)


def test_gradient_of_the_region():
    def height(roi):
        return align(FEATURES, roi[None]).sum()

    roi = REGIONS[1]
    slope = jax.jit(jax.grad(height))(roi)
    for i in range(4):
        step = np.zeros(4, np.float32)
        step[i] = 5e-3
        numeric = (height(roi + step) - height(roi - step)) / 1e-2
        assert float(slope[i]) == pytest.approx(float(numeric), abs=2e-2)


def test_a_region_is_read_from_the_level_of_its_size():
    random = np.random.default_rng(1)
    maps = [random.normal(size=(32 // s, 48 // s, 2)).astype(np.float32) for s in (1, 2, 4)]
    scales = [1 / 4, 1 / 8, 1 / 16]
    rois = np.array([[1, 2, 9, 12], [3, 3, 53, 53], [0, 0, 128, 100], [5, 5, 105, 105]], np.float32)
    options = dict(size=2, sampling_ratio=1, aligned=False)
    together = functools.partial(pyramid_roi_align, scales=scales, canonical_size=100, **options)
    y = jax.jit(together)(maps, rois)
    for r, level in enumerate([0, 1, 2, 2]):  # 50 is half of 100, and 100 is on the boundary
        one = align_by_loops(maps[level], rois[r : r + 1], 2, scales[level], 1, aligned=False)
        np.testing.assert_allclose(y[r], one[0], atol=1e-5)


def test_invalid_input():
    with pytest.raises(ValueError, match=r"roi_align: features \(1, 9, 12, 2\)"):
        roi_align(FEATURES[None], ROIS, size=2)
    with pytest.raises(ValueError, match=r"roi_pool: .* rois \(2, 3\); expected"):
        roi_pool(FEATURES, ROIS[:, :3], size=2)
    with pytest.raises(ValueError, match="size is 0"):
        roi_pool(FEATURES, ROIS, size=0)
    with pytest.raises(ValueError, match="sampling_ratio is -1"):
        roi_align(FEATURES, ROIS, size=2, sampling_ratio=-1)
