"""Warning signs that a model hides its gradient instead of being robust.

Athalye, Carlini and Wagner 2018 (arXiv 1802.00420), section 3.1: against gradient masking, attacks
by the gradient fail although adversarial inputs exist.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl._check import require_ints, require_key, require_number
from jaxdl.attack import _problem, pgd, random_search
from jaxdl.attack.gradient import Bounds

__all__ = ["MaskingReport", "Sign", "check_gradient_masking"]

FACTORS = (1.0, 2.0, 4.0)
"""Multiples of epsilon whose success is compared."""


class Sign(NamedTuple):
    """A warning sign.

    Attributes:
      suspicious: whether the numbers show it.
      numbers: the rates in [0, 1] that decide, by name.
    """

    suspicious: bool
    numbers: dict[str, float]


class MaskingReport(NamedTuple):
    """The result of `check_gradient_masking`.

    Attributes:
      one_step_is_stronger: one step of the attack succeeds more often than many steps.
      search_is_stronger: random search without a gradient finds adversarial inputs of examples
        where the attack by the gradient finds none.
      transfer_is_stronger: adversarial inputs of the substitute succeed more often than those of
        the model itself; never suspicious without a substitute.
      unbounded_attack_fails: an attack that may change everything does not always succeed.
      larger_is_not_stronger: the success does not increase with the allowed change.
      gradient_is_missing: the gradient by the input is zero, infinite or NaN.
      examples: the number of examples that the model classifies correctly; all rates are shares of
        them.
    """

    one_step_is_stronger: Sign
    search_is_stronger: Sign
    transfer_is_stronger: Sign
    unbounded_attack_fails: Sign
    larger_is_not_stronger: Sign
    gradient_is_missing: Sign
    examples: int

    @property
    def masked(self) -> bool:
        """Whether there is any sign: then robust accuracy under this attack means nothing."""
        return any(sign.suspicious for sign in self[:-1])


def check_gradient_masking(
    f: Callable[[Any], Any],
    x: Any,
    labels: Any,
    epsilon: float,
    *,
    key: jax.Array,
    bounds: Bounds = (0.0, 1.0),
    steps: int = 40,
    queries: int = 300,
    substitute: Callable[[Any], Any] | None = None,
    tolerance: float = 0.05,
) -> MaskingReport:
    """Looks for signs of gradient masking, which makes a model seem robust.

    Athalye et al. 2018 (arXiv 1802.00420), section 3.1. The attack is projected gradient descent.
    No sign is no proof of robustness: an attack that is adapted to the defence may still succeed.

    Args:
      f: from inputs (N, ...) to scores (N, classes), or to one logit each, (N,) or (N, 1).
      x: (N, ...), floating-point, within the bounds, or a tree of such arrays.
      labels: (N,) integers, the true classes.
      epsilon: the largest change of a coordinate, > 0, at which the model is said to be robust.
      key: a PRNG key.
      bounds: the smallest and largest valid input, in the form of `attack.pgd`. The unbounded
        attack may change a coordinate by their distance.
      steps: ascent steps of each attack, >= 1.
      queries: evaluations of f by random search, >= 1.
      substitute: another function of the same inputs and classes, whose adversarial inputs are
        tried on f; None tries none.
      tolerance: the difference of two rates above which it is a sign, in [0, 1).

    Returns:
      A `MaskingReport`.

    Raises:
      ValueError: an argument is out of range, or as for `attack.pgd`; or f classifies no example
        correctly.
    """
    caller = "check_gradient_masking"
    require_number(caller, "a number above 0", lambda e: e > 0, epsilon=epsilon)
    require_number(caller, "a number in [0, 1)", lambda t: 0 <= t < 1, tolerance=tolerance)
    require_ints(caller, 1, steps=steps, queries=queries)
    search_key = require_key(caller, key)
    if bounds is None:
        raise ValueError(
            f"{caller}: bounds is None; expected (smallest, largest): the unbounded attack may "
            "change an input by their distance."
        )
    checked = _problem.prepare(caller, f, x, labels)
    low, high = _problem.as_bounds(checked, bounds, finite=True)
    sizes = [factor * epsilon for factor in FACTORS] + [float(jnp.max(high - low))]

    # x and labels are arguments: XLA would spend minutes on computing f of a constant.
    @jax.jit
    def measure(key, x, labels):
        problem = _problem.prepare(caller, f, x, labels)

        def is_wrong(x):
            # A tie is no decision for the label, and NaN is no success.
            return _problem.margins(f(x), labels) <= 0

        def attack(g, size, count):
            reach = 1 if count == 1 else 2.5
            step = reach * size / count
            return pgd(g, x, labels, size, step=step, steps=count, bounds=bounds)

        gradient = jax.grad(lambda rows: jnp.sum(problem.losses(rows)))(problem.rows)
        searched = random_search(f, x, labels, epsilon, key=key, queries=queries, bounds=bounds)
        values = {
            "right": _problem.margins(f(x), labels) > 0,
            "one": is_wrong(attack(f, epsilon, 1)),
            "larger": jax.lax.map(
                lambda size: is_wrong(attack(f, size, steps)),
                jnp.asarray(sizes, problem.rows.dtype),
            ),
            "search": is_wrong(searched),
            "zero": jnp.all(gradient == 0, axis=1),
            "nonfinite": ~jnp.all(jnp.isfinite(gradient), axis=1),
        }
        if substitute is not None:
            values["transfer"] = is_wrong(attack(substitute, epsilon, steps))
        return values

    values = measure(search_key, jax.tree.map(jnp.asarray, x), checked.labels)
    return _report(jax.tree.map(np.asarray, values), tolerance)


def _report(values: dict[str, np.ndarray], tolerance: float) -> MaskingReport:
    """Returns the signs, from truth values (N,) of each example, "larger" (sizes, N)."""
    right = values["right"]
    if not right.any():
        raise ValueError(
            f"check_gradient_masking: f classifies none of {right.size} examples correctly; "
            "expected some. Check the labels and the scale of x."
        )

    def rate(wrong):
        return float(wrong[right].mean())

    by_size = [rate(wrong) for wrong in values["larger"]]
    many = values["larger"][0]
    one, iterative = rate(values["one"]), by_size[0]
    search, missed = rate(values["search"]), rate(values["search"] & ~many)
    zero, nonfinite = rate(values["zero"]), rate(values["nonfinite"])
    transfer = rate(values["transfer"]) if "transfer" in values else None
    names = [*(f"{factor:g} epsilon" for factor in FACTORS), "unbounded"]
    falls = max(a - b for a, b in zip(by_size[:-1], by_size[1:], strict=True))
    flat = by_size[-1] - by_size[0] <= tolerance and by_size[0] < 1 - tolerance
    return MaskingReport(
        Sign(one - iterative > tolerance, {"one step": one, "many steps": iterative}),
        Sign(missed > tolerance, {"search": search, "many steps": iterative, "missed": missed}),
        Sign(
            transfer is not None and transfer - iterative > tolerance,
            {} if transfer is None else {"transfer": transfer, "many steps": iterative},
        ),
        Sign(by_size[-1] < 1 - tolerance, {"unbounded": by_size[-1]}),
        Sign(falls > tolerance or flat, dict(zip(names, by_size, strict=True))),
        Sign(zero + nonfinite > tolerance, {"zero": zero, "not finite": nonfinite}),
        int(right.sum()),
    )
