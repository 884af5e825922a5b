"""The report of the digits experiment: its figures, and what it says of the run."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Mapping
from typing import Any

from experiments import _digits_sections as of
from experiments import _report, _run
from jaxdl.data import Dataset

NETWORKS = {
    "MLP": "A multi-layer perceptron: 64 pixels, 128 hidden units, 10 scores",
    "CNN": "A convolutional network: 3×3 kernels, 16 and then 32 of them, 2×2 max pooling, 64 "
    "hidden units, 10 scores",
}


def write(
    folder: pathlib.Path,
    config: Any,
    digits: Dataset,
    results: Mapping[str, Any],
    curves: Mapping[str, Any],
    found: Mapping[str, Any],
    start: float,
) -> pathlib.Path:
    """Draws the figures, writes them as PNG, and the page that holds them all.

    Args:
      folder: where to.
      config, digits, results, curves, found: what the experiment was told and what it found.
      start: when it began, by `time.perf_counter`.
    """

    def draw(name: str, figure: Any, alt: str, caption: str) -> _report.Picture:
        return _report.Picture(_report.png(figure, folder / f"{name}.png"), alt, caption)

    sections = [
        of.learning(config, curves, draw),
        of.mistakes(results, found, draw),
        of.filters(found, draw),
        of.reasons(digits, found, draw),
        of.doubts(digits, found, draw),
        of.ideals(digits, found, draw),
    ]
    page = _report.page(
        title="Two networks read handwritten digits",
        lead="How they learned, where they err, what they look at, and what they believe each "
        "digit to be.",
        numbers=[
            (
                f"{100 * r['accuracy']:.1f} %",
                f"{name}: {r['correct']} of {r['of']} new images right",
            )
            for name, r in results.items()
        ],
        facts=facts(config, digits, results, time.perf_counter() - start),
        sections=sections,
        footer="Written by python -m experiments digits. This file holds everything it shows; the "
        "figures lie beside it as PNG, and the numbers as result.json.",
    )
    path = folder / "report.html"
    path.write_text(page, "utf-8")
    return path


def facts(config, digits, results, seconds) -> list[tuple[str, str]]:
    env = _run.environment()
    versions = ", ".join(f"{name} {version}" for name, version in env["versions"].items())
    return [
        (
            "Task",
            "Say which digit an 8×8 image shows. The images are scans of 13 people's writing (UCI "
            "optical digits, Alpaydin and Kaynak 1998, CC BY 4.0).",
        ),
        (
            "Split",
            f"{len(digits.train.y):,} images to learn from, {len(digits.test.y)} held out. It is "
            "fixed, by image, and alike for every digit; the same writers occur on both sides.",
        ),
        *[(k, f"{v}: {results[k]['parameters']:,} parameters.") for k, v in NETWORKS.items()],
        (
            "Training",
            f"{config.epochs} epochs of SGD with momentum 0.9 and weight decay 0.001, in batches "
            "of 32; the learning rate falls along a cosine from 0.1 (MLP) or 0.05 (CNN) to 0. In "
            "every epoch each image is turned by up to 12 degrees and moved by up to 0.7 pixels "
            "anew.",
        ),
        (
            "Choices",
            "The settings come from cross-validation on the training images, and no run, epoch or "
            "seed was picked by the held-out images; but two strengths of the turns and moves had "
            "been tried on those too before these were settled.",
        ),
        ("Seed", f"{config.seed}, for initial values, order of the images, and augmentation"),
        ("Versions", versions),
        ("Machine", f"{env['machine']}; {env['device']}; commit {env['commit'] or 'unknown'}"),
        ("Time", f"{seconds:.0f} s for everything on this page"),
    ]
