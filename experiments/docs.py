"""Writes the generated parts of the documentation from the committed results.

`docs/results.md`, the ratios in `docs/benchmarks.md`, the counts in `docs/train/reliability.md` and
the table of rows in `docs/lectures.md` come from `experiments/results`, `benchmarks/results` and
the tests. `--pictures` draws the photographs and their explanations below `docs/_static` too.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import pathlib
import re
import statistics
import tomllib
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import tyro

from experiments import _claim, _run, coverage

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    """`--results` is the folder that experiments wrote to; the gallery's figures are copied."""

    pictures: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Draw the pictures below docs/_static, which needs the weights of EfficientNet-Lite0."""
    only: str | None = None
    """Draw one of the pictures, such as lrp for docs/interpret/lrp.md."""


def run(config: Config) -> None:
    if config.smoke:
        for part in PARTS.values():
            print(part())
        return
    for page in {page for page, _ in PARTS}:
        (DOCS / page).write_text(regenerate(page), "utf-8")
    copy_figures(config.results)
    if config.pictures or config.only:
        from experiments import _pictures  # imports matplotlib

        _pictures.draw_all(config.only)


GALLERY = (
    "explain_classifier/answers",
    "explain_classifier/classes",
    "explain_segmentation/regions",
    "explain_detection/boxes",
    "fashion/test_images",
    "fooling/digits",
    "fooling/photograph",
)
"""Figures of `docs/gallery.md`, by experiment."""
WIDTH = 1400
"""Largest width of a figure of the gallery, in pixels."""


def copy_figures(results: pathlib.Path) -> None:
    """Copies the gallery's figures of a results folder, those that it has, as JPEG."""
    from PIL import Image

    folder = DOCS / "_static" / "gallery"
    for name in GALLERY:
        source = results / f"{name}.png"
        if source.is_file():
            picture = Image.open(source).convert("RGB")
            picture.thumbnail((WIDTH, WIDTH))
            folder.mkdir(exist_ok=True)
            path = folder / f"{name.replace('/', '_')}.jpg"
            picture.save(path, quality=80, optimize=True)
            print(f"figure: {path}")


def regenerate(page: str) -> str:
    """Returns the text of a page of docs/ with its generated parts replaced."""
    text = (DOCS / page).read_text("utf-8")
    for (name, part), write in PARTS.items():
        if name == page:
            start, end = f"<!-- {part} -->\n", f"<!-- /{part} -->"
            # Exactly two parts: a page that has a mark twice, or not at all, raises here.
            before, rest = text.split(start)
            text = before + start + write() + end + rest.split(end)[1]
    return text


# Results of experiments


def results() -> str:
    """Returns the table of topics with their code, experiment and result."""
    rows = [
        ("training many networks at once", "train/sweep.py zoo/classic/neuron.py", "report"),
        ("MNIST", "train/fit.py", "mnist"),
        ("embedded digits", "interpret/saliency.py interpret/cam.py", "digits"),
        ("residual networks", "zoo/vision/cifar_resnet.py", "plain_56"),
        (
            "4,000 images of CIFAR-10",
            "zoo/vision/cifar_resnet.py data/augment.py",
            "cifar_classify",
        ),
        ("Fashion-MNIST", "zoo/vision/cifar_resnet.py train/fit.py", "fashion"),
        (
            "membranes of nerve cells",
            "zoo/segmentation/unet.py metrics/segmentation.py",
            "membranes",
        ),
        ("blood cells", "zoo/detection/faster_rcnn.py metrics/detection.py", "cells"),
        ("long-term memory", "nn/recurrent/bptt.py", "long_memory"),
        ("gradient clipping", "nn/recurrent/bptt.py", "rough_surface"),
        ("slot filling", "nn/recurrent/bidirectional.py", "slot_filling"),
        ("language model", "nn/recurrent/lstm.py", "char_lm"),
        ("sentiment", "nn/recurrent/gru.py", "sentiment"),
        ("speech recognition by CTC", "decode/ctc.py", "spoken_digits"),
        (
            "translation with attention",
            "zoo/sequence/encoder_decoder.py nn/attention.py decode/search.py",
            "translate",
        ),
        ("a confounded data set", "interpret/lrp/lrp.py", "clever_hans"),
        ("attribution of words", "interpret/lrp/lrp.py", "explain_lstm"),
        ("comparison of attributions, photographs", "interpret/evaluate/", "explain_photo"),
        ("comparison of attributions, digits", "interpret/evaluate/", "explain_digits"),
        (
            "explanations of a classifier, pictures of classes",
            "interpret/lrp/lrp.py interpret/cam.py interpret/activation_maximization.py",
            "explain_classifier",
        ),
        ("explanations of a segmentation", "interpret/lrp/lrp.py", "explain_segmentation"),
        ("explanations of a detector", "interpret/lrp/lrp.py", "explain_detection"),
        ("adversarial examples", "attack/gradient.py", "adversarial"),
        (
            "attacks on digits, noise and photographs",
            "attack/gradient.py attack/one_pixel.py",
            "fooling",
        ),
        ("transfer of attacks and defences", "defend/ attack/transfer.py", "transfer_defend"),
    ]
    lines = ["| topic | experiment | result | code in `jaxdl/` |", "|---|---|---|---|"]
    for topic, files, experiment in rows:
        code = " ".join(f"`{file}`" for file in files.split())
        lines.append(f"| {topic} | `{experiment}` | {summary(experiment)} | {code} |")
    return "\n".join(lines) + "\n"


def provenance() -> str:
    """Returns the table of seeds, commits, versions and machines of all results."""
    lines = [
        "| experiment | seed | commit | JAX | Python | machine | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in _run.names():
        result = read_result(name)
        if result is not None:
            versions = result["versions"]
            training = result["metrics"].get("seconds", 0)  # of all networks together, or of each
            parts = training.values() if isinstance(training, dict) else [training]
            seconds = max(result["seconds"], sum(parts))
            lines.append(
                f"| `{name}` | {result['seed']} | {result['commit']} | {versions['jax']} | "
                f"{versions['python']} | {machine(result)} | {seconds / 60:.1f} |"
            )
    return "\n".join(lines) + "\n"


def machine(result: dict[str, Any]) -> str:
    """Returns the machine of a result, with the device unless that is its CPU."""
    if result["device"].endswith(" cpu"):
        return result["machine"]
    return f"{result['device']}; {result['machine']}"


def read_result(name: str) -> dict[str, Any] | None:
    path = _run.RESULTS / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def summary(name: str) -> str:
    """Returns an experiment's result in words: for a claim, the outcome and its reason."""
    if name == "report":
        counts = _claim.count_outcomes(_claim.claims())
        parts = (f"{outcome}: {count}" for outcome, count in counts.items())
        return "claims of the lectures: " + ", ".join(parts)
    result = read_result(name)
    if result is None:
        return ""
    claims = dict(_claim.modules())
    if name in claims:
        verdict = claims[name].judge(result["metrics"])
        return f"{verdict.outcome}: {verdict.reason}"
    return SUMMARIES[name](result["metrics"])


def accuracy(metrics: dict[str, Any]) -> str:
    networks = [
        f"{network} {measured['accuracy']:.4f}"
        for network, measured in metrics.items()
        if "accuracy" in measured
    ]
    return "held-out accuracy: " + ", ".join(networks)


def clipping(metrics: dict[str, Any]) -> str:
    plain, clipped = (metrics[name]["final_loss"] for name in ("plain", "clipped"))
    return f"final loss from a start at the cliff: {plain:.3f}, with clipping {clipped:.3f}"


def best_methods(metrics: dict[str, Any]) -> str:
    best = ", ".join(f"{name} ({measure})" for measure, name in metrics["best"].items())
    return f"best of {len(metrics['areas'])} methods: {best}"


def class_pictures(metrics: dict[str, Any]) -> str:
    views, one = (
        statistics.mean(metrics["classes"][name]["probability of shifted copies"])
        for name in ("highest mean over views", "highest logit")
    )
    return (
        f"accuracy {metrics['accuracy']:.4f}; probability of a class for its picture, shifted: "
        f"{views:.2f}, and {one:.2f} if the logit of one view was maximized"
    )


def regions(metrics: dict[str, Any]) -> str:
    half = metrics["within"]["LRP"]["radius of half"]
    return (
        f"half of the relevance of a region of 5x5 pixels within {half} pixels of its centre, "
        f"receptive field {metrics['receptive field']} pixels"
    )


def boxes(metrics: dict[str, Any]) -> str:
    shares = ", ".join(
        f"{name} {row['LRP, inside']:.2f} (of the area {row['share of area']:.3f})"
        for name, row in metrics["by class"].items()
    )
    return f"share of the relevance inside of a box: {shares}"


def words(metrics: dict[str, Any]) -> str:
    value = metrics["rank_correlation"]["LRP and removal"]
    return f"rank correlation of relevance with the effect of removing a word: {value:.2f}"


def confounder(metrics: dict[str, Any]) -> str:
    parts = [
        f"{name} the correction {measured['like_training']:.4f} with the mark, "
        f"{measured['clean']:.4f} without"
        for name, measured in ((name, metrics[name]) for name in ("before", "after"))
    ]
    return "accuracy " + "; ".join(parts)


def slots(metrics: dict[str, Any]) -> str:
    cities = ", ".join(f"{k} {v['city_accuracy']:.3f}" for k, v in metrics["travel"].items())
    if "snips" not in metrics:
        return f"accuracy of cities: {cities}"
    test = metrics["snips"]["test"]
    return (
        f"accuracy of cities: {cities}; SNIPS slot F1 {test['slot_f1']:.4f}, "
        f"intents {test['intent_accuracy']:.4f}"
    )


def nats(metrics: dict[str, Any]) -> str:
    return f"{metrics['nats_per_character']:.3f} nats per character, {metrics['source']}"


def sentiment(metrics: dict[str, Any]) -> str:
    return f"accuracy {metrics['accuracy']:.4f}, {metrics['source']}"


def speech(metrics: dict[str, Any]) -> str:
    rates = metrics["digit_error_rate"]
    return "digit error rate: " + ", ".join(f"{name} {rate:.4f}" for name, rate in rates.items())


def images(metrics: dict[str, Any]) -> str:
    return (
        f"accuracy {metrics['accuracy']:.4f} of {metrics['test images']:,} test images, "
        f"{metrics['training seconds']:.0f} s of training"
    )


def membranes(metrics: dict[str, Any]) -> str:
    return (
        f"accuracy of pixels {metrics['pixel_accuracy']:.4f}, mean IoU {metrics['miou']:.4f}, "
        f"Rand F-score {metrics['rand_f_score']:.4f}, {metrics['source']}"
    )


def detections(metrics: dict[str, Any]) -> str:
    return (
        f"mean average precision at IoU 0.5 {metrics['map_50']:.3f}, as COCO averages it "
        f"{metrics['map']:.3f}, of {metrics['images']['test']} test images"
    )


def translation(metrics: dict[str, Any]) -> str:
    rows = ", ".join(f"{name} {row['exact_match']:.4f}" for name, row in metrics.items())
    return f"exact match by attention: {rows}"


def attacks(metrics: dict[str, Any]) -> str:
    digits, photographs = metrics["digits"], metrics["photographs"]["attacks"]
    sizes = ", ".join(f"{name} at {size:g}" for name, size in digits["below_0.1"].items() if size)
    rates = ", ".join(f"{n} px {rate:.3f}" for n, rate in digits["one_pixel"].items())
    wanted = max(row["wanted"] for row in photographs.values())
    return (
        f"accuracy {digits['accuracy']:.4f}, below 0.1 by {sizes}; success of pixels: {rates}; "
        f"noise taken for a digit with at least {min(digits['noise']):.3f}; photographs that get a "
        f"wanted name: {wanted:.2f}"
    )


def defences(metrics: dict[str, Any]) -> str:
    rows = ", ".join(
        f"{name} {row['clean']:.3f} and {row['adaptive']:.3f}"
        for name, row in metrics["defences"].items()
    )
    return (
        f"accuracy of clean images and under an adaptive attack of {metrics['epsilon']:g}: {rows}"
    )


SUMMARIES: dict[str, Callable[[dict[str, Any]], str]] = {
    "cells": detections,
    "char_lm": nats,
    "cifar_classify": images,
    "clever_hans": confounder,
    "digits": accuracy,
    "explain_classifier": class_pictures,
    "explain_detection": boxes,
    "explain_digits": best_methods,
    "explain_lstm": words,
    "explain_photo": best_methods,
    "explain_segmentation": regions,
    "fashion": images,
    "fooling": attacks,
    "membranes": membranes,
    "mnist": accuracy,
    "rough_surface": clipping,
    "sentiment": sentiment,
    "slot_filling": slots,
    "spoken_digits": speech,
    "transfer_defend": defences,
    "translate": translation,
}


# Benchmarks


def read_benchmark(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))


def ratios() -> str:
    """Returns one table of time ratios for each benchmark of speed."""
    return "\n".join(
        [
            ratio_table("train", "Training", ("torch", "Keras on JAX", "Flax NNX", "Equinox")),
            ratio_table(
                "rnn",
                "Recurrent layers, (batch, steps, inputs, units)",
                ("torch", "Flax", "Equinox", "Keras on JAX"),
            ),
            ratio_table("vision", "Vision", ("torch", "torch, channels last", "Flax Linen")),
            ratio_table("cpu", "With jaxdl-cpu", ("torch", "without", "the peak")),
            ratio_table("attribution", "Explanations", ("Captum", "Zennit")),
        ]
    )


def ratio_table(name: str, title: str, peers: Sequence[str]) -> str:
    """Returns the rows of a benchmark that compare time with any of some peers, as a table."""
    record = read_benchmark(name)
    cells: dict[str, dict[str, str]] = {}
    for row in record["rows"]:
        # "(32, 100, 128, 256), memory kept" is the same work with another setting.
        variant = "), " in row["work"] or "memory" in row["work"]
        if row["peer"] in peers and row["ratio"] is not None and not variant:
            # Two decimals, because the third differs from run to run.
            ratio = "< 0.01" if row["ratio"] < 0.01 else f"{row['ratio']:.2f}"
            cells.setdefault(row["work"], {})[row["peer"]] = ratio
    versions = record["versions"]
    lines = [
        f"### {title}\n",
        f"`python -m benchmarks {name}`: commit {record['commit']}, JAX {versions['jax']}, Python "
        f"{versions['python']}, {record['machine']['cores']} CPU cores, {record['rounds']} rounds. "
        "Time relative to each library; lower is better.\n",
        "| work | " + " | ".join(peers) + " |",
        "|---|" + "---|" * len(peers),
    ]
    for work, by_peer in cells.items():
        lines.append(f"| {work} | " + " | ".join(by_peer.get(peer, "") for peer in peers) + " |")
    return "\n".join(lines) + "\n"


def counts() -> str:
    """Returns the table of `benchmarks reliability`."""
    lines = ["| check | measured | required |", "|---|---|---|"]
    for row in read_benchmark("reliability")["rows"]:
        missed = "" if row["well"] else " (missed)"
        lines.append(f"| {row['what']} | {row['result']}{missed} | {row['reach']} |")
    return "\n".join(lines) + "\n"


# Rows of the lectures


def lecture_rows() -> str:
    """Returns the table of rows: id, title, tests, and the code that they test.

    The code of a row is the function that its planted fault in `benchmarks/row_faults.toml` is in.
    """
    tests, sections = coverage.find_marks(coverage.TESTS), coverage.remarks()
    faults = tomllib.loads((ROOT / "benchmarks" / "row_faults.toml").read_text("utf-8"))
    lines = ["| Row | Topic | Tests | Code |", "|---|---|---|---|"]
    for row, title in coverage.rows().items():
        places = [f"`{test}`" for test in tests.get(row, ())]
        if not places and row in sections:
            places = ["[remark](remarks.md)"]
        code = f"`{tested_function(faults[row])}`" if row in faults else ""
        text = title.replace("|", "\\|").replace("$", "\\$")
        lines.append(f"| {row} | {text} | {'<br>'.join(places)} | {code} |")
    return "\n".join(lines) + "\n"


def tested_function(fault: dict[str, str]) -> str:
    """Returns the function that a planted fault changes, such as `jaxdl/nn/dense.py: affine`."""
    library = re.search(r"^((?:jax|optax)\.[\w.]+) = ", fault["new"], re.MULTILINE)
    if fault["file"].startswith("tests/") and library:
        return library[1]
    text = (ROOT / fault["file"]).read_text("utf-8")
    line = text[: text.index(fault["old"])].count("\n") + 1
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if node.lineno <= line <= (node.end_lineno or node.lineno):
                return f"{fault['file']}: {node.name}"
    return fault["file"]


PARTS: dict[tuple[str, str], Callable[[], str]] = {
    ("results.md", "results"): results,
    ("results.md", "provenance"): provenance,
    ("benchmarks.md", "ratios"): ratios,
    ("lectures.md", "rows"): lecture_rows,
    ("train/reliability.md", "reliability"): counts,
}
"""The generated parts, by page and by the name in the page's comments."""
