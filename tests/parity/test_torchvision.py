"""Weights of torchvision's networks, on disk and back, and their logits. Needs torchvision."""

import functools

import jax
import numpy as np
import pytest

from jaxdl import interop
from jaxdl.zoo.vision import efficientnet, resnet, vgg

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
safetensors_torch = pytest.importorskip("safetensors.torch")

# VGG has a dense layer after 7x7 positions; at 64 pixels the other networks end with 2x2.
NETWORKS = {
    **{f"resnet{n}": (getattr(resnet, f"resnet{n}"), 64) for n in (18, 34, 50, 101, 152)},
    **{f"vgg{n}": (getattr(vgg, f"vgg{n}"), 224) for n in (11, 13, 16, 19)},
    **{
        f"vgg{n}_bn": (functools.partial(getattr(vgg, f"vgg{n}"), norm=True), 224)
        for n in (11, 13, 16, 19)
    },
    **{
        f"efficientnet_b{n}": (functools.partial(efficientnet.efficientnet, f"b{n}"), 64)
        for n in range(8)
    },
}
FAST = ("resnet18", "resnet50", "efficientnet_b0")


def randomize(network):
    """Gives every normalization statistics and parameters of its own; PyTorch starts at 0 and 1."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                for array in (module.running_var, module.weight):
                    array.copy_(torch.rand(array.shape, generator=draw) + 0.5)
                for array in (module.running_mean, module.bias):
                    array.copy_(torch.randn(array.shape, generator=draw) / 10)
    return network.eval()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in FAST else pytest.mark.slow) for n in NETWORKS]
)
def test_logits_and_weights_are_those_of_torchvision(name, tmp_path):
    make, size = NETWORKS[name]
    torch.manual_seed(0)
    network = randomize(getattr(torchvision.models, name)(weights=None))
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        expected = network(images).numpy()
    path = tmp_path / "network.safetensors"
    safetensors_torch.save_file(network.state_dict(), path)

    model, x = make(), images.permute(0, 2, 3, 1).numpy()
    params, state = interop.load(model, path, inputs=x)
    logits = np.asarray(jax.jit(model.apply)(params, state, x)[0])
    difference = np.abs(logits - expected).max() / np.abs(expected).max()
    print(f"{name}: largest difference {difference:.1e} of the largest logit")
    assert difference < 1e-5

    arrays = interop.export_torch_state_dict(model, params, state, inputs=x)
    assert list(arrays) == [n for n in network.state_dict() if "num_batches_tracked" not in n]
    other = getattr(torchvision.models, name)(weights=None).eval()
    other.load_state_dict({n: torch.from_numpy(a) for n, a in arrays.items()}, strict=True)
    with torch.no_grad():
        np.testing.assert_array_equal(other(images).numpy(), expected)
