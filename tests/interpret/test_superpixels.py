"""Superpixels, and masks of each example's own."""

import importlib.util
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import data, interpret
from tests.interpret.networks import array, double, new_key, run

needs_skimage = pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="scikit-image is not installed"
)
METHODS = {
    "ablation": interpret.ablation,
    "permutation": lambda *a, **k: interpret.permutation(*a, key=new_key(), **k),
    "shapley_values": interpret.shapley_values,
    "shapley_sampling": lambda *a, **k: interpret.shapley_sampling(*a, key=new_key(), **k),
    "kernel_shap": lambda *a, **k: interpret.kernel_shap(*a, key=new_key(), **k),
    "lime": lambda *a, **k: interpret.lime(*a, key=new_key(), **k),
}


@pytest.mark.parametrize("name", METHODS)
def test_each_example_has_its_own_mask(name):
    """As with that mask for all examples, of which this one is looked at."""
    with double():
        w = array(0, 6)
        f = lambda x: jnp.tanh(x @ w) + x[:, 0] * x[:, 5]
        x = array(1, 3, 6)
        masks = np.array([[0, 0, 1, 1, 2, 2], [4, 9, 4, 7, 7, 9], [0, 1, 1, 2, 0, 2]])
        method = METHODS[name]
        explain = jax.jit(
            lambda x: (method(f, x, mask=masks), [method(f, x, mask=mask) for mask in masks])
        )
        actual, shared = explain(x)
        for i in range(3):
            np.testing.assert_allclose(actual[i], shared[i][i], atol=1e-12)


def test_an_example_may_have_fewer_features_than_another():
    with double():
        f = lambda x: x.prod(axis=1)
        x = array(2, 2, 4) + 3
        mask = np.array([[0, 1, 2, 3], [5, 5, 6, 6]])
        actual = run(interpret.shapley_values, f, x, mask=mask)
        alone = run(interpret.shapley_values, f, x[:1])
        np.testing.assert_allclose(actual[:1], alone, atol=1e-12)
        np.testing.assert_allclose(actual[1], np.repeat(f(x[1:]) / 2, 4), atol=1e-12)


def blocks():
    """Two images of 4 x 4 squares of one colour each, (2, 32, 32, 3)."""
    colours = np.random.default_rng(0).random((2, 4, 4, 3))
    return np.kron(colours, np.ones((1, 8, 8, 1))).astype(np.float32)


@needs_skimage
def test_squares_of_one_colour_are_found():
    images = blocks()
    mask = interpret.superpixels(images, 16)
    assert mask.shape == (2, 32, 32, 1) and mask.dtype == jnp.int32
    for one, image in zip(np.asarray(mask), images, strict=True):
        assert sorted(np.unique(one)) == list(range(one.max() + 1))
        for number in range(one.max() + 1):
            inside = image[one[..., 0] == number]
            assert (inside == inside[0]).all(1).mean() > 0.9


@needs_skimage
@pytest.mark.parametrize("scale, shift", [(1.0, 0.0), (8.0, -3.0), (0.01, 5.0)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_normalized_image_has_the_same_superpixels(channels, scale, shift):
    images = blocks()[..., :channels]
    mask = interpret.superpixels(images, 16)
    assert (interpret.superpixels(images * scale + shift, 16) == mask).mean() > 0.99


@needs_skimage
def test_digits_explained_by_their_superpixels():
    """Real digits: all values within a patch are alike, and they add up to the score's rise."""
    x = data.digits().test.x[:4]
    mask = interpret.superpixels(x, 8)
    score = lambda x: (x**2).sum((1, 2, 3))
    mask = np.asarray(mask)
    actual = run(interpret.shapley_values, score, x, mask=mask, batch_size=64)
    for values, numbers, rise in zip(actual, mask, score(np.asarray(x)), strict=True):
        each = [np.unique(values[numbers == n]) for n in range(int(numbers.max()) + 1)]
        assert all(len(value) == 1 for value in each)
        assert sum(value[0] for value in each) == pytest.approx(float(rise), rel=1e-4)


@needs_skimage
def test_an_image_of_one_colour_and_a_batch_of_none():
    assert interpret.superpixels(np.zeros((1, 8, 8, 1)), 4).shape == (1, 8, 8, 1)
    assert interpret.superpixels(np.zeros((0, 8, 8, 3)), 4).shape == (0, 8, 8, 1)


def test_bad_images_and_no_scikit_image(monkeypatch):
    for shape in ((8, 8, 3), (1, 8, 8, 2)):
        with pytest.raises(ValueError, match="superpixels: images have shape"):
            interpret.superpixels(np.zeros(shape))
    with pytest.raises(ValueError, match="of finite values"):
        interpret.superpixels(np.full((1, 8, 8, 1), np.nan))
    for options, words in (
        ({"count": 0}, "count is 0"),
        ({"compactness": 0.0}, "compactness is 0.0"),
    ):
        with pytest.raises(ValueError, match=words):
            interpret.superpixels(np.zeros((1, 8, 8, 1)), **options)
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(ImportError, match=r'pip install "jaxdl\[superpixels\]"'):
        interpret.superpixels(np.zeros((1, 8, 8, 1)))
