"""Networks and methods of `real_networks`: which are measured, and against what."""

from __future__ import annotations

IMAGES = ("lite0", "resnet50", "densenet121", "unet", "vit")
CONVOLUTIONAL = IMAGES[:-1]
TRANSFORMERS = ("minilm", "vit", "gpt2")
NETWORKS = (*IMAGES, *TRANSFORMERS[::2])

STEPS = 8
"""Points of integrated gradients."""

AT = "embeddings/words"
"""The place in MiniLM that is explained."""

LAYERS = {
    "lite0": "stage7_0",
    "resnet50": "block_3_2",
    "densenet121": "block_3_15",
    "unet": "join_1",
}
"""The place of Grad-CAM."""

TOTALS = {"integrated_gradients": "difference", "deep_lift": "difference"}
"""Expected sums of the attributions of an example; relevance without biases sums to the score."""


def window(network: str) -> tuple[int, ...]:
    """Returns the size of occlusion's window, which is its stride too."""
    if network in ("minilm", "gpt2"):
        return (1 if network == "minilm" else 4, 384 if network == "minilm" else 768)
    side = 32 if network == "unet" else 56
    return side, side, 3


def methods(network: str) -> list[str]:
    """Returns the methods that are measured on a network."""
    sums = ["saliency", "integrated_gradients", "deep_lift", "occlusion", "lrp epsilon"]
    if network in CONVOLUTIONAL:
        sums += ["lrp epsilon_plus", "guided_backprop", "grad_cam"]
    if network in TRANSFORMERS:
        sums += ["lrp attn_lrp", "lrp cp_lrp"]
    return sums


def peer(network: str, method: str) -> str | None:
    """Returns the library that a method is compared with, or None if no library has it."""
    if method in ("lrp attn_lrp", "lrp cp_lrp"):
        return "reference"
    if method.startswith("lrp"):
        return "Zennit" if network in CONVOLUTIONAL else None
    # Captum guides `nn.ReLU`, but not the `nn.ReLU6` of Lite0.
    return "Zennit" if (network, method) == ("lite0", "guided_backprop") else "Captum"
