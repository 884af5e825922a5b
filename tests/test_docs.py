"""The code of pages that no other test runs."""

import jax
import pytest

from tests import docs_code


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", ["getting_started.md"])
def test_the_code_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Users' programs run without the strict modes of the tests.
    with jax.numpy_dtype_promotion("standard"), jax.debug_key_reuse(False):
        docs_code.run(page)
