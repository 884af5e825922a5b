"""Boxes, anchors and suppression, against loops in NumPy and numbers of torchvision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl.zoo.detection import boxes
from jaxdl.zoo.detection.anchors import anchors, base_anchors

A = np.array(
    [
        [10, 10, 50, 40],
        [12, 8, 48, 44],
        [60, 60, 90, 100],
        [0, 0, 20, 20],
        [55, 62, 95, 98],
        [14, 12, 52, 38],
    ],
    np.float32,
)
SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.75, 0.85], np.float32)
CLASSES = np.array([0, 0, 1, 1, 1, 2])
HEAD = (10.0, 10.0, 5.0, 5.0)


def draw(seed, n=20):
    random = np.random.default_rng(seed)
    low = random.integers(0, 20, (n, 2))
    return np.concatenate([low, low + random.integers(1, 12, (n, 2))], 1).astype(np.float32)


iou = jax.jit(boxes.iou)


@functools.partial(jax.jit, static_argnames="count")
def suppress_compiled(b, scores, classes, threshold, count):
    return boxes.batched_nms(b, scores, classes, threshold=threshold, count=count)


def nms(*args):
    """Returns NumPy's arrays, which are indexed without compiling."""
    return [np.asarray(part) for part in suppress_compiled(*args)]


def test_numbers_of_torchvision():
    expected = [[0.762712, 0, 0.066667, 0], [1, 0, 0.06, 0]]
    np.testing.assert_allclose(iou(A[:2], A[1:5]), expected, atol=1e-6)
    indices, valid = nms(A, SCORES, np.zeros(6, int), 0.5, 6)
    assert indices[valid].tolist() == [0, 4, 3]
    indices, valid = nms(A, SCORES, CLASSES, 0.5, 6)
    assert indices[valid].tolist() == [0, 5, 4, 3] and valid.tolist() == [True] * 4 + [False] * 2
    expected = [[0, -0.277778, 0.526803, -0.911608], [10, 8, 2.938933, 2.938933]]
    np.testing.assert_allclose(boxes.encode(A[:2], A[[1, 3]], HEAD), expected, atol=1e-5)
    deltas = np.array([[1, -2, 0.5, -1], [0, 3, 30, 0.2]], np.float32)  # 30: beyond the limit
    expected = [[11.89658, 6.719038, 56.10342, 31.280962], [-1095, 18.065405, 1155, 55.53459]]
    np.testing.assert_allclose(boxes.decode(deltas, A[:2], HEAD), expected, rtol=1e-5)


@given(st.integers(0, 10**6))
def test_overlap_counts_cells(seed):
    a, b = draw(seed, 4), draw(seed + 1, 4)
    y, x = np.mgrid[:40, :40] + 0.5

    def cells(box):
        return (x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])

    expected = [[(cells(p) & cells(q)).sum() / (cells(p) | cells(q)).sum() for q in b] for p in a]
    np.testing.assert_allclose(iou(a, b), expected, atol=1e-6)


def test_boxes_without_area_and_outside_of_the_image():
    point = np.array([[5, 5, 5, 5], [9, 9, 3, 3]], np.float32)
    np.testing.assert_array_equal(iou(point, point), 0)
    np.testing.assert_array_equal(boxes.areas(point), 0)
    outside = np.array([[-3, 2, 99, 50]], np.float32)
    np.testing.assert_array_equal(boxes.clip(outside, height=30, width=40), [[0, 2, 40, 30]])


@pytest.mark.row("H09")
@given(st.integers(0, 10**6), st.sampled_from([HEAD, (1.0, 1.0, 1.0, 1.0)]))
def test_decoding_inverts_encoding(seed, weights):
    a, reference = draw(seed), draw(seed + 1)
    deltas = boxes.encode(a, reference, weights)
    np.testing.assert_allclose(boxes.decode(deltas, reference, weights), a, atol=1e-4)
    np.testing.assert_array_equal(boxes.encode(a, a), 0)


def suppress(b, scores, classes, threshold):
    """Greedy suppression as a loop."""
    overlap = np.asarray(iou(b, b), np.float64)
    selected = []
    for i in np.argsort(-scores, kind="stable"):
        if all(classes[i] != classes[j] or overlap[i, j] <= threshold for j in selected):
            selected.append(int(i))
    return selected


@pytest.mark.row("H09")
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3, 0.7, 1.0]))
def test_suppression_is_the_greedy_loop(seed, threshold):
    random = np.random.default_rng(seed)
    b, classes = draw(seed), random.integers(0, 3, 20)
    scores = random.integers(0, 15, 20).astype(np.float32)  # with ties
    expected = suppress(b, scores, classes, threshold)
    indices, valid = nms(b, scores, classes, threshold, 20)
    assert indices[valid].tolist() == expected
    assert np.all(np.diff(scores[indices[valid]]) <= 0) and not np.any(indices[~valid])


def test_suppression_of_few_and_of_broken_scores():
    zeros = np.zeros(6, int)
    indices, valid = nms(A, SCORES, zeros, 0.5, 2)
    assert indices.tolist() == [0, 4] and valid.all()
    _, valid = nms(A, np.full(6, -np.inf, np.float32), zeros, 0.5, 6)
    assert not valid.any()
    indices, valid = nms(A, np.where(np.arange(6) == 3, np.nan, SCORES), zeros, 0.5, 6)
    assert valid[0] and indices[0] == 3  # a NaN is not hidden


@pytest.mark.row("H09")
def test_anchors_have_their_areas_ratios_and_positions():
    expected = [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]  # torchvision's
    np.testing.assert_array_equal(base_anchors((32,)), expected)
    first, second = anchors([(2, 3), (1, 1)], (16, 24), [(32,), (64, 100)], ratios=(1.0,))
    centres = (first[:, :2] + first[:, 2:]) / 2
    np.testing.assert_array_equal(centres, [[0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8]])
    np.testing.assert_array_equal(second[:, 2:] - second[:, :2], [[64, 64], [100, 100]])
    for ratio in (0.25, 0.5, 2.0, 3.0):
        ((width, height),) = base_anchors((200,), (ratio,))[:, 2:] * 2
        assert height / width == pytest.approx(ratio, rel=0.02)
        assert np.sqrt(height * width) == pytest.approx(200, rel=0.01)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: boxes.iou(A, A[:, :3]), r"float32\[6, 3\]; expected floats \(\.\.\., 4\)"),
        (lambda: boxes.areas(A.astype(int)), r"areas: boxes are int64\[6, 4\]"),
        (lambda: boxes.nms(A, SCORES[:5], threshold=0.5, count=2), r"scores \(5,\)"),
        (lambda: boxes.nms(A, SCORES, threshold=1.5, count=2), r"threshold is 1.5"),
        (lambda: boxes.nms(A, SCORES, threshold=0.5, count=0), r"count is 0"),
        (lambda: anchors([(1, 1)], (8, 8), [(32,), (64,)]), r"2 levels for 1 maps"),
        (lambda: base_anchors((32, -1)), r"sizes are \(32, -1\)"),
    ],
)
def test_invalid_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_suppression_maps_over_images():
    b, scores = jnp.stack([draw(0), draw(1)]), jnp.stack([jnp.arange(20.0), jnp.arange(20.0)[::-1]])
    one = functools.partial(boxes.nms, threshold=0.3, count=5)
    indices, _ = jax.jit(jax.vmap(one))(b, scores)
    for i in range(2):
        expected = suppress(np.asarray(b[i]), np.asarray(scores[i]), np.zeros(20), 0.3)
        assert indices[i].tolist() == expected[:5]
