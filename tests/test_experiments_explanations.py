"""The experiments on explanations, on little work."""

import jax
import pytest

from experiments import clever_hans


@pytest.mark.slow
@pytest.mark.row("Q11")
def test_the_mark_is_found_and_mended(tmp_path):
    with jax.numpy_dtype_promotion("standard"):  # optax mixes its counter with floats
        config = clever_hans.Config(steps=400, seeds=1, results=tmp_path)
        found = clever_hans.run(config)
    before, after = found["before"], found["after"]
    assert before["like_training"] > 0.97 and after["like_training"] > 0.95
    assert before["clean_of_the_digit"] < 0.5 < after["clean_of_the_digit"]
    assert before["relevance_in_the_mark"] > 0.3 > 3 * after["relevance_in_the_mark"]
    assert before["mark_on_all"] + 0.1 < after["mark_on_all"]
    assert (tmp_path / "clever_hans" / "clever_hans.png").stat().st_size > 10_000
