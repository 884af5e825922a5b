"""The pretrained networks, and the experiment and the notebook that explain them."""

import ast
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments import _pretrained, explain_pretrained
from jaxdl import interpret

ROOT = pathlib.Path(__file__).parent.parent
NOTEBOOK = ROOT / "docs" / "examples" / "explain_pretrained.ipynb"


def reference(network):
    """The reference network's inputs and outputs."""
    try:
        return np.load(_pretrained.file(network, "reference.npz"))
    except ValueError as missing:
        pytest.skip(str(missing))


def test_minilm_has_the_tokens_and_the_embeddings_of_the_reference():
    known = reference("minilm")
    sentences = json.loads(_pretrained.file("minilm", "sentences.json").read_text("utf-8"))
    rows, ids, mask = _pretrained.tokenize(sentences)
    assert rows[-1][:6] == ["[CLS]", "i", "forgot", "my", "log", "##in"]
    np.testing.assert_array_equal(ids, known["ids"])
    np.testing.assert_array_equal(mask, known["mask"])
    embeddings = jax.jit(_pretrained.minilm)(_pretrained.load("minilm"), ids, mask)
    np.testing.assert_allclose(embeddings, known["embeddings"], atol=1e-3)


def test_missing_weights_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXDL_DATA", str(tmp_path))
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / name)
    words = r"minilm: no file pretrained/minilm/model.safetensors below \$JAXDL_DATA\. .*gt-all"
    with pytest.raises(ValueError, match=words):
        _pretrained.load("minilm")


def test_pieces_are_the_longest_and_unknown_words_are_marked():
    numbers = {p: i for i, p in enumerate("[PAD] [CLS] [SEP] [UNK] un ##a ##able able a ,".split())}
    rows, ids, mask = _pretrained.tokenize(["Unable, a", "xyz"], numbers)
    assert rows == [["[CLS]", "un", "##able", ",", "a", "[SEP]"], ["[CLS]", "[UNK]", "[SEP]"]]
    assert ids.tolist() == [[1, 4, 6, 9, 8, 2], [1, 3, 2, 0, 0, 0]]
    assert mask.sum(1).tolist() == [6, 3]


def test_vgg16_takes_colors_in_the_order_and_with_the_mean_of_its_training():
    """With kernels that copy one channel from the centre."""
    params = {}
    for block, depth in enumerate((2, 2, 3, 3, 3), start=1):
        for i in range(1, depth + 1):
            inputs = 3 if (block, i) == (1, 1) else 2
            kernel = np.zeros((3, 3, inputs, 2), np.float32)
            kernel[1, 1, 0, 0] = kernel[1, 1, inputs - 1, 1] = 1
            params |= {f"conv{block}_{i}.kernel": kernel}
            params |= {f"conv{block}_{i}.bias": np.full(2, -1, np.float32)}
    x = np.random.default_rng(0).uniform(size=(1, 32, 48, 3)).astype(np.float32)
    ends = 255 * x[..., [2, 0]] - [104.007, 122.679]  # blue and red
    for _ in range(13):
        ends = np.maximum(ends - 1, 0)
    expected = ends.reshape(1, 2, 16, 3, 16, 2).max((2, 4))
    actual = jax.jit(_pretrained.vgg16_features)(params, x)
    np.testing.assert_allclose(actual, expected, atol=1e-3)
    f = lambda x: _pretrained.vgg16_features(params, x)
    layer = jax.eval_shape(lambda x: interpret.intermediate(f, x, "conv2_1"), x)
    assert layer.shape == (1, 16, 24, 2)


def test_the_networks_have_places_to_explain_by():
    """And padding changes nothing, by random weights."""
    params = _pretrained.random_minilm(0, 10)
    ids = np.array([[1, 4, 6, 9, 8, 2], [1, 3, 2, 0, 0, 0]])
    mask = np.array([[1] * 6, [1, 1, 1, 0, 0, 0]])
    minilm = jax.jit(_pretrained.minilm)
    np.testing.assert_allclose(
        minilm(params, ids, mask)[1], minilm(params, ids[1:, :3], mask[1:, :3])[0], atol=1e-5
    )
    f = lambda ids: _pretrained.minilm(params, ids, mask)
    places = [*("words", "embeddings"), *(f"layer_1/{p}" for p in ("attention", "feed_forward"))]
    for place in places:
        assert jax.eval_shape(lambda i, p=place: interpret.intermediate(f, i, p), ids).shape == (
            *(2, 6, 24),
        )
    model, trees = _pretrained.random_lite0(0)
    f = lambda x: model.apply(*trees, x)[0]
    images = np.zeros((1, 32, 32, 3), np.float32)
    for place, shape in (
        ("relu1", (1, 16, 16, 8)),
        ("stage2_0", (1, 8, 8, 12)),
        ("stage2_1/depthwise", (1, 8, 8, 24)),
        ("relu2", (1, 8, 8, 32)),
    ):
        actual = jax.eval_shape(lambda x, p=place: interpret.intermediate(f, x, p), images)
        assert actual.shape == shape


def cells():
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    return [c for c in notebook["cells"] if c["cell_type"] == "code"]


def test_the_notebook_is_stored_without_outputs_and_needs_no_magic():
    for cell in cells():
        assert not cell["outputs"] and cell["execution_count"] is None
        ast.parse("".join(cell["source"]))  # which refuses a magic line


RUN = """
import ast, sys
names = {}
for cell in sys.stdin.read().split(chr(0)):
    *body, last = ast.parse(cell).body
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
        print(*(kind for kind in ("_repr_png_", "_repr_html_") if getattr(value, kind, str)()))
    else:
        exec(compile(ast.Module([last], []), "cell", "exec"), names)
print(*names["methods"], sep=", ")
"""


@pytest.mark.slow
def test_every_figure_of_the_notebook_is_shown():
    """In a process of its own: networks of this size are worth optimizing."""
    reference("efficientnet_lite0"), reference("minilm")
    plain = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input="\0".join("".join(cell["source"]) for cell in cells()),
        **{"check": True, "text": True, "stdout": subprocess.PIPE, "env": plain, "cwd": ROOT},
    )
    *shown, methods = done.stdout.splitlines()
    assert shown == ["_repr_png_"] * 4 + ["similarity 0.70"] + ["_repr_html_"] * 2
    assert methods == ", ".join(explain_pretrained.METHODS)
