"""`python -m benchmarks._real_page`: writes docs/interpret/real_networks.md from the results."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from benchmarks.real_networks import COLUMNS, cells

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "real_networks.json"
PAGE = ROOT / "docs" / "interpret" / "real_networks.md"
TITLES = {
    "lite0": "EfficientNet-Lite0, pretrained, two photographs of 224x224",
    "resnet50": "ResNet-50, one image of 224x224",
    "densenet121": "DenseNet-121, one image of 224x224",
    "unet": "U-Net, one image of 128x128",
    "vit": "ViT-B/16, one image of 224x224",
    "minilm": "MiniLM, pretrained, eight sentences",
    "gpt2": "A decoder of GPT-2's size, 32 tokens",
}
INTRODUCTION = """# Real networks

Explanations of seven networks, measured against Captum and Zennit on the same weights by `python
-m benchmarks real_networks`. EfficientNet-Lite0 and MiniLM have their published weights; the
others have random weights, biases, scales, running statistics and positions, none of them all 0
or 1. The score is the largest logit, or for MiniLM the cosine with the embedding of a similar
sentence.

- **sum / due**: the sum of an example's attributions over what they should add up to, from the
  least to the greatest of the examples. That is the score for relevance, and the difference of
  the scores of input and baseline (zeros) for integrated gradients, here with {steps} points, and
  DeepLIFT. Relevance without biases adds up to the score; biases keep their share of it, and the
  z+ rule loses what a sum without a positive term had.
- **largest / score**: the largest absolute value over the absolute score.
- **difference**: the largest absolute difference from the peer's attributions over their largest
  absolute value. **correlation**: Pearson's, of an example's attributions. Both of the example
  that agrees least.
- **compile s**: of our program, with the weights as arguments. **ms**: medians of warm calls,
  each side in a separate process, in turn; **ratio** is ours / the peer's. **MB**: by how much
  the first call raised the process's memory.
- **reference**: a modified forward pass, written from the papers
  (`benchmarks/_real_reference.py`); x times its gradient is the relevance. It runs in JAX too.
  Captum's DeepLIFT treats ReLU6, GELU, layer norm and products of two values as their gradients,
  so its sums are not what is due there. Zennit has no rule for attention.

"""


def page(results: dict[str, Any]) -> str:
    """Returns the page of a benchmark's record."""
    from benchmarks._real_methods import STEPS

    parts = [INTRODUCTION.format(steps=STEPS)]
    for network, title in TITLES.items():
        rows = [row for row in results["rows"] if row["network"] == network]
        if rows:
            lines = [f"## {title}", "", _table(COLUMNS), _table(["---"] * len(COLUMNS))]
            parts.append("\n".join([*lines, *(_table(cells(row)) for row in rows), "", ""]))
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    machine = results["machine"]
    parts.append(
        f"{results['date'][:10]}, {machine['cpu']}, {machine['cores']} cores; {versions}.\n"
    )
    return "".join(parts)


def _table(row: Any) -> str:
    return f"| {' | '.join(row)} |"


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(RESULTS.read_text("utf-8"))), "utf-8")
