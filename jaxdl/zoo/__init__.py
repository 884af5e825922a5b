"""Whole networks, one paper in each file, and `create`, which builds them by name.

model = zoo.create("resnet50", num_classes=10)
zoo.list("densenet*")                            # densenet121, densenet161, ...
"""

from __future__ import annotations

import fnmatch
import importlib
import inspect
from typing import Any

from jaxdl.core import Module, suggest
from jaxdl.zoo._registry import NETWORKS

__all__ = ["create", "list"]


def create(name: str, **options: Any) -> Module:
    """Builds a network by name.

    Args:
      name: one of `zoo.list()`, such as "resnet50".
      **options: arguments of the network's factory, such as `num_classes=10`.

    Returns:
      The factory's `Module`; `jaxdl.init` creates its parameters.

    Raises:
      ValueError: there is no network of this name; the factory has no such option, or requires one
        that is missing.
    """
    if name not in NETWORKS:
        raise ValueError(f"create: no network {name!r}; {suggest(name, NETWORKS, 'networks')}")
    path, arguments = NETWORKS[name]
    module, _, function = path.partition(":")
    factory = getattr(importlib.import_module(f"jaxdl.zoo.{module}"), function)
    parameters = inspect.signature(factory).parameters.values()
    accepted = [p.name for p in parameters if p.name not in arguments]
    for option in options:
        if option not in accepted:
            raise ValueError(
                f"create: {name} has no option {option!r}; {suggest(option, accepted, 'options')}"
            )
    required = [p.name for p in parameters if p.default is p.empty and p.name in accepted]
    missing = [option for option in required if option not in options]
    if missing:
        raise ValueError(f"create: {name} requires {', '.join(missing)}=.")
    return factory(**arguments, **options)


def list(pattern: str = "*") -> tuple[str, ...]:
    """Lists the names of the networks that `create` builds.

    Args:
      pattern: as in a shell, such as "resnet*"; `*` matches anything.

    Returns:
      The matching names in alphabetical order.
    """
    return tuple(sorted(fnmatch.filter(NETWORKS, pattern)))
