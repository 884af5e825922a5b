"""Explanations of two pretrained networks: sums, sizes, published forms, and removal of parts.

The references are forward passes written from the papers: `benchmarks/_real_reference.py`. The
forward passes of the networks are tested in `tests/test_experiments_pretrained.py`.
"""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks import _real_page, _real_reference, _real_weights, real_networks
from benchmarks.__main__ import main
from experiments import _pretrained
from jaxdl import interpret

WINDOW = 4
"""Side of the square that is removed from a photograph of 7x7 patches."""


@pytest.fixture(scope="module")
def minilm(data_root):
    """Scores, attributions and reference of each word's features, and the effect of its removal."""
    data_root("pretrained")
    reference, partners = _real_weights.reference("minilm"), _real_weights.partners()
    ids, mask = reference["ids"], reference["mask"]
    composites = ("attn_lrp", "cp_lrp")

    @jax.jit
    def run(params, ids, mask, partners):
        f = lambda ids: jnp.sum(_pretrained.minilm(params, ids, mask) * partners, -1)
        options = {"layer": "embeddings/words"}
        actual = {name: interpret.lrp(f, ids, composite=name, **options) for name in composites}
        return f(ids), actual | {"gradient": interpret.input_x_gradient(f, ids, **options)}

    @jax.jit
    def expect(params, x):
        target = jnp.zeros(len(x), int)
        f = _real_reference.minilm
        return {name: _real_reference.relevance(f, params, x, target, name) for name in composites}

    @jax.jit
    def remove(params, ids, mask, partners):
        """Hides one token after the other from attention and from the mean."""
        score = lambda mask: jnp.sum(_pretrained.minilm(params, ids, mask) * partners, -1)
        hide = lambda i: score(jnp.where(jnp.arange(mask.shape[1]) == i, 0, mask))
        return score(mask)[:, None] - jax.lax.map(hide, jnp.arange(mask.shape[1])).T

    params = jax.tree.map(jnp.asarray, _pretrained.load("minilm"))
    score, actual = run(params, ids, mask, partners)
    x = _real_weights.embeddings("minilm")
    expected = expect(_real_reference.minilm_params(), x)
    words = [np.arange(1, length - 1) for length in mask.sum(1)]  # between [CLS] and [SEP]
    removed = remove(params, ids, mask, partners)
    return types.SimpleNamespace(
        **jax.tree.map(np.asarray, dict(score=score, actual=actual, expected=expected)),
        # A sum that is exactly 0 has no relevance for its terms, which have a gradient.
        shared=x + _real_weights.minilm_constants(x.shape[1]) != 0,
        removed=[row[w] for row, w in zip(np.asarray(removed), words, strict=True)],
        words=words,
    )


def correlate(attributions, network):
    """Returns Spearman's rank correlation of relevance and removal, of each sentence."""
    parts = attributions.sum(-1)
    rows = [row[words] for row, words in zip(parts, network.words, strict=True)]
    pairs = zip(rows, network.removed, strict=True)
    return np.array([spearmanr(row, removed)[0] for row, removed in pairs])


@pytest.mark.parametrize("composite", ["attn_lrp", "cp_lrp"])
def test_relevance_of_words_is_that_of_the_papers(minilm, composite):
    expected, score = minilm.expected[composite]
    np.testing.assert_allclose(score, minilm.score, atol=1e-5)
    largest = np.abs(expected).max((1, 2), keepdims=True)
    difference = (minilm.actual[composite] - expected) / largest
    assert np.abs(difference[minilm.shared]).max() < 1e-3


@pytest.mark.parametrize("composite", ["attn_lrp", "cp_lrp"])
def test_words_keep_the_scores_relevance_but_for_the_biases(minilm, composite):
    relevance = minilm.actual[composite]
    share = relevance.sum((1, 2)) / minilm.score
    assert (share > 0.3).all() and (share < 1.2).all(), share
    assert (np.abs(relevance).max((1, 2)) < 0.1 * minilm.score).all()


@pytest.mark.parametrize("composite", ["attn_lrp", "cp_lrp"])
def test_relevance_ranks_words_by_what_their_removal_changes(minilm, composite):
    actual = correlate(minilm.actual[composite], minilm)
    gradient = correlate(minilm.actual["gradient"], minilm)
    assert actual.mean() > max(0.5, gradient.mean() + 0.5), (actual, gradient)


@pytest.fixture(scope="module", params=[2, pytest.param(1, marks=pytest.mark.slow)])
def lite0(data_root, request):
    """Scores, relevance and reference of four photographs' pixels, and the effect of removal.

    The fast tests take every second pixel, of which the network still names three photographs.
    """
    data_root("pretrained")
    x = ((_real_weights.reference("lite0")["images"] - 127.0) / 128).astype(np.float32)
    x = x[:, :: request.param, :: request.param]
    model, trees = _pretrained.lite0()
    params = jax.tree.map(jnp.asarray, _pretrained.load("efficientnet_lite0"))

    @jax.jit
    def run(trees, x, target):
        f = lambda x: model.apply(*trees, x)[0]
        return {
            "epsilon_plus": interpret.lrp(f, x, target=target, composite="epsilon_plus"),
            "gradient": interpret.input_x_gradient(f, x, target=target),
        }

    @jax.jit
    def expect(params, x, target):
        def score(x):
            scores = _real_reference.lite0_z_plus(params, x)
            scores = jnp.take_along_axis(scores, target[:, None], 1)[:, 0]
            return scores.sum(), scores

        gradient, scores = jax.grad(score, has_aux=True)(x)
        return x * gradient, scores

    logits = jax.jit(lambda trees, x: model.apply(*trees, x)[0])
    scores = np.asarray(logits(trees, x))
    target = scores.argmax(-1)
    # A loop in Python, because XLA runs convolutions slowly inside of its own loops on a CPU.
    patch, mean = x.shape[1] // 7, x.mean((1, 2), keepdims=True)
    total, count = np.zeros((len(x), 7, 7)), np.zeros((7, 7))
    for i, j in np.ndindex(8 - WINDOW, 8 - WINDOW):
        covered, patches = x.copy(), np.s_[i : i + WINDOW, j : j + WINDOW]
        covered[:, *(np.s_[patch * k : patch * (k + WINDOW)] for k in (i, j))] = mean
        falls = scores - np.asarray(logits(trees, covered))
        total[:, *patches] += np.take_along_axis(falls, target[:, None], 1)[..., None]
        count[patches] += 1
    return types.SimpleNamespace(
        score=scores.max(-1),
        actual=jax.tree.map(np.asarray, run(trees, x, target)),
        expected=jax.tree.map(np.asarray, expect(params, x, target)),
        removed=total / count,
    )


def test_relevance_of_pixels_is_that_of_the_paper(lite0):
    expected, score = lite0.expected
    np.testing.assert_allclose(score, lite0.score, atol=1e-3)
    largest = np.abs(expected).max((1, 2, 3), keepdims=True)
    actual = lite0.actual["epsilon_plus"]
    np.testing.assert_allclose(actual / largest, expected / largest, atol=1e-2, rtol=0)


def test_pixels_keep_relevance_where_sums_have_a_positive_term(lite0):
    """Nine tenths are lost, mostly by depthwise kernels without a positive term; so by Zennit."""
    relevance = lite0.actual["epsilon_plus"]
    share = relevance.sum((1, 2, 3)) / lite0.score
    whole = [0.080, 0.042, 0.047, 0.051]  # of 224x224, by Zennit 1.0
    small = [0.097, 0.066, 0.067, 0.070]
    np.testing.assert_allclose(share, whole if relevance.shape[1] == 224 else small, atol=2e-3)
    assert (np.abs(relevance).max((1, 2, 3)) < 0.1 * lite0.score).all()


def test_relevance_ranks_patches_by_what_their_removal_changes(lite0):
    def correlate(attributions):
        patches = attributions.reshape(4, 7, attributions.shape[1] // 7, 7, -1).sum((2, 4))
        pairs = zip(patches.reshape(4, 49), lite0.removed.reshape(4, 49), strict=True)
        return np.array([spearmanr(relevance, removed)[0] for relevance, removed in pairs])

    actual, gradient = (correlate(lite0.actual[name]) for name in ("epsilon_plus", "gradient"))
    assert actual.mean() > max(0.35, gradient.mean() + 0.2), (actual, gradient)


def test_agreement_is_that_of_the_example_that_agrees_least():
    theirs = np.array([[1.0, -2.0, 3.0], [4.0, 0.0, -4.0]])
    ours = theirs + [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    actual = real_networks.agreement(ours, theirs)
    np.testing.assert_allclose(actual["difference"], 0.25)
    np.testing.assert_allclose(actual["correlation"], np.corrcoef(ours[1], theirs[1])[0, 1])
    ours[0, 0] = np.nan
    assert real_networks.agreement(ours, theirs) == {"difference": None, "correlation": None}


def test_the_page_shows_every_row_and_failures():
    row = {"network": "unet", "method": "deep_lift", "peer": "Captum", "ours_share": [0.5, 0.501]}
    row |= {"peer_error": "RuntimeError: no", "ours_ms": [1.0, 2345.0, 9.0], "ratio": None}
    record = {"rows": [row], "versions": {"jax": "1"}, "machine": {"cpu": "c", "cores": 2}}
    text = _real_page.page(record | {"date": "2026-01-02T00"})
    cells = ["deep_lift", "0.5 to 0.501", "", "Captum", "fails: RuntimeError", "", "", "", "2,345"]
    assert " | ".join(cells) in text and "2026-01-02, c, 2 cores; jax 1." in text


@pytest.mark.skipif(not _real_page.RESULTS.is_file(), reason="the benchmark has no results yet")
def test_the_page_is_that_of_the_results():
    results = json.loads(_real_page.RESULTS.read_text("utf-8"))
    assert _real_page.PAGE.read_text("utf-8") == _real_page.page(results)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_rows_of_the_benchmark_have_the_agreed_form(tmp_path, data_root):
    data_root("pretrained")
    file = tmp_path / "rows.json"
    assert main(["real_networks", "--smoke", "--only", "minilm", "--json", str(file)]) == 0
    (row,) = json.loads(file.read_text())["rows"]
    assert set(row) >= {"work", "peer", "ratio", "target", "ours_ms", "ours_MB", "ours_compile_s"}
    assert row["ratio"] is None or row["difference"] < 1e-4
