"""Tables of names: the PyTorch module of each layer, one table for each family of networks.

A table is a sequence of rules `(pattern, module)`. The first pattern, a regular expression, that
matches the whole path of a layer gives the path of its PyTorch module:

    (r"layer(\\d)_(\\d+)/conv(\\d)", r"layer\\1.\\2.conv\\3")     layer3_1/conv2 -> layer3.1.conv2

`module` is as in `re.sub`, a template or a function of the match. In a template, # stands for the
position of the layer among its siblings, which is its name in a `torch.nn.Sequential`. A rule with
the third element "1x1" is for a dense layer that is a convolution with a 1x1 window in PyTorch.
A family whose rules depend on the depth of the network has a function `(paths) -> rules`.

The tables lead from layers to modules because then one table serves both ways: reading looks up the
names that writing uses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxdl.core import Module, suggest

__all__ = ["FAMILIES", "Rule", "Table", "module_names"]

Rule = tuple[str, str | Callable[[re.Match], str]] | tuple[str, str | Callable, str]
Table = Sequence[Rule] | Mapping[str, str] | Callable[[Sequence[str]], Sequence[Rule]]

VGG = (
    (r"(conv|norm)\d_\d", r"features.#"),
    (r"dense1", r"classifier.0"),
    (r"dense2", r"classifier.3"),
    (r"logits", r"classifier.6"),
)
RESNET = (
    (r"conv1", r"conv1"),
    (r"norm1", r"bn1"),
    (r"layer(\d)_(\d+)/conv(\d)", r"layer\1.\2.conv\3"),
    (r"layer(\d)_(\d+)/norm(\d)", r"layer\1.\2.bn\3"),
    (r"layer(\d)_(\d+)/shortcut/conv", r"layer\1.\2.downsample.0"),
    (r"layer(\d)_(\d+)/shortcut/norm", r"layer\1.\2.downsample.1"),
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


EFFICIENTNET = (
    (r"conv1", r"features.0.0"),
    (r"norm1", r"features.0.1"),
    # Stage 1 has no expansion, so its layers have lower numbers.
    (r"stage1_(\d+)/depthwise", r"features.1.\1.block.0.0"),
    (r"stage1_(\d+)/norm2", r"features.1.\1.block.0.1"),
    (r"stage1_(\d+)/gate/reduce", r"features.1.\1.block.1.fc1", "1x1"),
    (r"stage1_(\d+)/gate/expand", r"features.1.\1.block.1.fc2", "1x1"),
    (r"stage1_(\d+)/project", r"features.1.\1.block.2.0"),
    (r"stage1_(\d+)/norm3", r"features.1.\1.block.2.1"),
    (r"stage(\d)_(\d+)/expand", r"features.\1.\2.block.0.0"),
    (r"stage(\d)_(\d+)/norm1", r"features.\1.\2.block.0.1"),
    (r"stage(\d)_(\d+)/depthwise", r"features.\1.\2.block.1.0"),
    (r"stage(\d)_(\d+)/norm2", r"features.\1.\2.block.1.1"),
    (r"stage(\d)_(\d+)/gate/reduce", r"features.\1.\2.block.2.fc1", "1x1"),
    (r"stage(\d)_(\d+)/gate/expand", r"features.\1.\2.block.2.fc2", "1x1"),
    (r"stage(\d)_(\d+)/project", r"features.\1.\2.block.3.0"),
    (r"stage(\d)_(\d+)/norm3", r"features.\1.\2.block.3.1"),
    (r"conv2", r"features.8.0"),
    (r"norm2", r"features.8.1"),
    (r"logits", r"classifier.1"),
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
    "efficientnet": EFFICIENTNET,
    "faster_rcnn": FASTER_RCNN,
    "own names": ((r".*", lambda match: match[0].replace("/", ".")),),
}
"""The tables by name, tried in this order; the last one is for modules named like the layers."""


def module_names(
    caller: str, table: Table, model: Module, paths: Sequence[str]
) -> dict[str, tuple[str, bool]] | None:
    """Returns the PyTorch module of each layer, and whether it is a 1x1 convolution.

    Args:
      caller: the public function's name, for messages.
      table: the rules.
      model: the model, whose children give the positions of layers among their siblings.
      paths: the paths of all layers with parameters.

    Returns:
      `{path: (module, is_1x1)}`, or None if a layer has no rule.

    Raises:
      ValueError: the table is not one of rules, or two layers have the same module.
    """
    rules: Any = table(paths) if callable(table) else table
    rules = rules.items() if isinstance(rules, Mapping) else rules
    names: dict[str, tuple[str, bool]] = {}
    for path in paths:
        rule = next((rule for rule in rules if re.fullmatch(_rule(caller, rule)[0], path)), None)
        if rule is None:
            return None
        pattern, *extra = rule
        module: Any = extra[0]
        match = re.fullmatch(pattern, path)
        assert match is not None
        name = module(match) if callable(module) else match.expand(module)
        names[path] = name.replace("#", _position(model, path)), "1x1" in extra[1:]
    modules = [name for name, _ in names.values()]
    twice = [name for name in dict.fromkeys(modules) if modules.count(name) > 1]
    if twice:
        layers = ", ".join(path for path, (name, _) in names.items() if name == twice[0])
        raise ValueError(
            f"{caller}: the table of names gives the module {twice[0]!r} to the layers {layers}; "
            "expected one layer for each module. Make the patterns more specific."
        )
    return names


def table_of(caller: str, name: str) -> Table:
    """Returns a family's table."""
    if name not in FAMILIES:
        raise ValueError(
            f"{caller}: names is {name!r}; expected a table of names or a family: "
            + suggest(name, FAMILIES, "families")
        )
    return FAMILIES[name]


def _rule(caller: str, rule: Any) -> Any:
    valid = isinstance(rule, tuple | list) and 2 <= len(rule) <= 3 and isinstance(rule[0], str)
    valid = valid and (callable(rule[1]) or isinstance(rule[1], str))
    if not valid or any(extra != "1x1" for extra in rule[2:]):
        raise ValueError(
            f"{caller}: names contains {rule!r}; expected pairs of a layer's path or pattern and a "
            "PyTorch module: [(r'layer(\\d)/conv', r'layers.\\1.conv')]."
        )
    return rule


def _position(model: Module, path: str) -> str:
    *parents, name = path.split("/")
    for parent in parents:
        model = model.children[parent]
    return str(list(model.children).index(name))
