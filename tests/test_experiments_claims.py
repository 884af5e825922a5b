"""The lectures' claims: every experiment runs, and no number of the report is typed by hand."""

import dataclasses
import json
import pathlib
import re

import jax
import numpy as np
import pytest

from experiments import _claim, _lecture, _run, _seeds, coverage, report

CLAIMS = dict(report.modules())


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_is_complete(name):
    claim = CLAIMS[name].CLAIM
    assert set(claim.rows) <= set(coverage.rows())
    assert claim.step in report.STEPS and claim.minutes > 0
    assert (_run.HERE.parent / "jaxdl" / claim.source).is_file()
    assert re.search(r"[\u4e00-\u9fff]", claim.chinese) and claim.english.isascii()
    assert set(claim.deck) <= set(claim.words)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CLAIMS)
def test_it_runs_in_small_and_is_drawn_from_its_result(name, tmp_path, capsys):
    with jax.numpy_dtype_promotion("standard"):
        assert _run.main([name, "--smoke", "--results", str(tmp_path)]) == 0
    metrics = json.loads((tmp_path / name / "result.json").read_text())["metrics"]
    claim = CLAIMS[name].CLAIM
    assert set(claim.deck) <= set(metrics["found"]) <= set(claim.words)
    assert isinstance(metrics["holds"], bool)
    for text in (metrics["said"], metrics["chinese"]):
        assert text and not text.endswith((".", "。"))
    assert CLAIMS[name].draw(metrics).axes


def committed():
    return [tried for tried in report.claims() if tried.result]


@pytest.mark.row("T01", "T02", "T03", "T04", "T05", "T06", "T07", "T13")
@pytest.mark.row("A13", "A14", "D05", "E02", "E10", "E11")
def test_the_committed_results_hold_over_their_seeds():
    found = committed()
    assert len(found) >= 10
    for tried in found:
        assert not tried.result["config"]["smoke"], tried.name
        assert tried.metrics["holds"], tried.name
        for name, spread in tried.metrics["found"].items():
            assert spread["seeds"] >= 3, (tried.name, name)


def test_the_table_is_the_regenerated_one():
    assert report.README.read_text("utf-8") == report.as_markdown(report.claims())


def test_every_number_of_the_table_is_a_result_or_the_decks():
    """With other results the table has other numbers, and none of the old ones."""
    text = report.as_markdown(report.claims())

    def altered(spread):
        return spread | {"mean": spread["mean"] * 3 + 7, "deviation": 0.123}

    changed = []
    for tried in report.claims():
        if tried.result:
            metrics = tried.metrics | {
                "found": {name: altered(s) for name, s in tried.metrics["found"].items()},
                "said": "",
                "chinese": "",
                "seconds": {},
            }
            tried = tried._replace(result=tried.result | {"metrics": metrics, "seconds": 60.0})
        changed.append(tried)
    means = lambda text: set(re.findall(r"[\d.e-]+(?= ±)", text))
    assert means(text) and not means(text) & means(report.as_markdown(changed))


def test_the_page_is_in_two_languages_and_fetches_nothing():
    page = report.as_page(report.claims())
    assert page.count('class="en"') == page.count('class="zh"')
    assert not re.search(r'(src|href)="https?:', page) and "<script" not in page
    for tried in committed():
        assert tried.claim.chinese in page and page.count("data:image/png") == len(committed())


def test_networks_are_trained_once_for_all_experiments(tmp_path, monkeypatch, capsys):
    @dataclasses.dataclass(frozen=True)
    class Config:
        results: pathlib.Path
        smoke: bool = True
        seed: int = 0

    config = Config(tmp_path)
    first = _lecture.trained(config, seeds=2)
    monkeypatch.setattr(_lecture.train, "train_many", None)  # not again
    again = _lecture.trained(config, seeds=2)
    np.testing.assert_array_equal(again.history["loss"], first.history["loss"])
    np.testing.assert_array_equal(
        again.params["dense_0"]["kernel"], first.params["dense_0"]["kernel"]
    )
    assert len(again) == 2 and again.seconds == first.seconds
    with pytest.raises(TypeError):
        _lecture.trained(config, seeds=3)


def test_the_lectures_network_and_its_loss():
    model = _lecture.network(3, "sigmoid")
    x = np.zeros((1, 28, 28, 1), np.float32)
    params, _ = model.init(jax.random.key(0), x)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 648_010
    logits = jax.numpy.array([[2.0, -1.0, 0.5]])
    shares = np.exp(logits) / np.exp(logits).sum()
    expected = ((shares - np.array([[0, 1, 0]])) ** 2).mean()
    found = _lecture.squared_error(logits, jax.numpy.array([1]))
    np.testing.assert_allclose(found, [expected], rtol=1e-6)


def test_spread_and_numbers():
    assert _seeds.spread([1.0, 3.0]) == {"mean": 2.0, "deviation": 2**0.5, "seeds": 2}
    assert _claim.numbers({"a": np.array([[1.23456, 0.000123456]])}) == {"a": [[1.235, 0.0001235]]}
