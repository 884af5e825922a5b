"""Composites of LRP: which rule applies to which layer, by name, kind or path."""

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
    """Rules for all layers of a network.

    Attributes:
      choose: `choose(layer) -> rule`; a layer has `kind` ("conv" or "dense"), `first` and `path`.
      gating: the rule of products of two values that depend on the input, as for `lrp`.
    """

    choose: Callable[[Any], rules.Rule]
    gating: Literal["signal_take_all", "uniform"] = "signal_take_all"


def by_kind(
    *,
    conv: rules.Rule,
    dense: rules.Rule,
    first: rules.Rule | None = None,
    first_dense: bool = True,
    gating: Literal["signal_take_all", "uniform"] = "signal_take_all",
) -> Composite:
    """Returns a composite with one rule for convolutions and one for dense layers.

    Args:
      conv, dense: the rules.
      first: another rule for the first layers.
      first_dense: whether `first` applies to dense layers too.
      gating: as for `Composite`.
    """

    def choose(layer: Any) -> rules.Rule:
        if first is not None and layer.first and (first_dense or layer.kind == "conv"):
            return first
        return conv if layer.kind == "conv" else dense

    return Composite(choose, gating)


def epsilon_gamma_box(low: Any, high: Any, gamma: float = 0.25, eps: float = 1e-6) -> Composite:
    """Returns z^B for the first convolution, gamma for others, epsilon for dense.

    Montavon et al. 2019, sec. 10.3.

    Args:
      low, high: the bounds of the inputs.
      gamma, eps: parameters of the rules.
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
    "cp_lrp": by_kind(conv=rules.epsilon(), dense=rules.epsilon(), gating="signal_take_all"),
    "attn_lrp": by_kind(conv=rules.epsilon(), dense=rules.epsilon(), gating="uniform"),
}
"""Composites by name."""


def resolve(caller: str, composite: Any) -> Composite:
    """Converts a name, a mapping from paths to rules, or a function to a composite.

    Raises:
      ValueError: the name is unknown, or the composite is none of these.
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
            f"{caller}: composite is {composite!r}; expected a name, a mapping from paths to "
            "rules, or a function from a layer to its rule."
        )
    return Composite(composite)  # pyright: ignore[reportArgumentType]


def _by_path(caller: str, table: Mapping[str, Any]) -> Composite:
    """Returns the composite that uses the first pattern that matches a layer's path."""
    named = {key: resolve(caller, rule) for key, rule in table.items() if isinstance(rule, str)}
    parts = {key: named.get(key, by_kind(conv=rule, dense=rule)) for key, rule in table.items()}
    gatings = sorted({composite.gating for composite in named.values()})
    if len(gatings) > 1:
        raise ValueError(
            f"{caller}: the composites {sorted({table[key] for key in named})} differ in gating; "
            "expected one gating for all paths."
        )

    def choose(layer: Any) -> rules.Rule:
        matches = (part for key, part in parts.items() if fnmatch.fnmatchcase(layer.path, key))
        return next(matches, COMPOSITES["epsilon"]).choose(layer)

    return Composite(choose, *gatings)  # pyright: ignore[reportArgumentType]
