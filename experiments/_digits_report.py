"""The report of the digits experiment: an HTML page of text and figures that loads nothing."""

from __future__ import annotations

import base64
import html
import io
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments import _figure, _run
from jaxdl.data import Dataset


class Picture(NamedTuple):
    """A figure of the page: its PNG file, its alternative text and its caption."""

    png: bytes
    alt: str
    caption: str


class Section(NamedTuple):
    """A heading, with text before and after pictures; blank lines separate paragraphs."""

    title: str
    before: str
    pictures: Sequence[Picture]
    after: str


def save_png(figure: Any, path: Any) -> bytes:
    """Writes a figure to a PNG file and returns the file's content."""
    buffer = io.BytesIO()
    # Once into memory, for the file and for the page.
    figure.savefig(buffer, format="png")
    path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def page(
    title: str,
    lead: str,
    numbers: Sequence[tuple[str, str]],
    facts: Sequence[tuple[str, str]],
    sections: Sequence[Section],
    footer: str,
) -> str:
    """Returns the page's HTML, which loads no other file.

    Args:
      title, lead, footer: plain text.
      numbers: the results, as (large number, text below it).
      facts: a table of (name, value).
      sections: the body, in order.
    """
    style = (_run.HERE / "page.css").read_text("utf-8")
    large = "".join(f"<div><b>{_t(n)}</b><span>{_t(words)}</span></div>" for n, words in numbers)
    table = "".join(f"<tr><th>{_t(name)}</th><td>{_t(value)}</td></tr>" for name, value in facts)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_t(title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{_t(title)}</h1>
<p class="lead">{_t(lead)}</p>
<div class="numbers">{large}</div>
<div class="scroll"><table>{table}</table></div>
</header>
<main>
{"".join(map(_section, sections))}</main>
<footer>{_t(footer)}</footer>
</body>
</html>
"""


def _section(section: Section) -> str:
    pictures = "".join(
        f'<figure><img alt="{_t(alt)}" src="data:image/png;base64,'
        f'{base64.b64encode(png).decode()}"><figcaption>{_t(caption)}</figcaption></figure>\n'
        for png, alt, caption in section.pictures
    )
    body = f'{_paragraphs(section.before)}<div class="figures">\n{pictures}</div>\n'
    body += _paragraphs(section.after)
    return f"<section>\n<h2>{_t(section.title)}</h2>\n{body}</section>\n"


def _paragraphs(text: str) -> str:
    blocks = (" ".join(block.split()) for block in text.split("\n\n"))
    return "".join(f"<p>{_t(block)}</p>\n" for block in blocks if block)


_t = html.escape


# The report.

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
    findings: Mapping[str, Any],
    start: float,
) -> pathlib.Path:
    """Writes the figures as PNG files and `report.html`, which includes them; returns its path.

    Args:
      folder: the folder of the files.
      config: the experiment's options.
      digits: the data.
      results: the numbers of the record, by network.
      curves: histories by network and optimizer, one for each seed.
      findings: `digits.Findings` by network.
      start: `time.perf_counter` at the start of the experiment.
    """

    def draw(name: str, figure: Any, alt: str, caption: str) -> Picture:
        return Picture(save_png(figure, folder / f"{name}.png"), alt, caption)

    sections = [
        learning(config, curves, draw),
        mistakes(results, findings, draw),
        filters(findings, draw),
        reasons(digits, findings, draw),
        doubts(digits, findings, draw),
        ideals(digits, findings, draw),
    ]
    text = page(
        title="Two networks read handwritten digits",
        lead="How they learn, which images they get wrong, which pixels decide, and which image "
        "has the highest score for each digit.",
        numbers=[
            (
                f"{100 * r['accuracy']:.1f} %",
                f"{name}: {r['correct']} of {r['of']} new images right",
            )
            for name, r in results.items()
        ],
        facts=facts(config, digits, results, time.perf_counter() - start),
        sections=sections,
        footer="Written by python -m experiments digits. This file contains everything it shows; "
        "the figures are also in the same folder as PNG files, and the numbers as result.json.",
    )
    path = folder / "report.html"
    path.write_text(text, "utf-8")
    return path


def facts(config, digits, results, seconds) -> list[tuple[str, str]]:
    """Returns the table at the top of the page, as (name, value)."""
    env = _run.environment()
    versions = ", ".join(f"{name} {version}" for name, version in env["versions"].items())
    return [
        (
            "Task",
            "Classify 8×8 images of digits. The images are scans of 13 people's writing (UCI "
            "optical digits, Alpaydin and Kaynak 1998, CC BY 4.0).",
        ),
        (
            "Split",
            f"{len(digits.train.y):,} training images, {len(digits.test.y)} held-out ones. The "
            "split is fixed and stratified by digit; the same writers occur in both parts.",
        ),
        *[(k, f"{v}: {results[k]['parameters']:,} parameters.") for k, v in NETWORKS.items()],
        (
            "Training",
            f"{config.epochs} epochs of SGD with momentum 0.9 and weight decay 0.001, in batches "
            "of 32; the learning rate falls along a cosine from 0.1 (MLP) or 0.05 (CNN) to 0. In "
            "every epoch each image is rotated by a new angle of up to 12 degrees and moved by up "
            "to 0.7 pixels.",
        ),
        (
            "Choices",
            "The settings come from cross-validation on the training images, and no run, epoch or "
            "seed was chosen by the held-out images; but two strengths of the augmentation had "
            "been tried on those too before the final one was chosen.",
        ),
        ("Seed", f"{config.seed}, for initial values, order of the images, and augmentation"),
        ("Versions", versions),
        ("Machine", f"{env['machine']}; {env['device']}; commit {env['commit'] or 'unknown'}"),
        ("Time", f"{seconds:.0f} s for everything on this page"),
    ]


# The sections: what is shown, and how to read each figure.

Draw = Callable[[str, Any, str, str], Picture]
"""`draw(name, figure, alt, caption)` writes a figure and makes a picture of it."""


def learning(config, curves, draw: Draw) -> Section:
    """Returns the section on three optimizers."""
    pictures = [
        draw(
            f"curves_{name.lower()}",
            _figure.optimizer_curves(histories),
            f"{name}: training loss and held-out accuracy by epoch for three optimizers",
            f"{name}. Line: the mean of {config.compare_seeds} runs; band: from the lowest to the "
            "highest.",
        )
        for name, histories in curves.items()
    ]
    return Section(
        "How they learn",
        """Training changes the weights in small steps that reduce the loss: the mean cross-entropy
        of the right answers, in nats. Three rules for the step are compared. SGD follows the
        negative gradient of the loss on a few images. Momentum adds part of the last step, and so
        accelerates where the gradient keeps its direction. Adagrad divides the step of each weight
        by the root of the sum of its squared gradients.""",
        pictures,
        """How to read it: above, lower is better, and each line of the scale is a factor of ten.
        Below, higher is better. Where the loss still falls and the accuracy no longer rises, the
        network only memorizes its training images. Here each rule has a constant learning rate,
        the best of four, and the images are not augmented. All other sections are about the final
        networks, which were trained with augmentation.""",
    )


def mistakes(results, findings, draw: Draw) -> Section:
    """Returns the section with the confusion matrices."""

    def caption(name):
        wrong = results[name]["of"] - results[name]["correct"]
        number = "No mistakes" if wrong == 0 else "1 mistake" if wrong == 1 else f"{wrong} mistakes"
        return f"{name}. {number} in {results[name]['of']} images."

    pictures = [
        draw(
            f"confusion_{name.lower()}",
            _figure.confusion(one.confusion),
            f"{name}: confusion matrix of the held-out images",
            caption(name),
        )
        for name, one in findings.items()
    ]
    return Section(
        "Which images they get wrong",
        """Every held-out image is counted once: in the row of its digit, and in the column of the
        digit that the network predicts.""",
        pictures,
        """How to read it: the grey diagonal counts the right predictions, and the red cells count
        mistakes. A row with much red is a digit that is often missed; a column with much red is a
        digit that is predicted too often.""",
    )


def filters(findings, draw: Draw) -> Section:
    """Returns the section with the weights of the first layers."""
    weights = findings["MLP"].filters
    # All 128 would be too small to read on a phone.
    largest = np.argsort(-np.linalg.norm(weights, axis=(1, 2)))[:40]
    pictures = [
        draw(
            "filters_mlp",
            _figure.filters(weights[largest], columns=8),
            "First-layer weights of 40 units of the MLP as 8×8 images",
            f"MLP: the 40 of its {len(weights)} units with the largest weights, one weight for "
            "each of the 8×8 pixels.",
        ),
        draw(
            "filters_cnn",
            _figure.filters(findings["CNN"].filters, columns=8),
            "The 16 kernels of the CNN's first layer as 3×3 images",
            "CNN: all 16 kernels. Each slides over the image, and so measures the same pattern at "
            "every position.",
        ),
    ]
    return Section(
        "What their first layers measure",
        """A unit of the first layer computes a weighted sum of the pixels. Its weights, arranged
        like the pixels they belong to, are a picture of what it measures.""",
        pictures,
        """How to read it: ink on red raises the unit, ink on blue lowers it, ink on white does
        nothing. Red next to blue measures an edge or a stroke in that direction. All units of a
        network share one scale. The MLP has to learn a stroke separately for every position; the
        CNN learns it once.""",
    )


def reasons(digits, findings, draw: Draw) -> Section:
    """Returns the section with the saliency of right decisions."""
    images, labels = digits.test.x[..., 0], digits.test.y
    # The same images for both networks, so that their maps can be compared.
    both = np.logical_and.reduce([one.correct for one in findings.values()])
    rows = [np.flatnonzero(both & (labels == k))[0] for k in np.unique(labels[both])]
    pictures = [
        draw(
            f"right_{name.lower()}",
            _figure.decisions(
                images[rows],
                one.saliency[rows],
                [f"{labels[i]} ({100 * one.probabilities[i].max():.0f} %)" for i in rows],
                scale(one),
            ),
            f"{name}: right decisions and their saliency",
            f"{name}. Of each digit, the first held-out image that both networks get right.",
        )
        for name, one in findings.items()
        if rows
    ]
    return Section(
        "Why they decide: right decisions",
        """Saliency shows which pixels a decision is most sensitive to. It is the size of the
        derivative, |∂y/∂x|, where y is the score of the predicted digit, before the softmax, and x
        the ink of one pixel, from 0 to 1.""",
        pictures,
        """How to read it: below each image is the same image with its saliency in red. The denser
        the red, the more the score would change with a little more or less ink at that pixel. Red
        on white paper counts too: ink there would change the score. All maps of a network share
        one scale. In brackets is the probability of the predicted digit.

        Saliency is local. It describes small changes of this image, not the removal of a whole
        stroke. It is also noisy, since the derivative of a network may change quickly from one
        image to the next; its regions are more reliable than its single pixels.""",
    )


def doubts(digits, findings, draw: Draw) -> Section:
    """Returns the section with the saliency of wrong and uncertain decisions."""
    images, labels = digits.test.x[..., 0], digits.test.y
    pictures = []
    for name, one in findings.items():
        decided, sure = one.probabilities.argmax(1), one.probabilities.max(1)
        wrong = np.flatnonzero(~one.correct)
        doubtful = sorted(np.flatnonzero(one.correct), key=lambda i, sure=sure: sure[i])
        rows = [*wrong[:10], *doubtful[: max(0, 10 - len(wrong))]]
        titles = [
            f"{labels[i]} as {decided[i]}\n({100 * sure[i]:.0f} %)"
            if decided[i] != labels[i]
            else f"{labels[i]}\n({100 * sure[i]:.0f} %)"
            for i in rows
        ]
        pictures.append(
            draw(
                f"wrong_{name.lower()}",
                _figure.decisions(images[rows], one.saliency[rows], titles, scale(one)),
                f"{name}: wrong and uncertain decisions and their saliency",
                f"{name}. {describe_selection(len(wrong))}",
            )
        )
    return Section(
        "Why they decide: wrong and uncertain decisions",
        """"8 as 1" is an 8 that was classified as a 1. A single digit is a right decision with one
        of the lowest probabilities. The saliency is that of the score of the predicted digit, on
        the same scale as above.""",
        pictures,
        """How to read it: check first whether you would have recognized the digit yourself. Then
        look where the red is densest: often at the one gap or stroke by which two digits differ. A
        threshold on the probability would have caught a mistake with a low probability, but not
        one with a high probability.""",
    )


def describe_selection(wrong: int) -> str:
    """Returns which ten decisions are shown, of a network with that many mistakes."""
    if wrong > 10:
        return f"The first ten of {wrong} mistakes."
    if wrong == 10:
        return "Its ten mistakes."
    mistakes = {0: "No mistakes;", 1: "Its one mistake, then"}.get(
        wrong, f"Its {wrong} mistakes, then"
    )
    return f"{mistakes} the {10 - wrong} least certain right decisions."


def scale(one: Any) -> float:
    """Returns the end of a network's saliency scale, which one pixel in a thousand exceeds."""
    # Not the maximum: one pixel would make all other maps pale.
    return float(np.quantile(one.saliency, 0.999))


def ideals(digits, findings, draw: Draw) -> Section:
    """Returns the section with the image that maximizes the score of each digit."""
    images, labels = digits.train.x[..., 0], digits.train.y
    digit = range(10)
    pictures = [
        draw(
            f"ideals_{name.lower()}",
            _figure.faces(
                one.ideals.image[..., 0],
                [
                    f"{k} ({score:.0f})"
                    for k, score in zip(digit, one.ideals.score[:, -1], strict=True)
                ],
            ),
            f"{name}: the image that raises the score of each digit most",
            f"{name}. In brackets the score reached; for a held-out image, the highest of its ten "
            f"scores is {np.median(one.scores.max(1)):.0f} in the median.",
        )
        for name, one in findings.items()
    ]
    pictures.append(
        draw(
            "means",
            _figure.faces(
                np.stack([images[labels == k].mean(0) for k in digit]), [str(k) for k in digit]
            ),
            "The average training image of each digit",
            "For comparison: the average of each digit's training images.",
        )
    )
    return Section(
        "Which image has the highest score",
        """Activation maximization starts from an almost empty image and changes its ink step by
        step so that the score of one digit rises: it maximizes f(I) − λ‖I‖² over images I, where f
        is the score before the softmax and every pixel stays between no ink and full ink. The
        penalty, with λ = 1 for the MLP and 2 for the CNN, removes ink that hardly raises the
        score.""",
        pictures,
        """How to read it: ink is dark where it raises the score of the digit, and absent where it
        lowers the score or does not change it. What distinguishes a digit from the others is
        visible; what they share may be missing. Some of these are poor digits, and yet their
        scores are as high as those of real ones: the networks were trained to distinguish ten
        digits, not to draw them.""",
    )
