"""R-CNN and Fast R-CNN: how often the CNN runs, and their losses."""

import functools

import jax
import numpy as np
import pytest

from jaxdl.nn import conv
from jaxdl.zoo.detection.rcnn import count_cnn_runs, fast_rcnn, rcnn, region_loss, warp
from jaxdl.zoo.detection.roi import roi_pool
from tests.nn.filled import filled

IMAGES = np.random.default_rng(0).uniform(size=(1, 16, 24, 3)).astype(np.float32)
PROPOSALS = np.array(
    [[[0, 0, 8, 8], [2, 3, 20, 15], [5, 5, 9, 16], [0, 0, 24, 16], [11, 2, 19, 9]]], np.float32
)
MODELS = {
    "rcnn": rcnn(conv(4, 3, stride=2), num_classes=3, size=8, hidden=8),
    "fast rcnn": fast_rcnn(conv(4, 3, stride=2), num_classes=3, stride=2, size=4, hidden=8),
}


@functools.cache
def run(name):
    params, state = filled(MODELS[name], IMAGES, PROPOSALS)
    return params, jax.jit(MODELS[name].apply)(params, state, IMAGES, PROPOSALS)[0]


@pytest.mark.row("H07")
def test_rcnn_runs_the_cnn_for_each_proposal():
    params, (logits, deltas) = run("rcnn")
    assert logits.shape == (1, 5, 3) and deltas.shape == (1, 5, 3, 4)
    counts = [
        count_cnn_runs(MODELS["rcnn"], params, {}, IMAGES, PROPOSALS[:, :n]) for n in (1, 3, 5)
    ]
    assert counts == [1, 3, 5]
    # One proposal alone has the same output: nothing is shared.
    alone, _ = jax.jit(MODELS["rcnn"].apply)(params, {}, IMAGES, PROPOSALS[:, 3:4])
    np.testing.assert_allclose(alone[0][0, 0], logits[0, 3], atol=1e-5)


@pytest.mark.row("H08")
def test_fast_rcnn_runs_the_cnn_once():
    params, (logits, deltas) = run("fast rcnn")
    assert logits.shape == (1, 5, 3) and deltas.shape == (1, 5, 3, 4)
    counts = [
        count_cnn_runs(MODELS["fast rcnn"], params, {}, IMAGES, PROPOSALS[:, :n]) for n in (1, 5)
    ]
    assert counts == [1, 1]

    @jax.jit
    def by_hand(params):
        """The regions of the one map, through the layers of the head."""
        children = MODELS["fast rcnn"].children
        features = children["cnn"].apply(params["cnn"], {}, IMAGES)[0][0]
        x = roi_pool(features, PROPOSALS[0], size=4, scale=0.5).reshape(5, -1)
        for name in ("fc6", "fc7"):
            x = jax.nn.relu(x @ params["head"][name]["kernel"] + params["head"][name]["bias"])
        return x @ params["head"]["logits"]["kernel"] + params["head"]["logits"]["bias"]

    np.testing.assert_allclose(logits[0], by_hand(params), rtol=1e-4, atol=1e-4)


def test_a_warp_resizes_a_box_to_a_square():
    image = np.arange(16 * 24, dtype=np.float32).reshape(16, 24, 1)
    crops = jax.jit(functools.partial(warp, size=4))(image, PROPOSALS[0, :2])
    # Box 0 is 8x8, so that each sample is the mean of four pixels.
    expected = image[:8, :8, 0].reshape(4, 2, 4, 2).mean((1, 3))
    np.testing.assert_allclose(crops[0, ..., 0], expected, atol=1e-4)


@pytest.mark.row("H06")
def test_the_loss_of_regions_is_that_of_their_boxes():
    """A perfect output has no loss, a padded proposal has no effect, and each part counts."""
    truth = np.array([[[0, 0, 8, 8], [2, 3, 20, 15]]], np.float32)
    labels = np.array([[2, 1]], np.int32)
    proposals = PROPOSALS.copy()
    proposals[0, 3:] = [[12, 0, 24, 16], [0, 0, 0, 0]]
    logits = np.full((1, 5, 3), -20, np.float32)
    for r, label in enumerate([2, 1, 0, 0]):  # the third and fourth overlap by less than a half
        logits[0, r, label] = 20
    deltas = np.zeros((1, 5, 3, 4), np.float32)
    loss = jax.jit(region_loss)
    target = (proposals, truth, labels)
    assert loss((logits, deltas), target)[0] == pytest.approx(0, abs=1e-5)
    deltas[0, 0, 2, 0] = 2
    assert loss((logits, deltas), target)[0] == pytest.approx((2 - 1 / 18) / 4, rel=1e-4)
    deltas[0, 0, 2, 0] = 0
    deltas[0, 0, 1] = deltas[0, 2] = deltas[0, 4] = 9  # of other classes, background and padding
    assert loss((logits, deltas), target)[0] == pytest.approx(0, abs=1e-5)


def test_invalid_input():
    init = functools.partial(jax.eval_shape, MODELS["rcnn"].init, jax.random.key(0))
    with pytest.raises(ValueError, match=r"rcnn: images .* proposals \(5, 4\); expected"):
        init(IMAGES, PROPOSALS[0])
    with pytest.raises(ValueError, match="size is 0"):
        rcnn(conv(4, 3), num_classes=3, size=0)
    with pytest.raises(ValueError, match="stride is 0"):
        fast_rcnn(conv(4, 3), num_classes=3, stride=0)
