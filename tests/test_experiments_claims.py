"""The lectures' claims: every experiment runs, and no number of the report is typed by hand."""

import dataclasses
import json
import pathlib
import re
import string

import jax
import numpy as np
import pytest

import jaxdl
from experiments import (
    _claim,
    _lecture,
    _run,
    _seeds,
    backprop_by_hand,
    coverage,
    report,
    resnet_paths,
)
from jaxdl.nn.recurrent import bptt
from jaxdl.zoo.vision.cifar_resnet import cifar_resnet

CLAIMS = dict(_claim.modules())


def load(name):
    return json.loads((_run.RESULTS / f"{name}.json").read_text("utf-8"))


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_is_complete(name):
    claim = CLAIMS[name].CLAIM
    assert set(claim.rows) <= set(coverage.rows())
    assert claim.step in _claim.STEPS and claim.minutes > 0
    assert (_run.HERE.parent / "jaxdl" / claim.source).is_file()
    assert claim.statement.isascii()


CHINESE = re.compile(r"[\u4e00-\u9fff]")


def test_every_claim_has_its_chinese_text_and_nothing_else_is_translated():
    texts = _claim.chinese_texts()
    assert set(texts) == {*CLAIMS, "page", "outcomes"}
    assert set(texts["page"]) == {*report.PAGE, "language"}
    assert set(texts["outcomes"]) == {*_claim.OUTCOMES, "not yet run"}


@pytest.mark.parametrize("name", CLAIMS)
def test_the_chinese_reason_is_filled_from_the_values_of_the_verdict(name):
    chinese = _claim.load_chinese(name)
    assert CHINESE.search(chinese.claim) and set(CLAIMS[name].CLAIM.deck) <= set(chinese.words)
    verdict = CLAIMS[name].judge(load(name)["metrics"])
    fields = [field for _, field, _, _ in string.Formatter().parse(chinese.template) if field]
    assert fields and {re.split(r"[.\[]", field)[0] for field in fields} <= set(verdict.values)
    assert CHINESE.search(chinese.reason(verdict)) and "{" not in chinese.reason(verdict)


def test_missing_chinese_text_is_an_error(monkeypatch):
    verdict = _claim.Verdict("holds", "a reason", {"all": True, "names": [], "n": 1})
    parts = {"names": {"each": "{name}", "join": "", "empty": "-"}}
    chinese = _claim.Chinese("xor", "", {}, "{n} {all} {names}", parts)
    with pytest.raises(ValueError, match=r"chinese\.toml: the verdict of 'xor' needs 'all'"):
        chinese.reason(verdict)
    parts |= {"all": {"yes": "y", "no": "n"}}
    assert chinese._replace(parts=parts).reason(verdict) == "1 y -"
    monkeypatch.setattr(_claim, "chinese_texts", lambda: {"xor": {"claim": ""}})
    with pytest.raises(ValueError, match=r"the table \[xor\] lacks verdict, words\. Translate"):
        _claim.load_chinese("xor")


def committed():
    return [one for one in _claim.claims() if one.result]


def test_the_table_is_the_regenerated_one():
    assert report.README.read_text("utf-8") == report.as_markdown(_claim.claims())


def test_every_number_of_the_table_is_a_result_or_the_decks():
    """With other results the table has other numbers, and none of the old ones."""
    text = report.as_markdown(_claim.claims())

    def altered(spread):
        return spread | {"mean": spread["mean"] * 3 + 7, "deviation": 0.123}

    changed = []
    for one in _claim.claims():
        if one.result:
            metrics = one.metrics | {
                "measured": {name: altered(s) for name, s in one.metrics["measured"].items()},
                "seconds": {},
                "speedup": {},
            }
            one = one._replace(result=one.result | {"metrics": metrics, "seconds": 60.0})
        changed.append(one)
    means = lambda text: set(re.findall(r"(?<=\| )[\d.e-]+(?= ±)", text))
    assert means(text) and not means(text) & means(report.as_markdown(changed))


def test_the_page_is_in_two_languages_and_fetches_nothing():
    page = report.as_page(_claim.claims())
    assert page.count('class="en"') == page.count('class="zh"')
    assert not re.search(r'(src|href)="https?:', page) and "<script" not in page
    for one in committed():
        assert one.chinese.claim in page and page.count("data:image/png") == len(committed())


def test_networks_are_trained_once_for_all_experiments(tmp_path, monkeypatch, capsys):
    @dataclasses.dataclass(frozen=True)
    class Config:
        results: pathlib.Path
        smoke: bool = True
        seed: int = 0

    config = Config(tmp_path)
    first = _lecture.train_networks(config, seeds=2)
    monkeypatch.setattr(_seeds.train, "train_many", None)  # not again
    again = _lecture.train_networks(config, seeds=2)
    np.testing.assert_array_equal(again.history["loss"], first.history["loss"])
    np.testing.assert_array_equal(
        again.params["dense_0"]["kernel"], first.params["dense_0"]["kernel"]
    )
    assert len(again) == 2 and again.seconds == first.seconds
    with pytest.raises(TypeError):
        _lecture.train_networks(config, seeds=3)


def test_the_lectures_network_and_its_loss():
    model = _lecture.network(3, "sigmoid")
    x = np.zeros((1, 28, 28, 1), np.float32)
    params, _ = model.init(jax.random.key(0), x)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 648_010
    logits = jax.numpy.array([[2.0, -1.0, 0.5]])
    shares = np.exp(logits) / np.exp(logits).sum()
    expected = ((shares - np.array([[0, 1, 0]])) ** 2).mean()
    actual = _lecture.squared_error(logits, jax.numpy.array([1]))
    np.testing.assert_allclose(actual, [expected], rtol=1e-6)


def test_spread_and_numbers():
    assert _seeds.summarize([1.0, 3.0]) == {"mean": 2.0, "deviation": 2**0.5, "seeds": 2}
    assert _claim.numbers({"a": np.array([[1.23456, 0.000123456]])}) == {"a": [[1.235, 0.0001235]]}


@pytest.mark.row("S04", "S05", "S06", "D09")
def test_by_hand_is_what_autodiff_and_the_lectures_rule_finds():
    value = backprop_by_hand.forward(backprop_by_hand.WEIGHTS)
    _, by_hand = backprop_by_hand.backward(backprop_by_hand.WEIGHTS, value)
    for other, near in (
        (backprop_by_hand.autodiff(backprop_by_hand.WEIGHTS), 1e-14),
        (backprop_by_hand.finite_differences(backprop_by_hand.WEIGHTS), 1e-9),
    ):
        assert by_hand == pytest.approx(other, abs=near)
    assert value["E"] == pytest.approx(0.2097097937078311, abs=1e-15)
    slide = backprop_by_hand.apply_slide_rule(value, by_hand)
    assert slide[1] == pytest.approx(0.014583332266596982, abs=1e-15)
    assert [i for i in slide if slide[i] * by_hand[i] < 0] == [1, 3]


@pytest.mark.row("G06")
def test_a_gradient_is_the_sum_over_all_paths():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    assert resnet_paths.check_sum_of_paths(x, jax.numpy.array([1, 2])) < 1e-5


@pytest.mark.row("G05", "T11")
def test_blocks_of_zeros_stop_a_plain_network_and_not_a_residual_one():
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)

    def fill(path, leaf):
        value = 0 if "block" in jax.tree_util.keystr(path) else 1
        return np.full(leaf.shape, value, np.float32)

    for plain in (True, False):
        model = cifar_resnet(8, plain=plain)
        shapes, state = jax.eval_shape(model.init, jax.random.key(0), x)
        params = jax.tree_util.tree_map_with_path(fill, shapes)
        state = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), state)
        one, other = np.asarray(jax.jit(model.apply)(params, state, x)[0])
        assert np.all(one == other) if plain else np.all(one != other), plain


@pytest.mark.slow
@pytest.mark.row("G06")
def test_a_block_left_out_is_the_network_without_it():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    for plain in (False, True):
        model = cifar_resnet(8, plain=plain)
        params, state = jaxdl.init(model, jax.random.key(1), x)
        scores = resnet_paths.without_blocks(model)
        whole = scores(params, state, x, jax.numpy.ones(3))
        np.testing.assert_allclose(whole, model.apply(params, state, x)[0], rtol=1e-5, atol=1e-6)
        parts = {name: child for name, child in model.children.items() if name != "block_0"}
        trees = ({name: t[name] for name in t if name in parts} for t in (params, state))
        less = jaxdl.serial(**parts).apply(*trees, x)[0]
        actual = scores(params, state, x, jax.numpy.array([0.0, 1.0, 1.0]))
        np.testing.assert_allclose(actual, less, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_landscape_is_the_loss_around_the_beginning(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Config:
        results: pathlib.Path
        smoke: bool = True
        seed: int = 0

    actual = _lecture.train_networks(Config(tmp_path), seeds=2)
    steps, surface = _lecture.loss_landscape(actual, "cross_entropy", True).values()
    np.testing.assert_allclose(steps, [-0.5, 0.5, 1.5])
    start, loss = _lecture.initial_params_and_loss(actual, "cross_entropy", True, rows=500)
    begin, end = start(0), jax.tree.map(lambda a: a[0], actual.params)
    ahead = jax.tree.map(np.subtract, end, begin)
    line = bptt.loss_surface(loss, begin, (ahead, ahead), ([1.5], [0.0]))
    assert surface.shape == (3, 3) and np.all(surface > 0)
    assert line[0, 0] / loss(begin) < 1  # downhill toward what was learned
