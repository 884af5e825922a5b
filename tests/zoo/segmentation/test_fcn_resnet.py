import jax
import numpy as np
import pytest

from jaxdl import tree
from jaxdl.zoo.segmentation.fcn_resnet import fcn_resnet, fcn_resnet50, fcn_resnet101
from jaxdl.zoo.vision.resnet import resnet50
from tests.zoo.segmentation import pytorch


def shapes(model, x):
    return jax.eval_shape(model.init, jax.random.key(0), x)


@pytest.mark.row("H04")
def test_numbers_of_parameters():
    x = jax.ShapeDtypeStruct((1, 64, 72, 3), np.float32)
    model = fcn_resnet50(auxiliary_head=True)
    params, state = shapes(model, x)
    assert tree.count(params) == 35_322_218
    assert tree.count(params | {"auxiliary": {}}) == 32_957_013
    outputs = jax.eval_shape(model.apply, params, state, x)[0]
    assert [y.shape for y in outputs] == [(1, 64, 72, 21)] * 2


@pytest.mark.slow
def test_numbers_of_parameters_of_the_larger_one():
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    params, _ = shapes(fcn_resnet101(auxiliary_head=True), x)
    assert tree.count(params) == 54_314_346
    assert tree.count(params | {"auxiliary": {}}) == 51_949_141


def test_dilation_replaces_the_stride_of_the_last_two_stages():
    """Receptive fields stay those of the strided network, on a map of 1/8 of the image's size."""

    def geometry(model):
        """The stride and the dilation of each 3x3 convolution in the stages."""
        kernels = []

        def visit(module):
            if module.kind == "conv" and module.config["kernel_size"] == 3:
                kernels.append((module.config["stride"], module.config["dilation"]))
            for child in module.children.values():
                visit(child)

        for name, child in model.children.items():
            if name.startswith("layer"):
                visit(child)
        return kernels

    def spacing(kernels):
        """The distance between the taps of each convolution, in units of `layer1`."""
        scales = np.cumprod([1] + [stride for stride, _ in kernels])
        return [int(s * d) for s, (_, d) in zip(scales, kernels, strict=False)]

    strided, dilated = geometry(resnet50()), geometry(fcn_resnet50())
    assert [s for s, _ in dilated].count(2) == 1 and [s for s, _ in strided].count(2) == 3
    assert spacing(strided) == spacing(dilated)


@pytest.mark.slow
@pytest.mark.row("H04")
def test_the_outputs_are_those_of_torchvision():
    y = pytorch.logits(fcn_resnet50(), 64)
    np.testing.assert_allclose(y[:5], [115.360113105] * 4 + [103.606040261], rtol=1e-6)
    np.testing.assert_allclose(
        [y.sum(), np.linalg.norm(y)], [348189.04383, 79275.6606124], rtol=1e-6
    )
    assert y.argmax() == 53299


def test_wrong_numbers_of_classes():
    with pytest.raises(ValueError, match="fcn_resnet: num_classes is 2.5"):
        fcn_resnet((1, 1, 1, 1), num_classes=2.5)
