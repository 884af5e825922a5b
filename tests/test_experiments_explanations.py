"""The experiments on explanations, on little work."""

import json
import os
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.row("Q11")
def test_the_mark_is_found_and_mended(tmp_path):
    """In a process of its own: programs that run for thousands of steps are worth optimizing."""
    options = ["--steps", "400", "--seeds", "1", "--results", str(tmp_path)]
    plain = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-m", "experiments", "clever_hans", *options]
    subprocess.run(command, check=True, env=plain)
    found = json.loads((tmp_path / "clever_hans" / "result.json").read_text())["metrics"]
    before, after = found["before"], found["after"]
    assert before["like_training"] > 0.97 and after["like_training"] > 0.95
    assert before["clean_of_the_digit"] < 0.5 < after["clean_of_the_digit"]
    assert before["relevance_in_the_mark"] > 0.3 > 3 * after["relevance_in_the_mark"]
    assert before["mark_on_all"] + 0.1 < after["mark_on_all"]
    assert (tmp_path / "clever_hans" / "clever_hans.png").stat().st_size > 10_000
