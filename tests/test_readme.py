"""The code and links of README.md, and the generated parts of the documentation."""

import pathlib
import re

import flax.linen
import jax
import numpy as np
import pytest

from experiments import docs

README = pathlib.Path(__file__).parent.parent / "README.md"
TEXT = README.read_text("utf-8")


@pytest.mark.parametrize("page", sorted({page for page, _ in docs.PARTS}))
def test_generated_parts_are_up_to_date(page):
    assert (docs.DOCS / page).read_text("utf-8") == docs.regenerate(page), (
        "run `python -m experiments docs`"
    )


def test_generated_parts_name_files_that_exist():
    files = set(re.findall(r"`([\w/]+(?:\.py|/))`", docs.results())) - {"jaxdl/"}
    assert files
    for file in files:
        assert (README.parent / "jaxdl" / file).exists(), file


def test_it_is_short_and_has_two_commands():
    assert len(TEXT.splitlines()) <= 120
    commands = re.findall(r"^pip install -e .*$", TEXT, re.MULTILINE)
    assert commands == [
        'pip install -e ".[experiments]" && python -m experiments digits',
        'pip install -e ".[test]" && pytest -n 2',
    ]


class Network(flax.linen.Module):
    """A stand-in for the reader's own model."""

    @flax.linen.compact
    def __call__(self, x):
        x = flax.linen.relu(flax.linen.Conv(4, (3, 3))(x))
        return flax.linen.Dense(3)(x.reshape(len(x), -1))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_code_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 2
    model, images = Network(), np.random.default_rng(0).uniform(size=(2, 32, 32, 3))
    images = images.astype(np.float32)
    names = {"model": model, "images": images, "variables": model.init(jax.random.key(0), images)}
    exec(compile("\n".join(blocks), "README.md", "exec"), names)
    assert (tmp_path / "relevance.png").stat().st_size > 0
    assert np.isfinite(names["relevance"]).all()
    assert "total" in capsys.readouterr().out
    accuracy = names["history"]["eval_accuracy"][-1]
    low, high = map(float, re.findall(r"# (0\.\d+) to (0\.\d+) with seeds", TEXT)[0])
    assert 0.95 < low - 0.003 < accuracy < high + 0.003  # one image of 359 is 0.003


def test_every_linked_file_exists():
    links = re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", TEXT)
    assert len(links) > 20
    for link in links:
        assert (README.parent / link).exists(), link
