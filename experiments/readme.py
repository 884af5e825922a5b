"""Rewrites the README's table and picture from the committed results."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

from experiments import _run, _tried

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
            "train/step.py train/fit.py train/many.py",
            *speed("train", "torch"),
        ),
        (
            "recurrent networks: every cell, any length",
            "nn/rnn.py nn/lstm.py nn/gru.py nn/cell.py nn/recurrent.py nn/bidirectional.py",
            *speed("rnn", "torch"),
        ),
        ("what BPTT does", "nn/bptt.py", "long_memory", found("long_memory", memory)),
        ("the cliff, and clipping", "nn/bptt.py", "rough_surface", found("rough_surface", cliff)),
        ("slot filling", "nn/bidirectional.py", "slot_filling", found("slot_filling", slots)),
        ("a language model", "nn/lstm.py", "char_lm", found("char_lm", nats)),
        ("sentiment", "nn/gru.py", "sentiment", found("sentiment", sentiment)),
        ("speech by CTC", "decode/ctc.py", "spoken_digits", found("spoken_digits", speech)),
        (
            "translation with attention",
            "zoo/sequence/encoder_decoder.py nn/attention.py decode/search.py",
            "translate",
            found("translate", translation),
        ),
        (
            "runs that survive",
            "train/checkpoint.py train/run.py train/distributed.py",
            *reliable(),
        ),
        ("data", "data/digits.py data/idx.py data/cifar.py data/augment.py", "", ""),
        (
            "why a network decides",
            "interpret/gradient.py interpret/path.py interpret/perturbation.py interpret/cam.py",
            "digits",
            accuracy("digits"),
        ),
        (
            "relevance through any program",
            "interpret/relevance/lrp.py interpret/relevance/deep_lift.py",
            "clever_hans",
            found("clever_hans", hans),
        ),
        (
            "the speed of explanations",
            "interpret/_input.py interpret/relevance/_walk.py",
            *speed("attribution", "Captum", "Zennit"),
        ),
        (
            "words that decide an LSTM",
            "interpret/relevance/lrp.py",
            "explain_lstm",
            found("explain_lstm", words),
        ),
        (
            "judging explanations",
            "interpret/evaluate/__init__.py",
            "explain_photo",
            found("explain_photo", judged),
        ),
        (
            "all explanations on digits",
            "interpret/__init__.py",
            "explain_digits",
            found("explain_digits", judged),
        ),
        (
            "networks that are fooled",
            "attack/gradient.py",
            "adversarial",
            found("adversarial", said),
        ),
        ("what it believes", "interpret/feature_vis/activation_maximization.py", "digits", ""),
        (
            "networks for images",
            "zoo/vision/alexnet.py zoo/vision/vgg.py zoo/vision/googlenet.py zoo/vision/resnet.py "
            "zoo/vision/efficientnet.py",
            "plain_56",
            found("plain_56", said),
        ),
        (
            "[the lectures' claims](experiments/README.md)",
            "train/many.py zoo/history/neuron.py zoo/history/rbm.py",
            "report",
            claimed(),
        ),
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


def claimed() -> str:
    """How many of the lectures' claims have been tried, and hold."""
    done = [tried for tried in _tried.claims() if tried.result]
    held = sum(tried.metrics["holds"] for tried in done)
    return f"{held} of {len(done)} hold"


def found(name: str, say: Callable[[dict[str, Any]], str]) -> str:
    """What an experiment recorded, in words, or nothing where it has not been run."""
    result = loaded(name)
    return "" if result is None else say(result["metrics"])


def said(metrics: dict[str, Any]) -> str:
    return metrics["said"]


def memory(metrics: dict[str, Any]) -> str:
    length, row = max(metrics["adding"].items(), key=lambda item: int(item[0]))
    cells = ", ".join(f"{cell} {error:.4f}" for cell, error in row.items())
    return f"squared error of adding over {length} steps: {cells}"


def cliff(metrics: dict[str, Any]) -> str:
    plain, clipped = (metrics[name]["final_loss"] for name in ("plain", "clipped"))
    return f"loss after descent from a start at the cliff: plain {plain:.3f}, clipped {clipped:.3f}"


def judged(metrics: dict[str, Any]) -> str:
    best = "; ".join(f"by {measure}: {name}" for measure, name in metrics["best"].items())
    return f"of {len(metrics['areas'])} methods the best {best}"


def words(metrics: dict[str, Any]) -> str:
    value = metrics["rank_correlation"]["LRP and removal"]
    return f"rank correlation of relevance and removal {value:.2f}"


def hans(metrics: dict[str, Any]) -> str:
    parts = [
        f"{name} mending {of['like_training']:.4f} with the mark, {of['clean']:.4f} without"
        for name, of in ((name, metrics[name]) for name in ("before", "after"))
    ]
    return "accuracy " + "; ".join(parts)


def slots(metrics: dict[str, Any]) -> str:
    cities = ", ".join(f"{k} {v['city_accuracy']:.3f}" for k, v in metrics["travel"].items())
    if "snips" not in metrics:
        return f"cities: {cities}"
    test = metrics["snips"]["test"]
    return (
        f"cities: {cities}; SNIPS slot F1 {test['slot_f1']:.4f}, "
        f"intents {test['intent_accuracy']:.4f}"
    )


def nats(metrics: dict[str, Any]) -> str:
    return f"{metrics['nats_per_character']:.3f} nats a character, {metrics['source']}"


def sentiment(metrics: dict[str, Any]) -> str:
    return f"accuracy {metrics['accuracy']:.4f}, {metrics['source']}"


def speech(metrics: dict[str, Any]) -> str:
    rates = metrics["digit_error_rate"]
    return "digit error rate " + ", ".join(f"{name} {rate:.4f}" for name, rate in rates.items())


def translation(metrics: dict[str, Any]) -> str:
    rows = ", ".join(f"{name} {row['exact_match']:.4f}" for name, row in metrics.items())
    return f"exact match by attention: {rows}"


def speed(name: str, *peers: str) -> tuple[str, str]:
    """A benchmark's command and its ratios against some peers."""
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    if not path.is_file():
        return "", ""
    rows = json.loads(path.read_text("utf-8"))
    ratios = [
        f"{short(row['work'])} {row['ratio']:.2f}"
        for row in rows
        if row["peer"] in peers and row["ratio"] is not None and "memory" not in row["work"]
    ]
    whose = " or ".join(peers)
    return f"python -m benchmarks {name}", f"time / {whose}'s: " + ", ".join(ratios)


def reliability_rows() -> list[dict[str, Any]]:
    path = ROOT / "benchmarks" / "results" / "reliability.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else []


def counts() -> str:
    """The table of `benchmarks reliability`."""
    lines = ["| what | found | reach |", "|---|---|---|"]
    for row in reliability_rows():
        missed = "" if row["well"] else " (missed)"
        lines.append(f"| {row['what']} | {row['found']}{missed} | {row['reach']} |")
    return "\n".join(lines) + "\n"


def reliable() -> tuple[str, str]:
    """The benchmark's command and its first counts."""
    rows = reliability_rows()
    found = [f"{row['what'].split(',')[0]} {row['found']}" for row in rows if row["reach"] == "all"]
    return "python -m benchmarks reliability" if rows else "", "; ".join(found)


def short(work: str) -> str:
    """A work's name up to its shape's end, or its first comma."""
    return work if ")" in work else work.split(",")[0]


def sources() -> str:
    """What the numbers come from."""
    lines = []
    for name in _run.names():
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
