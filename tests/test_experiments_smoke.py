"""Runs every experiment on little work, through the command that users call."""

import json

import jax
import pytest

from experiments import _run, _tried

CLAIMS = dict(_tried.modules())
RECORD_NOTHING = {"readme", "report"}
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
        check_claim(CLAIMS[name], json.loads(path.read_text())["metrics"])


def check_claim(module, metrics):
    """The result of a claim has its numbers, its verdict in two languages, and its figure."""
    claim = module.CLAIM
    assert set(claim.deck) <= set(metrics["found"]) <= set(claim.words)
    assert isinstance(metrics["holds"], bool)
    for text in (metrics["said"], metrics["chinese"]):
        assert text and not text.endswith((".", "。"))
    assert module.draw(metrics).axes
