"""Detection against torchvision and pycocotools, on the same arrays and weights."""

import contextlib
import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import interop, metrics
from jaxdl.zoo.detection import boxes as ours
from jaxdl.zoo.detection.anchors import anchors
from jaxdl.zoo.detection.faster_rcnn import faster_rcnn_resnet50_fpn
from jaxdl.zoo.detection.fpn import feature_pyramid
from jaxdl.zoo.detection.roi import roi_align, roi_pool

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
ops = torchvision.ops


def draw_boxes(n, seed=0, size=100.0):
    random = np.random.default_rng(seed)
    low = random.uniform(0, 0.8 * size, (n, 2))
    return np.concatenate([low, low + random.uniform(1, 0.5 * size, (n, 2))], 1).astype(np.float32)


def test_overlap_and_targets():
    a, b = draw_boxes(40), draw_boxes(40, 1)
    expected = ops.box_iou(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_allclose(ours.iou(a, b), expected, atol=1e-6)
    for weights in ((1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)):
        coder = torchvision.models.detection._utils.BoxCoder(weights)
        target = coder.encode_single(torch.from_numpy(a), torch.from_numpy(b))
        np.testing.assert_allclose(ours.encode(a, b, weights), target.numpy(), rtol=1e-4, atol=1e-5)
        deltas = 5 * np.random.default_rng(2).normal(size=(40, 4)).astype(np.float32)
        decoded = coder.decode_single(torch.from_numpy(deltas), torch.from_numpy(b)).numpy()
        np.testing.assert_allclose(ours.decode(deltas, b, weights), decoded, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7])
def test_suppression(threshold):
    boxes, scores = draw_boxes(300), np.random.default_rng(3).uniform(size=300).astype(np.float32)
    classes = np.random.default_rng(4).integers(0, 4, 300)
    both = torch.from_numpy(boxes), torch.from_numpy(scores)
    indices, valid = ours.nms(boxes, scores, threshold=threshold, count=300)
    assert indices[valid].tolist() == ops.nms(*both, threshold).tolist()
    indices, valid = ours.batched_nms(boxes, scores, classes, threshold=threshold, count=300)
    expected = ops.batched_nms(*both, torch.from_numpy(classes), threshold)
    assert indices[valid].tolist() == expected.tolist()


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_regions(scale):
    features = np.random.default_rng(0).normal(size=(23, 31, 5)).astype(np.float32)
    rois = draw_boxes(50, 5, 24 / scale) - np.float32(2 / scale)
    image = torch.from_numpy(features.transpose(2, 0, 1)[None].copy()).requires_grad_()
    regions = [torch.from_numpy(rois)]

    def compare(function, module):
        y, pullback = jax.vjp(function, features)
        expected = module(image)
        np.testing.assert_allclose(y, expected.detach().permute(0, 2, 3, 1), atol=2e-5)
        cotangent = np.random.default_rng(1).normal(size=y.shape).astype(np.float32)
        image.grad = None
        expected.backward(torch.from_numpy(cotangent).permute(0, 3, 1, 2))
        np.testing.assert_allclose(
            pullback(cotangent)[0], image.grad[0].permute(1, 2, 0), atol=2e-4
        )

    compare(
        functools.partial(roi_pool, rois=rois, size=7, scale=scale),
        lambda x: ops.roi_pool(x, regions, 7, scale),
    )
    for aligned in (False, True):
        for ratio in (1, 2, 3):
            options = dict(sampling_ratio=ratio, aligned=aligned)
            compare(
                functools.partial(roi_align, rois=rois, size=7, scale=scale, **options),
                lambda x, options=options: ops.roi_align(x, regions, 7, scale, **options),
            )


def test_anchors():
    sizes, ratios = ((32, 45), (64, 100)), (0.5, 1.0, 2.0)
    generator = torchvision.models.detection.anchor_utils.AnchorGenerator(sizes, (ratios,) * 2)
    images = torchvision.models.detection.image_list.ImageList(
        torch.zeros(1, 3, 100, 150), [(100, 150)]
    )
    shapes = [(25, 38), (13, 19)]
    expected = generator(images, [torch.zeros(1, 1, *shape) for shape in shapes])[0]
    np.testing.assert_array_equal(np.concatenate(anchors(shapes, (100, 150), sizes)), expected)


def test_a_pyramid():
    channels = (4, 6, 8)
    module = ops.FeaturePyramidNetwork(
        list(channels), 10, ops.feature_pyramid_network.LastLevelMaxPool()
    )
    random = np.random.default_rng(0)
    maps = [
        random.normal(size=(2, *shape, c)).astype(np.float32)
        for shape, c in zip(((21, 13), (11, 7), (6, 4)), channels, strict=True)
    ]
    with torch.no_grad():
        inputs = {
            str(i): torch.from_numpy(x.transpose(0, 3, 1, 2).copy()) for i, x in enumerate(maps)
        }
        expected = list(module(inputs).values())
    names = [
        (rf"{kind}(\d)", lambda match, full=full: f"{full}_blocks.{int(match[1]) - 1}.0")
        for kind, full in (("inner", "inner"), ("layer", "layer"))
    ]
    model = feature_pyramid(3, 10, extra_level=True)
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    params, state = interop.load(model, weights, names=names, inputs=tuple(maps))
    outputs, _ = model.apply(params, state, *maps)
    assert len(outputs) == len(expected) == 4
    for y, z in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(y, z.permute(0, 2, 3, 1), atol=1e-5)


@pytest.mark.slow
def test_the_same_weights_detect_the_same_objects():
    torch.manual_seed(0)
    network = torchvision.models.detection.fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=5, box_score_thresh=0.0
    ).eval()
    # Random running statistics keep the maps at a scale of 1, and larger outputs make boxes differ.
    with torch.no_grad():
        network.rpn.head.cls_logits.weight.mul_(30)
        network.rpn.head.bbox_pred.weight.mul_(10)
        network.roi_heads.box_predictor.cls_score.weight.mul_(5)
    image = np.random.default_rng(0).uniform(size=(1, 128, 160, 3)).astype(np.float32)
    tensor = torch.from_numpy(image.transpose(0, 3, 1, 2).copy())
    images = torchvision.models.detection.image_list.ImageList(tensor, [(128, 160)])
    with torch.no_grad():
        features = network.backbone(tensor)
        logits, deltas = network.rpn.head(list(features.values()))
        proposals, _ = network.rpn(images, features)
        expected = network.roi_heads(features, proposals, [(128, 160)])[0][0]
    model = faster_rcnn_resnet50_fpn(num_classes=5, score_threshold=0.0)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    params, state = interop.load(model, weights, inputs=image)

    @jax.jit
    def run(params, state, image):
        values = {}

        def tap(path, value):
            values[path] = value
            return value

        return model.apply(params, state, image, tap=tap)[0], values

    detections, values = run(params, state, image)
    for level, theirs in zip(values["backbone"], features.values(), strict=True):
        scale = theirs.abs().max()
        np.testing.assert_allclose(level, theirs.permute(0, 2, 3, 1), atol=1e-4 * scale)
    flat = [x.permute(0, 2, 3, 1).reshape(1, -1) for x in logits]
    np.testing.assert_allclose(values["rpn"][0], torch.cat(flat, 1), rtol=1e-3, atol=1e-4)
    n = len(expected["boxes"])
    assert int(detections.valid.sum()) == n > 20
    np.testing.assert_allclose(detections.scores[0, :n], expected["scores"], atol=1e-4)
    # Scores that differ by rounding alone may be in another order, so rows are compared as a set.
    rows, theirs = (
        np.concatenate([np.asarray(part) for part in columns], axis=1)
        for columns in (
            (detections.boxes[0, :n], 100 * detections.labels[0, :n, None]),
            (expected["boxes"], 100 * expected["labels"][:, None]),
        )
    )
    distances = np.abs(rows[:, None] - theirs).max(-1)
    # Rounding decides between some equally good boxes at the end of the list.
    assert np.mean(distances.min(0) < 0.05) > 0.95 and np.mean(distances.min(1) < 0.05) > 0.95


def random_detections(seed, images=12, classes=3):
    """True boxes of all sizes, and detections that are near to them, doubled, or false."""
    random = np.random.default_rng(seed)
    truth, detections = [], []
    for _ in range(images):
        m = random.integers(0, 8)
        low = random.uniform(0, 150, (m, 2))
        true = np.concatenate([low, low + random.uniform(5, 160, (m, 2))], 1)
        labels = random.integers(1, classes + 1, m)
        near = np.repeat(true, 2, axis=0) + random.normal(size=(2 * m, 4)) * random.uniform(0, 8)
        low = random.uniform(0, 150, (5, 2))
        false = np.concatenate([low, low + random.uniform(5, 160, (5, 2))], 1)
        boxes = np.concatenate([near, false])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        guess = np.concatenate([np.repeat(labels, 2), random.integers(1, classes + 1, 5)])
        guess = np.where(random.uniform(size=len(guess)) < 0.1, 1, guess)
        # Rounded, so that some scores are equal.
        detections.append((boxes, random.uniform(size=len(boxes)).round(2), guess))
        truth.append((true, labels))
    return [list(part) for part in (*zip(*detections, strict=True), *zip(*truth, strict=True))]


@pytest.mark.parametrize("seed", range(5))
def test_mean_average_precision(seed):
    coco_module = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    arrays = random_detections(seed)

    def rows(boxes, labels, scores=None):
        annotations = []
        for i, (image_boxes, image_labels) in enumerate(zip(boxes, labels, strict=True)):
            for j, (box, label) in enumerate(zip(image_boxes, image_labels, strict=True)):
                side = box[2:] - box[:2]
                row = dict(image_id=i, category_id=int(label), bbox=[*box[:2], *side])
                row |= dict(area=float(side.prod()), iscrowd=0, id=len(annotations) + 1)
                annotations.append(row | ({} if scores is None else {"score": scores[i][j]}))
        return annotations

    boxes, scores, labels, true_boxes, true_labels = arrays
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_module.COCO()
        truth.dataset = dict(
            images=[dict(id=i) for i in range(len(boxes))],
            categories=[dict(id=c) for c in (1, 2, 3)],
            annotations=rows(true_boxes, true_labels),
        )
        truth.createIndex()
        run = evaluation.COCOeval(truth, truth.loadRes(rows(boxes, labels, scores)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    score = metrics.coco_map(*arrays)
    values = [score.map, score.map_50, score.map_75, score.small, score.medium, score.large]
    np.testing.assert_allclose(
        [*values, score.recall], run.stats[[0, 1, 2, 3, 4, 5, 8]], atol=1e-12
    )


def test_padding_of_arrays_on_the_device():
    boxes = jnp.asarray(draw_boxes(4))[None]
    labels = jnp.asarray([[1, 2, 0, 0]])
    score = metrics.coco_map(boxes, jnp.ones((1, 4)), labels, boxes, labels)
    assert score.map == 1 and score.by_class == {1: 1.0, 2: 1.0}
