"""Rewrites the README's table and picture from the committed results."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

from experiments import _run

ROOT = pathlib.Path(__file__).parent.parent
START, END = "<!-- results -->\n", "<!-- /results -->"


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    """`--results` is where `python -m experiments digits` wrote its figures, for the picture."""


def run(config: Config) -> None:
    """Writes README.md, and docs/_static/digits.png if the figures are there."""
    if config.smoke:
        print(table())
        return
    readme = ROOT / "README.md"
    before, rest = readme.read_text("utf-8").split(START)
    readme.write_text(before + START + table() + END + rest.split(END)[1], "utf-8")
    figures = [config.results / "digits" / name for name in ("right_cnn.png", "ideals_cnn.png")]
    if all(figure.is_file() for figure in figures):
        picture(figures, ROOT / "docs" / "_static" / "digits.png")


def table() -> str:
    """Topic, file, experiment and result, from `experiments/results` and `benchmarks/results`."""
    rows = [
        ("a model is two functions", "core.py combine.py tap.py tree.py", "", ""),
        ("layers", "nn/dense.py nn/conv.py nn/pool.py nn/norm.py nn/dropout.py", "", ""),
        (
            "training: a step, a loop, many runs",
            "train/step.py train/fit.py train/many.py",
            *speed(),
        ),
        ("data", "data/digits.py data/idx.py data/cifar.py data/augment.py", "", ""),
        ("why a network decides", "interpret/gradient.py", "digits", accuracy("digits")),
        ("what it believes", "interpret/feature_vis/activation_maximization.py", "digits", ""),
        ("the lectures' network and a CNN", "train/fit.py", "mnist", accuracy("mnist")),
        ("Flax networks, weights in files", "interop/flax.py interop/safetensors.py", "", ""),
    ]
    lines = ["| topic | file | experiment | result |", "|---|---|---|---|"]
    for topic, files, experiment, result in rows:
        links = " ".join(f"[{pathlib.Path(f).name}](jaxdl/{f})" for f in files.split())
        code = experiment and f"`{experiment}`"
        lines.append(f"| {topic} | {links} | {code} | {result} |")
    return "\n".join(lines) + "\n\n" + sources()


def loaded(name: str) -> dict[str, Any] | None:
    path = ROOT / "experiments" / "results" / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def accuracy(name: str) -> str:
    """The test accuracies that an experiment recorded."""
    result = loaded(name)
    if result is None:
        return ""
    networks = [
        f"{network} {found['accuracy']:.4f}"
        for network, found in result["metrics"].items()
        if "accuracy" in found
    ]
    return "held-out accuracy " + ", ".join(networks)


def speed() -> tuple[str, str]:
    """The benchmark's command and its ratios against torch."""
    path = ROOT / "benchmarks" / "results" / "train.json"
    if not path.is_file():
        return "", ""
    rows = json.loads(path.read_text("utf-8"))
    found = [
        f"{row['work'].split(',')[0]} {row['ratio']:.2f}" for row in rows if row["peer"] == "torch"
    ]
    return "python -m benchmarks train", "time / torch's: " + ", ".join(found)


def sources() -> str:
    """What the numbers come from."""
    lines = []
    for name in ("digits", "mnist"):
        result = loaded(name)
        if result is not None:
            versions = result["versions"]
            lines.append(
                f"`{name}`: seed {result['seed']}, jax {versions['jax']}, Python "
                f"{versions['python']}, {result['machine']}, {result['seconds']:.0f} s."
            )
    return "\n".join(lines) + ("\n" if lines else "")


def picture(figures: list[pathlib.Path], path: pathlib.Path) -> None:
    """The figures one below the other, on white."""
    from PIL import Image

    images = [Image.open(figure).convert("RGB") for figure in figures]
    width = max(image.width for image in images)
    whole = Image.new("RGB", (width, sum(image.height for image in images)), "white")
    top = 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.save(path, optimize=True)
