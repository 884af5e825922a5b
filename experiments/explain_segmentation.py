"""Explains how far a U-Net looks to label a small region: LRP, gradient and Seg-Grad-CAM.

The network is that of `membranes` with a shorter schedule. The explanations are checked by what it
answers if only the pixels within a distance remain.

Distances are along the longer axis, so that the pixels within r of a centre are a square, as a
receptive field is. Letters: N slices of H x W pixels, S the side of the square that is cut out.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

import jaxdl
from experiments import _figure, _run, membranes
from experiments.explain_classifier import random_state, spread
from jaxdl import interpret, train
from jaxdl.interpret.lrp import rules
from jaxdl.zoo.segmentation.unet import padded_unet


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    steps: int = 150
    """Steps of training, of 600 in `membranes`."""


REGION = 5
"""Side of a region, in pixels."""
RADII = (4, 8, 16, 32, 64)
COUNT = 8
"""Regions of each kind."""
SHOWN = 64
"""Pixels around a region that the figure shows of its crop."""
KINDS = ("membrane", "dark, in a cell", "mistake")


class Region(NamedTuple):
    """A region and the part of its slice that contains the receptive field of all its pixels."""

    kind: str
    crop: np.ndarray
    """(S, S, 1) standardized pixels."""
    labels: np.ndarray
    """(S, S)."""
    centre: tuple[int, int]
    """Row and column in the crop."""
    sign: float
    """1 if the network labels it as a membrane, -1 as a cell."""


def run(config: Config) -> dict:
    train.keep_memory()
    slices, source = membranes.load_slices(config.smoke)
    learned, test = membranes.standardize(slices)
    if config.smoke:
        model = padded_unet(width=4, depth=1)
        state = random_state(model, learned.x[:1])
    else:
        recipe = membranes.Config(seed=config.seed, steps=config.steps)
        model, state, _ = membranes.train_network(learned, recipe)
    logits = train.predict(model, state, test.x, batch_size=1)
    evidence = np.asarray(logits[..., 0] - logits[..., 1])
    accuracy = float(((evidence < 0) == test.y).mean())
    depth = model.config["depth"]
    field = receptive_field(model, test.x.shape, depth)
    print(f"accuracy {accuracy:.4f}, receptive field {field}", flush=True)

    count = 1 if config.smoke else COUNT
    regions = find_regions(test, evidence, field, 2**depth, count, config.seed)
    maps = explain_regions(model, state, regions, f"down{depth}")
    shown = [next(i for i, r in enumerate(regions) if r.kind == kind) for kind in KINDS]
    within = measure_distances(regions, maps, field)
    kept = replace_surroundings(model, state, regions)
    figure = draw(slices, regions, maps, shown, within, kept, field)
    _figure.save(figure, config, "explain_segmentation", "regions")
    return {
        "source": source,
        "pixel accuracy": accuracy,
        "receptive field": field,
        "regions": len(regions),
        "relevance over score": maps.pop("sum"),
        "within": within,
        "label kept": kept,
    }


def receptive_field(model: jaxdl.Module, shape: tuple[int, ...], depth: int) -> int:
    """Returns the side of the receptive field of a pixel of the output, without its edges cut."""
    step = 2**depth
    x = jax.ShapeDtypeStruct((1, shape[1] // step * step, shape[2] // step * step, 1), jnp.float32)
    return max(jaxdl.receptive_field(model, x).size)


def find_regions(
    test: Any, evidence: np.ndarray, field: int, step: int, count: int, seed: int
) -> list[Region]:
    """Returns regions of each kind, whose pixels all have one label and one prediction.

    Membranes are chosen at random, dark regions in cells by their darkness, and mistakes by the
    evidence for the wrong label.

    Args:
      test: standardized slices and labels.
      evidence: (N, H, W), logit of a membrane minus that of a cell.
      field: side of the receptive field.
      step: stride of the coarsest map. Crops begin at its multiples, where poolings have the
        positions that they have in the whole slice.
      count: regions of each kind, at most.
      seed: of the choice of membranes.
    """
    size: Any = (1, REGION, REGION)  # the stubs know one size for all axes only
    window = functools.partial(ndimage.uniform_filter, size=size, mode="nearest")
    share, membrane = window(test.y.astype(float)), window((evidence > 0).astype(float))
    brightness, strength = window(test.x[..., 0]), window(evidence)
    pure, cell = 1e-6, 1 - 1e-6
    noise = np.random.default_rng(seed).random(evidence.shape)
    choices = {
        "membrane": (noise, (share < pure) & (membrane > cell)),
        "dark, in a cell": (-brightness, (share > cell) & (membrane < pure)),
        "mistake": (
            np.abs(strength),
            ((share > cell) & (membrane > cell)) | ((share < pure) & (membrane < pure)),
        ),
    }
    side = step * (-(-(field + REGION) // step) + 1)
    margin = (field + REGION) // 2 + 1
    regions = []
    for kind, (score, eligible) in choices.items():
        inner = np.zeros_like(eligible)
        inner[:, margin:-margin, margin:-margin] = True
        # An untrained network may have no region of a kind.
        eligible = eligible & inner if (eligible & inner).any() else inner
        for n, i, j in find_maxima(np.where(eligible, score, -np.inf), count, side // 4):
            top, left = (
                int(np.clip(round((c - side / 2) / step) * step, 0, length - side))
                for c, length in zip((i, j), evidence.shape[1:], strict=True)
            )
            part = np.s_[n, top : top + side, left : left + side]
            sign = 1.0 if strength[n, i, j] > 0 else -1.0
            centre = (int(i - top), int(j - left))
            regions.append(Region(kind, test.x[part], test.y[part], centre, sign))
    return regions


def find_maxima(score: np.ndarray, count: int, distance: int) -> list[tuple[int, int, int]]:
    """Returns the positions (n, i, j) of the largest finite scores, at least a distance apart."""
    score, positions = score.copy(), []
    while len(positions) < count and np.isfinite(score.max()):
        n, i, j = (int(c) for c in np.unravel_index(score.argmax(), score.shape))
        positions.append((n, i, j))
        score[n, max(i - distance, 0) : i + distance, max(j - distance, 0) : j + distance] = -np.inf
    return positions


def square(side: int, centre: tuple[int, int], radius: float) -> np.ndarray:
    """Returns which pixels (side, side) are within a radius of a centre, along both axes."""
    i, j = np.abs(np.indices((side, side)) - np.reshape(centre, (2, 1, 1)))
    return np.maximum(i, j) <= radius


def explain_regions(
    model: jaxdl.Module, state: train.TrainState, regions: list[Region], bottleneck: str
) -> dict[str, Any]:
    """Returns (regions, S, S) attributions by method, and the sums of relevance over the score.

    The score is the sum over the region of the evidence for the predicted label.
    """

    def f(x, mask):
        logits = model.apply(state.params, state.model_state, x)[0]
        return jnp.sum(mask * (logits[..., 0] - logits[..., 1]), (1, 2))

    # With z+ a negative logit would count as evidence of its supporters for the other class: the
    # last convolution, which has no ReLU, needs a rule with signs.
    composite = {"logits": rules.epsilon(), "*": "epsilon_plus_flat"}
    methods: dict[str, Callable[..., jax.Array]] = {
        "LRP": lambda f, x: interpret.lrp(f, x, composite=composite)[..., 0],
        "gradient": lambda f, x: interpret.saliency(f, x)[..., 0],
        # Vinogradova et al. 2020, arXiv 2002.11434: Grad-CAM of a sum over pixels.
        "Seg-Grad-CAM": lambda f, x: interpret.grad_cam(f, x, layer=bottleneck),
    }

    @jax.jit
    def explain(x, mask):
        score = functools.partial(f, mask=mask)
        return {name: method(score, x)[0] for name, method in methods.items()}, score(x)[0]

    results = []
    for region in regions:
        mask = region.sign * square(len(region.crop), region.centre, REGION // 2)
        results.append(explain(region.crop[None], mask.astype(np.float32)))
    maps: dict[str, Any] = {
        name: np.stack([np.asarray(values[name]) for values, _ in results]) for name in methods
    }
    scores = np.array([float(score) for _, score in results])
    maps["sum"] = spread(maps["LRP"].sum((1, 2)) / scores)
    return maps


def share_within(values: np.ndarray, centre: tuple[int, int], radius: float) -> float | None:
    """Returns the share of the absolute values (S, S) within a radius; None if all are 0."""
    total = np.abs(values).sum()
    if total == 0:
        return None
    return float(np.abs(values)[square(len(values), centre, radius)].sum() / total)


def measure_distances(
    regions: list[Region], maps: dict[str, Any], field: int
) -> dict[str, dict[str, Any]]:
    """Returns the mean share within each radius by method, and the radius of half of it.

    "uniform" is the share of the area of the receptive field. Maps without any attribution do not
    count.
    """
    radii = range(field // 2 + REGION)
    result: dict[str, dict[str, Any]] = {}
    curves = {"uniform": np.minimum((2 * np.array(radii) + 1.0) / field, 1) ** 2}
    for name, values in maps.items():
        if name != "sum":
            shares = [
                [share_within(v, region.centre, r) for r in radii]
                for v, region in zip(values, regions, strict=True)
            ]
            kept = [row for row in shares if row[0] is not None]
            if kept:
                curves[name] = np.mean(np.array(kept, float), 0)
    for name, curve in curves.items():
        half = next((r for r, share in zip(radii, curve, strict=True) if share >= 0.5), None)
        result[name] = {str(r): float(curve[r]) for r in RADII if r < len(curve)}
        result[name] |= {"radius of half": half, "curve": curve.round(4).tolist()}
        print(f"within {name:14s} half within {half} pixels", flush=True)
    return result


def replace_surroundings(
    model: jaxdl.Module, state: train.TrainState, regions: list[Region]
) -> dict[str, float]:
    """Returns how often the predicted label remains if only pixels within a radius do.

    The pixels outside are those of another region's crop. This measures by changing the input what
    the attributions claim.
    """

    @jax.jit
    def evidence(x, mask):
        logits = model.apply(state.params, state.model_state, x)[0]
        return jnp.sum(mask * (logits[..., 0] - logits[..., 1]), (1, 2))

    kept: dict[str, list[bool]] = {str(r): [] for r in RADII}
    for i, region in enumerate(regions):
        side, other = len(region.crop), regions[(i + len(regions) // 2) % len(regions)].crop
        mask = region.sign * square(side, region.centre, REGION // 2)
        for r in RADII:
            inside = square(side, region.centre, r)[..., None]
            x = np.where(inside, region.crop, other)
            value = evidence(x[None], mask[None].astype(np.float32))
            kept[str(r)].append(bool(value[0] > 0))
    shares = {r: float(np.mean(values)) for r, values in kept.items()}
    print(f"label kept with the pixels within a radius only: {shares}", flush=True)
    return shares


def draw(
    slices: Any,
    regions: list[Region],
    maps: dict[str, Any],
    shown: list[int],
    within: dict[str, dict[str, Any]],
    kept: dict[str, float],
    field: int,
) -> Any:
    """Draws a region of each kind with its maps, and the shares by distance."""
    figure = _figure.pyplot().figure(figsize=(11, 8.6), layout="constrained")
    # A margin, because the layout of subfigures cuts the labels of their first column.
    figure.get_layout_engine().set(rect=(0.02, 0, 0.98, 1))
    left, right = figure.subfigures(1, 2, width_ratios=(1.5, 1))
    radius = min(SHOWN, *(min(*r.centre, len(r.crop) - 1 - max(r.centre)) for r in regions))

    def zoom(image, region):
        row, column = region.centre
        return image[row - radius : row + radius + 1, column - radius : column + radius + 1]

    crops = np.stack([zoom(regions[i].crop[..., 0], regions[i]) for i in shown])
    dark, bright = crops.min(), crops.max()
    pictures = {
        "slice": (crops - dark) / (bright - dark),
        "labels": np.stack([zoom(regions[i].labels, regions[i]) for i in shown]),
    }
    titles, low, high = [], radius + 0.5 - REGION / 2, radius + 0.5 + REGION / 2
    for i in shown:
        region = regions[i]
        answer = slices.classes[0 if region.sign > 0 else 1]
        titles.append(f"{region.kind}\nanswer: {answer}")
    rows = {
        name: np.stack([zoom(values[i], regions[i]) for i in shown])
        for name, values in maps.items()
        if name != "sum"
    }
    boxes = [(low, low, high, high)] * len(shown)
    _figure.compare_maps(left, pictures, rows, titles, boxes=boxes, overlay=True)
    axis = right.subplots()
    axis.set_box_aspect(1.25)
    for name, measured in within.items():
        curve = measured["curve"]
        style = {"color": "0.6", "ls": "--"} if name == "uniform" else {}
        label = f"{name}, half within {measured['radius of half']}"
        axis.plot(range(len(curve)), curve, label=label, **style)
    axis.axvline(field / 2, color="0.6", lw=1, ls=":")
    radii = [r for r in RADII if r <= field / 2]
    label = "regions that keep their label\nif only pixels within the distance remain"
    axis.plot(radii, [kept[str(r)] for r in radii], "ko", label=label, clip_on=False)
    axis.set(xlim=(0, field / 2 + 2), ylim=(0, 1.02))
    axis.set_xlabel("distance from the region's centre, in pixels")
    axis.set_ylabel("share within the distance")
    axis.set_title(f"{len(regions)} regions, receptive field of {field} pixels", fontsize=10)
    axis.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    return figure
