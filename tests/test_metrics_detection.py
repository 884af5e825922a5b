"""Mean average precision of detections: cases by hand, and properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdl import metrics

TRUE = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], np.float32)
FAR = np.array([[70, 70, 80, 80]], np.float32)


def score(boxes, scores, *, true=TRUE, labels=None, true_labels=None):
    labels = np.ones(len(boxes), int) if labels is None else labels
    true_labels = np.ones(len(true), int) if true_labels is None else true_labels
    return [boxes], [np.array(scores)], [labels], [true], [true_labels]


def test_perfect_and_empty():
    perfect = metrics.coco_map(*score(TRUE, [0.9, 0.8, 0.7]))
    assert (perfect.map, perfect.map_50, perfect.map_75, perfect.recall) == (1, 1, 1, 1)
    assert perfect.small == 1 and np.isnan([perfect.medium, perfect.large]).all()
    assert perfect.by_class == {1: 1.0}
    nothing = metrics.coco_map(*score(TRUE[:0], []))
    assert (nothing.map, nothing.recall, nothing.by_class) == (0, 0, {1: 0.0})
    for year in (2007, 2010):
        assert metrics.voc_map(*score(TRUE, [0.9, 0.8, 0.7]), year=year) == (1, {1: 1})
        assert metrics.voc_map(*score(TRUE[:0], []), year=year) == (0, {1: 0})
    assert np.isnan(metrics.coco_map(*score(TRUE, [1, 1, 1], true=TRUE[:0])).map)
    assert np.isnan(metrics.voc_map(*score(TRUE, [1, 1, 1], true=TRUE[:0]))[0])


def test_three_definitions_of_one_curve_by_hand():
    """Hit, miss, hit: precision 1, 1/2, 2/3 at recalls 1/3, 1/3, 2/3."""
    arrays = score(np.concatenate([TRUE[:1], FAR, TRUE[1:2]]), [0.9, 0.8, 0.7])
    coco = (34 * 1 + 33 * 2 / 3) / 101  # recalls 0 .. 0.33 and 0.34 .. 0.66
    assert metrics.coco_map(*arrays).map_50 == pytest.approx(coco, abs=1e-12)
    voc_2007 = (4 * 1 + 3 * 2 / 3) / 11  # 0 .. 0.3 and 0.4 .. 0.6
    assert metrics.voc_map(*arrays, year=2007)[0] == pytest.approx(voc_2007, abs=1e-12)
    assert metrics.voc_map(*arrays)[0] == pytest.approx((1 + 2 / 3) / 3, abs=1e-12)


def test_a_true_box_is_found_once_and_at_its_iou():
    one = TRUE[:1]
    double = metrics.coco_map(*score(np.concatenate([one, one]), [0.9, 0.8], true=one))
    assert double.map == 1  # the second one comes after full recall
    first_false = metrics.coco_map(*score(np.concatenate([FAR, one]), [0.9, 0.8], true=one))
    assert first_false.map == 0.5
    shorter = one - np.array([0, 0, 0, 2.8], np.float32)  # IoU 0.72: from 0.5 to 0.7
    result = metrics.coco_map(*score(shorter, [0.9], true=one))
    assert (result.map_50, result.map_75, result.map) == (1, 0, 0.5)
    assert metrics.voc_map(*score(shorter, [0.9], true=one), iou=0.73)[0] == 0


def test_voc_counts_a_second_detection_as_false_where_coco_tries_another_box():
    true = np.array([[0, 0, 10, 10], [0, 0, 10, 14]], np.float32)
    arrays = score(np.array([[0, 0, 10, 10], [0, 0, 10, 10.5]], np.float32), [0.9, 0.8], true=true)
    assert metrics.voc_map(*arrays)[0] == 0.5
    assert metrics.coco_map(*arrays).map_50 == 1


def test_classes_sizes_and_padding():
    true = np.array([[0, 0, 20, 20], [0, 0, 60, 60], [0, 0, 200, 200], [9, 9, 9, 9]], np.float32)
    true_labels = np.array([1, 1, 2, 0])
    boxes, labels = true.copy(), np.array([1, 2, 2, 0])  # the second one has the wrong class
    result = metrics.coco_map(
        *score(boxes, [0.9, 0.8, 0.7, 0.99], true=true, labels=labels, true_labels=true_labels)
    )
    assert result.small == 1 and result.medium == 0 and result.large == 1
    assert result.by_class == {1: pytest.approx(51 / 101), 2: 0.5}
    assert result.map == pytest.approx((51 / 101 + 0.5) / 2)


@given(st.integers(0, 10**6))
def test_the_order_of_images_and_the_scale_of_scores_do_not_matter(seed):
    random = np.random.default_rng(seed)
    low = random.uniform(0, 50, (4, 6, 2))
    true = np.concatenate([low, low + random.uniform(5, 40, (4, 6, 2))], -1)
    boxes = true + random.normal(size=true.shape)
    scores, labels = random.uniform(size=(4, 6)), random.integers(0, 3, (4, 6))
    first = metrics.coco_map(boxes, scores, labels, true, labels)
    order = random.permutation(4)
    arrays = [part[order] for part in (boxes, scores**3, labels, true, labels)]
    np.testing.assert_equal(tuple(metrics.coco_map(*arrays)), tuple(first))
    assert metrics.voc_map(*arrays) == metrics.voc_map(boxes, scores, labels, true, labels)
    assert first.map <= first.map_50 and 0 <= first.recall <= 1 if first.by_class else True


def test_invalid_input():
    arrays = score(TRUE, [0.9, 0.8, 0.7])
    with pytest.raises(ValueError, match=r"arrays of \[1, 1, 1, 1, 2\] images"):
        metrics.coco_map(*arrays[:4], [*arrays[4], [1]])
    with pytest.raises(ValueError, match=r"image 0 has boxes \(3, 4\), scores \(2,\)"):
        metrics.coco_map(*score(TRUE, [0.9, 0.8], labels=np.ones(3, int)))
    with pytest.raises(ValueError, match="a box or score of image 0 is not finite"):
        metrics.voc_map(*score(TRUE, [0.9, np.nan, 0.7]))
    with pytest.raises(ValueError, match="year is 2012"):
        metrics.voc_map(*arrays, year=2012)
