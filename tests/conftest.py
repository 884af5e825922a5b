"""Strict modes for every test, how files are shared out between workers, and common fixtures."""

import collections
import os
import pathlib

import jax
import pytest
from hypothesis import settings

from tests import budget

FAST_TESTS = "not slow"
# Most of the suite's time is compiling programs that run once: compile them quickly, not well.
COMPILER_FLAGS = {
    "xla_backend_optimization_level": "0",
    "xla_cpu_parallel_codegen_split_count": "1",
}
if jax.__version_info__ < (0, 11):
    # Halves the time to compile. XLA of later versions ends at flags that it does not know.
    COMPILER_FLAGS["xla_cpu_use_fusion_emitters"] = "false"
for flag, value in COMPILER_FLAGS.items():
    if flag not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --{flag}={value}".strip()
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_debug_key_reuse", True)
if os.environ.get("JAXDL_CPU"):
    # All tests with oneDNN's products and convolutions instead of XLA's.
    import jaxdl_cpu

    jaxdl_cpu.enable()
settings.register_profile("jaxdl", deadline=None, max_examples=20, derandomize=True)
settings.load_profile("jaxdl")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Gives a worker whole files, so that what a file compiles and caches is made once."""
    if config.option.markexpr != FAST_TESTS:
        return None
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # the order is that of `pytest_collection_modifyitems`
    return LoadFileScheduling(config, log)


def pytest_collection_modifyitems(config, items):
    """Starts with the files that take longest, so that workers end at the same time."""
    if hasattr(config, "workerinput"):
        seconds = budget.recorded()["files"]
        items.sort(key=lambda item: -seconds.get(item.nodeid.partition("::")[0], 0))


seconds_of_files = collections.Counter()


def pytest_runtest_logreport(report):
    seconds_of_files[report.nodeid.partition("::")[0]] += report.duration


def pytest_sessionfinish(session):
    """Records the seconds of each file for `python -m tests.budget`."""
    config = session.config
    if config.option.markexpr == FAST_TESTS and not hasattr(config, "workerinput"):
        budget.write_last(seconds_of_files)


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
