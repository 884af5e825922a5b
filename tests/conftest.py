"""Strict modes for every test, a key, and the real data sets where they are at hand."""

import os
import pathlib

import jax
import pytest
from hypothesis import settings

# Most of the suite's time is compiling programs that run once.
FAST = "--xla_backend_optimization_level=0"
if FAST.partition("=")[0] not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FAST}".strip()
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_debug_key_reuse", True)
settings.register_profile("jaxdl", deadline=None, max_examples=20, derandomize=True)
settings.load_profile("jaxdl")


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture(params=[lambda f: f, jax.jit], ids=["eager", "jit"])
def variant(request):
    """Runs a test both ways: `variant(f)` is f, or f compiled."""
    return request.param


@pytest.fixture(scope="session")
def data_root():
    """`data_root("mnist")`: the folder of a real data set, or a skip that says why."""

    def find(name):
        root = os.environ.get("JAXDL_DATA")
        if root is None:
            pytest.skip("JAXDL_DATA is not set: the real data sets are not at hand")
        folder = pathlib.Path(root) / name
        if not folder.is_dir():
            pytest.skip(f"no data set {name!r} below JAXDL_DATA")
        return folder

    return find
