"""Runs every experiment on little work, through the command that users call."""

import json

import jax
import pytest

from experiments import _claim, _run

CLAIMS = dict(_claim.modules())
RECORD_NOTHING = {"docs", "report"}
ELSEWHERE = {"coverage", "digits", "mnist"}
"""`test_experiments.py` runs these, and reads more of what they write."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(set(_run.names()) - ELSEWHERE))
def test_it_runs_and_records_its_numbers(name, tmp_path, capsys):
    # optax's schedules mix integers and floats, which strict promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        assert _run.main([name, "--smoke", "--results", str(tmp_path)]) == 0
    path = tmp_path / name / "result.json"
    assert path.exists() == (name not in RECORD_NOTHING)
    if name in CLAIMS:
        check_claim(name, json.loads(path.read_text())["metrics"])


def check_claim(name, metrics):
    """Checks that a claim's result has its numbers, a verdict in two languages, and a figure."""
    module, chinese = CLAIMS[name], _claim.load_chinese(name)
    verdict = module.judge(metrics)
    assert set(module.CLAIM.deck) <= set(metrics["measured"]) <= set(chinese.words)
    assert verdict.outcome in _claim.OUTCOMES
    for text in (verdict.reason, chinese.reason(verdict)):
        assert text and not text.endswith((".", "。"))
    assert module.draw(metrics).axes
