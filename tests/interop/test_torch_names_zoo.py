"""PyTorch's names of the layers of the light networks, as their packages publish them."""

import pytest

from jaxdl import zoo
from jaxdl.interop.torch_names import FAMILIES, module_names

NAMES = {
    ("alexnet", "alexnet"): {
        "conv1": "features.0",
        "conv5": "features.10",
        "dense2": "classifier.4",
    },
    ("densenet", "densenet121"): {
        "conv1": "features.conv0",
        "denseblock3_layer24/norm2": "features.denseblock3.denselayer24.norm2",
        "transition2/conv1": "features.transition2.conv",
        "norm2": "features.norm5",
    },
    ("googlenet", "googlenet_with_heads"): {
        "norm3": "conv3.bn",
        "inception4e/branch1x1/conv1": "inception4e.branch1.conv",
        "inception4e/branch3x3/norm1": "inception4e.branch2.0.bn",
        "inception4e/branch5x5/conv2": "inception4e.branch3.1.conv",
        "inception5b/branch_pool/norm1": "inception5b.branch4.1.bn",
        "head_4a/norm1": "aux1.conv.bn",
        "head_4d/dense1": "aux2.fc1",
        "head_4d/logits": "aux2.fc2",
    },
    ("mobilenet_v2", "mobilenet_v2"): {
        "norm1": "features.0.1",
        "block1/project": "features.1.conv.1",
        "block17/depthwise": "features.17.conv.1.0",
        "block17/norm3": "features.17.conv.3",
        "conv2": "features.18.0",
    },
    ("se_resnet", "se_resnet50"): {
        "norm1": "layer0.bn1",
        "layer4_2/conv3": "layer4.2.conv3",
        "layer2_0/gate/reduce": "layer2.0.se_module.fc1",
        "layer2_0/shortcut/norm": "layer2.0.downsample.1",
        "logits": "last_linear",
    },
    ("shufflenet_v2", "shufflenet_v2_x1_0"): {
        "norm5": "conv5.1",
        "stage2_0/branch1/conv2": "stage2.0.branch1.2",
        "stage3_7/branch2/conv2": "stage3.7.branch2.3",
        "stage3_7/branch2/norm3": "stage3.7.branch2.6",
    },
    ("squeezenet", "squeezenet1_0"): {
        "fire5/squeeze": "features.7.squeeze",
        "logits": "classifier.1",
    },
    ("squeezenet", "squeezenet1_1"): {"fire9/expand3x3": "features.12.expand3x3"},
}


@pytest.mark.parametrize("family, network", NAMES)
def test_layers_have_the_names_of_their_package(family, network):
    options = {"variant": "torchvision"} if family in ("alexnet", "googlenet") else {}
    expected = NAMES[family, network]
    model = zoo.create(network, **options)
    names, _ = module_names("test", FAMILIES[family], model, list(expected))
    assert {path: name for path, (name, _) in names.items()} == expected
    assert [path for path, (_, is_1x1) in names.items() if is_1x1] == [
        p for p in names if "gate" in p
    ]


def test_lite0_numbers_the_blocks_of_all_stages():
    model = zoo.create("efficientnet_lite0")
    paths = [f"{name}/project" for name in model.children if name.startswith("stage")]
    names, _ = module_names("test", FAMILIES["efficientnet_lite"], model, paths)
    modules = [name for name, _ in names.values()]
    assert modules == [f"_blocks.{i}._project_conv" for i in range(16)]


def layers(module, path=""):
    """Yields the paths of the layers with parameters."""
    if module.kind in ("conv", "dense", "batch_norm"):
        yield path
    for name, child in module.children.items():
        yield from layers(child, f"{path}/{name}" if path else name)


EXPORTED_BY = {
    "alexnet": "alexnet",
    "densenet161": "densenet",
    "efficientnet_b3": "efficientnet",
    "efficientnet_lite0": "efficientnet_lite",
    "googlenet": "googlenet",
    "googlenet_with_heads": "googlenet",
    "mobilenet_v2": "mobilenet_v2",
    "resnet34": "resnet",
    "se_resnext50": "se_resnet",
    "senet154": "se_resnet",
    "shufflenet_v2_x0_5": "shufflenet_v2",
    "squeezenet1_1": "squeezenet",
    "vgg16_bn": "vgg",
}


@pytest.mark.parametrize("network", EXPORTED_BY)
def test_a_network_is_exported_by_its_own_family(network):
    """The first table whose rules are all used, although others have rules for all layers."""
    options = {"variant": "torchvision"} if network.startswith(("alexnet", "googlenet")) else {}
    model = zoo.create(network, **options)
    paths = list(layers(model))
    fits = {}
    for family, table in FAMILIES.items():
        names, complete = module_names("test", table, model, paths)
        fits[family] = complete and len(names) == len(paths)
    assert next(family for family, fit in fits.items() if fit) == EXPORTED_BY[network]
