"""Explains two pretrained networks, of photographs and of sentences.

EfficientNet-Lite0 classifies photographs of 224 x 224 pixels, and six methods show which pixels
decide; insertion, deletion and ROAD measure them on four photographs. MiniLM computes how similar
two sentences are, and integrated gradients, AttnLRP and ablation show which words make them
similar. Without the weights, small networks with random ones take their place, and the numbers mean
nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _figure, _pretrained, _run, explain_digits
from jaxdl import interpret
from jaxdl.interpret import plot, text

METHODS: dict[str, explain_digits.Explain] = {
    "SmoothGrad": lambda f, x, t, key: interpret.smooth_grad(f, x, target=t, key=key, sigma=0.3),
    "integrated gradients": lambda f, x, t, key: interpret.integrated_gradients(
        f, x, target=t, steps=32
    ),
    "DeepLIFT": lambda f, x, t, key: interpret.deep_lift(f, x, target=t),
    "LRP": lambda f, x, t, key: interpret.lrp(f, x, target=t, composite="epsilon_plus_flat"),
    "Grad-CAM": lambda f, x, t, key: interpret.grad_cam(f, x, target=t, layer="relu2"),
    "occlusion": lambda f, x, t, key: interpret.occlusion(
        f, x, target=t, window=(32, 32, 3), stride=(16, 16, 3)
    ),
}
"""Explanations of a photograph, as `explain_digits.compare` takes them."""

WORD_METHODS: dict[str, Callable[..., jax.Array]] = {
    "integrated gradients": lambda f, ids: interpret.integrated_gradients(
        f, ids, layer="words", steps=32
    ),
    "AttnLRP": lambda f, ids: interpret.lrp(f, ids, layer="words", composite="attn_lrp"),
    "ablation": lambda f, ids: interpret.ablation(
        f, ids, layer="words", mask=np.arange(ids.shape[1])[:, None]
    ),
}
"""`(f, ids) -> (N, T, D)`, explanations by the embeddings of words."""

WHOLE_WORDS = {"ablation"}
"""Methods that give every feature of a word the attribution of the whole word."""


@dataclasses.dataclass(frozen=True)
class Config(_run.Config):
    photograph: Literal["astronaut", "chelsea", "coffee", "dog"] = "dog"
    """The photograph that is drawn; all four are measured."""
    sentence: str = "The cat sat on the mat."
    """The first of the two sentences that are compared."""
    other: str = "A cat is resting on a rug."
    """The second of them."""


def run(config: Config) -> dict:
    return explain_photographs(config) | explain_sentences(config)


def explain_photographs(config: Config) -> dict:
    """Draws the six methods on one photograph and measures them on all."""
    try:
        if config.smoke:
            raise ValueError("this is a smoke run")
        model, trees = _pretrained.lite0()
        photographs, classes = _pretrained.photographs()
        source = "EfficientNet-Lite0"
    except ValueError as missing:
        print(f"a made-up network and image: {missing}")
        model, trees = _pretrained.random_lite0(config.seed)
        source = "made-up network"
        photographs, classes = made_up_images(config.seed), [str(i) for i in range(10)]

    def apply(trees, x):
        return model.apply(*trees, x)[0]

    chosen = min(_pretrained.PHOTOGRAPHS.index(config.photograph), len(photographs) - 1)
    # The scale with which EfficientNet-Lite was trained: pixels in [-1, 1].
    x = (photographs.astype(np.float32) - 127) / 128
    methods = dict(list(METHODS.items())[-2:]) if config.smoke else METHODS
    probabilities = np.asarray(jax.nn.softmax(jax.jit(apply)(trees, x)))
    target = probabilities.argmax(1)
    answers = [f"{classes[t]} {p[t]:.2f}" for t, p in zip(target, probabilities, strict=True)]
    print(f"{source}: {', '.join(answers)}", flush=True)
    areas = explain_digits.compare(apply, [trees], x, methods, jnp.zeros(()))
    maps = []
    for explain in methods.values():
        run = explain_digits.compile_method(apply, explain)
        values = np.asarray(run(trees, x, target, jax.random.key(0)))[chosen]
        maps.append(values.sum(-1) if values.ndim == 3 else values)
    label = "share of each map's own 99th percentile"
    options = {"titles": list(methods), "scale_each": True, "label": label}
    copies = np.stack([photographs[chosen]] * len(maps))
    for name, figure in (
        ("photograph", plot.image_grid(copies[:1], titles=[answers[chosen]])),
        ("maps", plot.heat_map(np.stack(maps), **options)),
        ("overlays", plot.overlay(copies, np.stack(maps), **options)),
    ):
        _figure.save(figure, config, "explain_pretrained", name, dpi="figure")
    best = {m: explain_digits.find_best(areas, m) for m in explain_digits.MEASURES}
    return {"source": source, "answers": answers, "areas": areas, "best": best}


def explain_sentences(config: Config) -> dict:
    """Writes a page of two sentences, with each word's share of their similarity."""
    try:
        if config.smoke:
            raise ValueError("this is a smoke run")
        params, numbers = _pretrained.load("minilm"), _pretrained.vocabulary()
    except ValueError as missing:
        print(f"a made-up network of sentences: {missing}")
        words = f"[PAD] [UNK] [CLS] [SEP] . {config.sentence} {config.other}".split()
        pieces = dict.fromkeys([*words, *(word.lower().strip(".") for word in words)])
        numbers = {piece: number for number, piece in enumerate(pieces)}
        params = _pretrained.random_minilm(config.seed, len(numbers))
    rows, ids, mask = _pretrained.tokenize([config.sentence, config.other], numbers)
    embeddings = jax.jit(_pretrained.minilm)(params, ids, mask)
    similarity = float(embeddings[0] @ embeddings[1])
    print(f"similarity {similarity:.3f}")

    def similar(ids):
        """Returns each sentence's similarity with the unchanged other one."""
        # The other sentence's embedding is fixed: the score is explained by one sentence at a time.
        return jnp.sum(_pretrained.minilm(params, ids, mask) * embeddings[::-1], axis=1)

    parts, page = {}, [f"<h2>similarity {similarity:.3f}</h2>"]
    for name, explain in WORD_METHODS.items():
        values = np.asarray(jnp.sum(jax.jit(explain, static_argnums=0)(similar, ids), -1))
        if name in WHOLE_WORDS:
            # Each of a word's D values has the whole attribution: their sum would count it D times.
            values = values / embeddings.shape[1]
        page.append(f"<h3>{name}</h3>")
        for row, value in zip(rows, values, strict=True):
            page.append(text.to_html(row, value[: len(row)]))
            print(f"{name:22s} {text.to_terminal(row, value[: len(row)])}")
        parts[name] = [value[: len(row)].tolist() for row, value in zip(rows, values, strict=True)]
    path = config.results / "explain_pretrained" / "words.html"
    path.write_text("\n".join(page), "utf-8")
    print(f"page: {path}")
    return {"similarity": similarity, "tokens": rows, "words": parts}


def made_up_images(seed: int) -> np.ndarray:
    """Returns (1, 64, 64, 3) uint8: a bright disc on noise."""
    noise = np.random.default_rng(seed).integers(60, 120, (1, 64, 64, 3))
    disc = np.hypot(*(np.indices((64, 64)) - 28)) < 14
    return np.where(disc[..., None], [230, 120, 40], noise).astype(np.uint8)
