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
    monkeypatch.setitem(
        _registry.NETWORKS, "net", _registry.entry("vision.cifar_resnet:cifar_resnet")
    )
    with pytest.raises(ValueError, match="create: net requires depth="):
        zoo.create("net")
    assert zoo.create("net", depth=8).children


COUNTS = {
    "googlenet_with_heads": 13_378_280,
    "densenet121": 7_978_856,
    "densenet161": 28_681_000,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "se_resnet50": 28_088_024,
    "se_resnet101": 49_326_872,
    "se_resnet152": 66_821_848,
    "se_resnext50": 27_559_896,
    "senet154": 115_088_984,
    "efficientnet_lite0": 4_652_008,
    "mobilenet_v2": 3_504_872,
}


@pytest.mark.slow
@pytest.mark.row("G03", "G10", "G11", "G13")
def test_numbers_of_parameters_by_tracing():
    heads = ("googlenet_with_heads", {"variant": "torchvision"}, 13_004_888)
    for name, options, expected in [*((name, {}, count) for name, count in COUNTS.items()), heads]:
        model = zoo.create(name, **options)
        x = jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32)
        params, _ = jax.eval_shape(model.init, jax.random.key(0), x)
        assert tree.count(params) == expected, (name, options)
