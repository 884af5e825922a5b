"""The code of docs/compress.md: a network for digits pruned, quantized and distilled."""

import jax
import pytest

from tests import docs_code


@pytest.mark.slow
@pytest.mark.row("G13")
def test_small_networks_keep_the_accuracy():
    with jax.numpy_dtype_promotion("standard"), jax.debug_key_reuse(False):
        page = docs_code.run("compress.md")
    exact = page["accuracy"](page["model"], page["state"])
    assert exact > 0.97
    assert abs(page["int8_accuracy"] - exact) < 0.01
    before, after = page["pruning"][0.8]
    assert before < after - 0.1 and after > 0.95
    assert page["distilled"] > page["labels_only"]
