"""The code of the docs page "Bring your own data and model" runs as it stands there."""

import pathlib
import re

import jax
import pytest

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "bring_your_own.md"
OPTIONAL = ("datasets", "equinox", "grain", "haiku", "pandas", "torch")


def sections():
    """The code below each heading, in order; the first is what all of them begin with."""
    parts = re.split(r"^#+ (.*)$", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
    code = {
        title: "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }
    return {title: text for title, text in code.items() if text}


(_, FIRST), *REST = sections().items()


def run(code, names):
    # As a user's program: the strict modes of the tests are for the library.
    with jax.numpy_dtype_promotion("standard"), jax.debug_key_reuse(False):
        exec(compile(code, PAGE.name, "exec"), names)


@pytest.fixture(scope="module")
def names():
    names = {}
    run(FIRST, names)
    return names


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("code", [code for _, code in REST], ids=[title for title, _ in REST])
def test_the_code_runs(code, names):
    for library in OPTIONAL:
        if f"import {library}" in code:
            pytest.importorskip(library, reason=f"{library} is not installed")
    run(code, names)
    assert len(names["history"]["loss"]) > 0


def test_every_way_is_there():
    assert [title for title, _ in REST] == [
        "NumPy",
        "Data frames",
        "PyTorch",
        "Grain",
        "Hugging Face datasets",
        "Generators",
        "A function of parameters",
        "Flax Linen and NNX",
        "Equinox",
        "Haiku",
    ]
