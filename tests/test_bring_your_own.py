"""The code of the page "Bring your own data and model", section by section."""

import pathlib
import re

import jax
import pytest

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "bring_your_own.md"
OPTIONAL = ("datasets", "equinox", "grain", "haiku", "pandas", "torch")


def sections():
    """Returns the code below each heading; the first block is shared by all sections."""
    parts = re.split(r"^#+ (.*)$", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
    code = {
        title: "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }
    return {title: text for title, text in code.items() if text}


(_, FIRST), *REST = sections().items()


def run(code, names):
    # Users' programs run without the strict modes of the tests.
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


def test_every_library_has_a_section():
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
        "Flax, Equinox, Haiku and plain functions",
        "From a CSV file to a figure",
    ]
