"""Networks by name: all of them build, options reach the factory, mistakes are named."""

import jax
import numpy as np
import pytest

import jaxdl
from jaxdl import tree, zoo
from jaxdl.zoo import _registry


def test_every_name_builds():
    for name in zoo.list():
        model = zoo.create(name, **({"depth": 3} if name == "highway_mlp" else {}))
        assert isinstance(model, jaxdl.Module) and model.children, name


def test_names_are_sorted_and_matched():
    names = zoo.list()
    assert list(names) == sorted(set(names)) and len(names) == len(_registry.NETWORKS)
    assert zoo.list("densenet*") == ("densenet121", "densenet161", "densenet169", "densenet201")
    assert zoo.list("nothing*") == ()


@pytest.mark.parametrize(
    "name, options, side, shape",
    [
        ("cifar_resnet20", {}, 32, (1, 10)),
        ("squeezenet1_1", {"num_classes": 7}, 32, (1, 7)),
        ("alexnet", {"variant": "torchvision", "num_classes": 3}, 64, (1, 3)),
    ],
)
def test_options_reach_the_factory(name, options, side, shape):
    model, x = zoo.create(name, **options), jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
    params, state = jax.eval_shape(model.init, jax.random.key(0), x)
    assert jax.eval_shape(model.apply, params, state, x)[0].shape == shape


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"no network 'resnet5'; did you mean 'resnet50'\?"):
        zoo.create("resnet5")
    with pytest.raises(
        ValueError, match=r"resnet50 has no option 'classes'; did you mean 'num_classes'\? options"
    ):
        zoo.create("resnet50", classes=10)
    with pytest.raises(ValueError, match="vgg16_bn has no option 'norm'"):  # its name decides
        zoo.create("vgg16_bn", norm=False)


def test_a_required_option_that_is_missing(monkeypatch):
    monkeypatch.setitem(_registry.NETWORKS, "net", _registry.entry("vision.resnet:cifar_resnet"))
    with pytest.raises(ValueError, match="create: net requires depth="):
        zoo.create("net")
    assert zoo.create("net", depth=8).children


COUNTS = {
    "alexnet": 60_965_224,
    "vgg16": 138_357_544,
    "vgg19_bn": 143_678_248,
    "googlenet": 6_998_552,
    "googlenet_with_heads": 13_378_280,
    "resnet50": 25_557_032,
    "densenet121": 7_978_856,
    "densenet161": 28_681_000,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "se_resnet50": 28_088_024,
    "se_resnet101": 49_326_872,
    "se_resnet152": 66_821_848,
    "se_resnext50": 27_559_896,
    "senet154": 115_088_984,
    "efficientnet_b0": 5_288_548,
    "efficientnet_lite0": 4_652_008,
    "mobilenet_v2": 3_504_872,
    "squeezenet1_0": 1_248_424,
    "squeezenet1_1": 1_235_496,
    "shufflenet_v2_x0_5": 1_366_792,
    "shufflenet_v2_x1_0": 2_278_604,
    "shufflenet_v2_x1_5": 3_503_624,
    "shufflenet_v2_x2_0": 7_393_996,
}
VARIANTS = {"alexnet": 61_100_840, "googlenet": 6_624_904, "googlenet_with_heads": 13_004_888}


@pytest.mark.slow
@pytest.mark.row("G01", "G02", "G03", "G04", "G10", "G11", "G12", "G13")
def test_numbers_of_parameters_by_tracing():
    networks = [(name, {}, count) for name, count in COUNTS.items()]
    networks += [(name, {"variant": "torchvision"}, count) for name, count in VARIANTS.items()]
    for name, options, expected in networks:
        model = zoo.create(name, **options)
        x = jax.ShapeDtypeStruct((1, *[227 if name == "alexnet" else 224] * 2, 3), np.float32)
        params, _ = jax.eval_shape(model.init, jax.random.key(0), x)
        assert tree.count(params) == expected, (name, options)
