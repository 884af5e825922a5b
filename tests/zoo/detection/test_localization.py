"""Classification with localization, and selective search, on made-up shapes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import train
from jaxdl.combine import serial
from jaxdl.data import toy
from jaxdl.nn import conv, max_pool
from jaxdl.zoo.detection.boxes import iou
from jaxdl.zoo.detection.localization import localization_loss, localizer
from jaxdl.zoo.detection.proposals import selective_search


@pytest.mark.row("H01")
def test_the_loss_is_that_of_the_class_and_that_of_the_box():
    logits = np.array([[0, 0], [3, 0]], np.float32)
    boxes = np.array([[0.1, 0.1, 0.5, 0.5], [0, 0, 1, 1]], np.float32)
    truth = boxes + np.array([[0.5, 0, 0, 0], [0, 0, 0, 0.06]], np.float32)
    loss = jax.jit(functools.partial(localization_loss, weight=2.0))
    values = loss((logits, boxes), (np.array([1, 0]), truth))
    expected = [
        math.log(2) + 2 * (0.5 - 1 / 18),
        math.log(1 + math.exp(-3)) + 2 * 0.06**2 * 9 / 2,
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-4)
    with pytest.raises(ValueError, match=r"boxes \(2, 4\) for true boxes \(2, 1, 4\)"):
        localization_loss((logits, boxes), (np.array([1, 0]), truth[:, None]))


def small_cnn(features=8):
    layers = {}
    for k in range(3):
        layers |= {f"conv{k + 1}": conv(features * (k + 1), 3), f"relu{k + 1}": jax.nn.relu}
        layers[f"pool{k + 1}"] = max_pool(2)
    return serial(**layers)


def test_the_outputs_are_logits_and_boxes_in_the_image():
    model = localizer(small_cnn(), num_classes=3)
    x = jax.ShapeDtypeStruct((2, 32, 32, 3), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    (logits, boxes), _ = jax.eval_shape(model.apply, *variables, x)
    assert logits.shape == (2, 3) and boxes.shape == (2, 4)


@pytest.mark.slow
@pytest.mark.row("H01")
def test_the_class_and_the_box_of_an_object_are_learned():
    images, boxes, labels = toy.shapes(1200, size=32, seed=0)
    target = (labels[:, 0] - 1, boxes[:, 0] / 32)
    model = localizer(small_cnn(), num_classes=3)
    state, _ = train.fit(
        model,
        (images, target),
        loss=localization_loss,
        optimizer=optax.adam(3e-3),
        batch_size=50,
        epochs=14,
        metrics=[],
        verbose=0,
    )
    images, boxes, labels = toy.shapes(300, size=32, seed=1)
    logits, guesses = train.predict(model, state, images)
    assert np.mean(np.argmax(logits, -1) == labels[:, 0] - 1) > 0.9
    overlap = jax.vmap(iou)(guesses[:, None] * 32, jnp.asarray(boxes))[:, 0, 0]
    assert overlap.mean() > 0.7


@pytest.mark.row("H07")
def test_selective_search_proposes_each_object():
    pytest.importorskip("skimage")
    image = np.full((40, 60, 3), 0.1, np.float32)
    objects = [(5, 8, 20, 30), (35, 10, 55, 22)]
    for colour, (x0, y0, x1, y1) in zip(([0.9, 0.2, 0.2], [0.2, 0.3, 0.9]), objects, strict=True):
        image[y0:y1, x0:x1] = colour
    boxes, valid = selective_search(image, 20, smallest=10)
    assert boxes.shape == (20, 4) and boxes.dtype == np.float32
    assert not np.any(boxes[~valid]) and len(np.unique(boxes[valid], axis=0)) == valid.sum()
    assert boxes[0].tolist() == [0, 0, 60, 40]  # all regions merged
    best = np.asarray(iou(jnp.asarray(objects, jnp.float32), jnp.asarray(boxes))).max(1)
    assert np.all(best > 0.8)
    few, all_valid = selective_search(image, 2, smallest=10)
    np.testing.assert_array_equal(few, boxes[:2])
    assert all_valid.all()


def test_invalid_input():
    image = np.zeros((10, 10, 3), np.float32)
    with pytest.raises(ValueError, match=r"image has shape \(10, 10\)"):
        selective_search(image[..., 0])
    with pytest.raises(ValueError, match="count is 0"):
        selective_search(image, 0)
    with pytest.raises(ValueError, match="scale is -1"):
        selective_search(image, scale=-1)
