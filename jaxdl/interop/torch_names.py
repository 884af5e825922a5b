"""Tables of names: the PyTorch module of each layer, one table for each family of networks.

A table is a sequence of rules `(pattern, module)`. The first pattern, a regular expression, that
matches the whole path of a layer gives the path of its PyTorch module:

    (r"layer(\\d)_(\\d+)/conv(\\d)", r"layer\\1.\\2.conv\\3")     layer3_1/conv2 -> layer3.1.conv2

`module` is as in `re.sub`, a template or a function of the match. In a template, # is the
position of the layer among its siblings, which is its name in a `torch.nn.Sequential`, and ## for
that of its parent. A rule with the third element "1x1" is for a dense layer that is a convolution
with a 1x1 window in PyTorch. A family whose rules depend on the depth of the network has a function
`(paths) -> rules`.

The tables lead from layers to modules because then one table serves both ways: reading looks up the
names that writing uses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxdl.core import Module, suggest

__all__ = ["FAMILIES"]

Rule = tuple[str, str | Callable[[re.Match], str]] | tuple[str, str | Callable, str]
Table = Sequence[Rule] | Mapping[str, str] | Callable[[Sequence[str]], Sequence[Rule]]

VGG = (
    (r"(conv|norm)\d_\d", r"features.#"),
    (r"dense1", r"classifier.0"),
    (r"dense2", r"classifier.3"),
    (r"logits", r"classifier.6"),
)
RESNET_BLOCKS = (
    (r"layer(\d)_(\d+)/conv(\d)", r"layer\1.\2.conv\3"),
    (r"layer(\d)_(\d+)/norm(\d)", r"layer\1.\2.bn\3"),
    (r"layer(\d)_(\d+)/shortcut/conv", r"layer\1.\2.downsample.0"),
    (r"layer(\d)_(\d+)/shortcut/norm", r"layer\1.\2.downsample.1"),
)
RESNET = (
    (r"conv1", r"conv1"),
    (r"norm1", r"bn1"),
    *RESNET_BLOCKS,
    (r"logits", r"fc"),
)
"""torchvision's and timm's ResNet."""


def cifar_resnet(paths: Sequence[str]) -> Sequence[Rule]:
    """Returns the rules of akamaster/pytorch_resnet_cifar10: three layers of equal depth."""
    depth = len({path.partition("/")[0] for path in paths if path.startswith("block_")}) // 3

    def block(match):
        stage, i = divmod(int(match[1]), max(depth, 1))
        kind = {"conv": "conv", "norm": "bn"}[match[2]]
        return f"layer{stage + 1}.{i}.{kind}{int(match[3]) + 1}"

    return (
        (r"conv", r"conv1"),
        (r"norm", r"bn1"),
        (r"block_(\d+)/(?:sum/block|layers)/(conv|norm)_(\d)", block),
        (r"logits", r"linear"),
    )


def _hugging_face_block(match: re.Match) -> str:
    stage, i, part, number = match.groups()
    place = f"layer.{int(number) - 1}" if number else "shortcut"
    name = {"conv": "convolution", "norm": "normalization"}[part]
    return f"resnet.encoder.stages.{int(stage) - 1}.layers.{i}.{place}.{name}"


RESNET_HUGGING_FACE = (
    (r"conv1", r"resnet.embedder.embedder.convolution"),
    (r"norm1", r"resnet.embedder.embedder.normalization"),
    (r"layer(\d)_(\d+)/(?:shortcut/)?(conv|norm)(\d?)", _hugging_face_block),
    (r"logits", r"classifier.1"),
)


def _efficientnet_block(match: re.Match) -> str:
    """Returns torchvision's module of a layer in a block; the first stage has no expansion."""
    stage, i, part = match.groups()
    number, child = {
        "expand": (0, "0"),
        "norm1": (0, "1"),
        "depthwise": (1, "0"),
        "norm2": (1, "1"),
        "gate/reduce": (2, "fc1"),
        "gate/expand": (2, "fc2"),
        "project": (3, "0"),
        "norm3": (3, "1"),
    }[part]
    return f"features.{stage}.{i}.block.{number - (stage == '1')}.{child}"


def _timm_efficientnet_block(match: re.Match) -> str:
    """Returns timm's module of a layer in a block; the first stage has no expansion."""
    stage, i, part = match.groups()
    names = {
        "gate/reduce": "se.conv_reduce",
        "gate/expand": "se.conv_expand",
        "expand": "conv_pw",
        "depthwise": "conv_dw",
        "project": "conv_pwl",
        **{f"norm{n}": f"bn{n}" for n in (1, 2, 3)},
    }
    if stage == "1":
        names |= {"project": "conv_pw", "norm2": "bn1", "norm3": "bn2"}
    return f"blocks.{int(stage) - 1}.{i}.{names[part]}"


EFFICIENTNET = (
    (r"conv1", r"features.0.0"),
    (r"norm1", r"features.0.1"),
    (r"stage(\d)_(\d+)/(gate/reduce|gate/expand)", _efficientnet_block, "1x1"),
    (r"stage(\d)_(\d+)/(expand|depthwise|project|norm\d)", _efficientnet_block),
    (r"conv2", r"features.8.0"),
    (r"norm2", r"features.8.1"),
    (r"logits", r"classifier.1"),
)
EFFICIENTNET_TIMM = (
    (r"conv1", r"conv_stem"),
    (r"norm(1|2)", r"bn\1"),
    (r"stage(\d)_(\d+)/(gate/reduce|gate/expand)", _timm_efficientnet_block, "1x1"),
    (r"stage(\d)_(\d+)/(expand|depthwise|project|norm\d)", _timm_efficientnet_block),
    (r"conv2", r"conv_head"),
    (r"logits", r"classifier"),
)
"""timm's `efficientnet_b0`; its `tf_efficientnet_b0` has other padding and another eps."""

# Positions among siblings are torchvision's: pooling and ReLU are layers there, too.
ALEXNET = (
    # Two rules, so that a network of fewer convolutions, such as LeNet, is not of this family.
    (r"conv[1-4]", r"features.#"),
    (r"conv5", r"features.#"),
    (r"dense1", r"classifier.1"),
    (r"dense2", r"classifier.4"),
    (r"logits", r"classifier.6"),
)
DENSENET = (
    (r"conv1", r"features.conv0"),
    (r"norm1", r"features.norm0"),
    (r"denseblock(\d)_layer(\d+)/(.*)", r"features.denseblock\1.denselayer\2.\3"),
    (r"transition(\d)/(conv|norm)1", r"features.transition\1.\2"),
    (r"norm2", r"features.norm5"),
    (r"logits", r"classifier"),
)


def _googlenet_layer(match: re.Match) -> str:
    """Returns torchvision's module of a layer in an inception module or an auxiliary head."""
    module, branch, kind, number = match.groups()
    name = {"conv": "conv", "norm": "bn"}.get(kind)
    if module.startswith("head"):
        fc = "fc1" if kind == "dense" else "fc2"
        return f"aux{'ad'.index(module[-1]) + 1}.{f'conv.{name}' if name else fc}"
    place = {
        "1x1": "branch1",
        "3x3": f"branch2.{int(number or 1) - 1}",
        "5x5": f"branch3.{int(number or 1) - 1}",
        "_pool": "branch4.1",
    }[branch]
    return f"{module}.{place}.{name}"


GOOGLENET = (
    (r"conv(\d)", r"conv\1.conv"),
    (r"norm(\d)", r"conv\1.bn"),
    (r"(inception\w+|head_4\w)/(?:branch(\w+)/)?(conv|norm|dense|logits)(\d?)", _googlenet_layer),
    (r"logits", r"fc"),
)


def _mobilenet_block(match: re.Match) -> str:
    """Returns torchvision's module of a layer in a block; the first block has no expansion."""
    block, part = match.groups()
    if block == "1":
        children = {"depthwise": "0.0", "norm2": "0.1", "project": "1", "norm3": "2"}
    else:
        children = {"expand": "0.0", "norm1": "0.1", "depthwise": "1.0", "norm2": "1.1"}
        children |= {"project": "2", "norm3": "3"}
    return f"features.{block}.conv.{children[part]}"


MOBILENET_V2 = (
    (r"conv1", r"features.0.0"),
    (r"norm1", r"features.0.1"),
    (r"block(\d+)/(\w+)", _mobilenet_block),
    (r"conv2", r"features.18.0"),
    (r"norm2", r"features.18.1"),
    (r"logits", r"classifier.1"),
)
SE_RESNET = (
    (r"conv(\d)", r"layer0.conv\1"),
    (r"norm(\d)", r"layer0.bn\1"),
    *RESNET_BLOCKS,
    (r"layer(\d)_(\d+)/gate/reduce", r"layer\1.\2.se_module.fc1", "1x1"),
    (r"layer(\d)_(\d+)/gate/expand", r"layer\1.\2.se_module.fc2", "1x1"),
    (r"logits", r"last_linear"),
)
"""The names of Cadene/pretrained-models.pytorch, for all networks of `zoo.vision.senet`."""
SHUFFLENET_V2 = (
    (r"conv(1|5)", r"conv\1.0"),
    (r"norm(1|5)", r"conv\1.1"),
    (r"(stage\d)_(\d+)/(branch\d)/.*", r"\1.\2.\3.#"),
    (r"logits", r"fc"),
)
SQUEEZENET = (
    (r"conv1", r"features.#"),
    (r"fire\d/(.*)", r"features.##.\1"),
    (r"logits", r"classifier.1"),
)


def efficientnet_lite(paths: Sequence[str]) -> Sequence[Rule]:
    """Returns the rules of efficientnet-lite-pytorch, which numbers the blocks of all stages."""
    stages = dict.fromkeys(path.partition("/")[0] for path in paths if path.startswith("stage"))
    layers = {"expand": "_expand_conv", "depthwise": "_depthwise_conv", "project": "_project_conv"}
    layers |= {f"norm{i + 1}": f"_bn{i}" for i in range(3)}

    def block(match):
        return f"_blocks.{list(stages).index(match[1])}.{layers[match[2]]}"

    return (
        (r"conv1", r"_conv_stem"),
        (r"norm1", r"_bn0"),
        (rf"(stage\d_\d+)/({'|'.join(layers)})", block),
        (r"conv2", r"_conv_head"),
        (r"norm2", r"_bn1"),
        (r"logits", r"_fc"),
    )


FCN_RESNET = (
    *((pattern, f"backbone.{module}") for pattern, module in RESNET[:-1]),
    (r"classifier/(?:conv1|norm1|logits)", r"classifier.#"),
    (r"auxiliary/(?:conv1|norm1|logits)", r"aux_classifier.#"),
)
FCN = (
    (r"(conv\d_\d|fc\d|score_\w+)", r"\1"),
    (r"up_image", r"upscore"),
)
"""wkentaro/pytorch-fcn's FCN-32s; the other two name the upsampling of a skip by the next one."""
FCN16S = (FCN[0], (r"up_pool4", r"upscore2"), (r"up_image", r"upscore16"))
FCN8S = (*FCN16S[:2], (r"up_pool3", r"upscore_pool4"), (r"up_image", r"upscore8"))


def unet(paths: Sequence[str]) -> Sequence[Rule]:
    """Returns the rules of milesial/Pytorch-UNet, where `up1` is the lowest and not the highest."""
    depth = sum(bool(re.fullmatch(r"up\d/conv1", path)) for path in paths)

    def block(match):
        path, level, part, number = match.groups()
        name = f"down{level}.maxpool_conv.1" if path == "down" else f"up{depth - int(level)}.conv"
        name = "inc" if path + level == "down0" else name
        return f"{name}.double_conv.{3 * int(number) - 3 + (part == 'norm')}"

    return (
        (r"(down|up)(\d)/(conv|norm)(\d)", block),
        (r"upsample(\d)", lambda match: f"up{depth - int(match[1])}.up"),
        (r"logits", r"outc.conv"),
    )


FASTER_RCNN: Sequence[Rule] = (
    *((rf"backbone/body/{layer}", rf"backbone.body.{module}") for layer, module in RESNET[:-1]),
    (r"backbone/fpn/inner(\d)", lambda match: f"backbone.fpn.inner_blocks.{int(match[1]) - 1}.0"),
    (r"backbone/fpn/layer(\d)", lambda match: f"backbone.fpn.layer_blocks.{int(match[1]) - 1}.0"),
    (r"rpn/conv", r"rpn.head.conv.0.0"),
    (r"rpn/logits", r"rpn.head.cls_logits"),
    (r"rpn/deltas", r"rpn.head.bbox_pred"),
    (r"head/(fc\d)", r"roi_heads.box_head.\1"),
    (r"head/logits", r"roi_heads.box_predictor.cls_score"),
    (r"head/deltas", r"roi_heads.box_predictor.bbox_pred"),
)
"""torchvision's Faster R-CNN on a ResNet with FPN."""

FAMILIES: dict[str, Table] = {
    "vgg": VGG,
    "resnet": RESNET,
    "cifar_resnet": cifar_resnet,
    "resnet_hugging_face": RESNET_HUGGING_FACE,
    # Before EfficientNet, whose rules include those of a network without gates.
    "efficientnet_lite": efficientnet_lite,
    "efficientnet": EFFICIENTNET,
    "efficientnet_timm": EFFICIENTNET_TIMM,
    "alexnet": ALEXNET,
    "densenet": DENSENET,
    "googlenet": GOOGLENET,
    "mobilenet_v2": MOBILENET_V2,
    "se_resnet": SE_RESNET,
    "shufflenet_v2": SHUFFLENET_V2,
    "squeezenet": SQUEEZENET,
    "fcn_resnet": FCN_RESNET,
    "fcn32s": FCN,
    "fcn16s": FCN16S,
    "fcn8s": FCN8S,
    "unet": unet,
    "faster_rcnn": FASTER_RCNN,
    "own names": ((r".*", lambda match: match[0].replace("/", ".")),),
}
"""The tables by name, tried in this order; the last one is for modules named like the layers."""


def module_names(
    caller: str, table: Table, model: Module, paths: Sequence[str]
) -> tuple[dict[str, tuple[str, bool]], bool]:
    """Returns the PyTorch module of each layer with a rule, and whether each rule is used.

    Args:
      caller: the public function's name, for messages.
      table: the rules.
      model: the model, whose children give the positions of layers among their siblings.
      paths: the paths of all layers with parameters.

    Returns:
      `{path: (module, is_1x1)}` without the layers that have no rule; and whether each rule has a
      layer, as in a network of the family.

    Raises:
      ValueError: the table is not one of rules.
    """
    rules: Any = table(paths) if callable(table) else table
    rules = [_parse(caller, r) for r in (rules.items() if isinstance(rules, Mapping) else rules)]
    names: dict[str, tuple[str, bool]] = {}
    used = set()
    for path in paths:
        for i, (pattern, expand, is_1x1) in enumerate(rules):
            if match := pattern.fullmatch(path):
                names[path] = _number(expand(match), model, path), is_1x1
                used.add(i)
                break
    return names, len(used) == len(rules)


def table_of(caller: str, name: str) -> Table:
    """Returns a family's table; raises ValueError if there is none."""
    if name not in FAMILIES:
        raise ValueError(
            f"{caller}: names is {name!r}; expected a table of names or a family: "
            + suggest(name, FAMILIES, "families")
        )
    return FAMILIES[name]


def _parse(caller: str, rule: Any) -> tuple[re.Pattern, Callable[[re.Match], Any], bool]:
    """Returns a rule's pattern, the function from match to module, and whether it has a "1x1"."""
    try:
        pattern, module, *marks = rule
        if (isinstance(module, str) or callable(module)) and marks in ([], ["1x1"]):
            expand = module if callable(module) else lambda match: match.expand(module)
            return re.compile(pattern), expand, bool(marks)
    except (TypeError, ValueError, re.error):
        pass
    raise ValueError(
        f"{caller}: names contains {rule!r}; expected pairs of a layer's path, or a pattern, and a "
        "PyTorch module, such as (r'layer(\\d)/conv', r'layers.\\1.conv')."
    )


def _number(name: str, model: Module, path: str) -> str:
    """Replaces # and ## by the positions of a layer and of its parent."""
    positions = []
    for part in path.split("/"):
        positions.append(str(list(model.children).index(part)))
        model = model.children[part]
    return re.sub("##?", lambda match: positions[-len(match[0])], name)
