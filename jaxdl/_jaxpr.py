"""Walking through jaxprs, by what every supported JAX has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
from jax.extend import core


def inner_jaxprs(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """The jaxprs that an equation holds: a loop's body, the branches of a condition."""
    kinds = (core.Jaxpr, core.ClosedJaxpr)
    for leaf in jax.tree.leaves(params, is_leaf=lambda leaf: isinstance(leaf, kinds)):
        if isinstance(leaf, kinds):
            yield leaf.jaxpr if isinstance(leaf, core.ClosedJaxpr) else leaf
