"""Which rule for which layer: composites by name, and rules by path."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from typing import Any

from jaxdl.core import suggest
from jaxdl.interpret.relevance import rules

__all__ = ["COMPOSITES", "epsilon_gamma_box"]

Composite = Callable[[Any], rules.Rule]
"""`composite(layer) -> rule`; a layer has `kind` ("conv" or "dense"), `first` and `path`."""


def by_kind(
    *,
    conv: rules.Rule,
    dense: rules.Rule,
    first: rules.Rule | None = None,
    first_dense: bool = True,
) -> Composite:
    def choose(layer: Any) -> rules.Rule:
        if first is not None and layer.first and (first_dense or layer.kind == "conv"):
            return first
        return conv if layer.kind == "conv" else dense

    return choose


def epsilon_gamma_box(low: Any, high: Any, gamma: float = 0.25, eps: float = 1e-6) -> Composite:
    """z^B at the first convolution, gamma at the others, epsilon at dense layers.

    Args:
      low, high: the least and greatest that inputs can be.
      gamma, eps: of the rules.

    Returns:
      A composite for `lrp`.
    """
    return by_kind(
        conv=rules.gamma(gamma, eps),
        dense=rules.epsilon(eps),
        first=rules.box(low, high, eps),
        first_dense=False,
    )


COMPOSITES: dict[str, Composite] = {
    "epsilon": by_kind(conv=rules.epsilon(), dense=rules.epsilon()),
    "gamma": by_kind(conv=rules.gamma(), dense=rules.gamma()),
    "z_plus": by_kind(conv=rules.z_plus(), dense=rules.z_plus()),
    "epsilon_plus": by_kind(conv=rules.z_plus(), dense=rules.epsilon()),
    "epsilon_alpha2_beta1": by_kind(conv=rules.alpha_beta(), dense=rules.epsilon()),
    "epsilon_plus_flat": by_kind(conv=rules.z_plus(), dense=rules.epsilon(), first=rules.flat()),
    "epsilon_alpha2_beta1_flat": by_kind(
        conv=rules.alpha_beta(), dense=rules.epsilon(), first=rules.flat()
    ),
}
"""Composites by name; convolutions, dense layers and the first layer have each their rule."""


def resolved(caller: str, composite: Any) -> Composite:
    """A composite from a name, rules by path, or itself.

    Raises:
      ValueError: the name is unknown, or it is none of these.
    """
    if isinstance(composite, str):
        if composite not in COMPOSITES:
            raise ValueError(
                f"{caller}: no composite {composite!r}; "
                + suggest(composite, COMPOSITES, "composites")
            )
        return COMPOSITES[composite]
    if isinstance(composite, Mapping):
        return _by_path(caller, composite)
    if not callable(composite):
        raise ValueError(
            f"{caller}: composite is {composite!r}; expected a name, rules by path, or a function "
            "from a layer to its rule."
        )
    return composite  # pyright: ignore[reportReturnType]


def _by_path(caller: str, table: Mapping[str, Any]) -> Composite:
    """The first pattern that fits the path; epsilon where none does."""
    parts: dict[str, Composite] = {}
    for pattern, rule in table.items():
        by_name = isinstance(rule, str)
        parts[pattern] = resolved(caller, rule) if by_name else by_kind(conv=rule, dense=rule)

    def choose(layer: Any) -> rules.Rule:
        fitting = [part for at, part in parts.items() if fnmatch.fnmatchcase(layer.path, at)]
        return (fitting or [COMPOSITES["epsilon"]])[0](layer)

    return choose
