"""Table of the networks that `jaxdl.zoo.create` builds by name."""

from __future__ import annotations

from typing import Any, NamedTuple


class Entry(NamedTuple):
    """A factory, imported when the network is created, and the arguments that its name fixes."""

    factory: str
    arguments: dict[str, Any]


def entry(factory: str, **arguments: Any) -> Entry:
    """Returns an entry; `factory` is "module:function" below `jaxdl.zoo`."""
    return Entry(factory, arguments)


NETWORKS = {
    "alexnet": entry("vision.alexnet:alexnet"),
    **{
        f"cifar_plain{d}": entry("vision.cifar_resnet:cifar_resnet", depth=d, plain=True)
        for d in (20, 56)
    },
    **{
        f"cifar_resnet{depth}": entry("vision.cifar_resnet:cifar_resnet", depth=depth)
        for depth in (20, 32, 44, 56, 110)
    },
    **{f"densenet{d}": entry(f"vision.densenet:densenet{d}") for d in (121, 161, 169, 201)},
    **{
        f"efficientnet_b{n}": entry("vision.efficientnet:efficientnet", size=f"b{n}")
        for n in range(8)
    },
    "efficientnet_lite0": entry("vision.efficientnet_lite:efficientnet_lite0"),
    "faster_rcnn_resnet50_fpn": entry("detection.faster_rcnn:faster_rcnn_resnet50_fpn"),
    **{f"fcn{n}s": entry(f"segmentation.fcn:fcn{n}s") for n in (8, 16, 32)},
    **{f"fcn_resnet{d}": entry(f"segmentation.fcn_resnet:fcn_resnet{d}") for d in (50, 101)},
    "fractalnet": entry("vision.fractalnet:fractalnet"),
    "googlenet": entry("vision.googlenet:googlenet"),
    "googlenet_with_heads": entry("vision.googlenet:googlenet_with_heads"),
    "highway_cnn": entry("vision.highway:highway_cnn"),
    "highway_mlp": entry("vision.highway:highway_mlp"),
    "lenet": entry("vision.lenet:lenet"),
    "lenet5": entry("vision.lenet:lenet5"),
    "mobilenet_v2": entry("vision.mobilenet:mobilenet_v2"),
    **{f"resnet{d}": entry(f"vision.resnet:resnet{d}") for d in (18, 34, 50, 101, 152)},
    "resnet_in_resnet": entry("vision.resnet_in_resnet:resnet_in_resnet"),
    **{f"se_resnet{d}": entry(f"vision.senet:se_resnet{d}") for d in (50, 101, 152)},
    "se_resnext50": entry("vision.senet:se_resnext50"),
    "senet154": entry("vision.senet:senet154"),
    **{
        f"shufflenet_v2_x{width}".replace(".", "_"): entry(
            "vision.shufflenet:shufflenet_v2", width=width
        )
        for width in (0.5, 1.0, 1.5, 2.0)
    },
    "squeezenet1_0": entry("vision.squeezenet:squeezenet", version="1.0"),
    "squeezenet1_1": entry("vision.squeezenet:squeezenet", version="1.1"),
    "unet": entry("segmentation.unet:unet"),
    "padded_unet": entry("segmentation.unet:padded_unet"),
    **{f"vgg{d}": entry(f"vision.vgg:vgg{d}") for d in (11, 13, 16, 19)},
    **{f"vgg{d}_bn": entry(f"vision.vgg:vgg{d}", norm=True) for d in (11, 13, 16, 19)},
}
"""The networks by name. Names are those of torchvision where it has the network."""
