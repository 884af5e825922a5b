"""EfficientNet-Lite0: its size, and its published weights on photographs."""

import functools

import jax
import numpy as np
import pytest

from jaxdl import interop, zoo
from jaxdl.zoo.vision.efficientnet_lite import block
from tests.zoo.vision.test_vision import counted


@pytest.mark.row("G12", "G13")
def test_numbers_of_parameters_and_of_blocks():
    model = zoo.create("efficientnet_lite0")
    assert counted(model, 3) == (4_652_008, 1000)
    blocks = [child for child in model.children.values() if child.kind == "inverted_residual"]
    assert len(blocks) == 16 and all("gate" not in block.children for block in blocks)


@pytest.mark.row("G13")
def test_stride_2_pads_even_sizes_at_the_end():
    """As in TensorFlow: with kernels of one the first output sums the first 3x3 pixels."""
    layer = block(1, 1, expansion=1, kernel_size=3, stride=2).children["depthwise"]
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    y, _ = layer.apply({"kernel": np.ones((3, 3, 1, 1), np.float32)}, {}, x)
    padded = np.pad(x[0, :, :, 0], ((0, 1), (0, 1)))
    expected = [[padded[i : i + 3, j : j + 3].sum() for j in (0, 2)] for i in (0, 2)]
    np.testing.assert_array_equal(np.asarray(y)[0, :, :, 0], expected)


@functools.cache
def photographs(pretrained):
    """Our logits of the four photographs, the reference's, and the names of the classes."""
    folder = pretrained / "efficientnet_lite0"
    model = zoo.create("efficientnet_lite0")
    params, state = interop.load(model, folder / "model.safetensors")
    with np.load(folder / "reference.npz") as reference:
        x = (reference["images"].astype(np.float32) - 127) / 128
        expected = reference["logits"]
    names = (pretrained / "imagenet_classes.txt").read_text("utf-8").splitlines()
    return np.asarray(jax.jit(model.apply)(params, state, x)[0]), expected, names


@pytest.mark.row("G12", "G13")
def test_logits_of_photographs_are_those_of_the_reference(data_root):
    y, expected, _ = photographs(data_root("pretrained"))
    size = np.abs(expected).max(1, keepdims=True)
    np.testing.assert_allclose(y / size, expected / size, atol=1e-4, rtol=0)


@pytest.mark.row("G12", "G13")
def test_photographs_have_the_names_of_the_reference(data_root):
    y, expected, names = photographs(data_root("pretrained"))
    top, reference = ([row.argsort()[:-6:-1].tolist() for row in part] for part in (y, expected))
    assert top == reference
    best = [names[row[0]] for row in top]
    assert best == ["bobsled", "Egyptian cat", "espresso", "Samoyed"]
    coffee = [names[i] for i in top[2]]
    assert coffee == ["espresso", "cup", "consomme", "coffee mug", "soup bowl"]
