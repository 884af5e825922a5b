"""Explains why a Faster R-CNN gives a box its class: LRP, SmoothGrad and occlusion.

The network is that of `cells` with a shorter schedule. The explanations are checked by their share
inside of the box, and by what the network answers if the box or its surroundings are covered.

The explained score is the class logit of a fixed box, a detection, as a function of the image:
backbone, RoI align and head. Letters: N images of H x W pixels, K classes with the background.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxdl
from experiments import _figure, _run, cells, explain_digits
from experiments.explain_classifier import random_state
from jaxdl import data, interpret, metrics, train
from jaxdl.zoo.detection.boxes import iou
from jaxdl.zoo.detection.roi import pyramid_roi_align


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    steps: int = 500
    """Steps of training, of 1,800 in `cells`."""


COUNT = 6
"""Detections of each class, of different images."""
LONG = {"RBC": "red blood cell", "WBC": "white blood cell", "Platelets": "platelet"}
"""Names of the classes in the figure's titles."""
MARGINS = (0, 8, 16, 32)
"""Pixels around a box that remain visible."""

METHODS: dict[str, explain_digits.Explain] = {
    "LRP": lambda f, x, t, key: interpret.lrp(f, x, target=t, composite="epsilon_plus_flat"),
    "SmoothGrad": lambda f, x, t, key: interpret.smooth_grad(
        f, x, target=t, key=key, sigma=0.3, samples=16
    ),
}
"""Explanations of all detections; occlusion is for those in the figure."""


class Detection(NamedTuple):
    """A detection that fits a true box of its class."""

    image: int
    box: np.ndarray
    """(4,) x0, y0, x1, y1 in pixels."""
    label: int
    score: float


def run(config: Config) -> dict:
    train.keep_memory()
    recipe = cells.Config(seed=config.seed, smoke=config.smoke, steps=config.steps)
    images = cells.load_images(recipe)
    learned, test, (mean, deviation) = cells.split(images, validate=config.smoke)
    result: dict[str, Any] = {}
    if config.smoke:
        model = cells.network()
        state = random_state(model, learned.x[:1])
        detections = [Detection(0, test.boxes[0, 0], k, 0.0) for k in (1, 2, 3)]
    else:
        model, state, _ = cells.train_network(learned, recipe)
        outputs = train.predict(model, state, test.x, batch_size=8)
        boxes, scores, labels, _ = (np.asarray(part) for part in outputs)
        coco = metrics.coco_map(boxes, scores, labels, test.boxes, test.labels)
        result = {"map_50": coco.map_50, "map": coco.map, "test images": len(test.x)}
        print(result, flush=True)
        detections = choose_detections(boxes, scores, labels, test, COUNT)

    logits = class_logits(model, state.model_state)
    run_logits, rows, shown = jax.jit(logits), {}, {}
    methods = {"LRP": METHODS["LRP"]} if config.smoke else METHODS
    explanations = {name: compile_method(logits, explain) for name, explain in methods.items()}
    for detection in detections:
        x = test.x[detection.image]
        apply_to = (state.params, detection.box)
        maps = {
            name: np.asarray(explain(apply_to, x[None], detection.label, jax.random.key(0))[0])
            for name, explain in explanations.items()
        }
        copies = cover(x, detection.box)
        p = jax.nn.softmax(run_logits(apply_to, np.stack(list(copies.values()))))
        score = float(run_logits(apply_to, x[None])[0, detection.label])
        inside = pixels_inside(detection.box, x.shape[:2])
        rows.setdefault(detection.label, []).append(
            {"share of area": float(inside.mean()), "logit": score}
            | {f"{name}, inside": share_inside(m, inside) for name, m in maps.items()}
            | {"relevance over logit": float(maps["LRP"].sum()) / score}
            | dict(zip(copies, np.asarray(p[:, detection.label], float).tolist(), strict=True))
        )
        shown.setdefault(detection.label, (detection, maps))

    names = images.classes
    result["by class"] = {names[label]: average(group) for label, group in rows.items()}
    for name, values in result["by class"].items():
        print(f"{name}: { {k: round(v, 3) for k, v in values.items()} }", flush=True)
    occlude = compile_occlusion(logits, 32 if config.smoke else 16)
    for detection, maps in shown.values():
        x = test.x[detection.image]
        drops = occlude((state.params, detection.box), x[None], detection.label)
        maps["occlusion"] = np.asarray(drops[0])
        inside = pixels_inside(detection.box, x.shape[:2])
        share = share_inside(maps["occlusion"], inside)
        result["by class"][names[detection.label]]["occlusion of the one drawn, inside"] = share
    figure = draw([test.x[d.image] * deviation + mean for d, _ in shown.values()], shown, names)
    _figure.save(figure, config, "explain_detection", "boxes")
    return result


def choose_detections(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, test: data.DetectionSplit, count: int
) -> list[Detection]:
    """Returns detections of each class, the most certain ones of different images.

    Each fits a true box of its class with an IoU of 0.5 and is within the image.

    Args:
      boxes: (N, D, 4), scores: (N, D), labels: (N, D), the outputs of the detector.
      test: the images with their true boxes.
      count: detections of each class, at most.
    """
    height, width = test.x.shape[1:3]
    chosen: dict[int, list[Detection]] = {}
    for n in range(len(boxes)):
        overlaps = np.asarray(iou(boxes[n], test.boxes[n]))
        fits = ((overlaps >= 0.5) & (labels[n][:, None] == test.labels[n])).any(1)
        inner = (boxes[n, :, :2] >= 2).all(1) & (boxes[n, :, 2:] <= (width - 2, height - 2)).all(1)
        for label in np.unique(labels[n][fits & inner & (labels[n] > 0)]):
            scores_of_label = np.where(fits & inner & (labels[n] == label), scores[n], -1)
            i = int(scores_of_label.argmax())
            detection = Detection(n, boxes[n, i], int(label), float(scores[n, i]))
            chosen.setdefault(int(label), []).append(detection)
    return [
        detection
        for label in sorted(chosen)
        for detection in sorted(chosen[label], key=lambda d: -d.score)[:count]
    ]


def class_logits(model: jaxdl.Module, model_state: Any) -> Callable[..., jax.Array]:
    """Returns the function from parameters, a box and images (N, H, W, 3) to logits (N, K)."""
    backbone, head = model.children["backbone"], model.children["head"]

    def logits(params_and_box, x):
        params, box = params_and_box
        maps = backbone.apply(params["backbone"], model_state["backbone"], x)[0]
        align = functools.partial(
            pyramid_roi_align,
            rois=box[None],
            scales=[m.shape[1] / x.shape[1] for m in maps],
            size=7,
            canonical_size=cells.CANONICAL_SIZE,
        )
        regions = jax.vmap(align)(maps)[:, 0]
        return head.apply(params["head"], model_state.get("head", {}), regions)[0][0]

    return logits


def compile_method(
    logits: Callable[..., jax.Array], explain: explain_digits.Explain
) -> Callable[..., jax.Array]:
    """Compiles a method for all detections, with its attributions summed over colours."""

    @jax.jit
    def run(params_and_box, x, label, key):
        return explain(functools.partial(logits, params_and_box), x, label, key).sum(-1)

    return run


def compile_occlusion(logits: Callable[..., jax.Array], window: int) -> Callable[..., jax.Array]:
    """Compiles occlusion by squares of the mean colour, (1, H, W)."""

    @jax.jit
    def run(params_and_box, x, label):
        size: dict[str, Any] = {
            "window": (window, window, 3),
            "stride": (window // 2, window // 2, 3),
        }
        f = functools.partial(logits, params_and_box)
        return interpret.occlusion(f, x, **size, target=label, batch_size=8)[..., 0]

    return run


def pixels_inside(box: Sequence[float] | np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Returns which pixels (H, W) have their centre in a box (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = box
    rows, columns = np.arange(shape[0])[:, None] + 0.5, np.arange(shape[1]) + 0.5
    return (rows >= y0) & (rows <= y1) & (columns >= x0) & (columns <= x1)


def share_inside(values: np.ndarray, inside: np.ndarray) -> float:
    """Returns the share of the absolute values (H, W) in a mask.

    Raises:
      ValueError: all values are 0.
    """
    total = np.abs(values).sum()
    if total == 0:
        raise ValueError("share_inside: all attributions are 0; expected another one.")
    return float(np.abs(values)[inside].sum() / total)


def cover(x: np.ndarray, box: np.ndarray) -> dict[str, np.ndarray]:
    """Returns copies of an image (H, W, 3): whole, with a box hidden, and with only a box visible.

    Covered pixels are 0, the mean colour of standardized images.
    """
    copies = {
        "probability": x,
        "box hidden": np.where(pixels_inside(box, x.shape[:2])[..., None], 0, x),
    }
    for margin in MARGINS:
        visible = pixels_inside(box + np.array([-1, -1, 1, 1]) * margin, x.shape[:2])
        copies[f"only box and {margin} pixels"] = np.where(visible[..., None], x, 0)
    return copies


def average(rows: list[dict[str, float]]) -> dict[str, float]:
    """Returns the mean of each number, and how many there are."""
    mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return {"detections": len(rows)} | mean


def draw(images: list[np.ndarray], shown: dict, names: Sequence[str]) -> Any:
    """Draws a detection of each class with its maps."""
    detections: list[Detection] = [detection for detection, _ in shown.values()]
    methods = [maps for _, maps in shown.values()]
    maps = {name: np.stack([values[name] for values in methods]) for name in methods[0]}
    titles = [f"{LONG.get(names[d.label], names[d.label])}, {d.score:.2f}" for d in detections]
    figure = _figure.pyplot().figure(figsize=(9.5, 8.6), layout="constrained")
    # A margin, because the layout does not count the labels of panels of a fixed shape.
    figure.get_layout_engine().set(rect=(0.03, 0, 0.97, 1))
    options: dict[str, Any] = {"boxes": [d.box for d in detections], "overlay": True}
    # A box has so few of the pixels that the 99th percentile would be exceeded in most of it.
    options["percentile"] = 99.8
    _figure.compare_maps(figure, {"image": np.stack(images)}, maps, titles, **options)
    return figure
