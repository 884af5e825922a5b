"""Parts of the experiments that explain vision networks, with closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _figure
from experiments import explain_classifier as classifier
from experiments import explain_detection as detection
from experiments import explain_segmentation as segmentation
from jaxdl import data, nn, serial
from jaxdl.core import compose


def test_the_surest_right_answers_and_mistakes_have_different_labels():
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.7, 0.3], [0.05, 0.95], [0.0, 1.0]])
    labels = np.array([0, 0, 1, 1, 0, 1])
    right, wrong = classifier.choose_examples(p, labels, 2, 2)
    assert right == [5, 0] and wrong == [4, 3]
    assert classifier.choose_examples(p, labels, 1, 0) == ([5], [])


def test_views_are_the_image_four_shifts_and_its_mirror_image():
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    w = np.random.default_rng(1).normal(size=(3, 8, 8, 3)).astype(np.float32)
    actual = classifier.average_views(lambda x: jnp.einsum("nijc,kijc->nk", x, w), x)
    views = [x, x[:, :, ::-1]]
    views += [np.roll(x, s, axis) for s in (2, -2) for axis in (1, 2)]
    expected = sum(np.tensordot(view, w, ((1, 2, 3), (1, 2, 3))) for view in views) / 6
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_pictures_of_a_linear_classifier_keep_their_probability_where_it_is_periodic():
    """Weights that repeat every 3 pixels do not notice a shift by 3; others do."""
    w = np.zeros((2, 6, 6, 1), np.float32)
    w[0, ::3, ::3], w[1, 0, 0] = 1, 1
    measured = classifier.measure_pictures(lambda x: jnp.einsum("nijc,kijc->nk", x, w), 4 * w)
    assert measured["logit"] == [16, 4]
    np.testing.assert_allclose(measured["probability"], [1 / (1 + np.exp(-12)), 0.5], rtol=1e-5)
    shifted = measured["probability of shifted copies"]
    np.testing.assert_allclose(shifted[0], measured["probability"][0], rtol=1e-5)
    # The only pixel of the second picture moves onto (3, 3), which belongs to the first class.
    np.testing.assert_allclose(shifted[1], 1 / (1 + np.exp(4)), rtol=1e-5)


def test_squares_and_the_share_within_them():
    inside = segmentation.square(9, (4, 2), 1)
    assert inside.sum() == 9 and inside[3:6, 1:4].all()
    assert segmentation.square(9, (0, 0), 2).sum() == 9
    values = np.zeros((9, 9))
    values[4, 2], values[4, 4], values[0, 8] = -3, 2, 1
    shares = [segmentation.share_within(values, (4, 2), r) for r in (0, 1, 2, 5, 6)]
    assert shares == pytest.approx([3 / 6, 3 / 6, 5 / 6, 5 / 6, 1])
    assert segmentation.share_within(0 * values, (4, 2), 3) is None


def test_maxima_are_apart_and_finite():
    score = np.full((2, 20, 20), -np.inf)
    score[0, 5, 5], score[0, 12, 5], score[1, 5, 5] = 4, 2, 1
    score[0, 6, 6] = score[0, 3, 4] = 3  # near the first
    assert segmentation.find_maxima(score, 5, 4) == [(0, 5, 5), (0, 12, 5), (1, 5, 5)]
    assert segmentation.find_maxima(score, 1, 4) == [(0, 5, 5)]


def test_regions_have_one_label_and_the_crop_contains_their_receptive_field():
    rng = np.random.default_rng(0)
    y = np.ones((2, 96, 96), np.int32)
    y[:, 40:60], y[1, :, 30:50] = 0, 0
    evidence = np.where(y == 0, 1.0, -1.0) * rng.uniform(1, 2, y.shape)
    evidence[0, 20:30, 50:60] = 9.0  # a mistake
    x = rng.normal(size=(*y.shape, 1)).astype(np.float32)
    x[0, 66:74, 40:48] = -5  # dark pixels of a cell
    regions = segmentation.find_regions(data.Split(x, y), evidence, 18, 4, 1, seed=0)
    assert [region.kind for region in regions] == list(segmentation.KINDS)
    assert [region.sign for region in regions] == [1, -1, 1]
    for region, label in zip(regions, (0, 1, 1), strict=True):
        side, centre = len(region.crop), np.array(region.centre)
        assert side % 4 == 0 and (centre >= 9 + 2).all() and (side - 1 - centre >= 9 + 2).all()
        inside = segmentation.square(side, region.centre, segmentation.REGION // 2)
        assert (region.labels[inside] == label).all()
    assert (regions[1].crop[segmentation.square(side, regions[1].centre, 2)] == -5).all()


def test_relevance_of_a_uniform_map_is_the_share_of_the_area():
    region = segmentation.Region("membrane", np.zeros((21, 21, 1)), np.zeros((21, 21)), (10, 10), 1)
    maps = {"flat": np.ones((1, 21, 21)), "nothing": np.zeros((1, 21, 21)), "sum": None}
    within = segmentation.measure_distances([region], maps, 21)
    assert set(within) == {"uniform", "flat"}
    assert within["flat"]["4"] == pytest.approx((9 / 21) ** 2) == within["uniform"]["4"]
    assert within["flat"]["radius of half"] == 7  # (15 / 21)^2 = 0.51


def test_shares_inside_a_box():
    inside = detection.pixels_inside((1, 2, 4, 4), (6, 8))
    assert inside.sum() == 6 and inside[2:4, 1:4].all()
    assert detection.pixels_inside((0.6, 0, 2.4, 1), (6, 8)).sum() == 1
    values = np.zeros((6, 8))
    values[2, 1], values[3, 3], values[0, 0] = -2, 1, 1
    assert detection.share_inside(values, inside) == pytest.approx(3 / 4)
    with pytest.raises(ValueError, match="all attributions are 0"):
        detection.share_inside(0 * values, inside)


def test_covered_copies_hide_a_box_or_its_surroundings():
    x = np.ones((50, 60, 3))
    copies = detection.cover(x, np.array([20, 10, 30, 15]))
    sums = {name: copy.sum() / 3 for name, copy in copies.items()}
    assert sums.pop("probability") == 3000 and sums.pop("box hidden") == 3000 - 50
    assert list(sums.values()) == [50, 26 * 21, 42 * 31, 60 * 47]


def test_detections_fit_a_true_box_of_their_class_and_are_of_different_images():
    true = np.array([[[10, 10, 30, 30], [50, 50, 70, 70]]] * 2, np.float32)
    test = data.DetectionSplit(np.zeros((2, 96, 96, 3)), true, np.array([[1, 2], [1, 0]]))
    boxes = np.stack([true[:, 0], true[:, 0] + 4, true[:, 1]], 1)
    scores, labels = np.array([[0.5, 0.9, 0.8], [0.6, 0.7, 0.9]]), np.array([[1, 1, 2], [1, 2, 2]])
    chosen = detection.choose_detections(boxes, scores, labels, test, 2)
    # The box moved by 4 pixels has an IoU of 256 / 544, and the last box of the second image is
    # padding.
    assert [(d.image, d.label, d.score) for d in chosen] == [(1, 1, 0.6), (0, 1, 0.5), (0, 2, 0.8)]
    assert len(detection.choose_detections(boxes, scores, labels, test, 1)) == 2


def test_logits_of_a_box_depend_on_the_pixels_in_it():
    """On a ramp, RoI align gives the centres of the bins: x0 + (j + 1/2) width / 7."""
    pyramid = compose("pyramid", {}, lambda call, x: (x,))
    head = compose("head", {}, lambda call, x: (x[..., 0].mean(1), x))
    model = compose("model", {"backbone": pyramid, "head": head}, lambda call, x: x)
    logits = detection.class_logits(model, {"backbone": {}})
    ramp = np.broadcast_to(np.arange(32, dtype=np.float32)[:, None], (1, 32, 32, 1))
    params = {"backbone": {}, "head": {}}
    actual = logits((params, np.array([4, 8, 18, 22], np.float32)), ramp)
    np.testing.assert_allclose(actual, 5 + 2 * np.arange(7)[None], rtol=1e-6)


def test_random_weights_have_the_scale_of_he_initialization():
    model = serial(conv=nn.conv(4, 3), norm=nn.batch_norm())
    state = classifier.random_state(model, np.zeros((1, 8, 8, 2), np.float32))
    norm, running = state.params["norm"], state.model_state["norm"]
    assert all((a == 1).all() for a in (norm["scale"], running["var"]))
    assert all((a == 0).all() for a in (norm["bias"], running["mean"]))
    kernel = np.asarray(state.params["conv"]["kernel"])
    assert 0.5 < kernel.std() / np.sqrt(2 / 18) < 1.5


def test_maps_are_drawn_in_rows():
    images = np.random.default_rng(0).random((3, 8, 8, 3))
    figure = _figure.pyplot().figure(layout="constrained")
    maps = {"a": images[..., 0] - 0.5, "nothing": np.zeros((3, 8, 8))}
    _figure.compare_maps(figure, {"image": images}, maps, "xyz", boxes=[(1, 2, 3, 4)] * 3)
    *panels, bar = figure.axes
    assert [axis.get_ylabel() for axis in panels[::3]] == ["image", "a", "nothing"]
    assert [axis.get_title() for axis in panels[:3]] == ["x", "y", "z"]
    shares = np.asarray(panels[3].images[0].get_array())
    limit = np.percentile(np.abs(maps["a"][0]), 99)
    np.testing.assert_allclose(shares, np.clip(maps["a"][0] / limit, -1, 1))
    assert "99th percentile" in bar.get_ylabel() and len(panels[4].patches) == 1
