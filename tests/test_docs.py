"""The code of every page of the documentation runs as it is, and every method has its picture."""

import os
import re
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import _pictures
from tests import docs_code

OTHER_TESTS = {
    "bring_your_own.md": "tests/test_bring_your_own.py, by sections with optional libraries",
    "lectures.md": "its block shows how a test is marked",
    "train/recipes.md": "tests/train/test_recipes.py, which also checks the values",
}
"""Pages that are run elsewhere, or are no programs."""
NEW_PROCESS = {"train/cpu.md", "train/sharding.md"}
"""Pages whose settings must precede the first computation of JAX."""
RUN = """
import socket, sys, warnings
from tests import docs_code
del socket.getaddrinfo
warnings.simplefilter("error")
docs_code.run(sys.argv[1])
"""
PAGES = [page for page in docs_code.pages() if page not in OTHER_TESTS]


@pytest.mark.parametrize("page", sorted({*PAGES, *OTHER_TESTS} - {"lectures.md"}))
def test_a_page_defines_the_names_that_it_uses(page):
    assert docs_code.undefined_names(docs_code.code(page)) == set()


def test_undefined_names_are_found():
    program = "import a.b as c\nfor i in c:\n    print(lambda x: x + i, y)\n"
    assert docs_code.undefined_names(program) == {"y"}
    assert docs_code.undefined_names("y = 1\ndef f(x): return x + y") == set()


def test_code_has_no_other_form():
    """Blocks of another name, such as `py`, and doctests would not be run."""
    for path in docs_code.DOCS.rglob("*.md"):
        text = path.read_text("utf-8")
        languages = set(re.findall(r"^ *```(\S+)", text, re.MULTILINE))
        known = {"python", "bash", "text", "{eval-rst}", "{toctree}", "{literalinclude}", "{raw}"}
        assert languages <= known, path
        assert not any(">>>" in block for block in docs_code.blocks(text)), path


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_code_runs(page, tmp_path, monkeypatch):
    if page in NEW_PROCESS:
        environment = os.environ | {"PYTHONPATH": str(docs_code.DOCS.parent)}
        command = [sys.executable, "-c", RUN, page]
        subprocess.run(command, check=True, cwd=tmp_path, env=environment)
        return

    def refuse(*args):
        raise OSError(f"{page}: this test has no network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    # Users' programs run without the strict modes of the tests.
    with jax.numpy_dtype_promotion("standard"), jax.debug_key_reuse(False):
        docs_code.run(page)


@pytest.mark.parametrize("page", _pictures.METHODS)
def test_a_method_has_its_picture(page):
    text = (docs_code.DOCS / "interpret" / f"{page}.md").read_text("utf-8")
    (name,) = re.findall(r"\.\./_static/(methods/[\w.]+)", text)
    most = _pictures.GUIDE_BYTES if page == "guide" else _pictures.MAX_BYTES
    assert 1_000 < (docs_code.DOCS / "_static" / name).stat().st_size < most


def test_pictures_are_photographs_next_to_maps(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    photograph = _pictures.Photographs(images, images / 255, lambda x: x, ["noise, 1.00"])
    maps = {"signed": images[..., 0] - 127.5, "of channels": images / 255.0}
    _pictures.draw_maps(tmp_path / "one.png", photograph, maps)
    _pictures.draw_maps(tmp_path / "two.png", photograph, maps, over=True, columns=2)
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert one.width * 2 == two.width * 3 and one.height * 2 == two.height
    with pytest.raises(ValueError, match="no picture 'lpr'; choose one of guide, saliency"):
        _pictures.draw_all("lpr")
