"""Faster R-CNN: sizes, joint training, and the shapes of its outputs."""

import functools

import jax
import numpy as np
import optax
import pytest

from jaxdl import data, metrics, train, tree
from jaxdl.core import compose
from jaxdl.nn import conv
from jaxdl.zoo.detection.faster_rcnn import faster_rcnn, faster_rcnn_resnet50_fpn, total_loss
from jaxdl.zoo.detection.fpn import feature_pyramid_network
from tests.nn.filled import filled

IMAGES = np.random.default_rng(0).normal(size=(2, 32, 48, 3)).astype(np.float32)
BOXES = np.array([[[3, 4, 15, 14], [20, 5, 44, 30]], [[0, 0, 9, 9], [0, 0, 0, 0]]], np.float32)
LABELS = np.array([[1, 2], [2, 0]], np.int32)


def small_backbone():
    children = {"first": conv(4, 3, stride=4), "second": conv(4, 3, stride=2)}

    def forward(call, x):
        x = call("first", x)
        return x, call("second", jax.nn.relu(x))

    return compose("small_backbone", children, forward)


@functools.cache
def small():
    """A network, its parameters, its losses and gradients, and its detections."""
    model = faster_rcnn(
        feature_pyramid_network(small_backbone(), 2, 4),
        num_classes=3,
        sizes=[(8,), (16,)],
        ratios=(1.0,),
        features=4,
        hidden=8,
        canonical_size=24,
        proposals=6,
        proposals_per_level=8,
        sampled_anchors=16,
        sampled_rois=8,
        detections=5,
        score_threshold=0.0,
    )
    params, state = filled(model, IMAGES, BOXES, LABELS, scale=0.2)

    @jax.jit
    def losses(params, boxes, labels, key):
        output, _ = model.apply(params, state, IMAGES, boxes, labels, train=True, key=key)
        return total_loss(output, labels).mean(), output

    return (
        model,
        params,
        jax.jit(jax.value_and_grad(losses, has_aux=True)),
        jax.jit(lambda params: model.apply(params, state, IMAGES)[0]),
    )


@pytest.mark.row("H09")
def test_the_number_of_parameters_of_torchvision():
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    model = faster_rcnn_resnet50_fpn()
    params, _ = jax.eval_shape(model.init, jax.random.key(0), image)
    parts = {name: tree.count(part) for name, part in params["backbone"].items()}
    assert parts == {"body": 23_508_032, "fpn": 3_344_384}
    assert tree.count(params["rpn"]) == 593_935 and tree.count(params["head"]) == 14_362_055
    assert tree.count(params) == 41_808_406


@pytest.mark.row("H06", "H09")
def test_both_stages_are_trained_together():
    _, params, step, _ = small()
    (value, output), gradient = step(params, BOXES, LABELS, jax.random.key(0))
    assert sorted(output) == ["box", "class", "objectness", "proposal_box"]
    assert all(part.shape == (2,) and np.all(part > 0) for part in output.values())
    assert value == pytest.approx(float(sum(part.mean() for part in output.values())), rel=1e-5)
    for path, leaf in tree.flatten(gradient).items():
        assert np.isfinite(leaf).all() and np.any(leaf), path


@pytest.mark.row("H09")
def test_padding_changes_nothing_and_an_image_may_be_empty():
    _, params, step, _ = small()
    key = jax.random.key(0)
    other = BOXES.copy()
    other[1, 1] = [5, 5, 2, 3]
    (_, output), _ = step(params, BOXES, LABELS, key)
    (_, padded), _ = step(params, other, LABELS, key)
    for name in output:
        np.testing.assert_allclose(output[name], padded[name], rtol=1e-5)
    (_, empty), gradient = step(params, 0 * BOXES, 0 * LABELS, key)
    assert not np.any(empty["box"]) and not np.any(empty["proposal_box"])
    assert np.all(empty["class"] > 0) and np.all(empty["objectness"] > 0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_detections_are_sorted_and_inside_of_the_image():
    _, params, _, detect = small()
    boxes, scores, labels, valid = map(np.asarray, detect(params))
    assert boxes.shape == (2, 5, 4) and valid.any() and set(np.unique(labels)) <= {0, 1, 2}
    assert np.all(np.diff(scores, axis=1) <= 0) and np.all((scores > 0) == valid)
    assert np.all(boxes >= 0) and np.all(boxes <= [48, 32, 48, 32])
    assert not np.any(boxes[~valid]) and np.all((labels > 0) == valid)


def test_invalid_input():
    model, *_ = small()
    init = functools.partial(jax.eval_shape, model.init, jax.random.key(0))
    with pytest.raises(ValueError, match=r"after 2 images got arrays \[\(2, 2, 4\)\]; expected"):
        init(IMAGES, BOXES)
    with pytest.raises(ValueError, match=r"expected boxes \(2, M, 4\)"):
        init(IMAGES, BOXES, LABELS[:, :1])
    with pytest.raises(ValueError, match="integer labels"):
        init(IMAGES, BOXES, LABELS.astype(np.float32))
    with pytest.raises(ValueError, match=r"images are \(32, 44\) and a map is \(4, 6\)"):
        init(IMAGES[:, :, :44])
    wrong = faster_rcnn(
        feature_pyramid_network(small_backbone(), 2, 4), num_classes=3, sizes=[(8,)], features=4
    )
    with pytest.raises(ValueError, match="sizes of 1 levels for 2 maps"):
        jax.eval_shape(wrong.init, jax.random.key(0), IMAGES)


@pytest.mark.slow
@pytest.mark.row("H09")
def test_it_learns_to_detect_shapes():
    """With `fit` and Adam, from random values; measured by the mean average precision."""
    images, boxes, labels = data.toy.shapes(128, size=48, objects=2, seed=0)
    test = data.toy.shapes(40, size=48, objects=2, seed=1)
    widths = {"first": 12, "second": 24, "third": 24}
    children = {name: conv(width, 3, stride=2) for name, width in widths.items()}

    def forward(call, x):
        x = jax.nn.relu(call("second", jax.nn.relu(call("first", x))))
        return x, jax.nn.relu(call("third", x))

    model = faster_rcnn(
        feature_pyramid_network(compose("backbone", children, forward), 2, 16),
        num_classes=4,
        sizes=[(12,), (20,)],
        ratios=(1.0,),
        features=16,
        hidden=32,
        canonical_size=32,
        proposals=12,
        proposals_per_level=24,
        sampled_anchors=24,
        sampled_rois=12,
        detections=6,
    )
    state, history = train.fit(
        model,
        ((images, boxes, labels), labels),
        loss=total_loss,
        optimizer=optax.adam(3e-3),
        batch_size=16,
        epochs=75,
        metrics=[],
        verbose=0,
    )
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    detections = train.predict(model, state, test[0], batch_size=40)
    score = metrics.coco_map(*detections[:3], *test[1:])
    assert score.map_50 > 0.5
