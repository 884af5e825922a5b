"""Which rule for which layer: composites by name, and rules by path."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Mapping
from typing import Any, Literal

from jaxdl.core import suggest
from jaxdl.interpret.lrp import rules

__all__ = ["COMPOSITES", "epsilon_gamma_box"]


@dataclasses.dataclass(frozen=True)
class Composite:
    """Rules for all that a network consists of.

    Attributes:
      choose: `choose(layer) -> rule`; a layer has `kind` ("conv" or "dense"), `first` and `path`.
      products: the rule of products of two values that depend on the input, as for `lrp`.
    """

    choose: Callable[[Any], rules.Rule]
    products: Literal["gate", "half"] = "gate"


def by_kind(
    *,
    conv: rules.Rule,
    dense: rules.Rule,
    first: rules.Rule | None = None,
    first_dense: bool = True,
    products: Literal["gate", "half"] = "gate",
) -> Composite:
    def choose(layer: Any) -> rules.Rule:
        if first is not None and layer.first and (first_dense or layer.kind == "conv"):
            return first
        return conv if layer.kind == "conv" else dense

    return Composite(choose, products)


def epsilon_gamma_box(low: Any, high: Any, gamma: float = 0.25, eps: float = 1e-6) -> Composite:
    """Returns a composite: z^B at the first convolution, gamma at others, epsilon at dense layers.

    Montavon et al. 2019, sec. 10.3.

    Args:
      low, high: the least and greatest that inputs can be.
      gamma, eps: of the rules.
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
    "cp_lrp": by_kind(conv=rules.epsilon(), dense=rules.epsilon(), products="gate"),
    "attn_lrp": by_kind(conv=rules.epsilon(), dense=rules.epsilon(), products="half"),
}
"""Composites by name."""


def resolve(caller: str, composite: Any) -> Composite:
    """Returns the composite that a name, rules by path or a function stand for.

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
    if isinstance(composite, Composite):
        return composite
    if not callable(composite):
        raise ValueError(
            f"{caller}: composite is {composite!r}; expected a name, rules by path, or a function "
            "from a layer to its rule."
        )
    return Composite(composite)  # pyright: ignore[reportArgumentType]


def _by_path(caller: str, table: Mapping[str, Any]) -> Composite:
    """Returns the composite that has the rule of the first pattern that fits a layer's path."""
    named = {key: resolve(caller, rule) for key, rule in table.items() if isinstance(rule, str)}
    parts = {key: named.get(key, by_kind(conv=rule, dense=rule)) for key, rule in table.items()}
    products = sorted({composite.products for composite in named.values()})
    if len(products) > 1:
        raise ValueError(
            f"{caller}: the composites {sorted({table[key] for key in named})} have "
            "different rules for products of two values; expected one rule."
        )

    def choose(layer: Any) -> rules.Rule:
        fitting = (part for at, part in parts.items() if fnmatch.fnmatchcase(layer.path, at))
        return next(fitting, COMPOSITES["epsilon"]).choose(layer)

    return Composite(choose, *products)  # pyright: ignore[reportArgumentType]
