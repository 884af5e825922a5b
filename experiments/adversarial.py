"""Attacks by gradient ascent bring the accuracy below 10 %. Lecture row T14.

Goodfellow et al. 2015 (arXiv 1412.6572), Madry et al. 2018 (arXiv 1706.06083). The networks are
those of `noisy_test`. Random noise of the same size hardly lowers their accuracy: it is the
direction that counts, which is the gradient by the input.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from experiments import _figure, _lecture, _run, _seeds
from experiments._claim import Claim, Verdict, numbers
from jaxdl import attack

CLAIM = Claim(
    rows=("T14", "R01", "R02"),
    step="goodness",
    statement="Gradient ascent on the input can bring a network's accuracy below 10 %.",
    deck={"clean": None, "noise by lot": None, "one step": None, "forty steps": 0.10},
    source="attack/gradient.py",
    minutes=3,
)
SIZES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2)
"""Largest changes of a pixel; pixels are in [0, 1]."""
SIZE = 0.1
"""The size at which the claim is judged."""


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    seeds: int = 5
    """Networks."""
    images: int = 1000
    """Test images."""


def run(config: Config) -> dict:
    seeds, count = (2, 20) if config.smoke else (config.seeds, config.images)
    networks = _lecture.train_networks(config, activation="relu", seeds=seeds)
    test = _lecture.load_images(config.smoke).test
    x, y = jax.numpy.asarray(test.x[:count]), test.y[:count]
    # Forty steps, as Madry et al. 2018 take on MNIST.
    steps = 3 if config.smoke else 40

    @jax.jit
    def attack_images(params, key, size):
        def f(x):
            return networks.model.apply(params, {}, x)[0]

        # Noise of the full size in every pixel, as one step of FGSM has.
        signs = jax.random.rademacher(key, x.shape, x.dtype)
        changed = {
            "noise by lot": (x + size * signs).clip(0, 1),
            "one step": attack.fgsm(f, x, y, size),
            "forty steps": attack.pgd(f, x, y, size, steps=steps),
        }
        answers = {name: f(inputs).argmax(-1) for name, inputs in changed.items()}
        return changed, {name: (answer == y).mean() for name, answer in answers.items()}

    curves: dict[str, list[list[float]]] = {}
    pictures = []
    for size in SIZES:
        rows: dict[str, list[float]] = {}
        for i in range(len(networks)):
            params = jax.tree.map(lambda a, i=i: a[i], networks.params)
            changed, accuracy = attack_images(params, jax.random.key(config.seed + i), size)
            for name, value in accuracy.items():
                rows.setdefault(name, []).append(float(value))
            if size == SIZE and i == 0:
                pictures = [x[0], *(images[0] for images in changed.values())]
        for name, values in rows.items():
            curves.setdefault(name, []).append(values)
        print(f"size {size:.2f}:", {name: round(np.mean(v), 3) for name, v in rows.items()})
    measured = {"clean": _seeds.summarize(curves["one step"][0])}
    measured |= {name: _seeds.summarize(v[SIZES.index(SIZE)]) for name, v in curves.items()}
    result = {
        "measured": measured,
        "sizes": list(SIZES),
        "curves": numbers(curves),
        "pictures": numbers(np.concatenate(pictures, 1)[..., 0], 2),
        **_seeds.summarize_times({"networks": networks}),
    }
    _figure.save(draw(result), config, "adversarial", "adversarial")
    return result


def judge(result: dict) -> Verdict:
    """Requires an accuracy below 0.1 after forty steps, where random noise costs at most 0.05.

    The accuracy after one step is reported too.
    """
    clean, noise, one, forty = (result["measured"][name]["mean"] for name in CLAIM.deck)
    holds = clean > 0.95 and noise > clean - 0.05 and forty < 0.1
    enough = [
        size
        for size, values in zip(result["sizes"], result["curves"]["one step"], strict=True)
        if np.mean(values) < 0.1
    ]
    beyond, needed = not enough, min(enough, default=max(result["sizes"]))
    return Verdict(
        "holds" if holds else "does not hold",
        f"when each pixel may change by {SIZE:g} of the range from white to black, the accuracy of "
        f"{clean:.3f} falls to {forty:.3f} after forty small steps of gradient ascent; a single "
        f"step leaves {one:.3f} and needs a change of {'more than ' * beyond}{needed:g} to go "
        f"below one in ten; random noise of the same size leaves {noise:.3f}",
        {
            "size": SIZE,
            "clean": clean,
            "noise": noise,
            "one": one,
            "forty": forty,
            "needed": needed,
            "beyond": beyond,
        },
    )


def draw(result: dict) -> Any:
    """Draws the accuracy by the size of the change, and an image with each kind of change."""
    plt = _figure.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
    for name, values in result["curves"].items():
        means, deviations = np.mean(values, 1), np.std(values, 1)
        left.errorbar(result["sizes"], means, deviations, marker="o", capsize=3, label=name)
    left.axhline(0.1, color="0.5", ls=":", lw=1)
    left.set(xlabel="largest change of a pixel", ylabel="test accuracy", ylim=(0, 1.02))
    left.legend(frameon=False)
    right.imshow(result["pictures"], cmap="gray_r", vmin=0, vmax=1)
    width = len(result["pictures"])
    names = ["clean", *result["curves"]]
    right.set(xticks=[width * (i + 0.5) for i in range(4)], xticklabels=names, yticks=[])
    right.set(title=f"changes of {SIZE:g}")
    return figure
