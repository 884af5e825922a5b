"""Backpropagation by hand on the lectures' small network, compared with autodiff.

Rows S04-S06. The values forwards and the chain rule backwards are computed in plain Python, and
compared with `jax.grad` and with finite differences. The slide's rule for the first layer's weights
uses the gradients of w5 and w6 instead of w5 and w6 themselves, and gets two signs wrong.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from experiments import _figure, _run
from experiments._claim import Claim, Verdict, numbers
from jaxdl import losses

CLAIM = Claim(
    rows=("S04", "S05", "S06", "D09"),
    step="best",
    statement="Backpropagation gives the gradient of every weight, link by link from the output.",
    deck={"error": 0.21, "gradient of w5": 0.03, "gradient of w8": 0.07, "gradient of w1": 0.01},
    source="losses.py",
    minutes=0.2,
)
X, Y = (0.5, 0.3), (0.23, -0.07)
WEIGHTS = {1: 0.20, 2: -0.40, 3: 0.50, 4: 0.60, 5: 0.10, 6: -0.50, 7: -0.30, 8: 0.80}
FROM_TO = ("x1 h1", "x1 h2", "x2 h1", "x2 h2", "h1 o1", "h1 o2", "h2 o1", "h2 o2")
EDGES = dict(enumerate(FROM_TO, 1))


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    """In double precision."""


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def forward(w: dict[int, float]) -> dict[str, float]:
    """Computes the value of every unit, and the error E = sum (o - y)^2 / 2."""
    value = {"x1": X[0], "x2": X[1]}
    for unit in ("h1", "h2", "o1", "o2"):
        into = (edge.split() for edge in EDGES.values())
        terms = ((i, a) for i, (a, b) in enumerate(into, 1) if b == unit)
        value[unit] = sigmoid(sum(w[i] * value[a] for i, a in terms))
    value["E"] = sum((value[o] - y) ** 2 for o, y in zip(("o1", "o2"), Y, strict=True)) / 2
    return value


def backward(
    w: dict[int, float], value: dict[str, float]
) -> tuple[dict[str, float], dict[int, float]]:
    """Computes dE/dz of every unit, z its sum before the sigmoid, and dE/dw of every weight."""
    slope = {unit: value[unit] * (1 - value[unit]) for unit in ("h1", "h2", "o1", "o2")}
    delta = {o: (value[o] - y) * slope[o] for o, y in zip(("o1", "o2"), Y, strict=True)}
    for h in ("h1", "h2"):
        onward = ((i, edge.split()[1]) for i, edge in EDGES.items() if edge.startswith(h))
        delta[h] = sum(w[i] * delta[o] for i, o in onward) * slope[h]
    by_weight = {i: value[edge.split()[0]] * delta[edge.split()[1]] for i, edge in EDGES.items()}
    return delta, by_weight


def apply_slide_rule(value: dict[str, float], by_weight: dict[int, float]) -> dict[int, float]:
    """Computes the slide's gradients of w1 to w4, which sum gradients instead of weights."""
    gradients = {}
    for i in (1, 2, 3, 4):
        x, h = EDGES[i].split()
        onward = (by_weight[j] for j, edge in EDGES.items() if edge.startswith(h))
        gradients[i] = sum(onward) * value[h] * (1 - value[h]) * value[x]
    return gradients


def autodiff(w: dict[int, float]) -> dict[int, float]:
    """Computes the same gradients by `jax.grad`, with matrices instead of units."""

    def error(v):
        hidden = jax.nn.sigmoid(jnp.array(X) @ jnp.array([[v[1], v[2]], [v[3], v[4]]]))
        outputs = jax.nn.sigmoid(hidden @ jnp.array([[v[5], v[6]], [v[7], v[8]]]))
        return losses.half_squared_error(outputs[None], jnp.array([Y]))[0]

    # The forward pass by hand is in Python's floats, which are double precision.
    with jax.enable_x64(True):
        gradients = jax.grad(error)({i: jnp.float64(value) for i, value in w.items()})
        return {i: float(g) for i, g in gradients.items()}


def finite_differences(w: dict[int, float], step: float = 1e-6) -> dict[int, float]:
    """Computes the same gradients by central differences."""

    def error(i, change):
        return forward(w | {i: w[i] + change})["E"]

    # Central differences: their error is of the order of the square of the step.
    return {i: (error(i, step) - error(i, -step)) / (2 * step) for i in w}


def run(config: Config) -> dict:
    value = forward(WEIGHTS)
    delta, by_hand = backward(WEIGHTS, value)
    grad, moved = autodiff(WEIGHTS), finite_differences(WEIGHTS)
    slide = apply_slide_rule(value, by_hand)
    print("weight      is    by hand   jax.grad  differences   the slide's rule")
    for i, w in WEIGHTS.items():
        rule = f"{slide[i]:+.6f}" if i in slide else ""
        print(f"w{i}     {w:+.2f}  {by_hand[i]:+.6f}  {grad[i]:+.6f}    {moved[i]:+.6f}   {rule}")
    stepped = forward({i: w - by_hand[i] for i, w in WEIGHTS.items()})["E"]
    exact = {
        "error": value["E"],
        "gradient of w5": by_hand[5],
        "gradient of w8": by_hand[8],
        "gradient of w1": by_hand[1],
        "error after a step": stepped,
    }
    result = {
        # Exact numbers: no deviation and no seeds.
        "measured": {
            name: {"mean": number, "deviation": 0.0, "seeds": 0} for name, number in exact.items()
        },
        "values": numbers(value, 6),
        "deltas": numbers(delta, 6),
        "gradients": numbers(by_hand, 6),
        "slide": numbers(slide, 6),
        "error after the slide's step": forward(
            {i: w - (by_hand | slide)[i] for i, w in WEIGHTS.items()}
        )["E"],
        "largest difference": {
            "jax.grad": max(abs(by_hand[i] - grad[i]) for i in WEIGHTS),
            "differences": max(abs(by_hand[i] - moved[i]) for i in WEIGHTS),
        },
    }
    _figure.save(draw(result), config, "backprop_by_hand", "backprop_by_hand")
    return result


def judge(result: dict) -> Verdict:
    """Compares gradients by hand with autodiff's, and with the lectures' rule for w1 to w4."""
    apart = result["largest difference"]
    error, stepped = (result["measured"][name]["mean"] for name in ("error", "error after a step"))
    by_slide = result["error after the slide's step"]
    exact = apart["jax.grad"] < 1e-12 and apart["differences"] < 1e-9
    exact &= stepped < by_slide < error
    hidden, slide = result["gradients"], result["slide"]
    turned = [f"w{i}" for i in slide if slide[i] * hidden[i] < 0]
    return Verdict(
        "does not hold" if not exact else "holds in part" if turned else "holds",
        f"by hand and by autodiff the gradients are the same to {apart['jax.grad']:.0e}, and to "
        f"{apart['differences']:.0e} by differences; the slide's rule for the first layer gives "
        f"{slide['1']:.4f} for w1 instead of {hidden['1']:.4f} and turns the sign of "
        f"{' and '.join(turned)}; after a step of rate 1 the error is {stepped:.4f}, by the "
        f"slide's rule {by_slide:.4f}",
        {
            "apart": apart["jax.grad"],
            "right": hidden["1"],
            "wrong": slide["1"],
            "turned": [{"name": name} for name in turned],
            "stepped": stepped,
            "by_slide": by_slide,
        },
    )


def draw(result: dict) -> Any:
    """The net: values in its units, weights and their gradients on its edges."""
    plt = _figure.pyplot()
    figure, axis = plt.subplots(figsize=(10, 5), layout="constrained")
    places = {f"{layer}{i}": (x, 2 - i) for x, layer in enumerate("xho") for i in (1, 2)}
    values, gradients, deltas = (result[name] for name in ("values", "gradients", "deltas"))
    for i, edge in EDGES.items():
        (x0, y0), (x1, y1) = (places[name] for name in edge.split())
        axis.plot([x0, x1], [y0, y1], color="0.7", lw=1, zorder=1)
        share = 0.5 if y0 == y1 else 0.3
        text = f"w{i} = {WEIGHTS[i]:+.2f}\ngradient {gradients[str(i)]:+.4f}"
        box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none"}
        place = (x0 + share * (x1 - x0), y0 + share * (y1 - y0))
        axis.text(*place, text, ha="center", va="center", fontsize=8, bbox=box, zorder=2)
    for name, (x, y) in places.items():
        lines = [name, f"{values[name]:.4f}"]
        if name in deltas:
            lines.append(f"dE/dz {deltas[name]:+.4f}")
        colour = {"x": "#dce9f5", "h": "#e7f3e1", "o": "#fbe5d6"}[name[0]]
        axis.scatter([x], [y], s=6000, color=colour, edgecolors="0.4", zorder=3)
        axis.text(x, y, "\n".join(lines), ha="center", va="center", fontsize=8.5, zorder=4)
    axis.set(xlim=(-0.25, 2.25), ylim=(-0.35, 1.35), title=f"E = {values['E']:.4f}")
    axis.axis("off")
    return figure
