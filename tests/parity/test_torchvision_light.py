"""Networks with the random weights of torchvision's, through a file: the same logits."""

import jax
import numpy as np
import pytest

from jaxdl import interop, zoo

torch = pytest.importorskip("torch")
models = pytest.importorskip("torchvision.models")
safetensors = pytest.importorskip("safetensors.torch")

NETWORKS = {
    # torchvision's factory, its options, our options, side of the image
    "alexnet": ("alexnet", {}, {"variant": "torchvision"}, 224),
    "alexnet of another size": ("alexnet", {}, {"variant": "torchvision"}, 150),
    "densenet121": ("densenet121", {}, {}, 64),
    "googlenet": (
        "googlenet",
        {"aux_logits": False, "init_weights": False},
        {"variant": "torchvision"},
        96,
    ),
    "mobilenet_v2": ("mobilenet_v2", {}, {}, 64),
    "squeezenet1_0": ("squeezenet1_0", {}, {}, 75),
    "squeezenet1_1": ("squeezenet1_1", {}, {}, 64),
    "shufflenet_v2_x1_0": ("shufflenet_v2_x1_0", {}, {}, 64),
}


def randomize(network):
    """Draws weights with outputs of about unit size, and statistics that are not 0 and 1."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(module.weight)
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)


def outputs(network, model, side, tmp_path):
    """Our outputs with a network's weights from a file, and the images for it."""
    randomize(network.eval())
    safetensors.save_file(network.state_dict(), tmp_path / "weights.safetensors")
    x = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype(np.float32)
    params, state = interop.load(model, tmp_path / "weights.safetensors", inputs=x)
    return jax.jit(model.apply)(params, state, x)[0], torch.from_numpy(np.moveaxis(x, -1, 1).copy())


def check(y, expected):
    y, expected = np.asarray(y), expected.numpy()
    difference = np.abs(y - expected).max() / np.abs(expected).max()
    print(f"{difference:.1e} of {np.abs(expected).max():.3g}")
    assert difference < 1e-4


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_those_of_torchvision(name, tmp_path):
    factory, theirs, ours, side = NETWORKS[name]
    network = getattr(models, factory)(weights=None, **theirs)
    y, images = outputs(network, zoo.create(factory, **ours), side, tmp_path)
    with torch.no_grad():
        check(y, network(images))


def test_auxiliary_logits_are_those_of_torchvision(tmp_path):
    network = models.googlenet(weights=None, aux_logits=True, init_weights=False)
    model = zoo.create("googlenet_with_heads", variant="torchvision")
    y, images = outputs(network, model, 150, tmp_path)
    maps = {}
    for name in ("inception4a", "inception4d"):
        keep = lambda module, inputs, output, name=name: maps.update({name: output})
        getattr(network, name).register_forward_hook(keep)
    with torch.no_grad():  # in evaluation mode torchvision leaves the heads out
        expected = network(images), network.aux1(maps["inception4a"])
        expected += (network.aux2(maps["inception4d"]),)
    for ours, theirs in zip(y, expected, strict=True):
        check(ours, theirs)
