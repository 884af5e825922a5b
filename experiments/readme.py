"""Rewrites the README's table and picture from the committed results."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil

from experiments import _run
from experiments._results import ROOT, claimed, counts, of, reliable, sources, speed

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
    page = ROOT / "docs" / "train" / "reliability.md"
    opening, closing = "<!-- reliability -->\n", "<!-- /reliability -->"
    before, rest = page.read_text("utf-8").split(opening)
    page.write_text(before + opening + counts() + closing + rest.split(closing)[1], "utf-8")
    methods = config.results / "explain_photo" / "methods.png"
    if methods.is_file():
        shutil.copy(methods, ROOT / "docs" / "_static" / "methods.png")
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
            "train/step.py train/fit.py train/sweep.py",
            *speed("train", "torch"),
        ),
        (
            "recurrent networks: every cell, any length",
            "nn/recurrent/rnn.py nn/recurrent/lstm.py nn/recurrent/gru.py "
            "nn/recurrent/cell.py nn/recurrent/stacked.py nn/recurrent/bidirectional.py",
            *speed("rnn", "torch"),
        ),
        ("what BPTT does", "nn/recurrent/bptt.py", *of("long_memory")),
        ("the cliff, and clipping", "nn/recurrent/bptt.py", *of("rough_surface")),
        ("slot filling", "nn/recurrent/bidirectional.py", *of("slot_filling")),
        ("a language model", "nn/recurrent/lstm.py", *of("char_lm")),
        ("sentiment", "nn/recurrent/gru.py", *of("sentiment")),
        ("speech by CTC", "decode/ctc.py", *of("spoken_digits")),
        (
            "translation with attention",
            "zoo/sequence/encoder_decoder.py nn/attention.py decode/search.py",
            *of("translate"),
        ),
        (
            "runs that survive",
            "train/checkpoint.py train/run.py train/sharding.py",
            *reliable(),
        ),
        ("data", "data/digits.py data/idx.py data/cifar.py data/augment.py", "", ""),
        (
            "why a network decides",
            "interpret/saliency.py interpret/integrated_gradients.py interpret/occlusion.py "
            "interpret/cam.py",
            *of("digits"),
        ),
        (
            "relevance through any program",
            "interpret/lrp/lrp.py interpret/deep_lift.py",
            *of("clever_hans"),
        ),
        (
            "the speed of explanations",
            "interpret/_input.py jaxpr/incremental/rules.py interpret/lrp/backward.py",
            *speed("attribution", "Captum", "Zennit"),
        ),
        ("words that decide an LSTM", "interpret/lrp/lrp.py", *of("explain_lstm")),
        ("judging explanations", "interpret/evaluate/__init__.py", *of("explain_photo")),
        ("all explanations on digits", "interpret/__init__.py", *of("explain_digits")),
        ("networks that are fooled", "attack/gradient.py", *of("adversarial")),
        ("what it believes", "interpret/activation_maximization.py", "digits", ""),
        (
            "networks for images",
            "zoo/vision/alexnet.py zoo/vision/vgg.py zoo/vision/googlenet.py zoo/vision/resnet.py "
            "zoo/vision/efficientnet.py",
            *of("plain_56"),
        ),
        (
            "[the lectures' claims](experiments/README.md)",
            "train/sweep.py zoo/classic/neuron.py zoo/classic/rbm.py",
            "report",
            claimed(),
        ),
        ("the lectures' network and a CNN", "train/fit.py", *of("mnist")),
        ("Flax networks, weights in files", "interop/flax.py interop/safetensors.py", "", ""),
    ]
    lines = ["| topic | file | experiment | result |", "|---|---|---|---|"]
    for topic, files, experiment, result in rows:
        links = " ".join(f"[{pathlib.Path(f).name}](jaxdl/{f})" for f in files.split())
        code = experiment and f"`{experiment}`"
        lines.append(f"| {topic} | {links} | {code} | {result} |")
    return "\n".join(lines) + "\n\n" + sources()


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
