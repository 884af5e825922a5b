"""The sections of the digits report: what is shown, and how to read each figure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments import _digits_figures as figures
from experiments._report import Picture, Section

Draw = Callable[[str, Any, str, str], Picture]
"""`draw(name, figure, alt, caption)` writes a figure and makes a picture of it."""


def learning(config, curves, draw: Draw) -> Section:
    pictures = [
        draw(
            f"curves_{name.lower()}",
            figures.curves(histories),
            f"{name}: training loss and held-out accuracy by epoch for three optimizers",
            f"{name}. Line: the mean of {config.compare_seeds} runs; band: from the lowest to the "
            "highest.",
        )
        for name, histories in curves.items()
    ]
    return Section(
        "How they learn",
        """Training changes the weights in small steps so that the loss falls: the average
        surprise, in nats, at the right answers. Three rules for the step are compared. SGD goes
        down the slope of the loss on a few images. Momentum keeps part of the last step, and so
        gathers speed where the slope stays the same. Adagrad divides the step of each weight by
        the size of all its slopes so far.""",
        pictures,
        """How to read it: above, lower is better, and each line of the scale is a factor of ten.
        Below, higher is better. Where the loss still falls and the accuracy no longer rises, the
        network only learns its training images by heart. Here each rule has a constant learning
        rate, the best of four, and sees the images as they are. The final networks, for which
        images were turned and moved, are the ones in all that follows.""",
    )


def mistakes(results, found, draw: Draw) -> Section:
    def caption(name):
        wrong = results[name]["of"] - results[name]["correct"]
        number = "No mistakes" if wrong == 0 else "1 mistake" if wrong == 1 else f"{wrong} mistakes"
        return f"{name}. {number} in {results[name]['of']} images."

    pictures = [
        draw(
            f"confusion_{name.lower()}",
            figures.confusion(one.confusion),
            f"{name}: confusion matrix of the held-out images",
            caption(name),
        )
        for name, one in found.items()
    ]
    return Section(
        "Where they err",
        """Every held-out image is counted once: in the row of the digit it is, and in the column
        of the digit that the network takes it for.""",
        pictures,
        """How to read it: the right decisions lie on the grey diagonal, and every red cell holds
        mistakes. A row with much red is a digit that is hard to know; a column with much red is a
        digit that the network is quick to see.""",
    )


def filters(found, draw: Draw) -> Section:
    weights = found["MLP"].filters
    largest = np.argsort(-np.linalg.norm(weights, axis=(1, 2)))[:40]
    pictures = [
        draw(
            "filters_mlp",
            figures.filters(weights[largest], columns=8),
            "First-layer weights of 40 units of the MLP as 8×8 images",
            f"MLP: the 40 of its {len(weights)} units with the largest weights, one weight for "
            "each of the 8×8 pixels.",
        ),
        draw(
            "filters_cnn",
            figures.filters(found["CNN"].filters, columns=8),
            "The 16 kernels of the CNN's first layer as 3×3 images",
            "CNN: all 16 kernels. Each slides over the image, and so measures the same thing at "
            "every place.",
        ),
    ]
    return Section(
        "What their first layers measure",
        """A unit of the first layer multiplies the ink of each pixel by a weight and adds up. Its
        weights, laid out like the pixels they belong to, are a picture of what it measures.""",
        pictures,
        """How to read it: ink on red raises the unit, ink on blue lowers it, ink on white does
        nothing. Red beside blue measures an edge or a stroke in that direction. One scale holds
        for all units of a network. The MLP has to learn a stroke anew for every place; the CNN
        learns it once.""",
    )


def reasons(digits, found, draw: Draw) -> Section:
    images, labels = digits.test.x[..., 0], digits.test.y
    both = np.logical_and.reduce([one.correct for one in found.values()])
    rows = [np.flatnonzero(both & (labels == k))[0] for k in np.unique(labels[both])]
    pictures = [
        draw(
            f"right_{name.lower()}",
            figures.decisions(
                images[rows],
                one.saliency[rows],
                [f"{labels[i]} ({100 * one.probabilities[i].max():.0f} %)" for i in rows],
                scale(one),
            ),
            f"{name}: right decisions and their saliency",
            f"{name}. Of each digit, the first held-out image that both networks get right.",
        )
        for name, one in found.items()
        if rows
    ]
    return Section(
        "Why they decide: right decisions",
        """Saliency asks of one image: which pixels does the decision hang on? It is the size of
        the derivative, |∂y/∂x|, where y is the score of the digit decided for, before the softmax,
        and x the ink of one pixel, from 0 to 1.""",
        pictures,
        """How to read it: each image stands above the same image with its saliency in red. The
        denser the red, the more the score would change with a little more ink at that pixel, or a
        little less. Red on white paper counts too: there the network checks that no stroke is.
        All maps of a network share one scale. In brackets is the probability that the network
        gives its decision.

        Saliency is local. It speaks of small changes to this image, not of what would happen if a
        whole stroke were gone. It is also grainy, since the derivative of a network may change
        quickly from one image to the next; trust its regions more than its single pixels.""",
    )


def doubts(digits, found, draw: Draw) -> Section:
    images, labels = digits.test.x[..., 0], digits.test.y
    pictures = []
    for name, one in found.items():
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
                figures.decisions(images[rows], one.saliency[rows], titles, scale(one)),
                f"{name}: wrong and doubtful decisions and their saliency",
                f"{name}. {_shown(len(wrong))}",
            )
        )
    return Section(
        "Why they decide: wrong decisions, and doubtful ones",
        """"8 as 1" is an 8 that was taken for a 1. A single digit is a right decision, but one of
        those that the network was least sure of. The saliency is that of the score of the digit
        decided for, on the same scale as above.""",
        pictures,
        """How to read it: look first whether you would have known the digit yourself. Then look
        where the red is densest: often at the one gap or stroke by which two digits differ. A
        mistake with a low probability is one that the network could have warned of; one with a
        high probability it would not have noticed.""",
    )


def _shown(wrong: int) -> str:
    if wrong > 10:
        return f"The first ten of {wrong} mistakes."
    if wrong == 10:
        return "Its ten mistakes."
    mistakes = {0: "No mistakes;", 1: "Its one mistake, then"}.get(
        wrong, f"Its {wrong} mistakes, then"
    )
    return f"{mistakes} the {10 - wrong} most doubtful right decisions."


def scale(one: Any) -> float:
    """The end of a network's saliency scale; few pixels of the held-out images lie beyond."""
    return float(np.quantile(one.saliency, 0.999))


def ideals(digits, found, draw: Draw) -> Section:
    images, labels = digits.train.x[..., 0], digits.train.y
    digit = range(10)
    pictures = [
        draw(
            f"ideals_{name.lower()}",
            figures.faces(
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
        for name, one in found.items()
    ]
    pictures.append(
        draw(
            "means",
            figures.faces(
                np.stack([images[labels == k].mean(0) for k in digit]), [str(k) for k in digit]
            ),
            "The average training image of each digit",
            "For comparison: the average of each digit's training images.",
        )
    )
    return Section(
        "What they take for the purest example",
        """Here no image is given. From an almost empty one, the ink is changed step by step so
        that the score of one digit rises: the picture found is the I for which f(I) − λ‖I‖² is
        largest, where f is the score before the softmax and every pixel stays between no ink and
        full ink. The penalty, with λ = 1 for the MLP and 2 for the CNN, removes ink that hardly
        helps.""",
        pictures,
        """How to read it: dark is where ink speaks for the digit; white is where it speaks
        against it, or does not matter. What sets a digit apart from the others is there; what it
        shares with them may be missing. A person would call some of these poor digits, and yet
        their scores rival those of real ones: the networks were asked to tell ten digits apart,
        not to draw them.""",
    )
