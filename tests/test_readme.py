"""The README's code runs as it stands there, and its table is made from the results."""

import pathlib
import re

import pytest

from experiments import readme

README = pathlib.Path(__file__).parent.parent / "README.md"


def test_the_table_is_the_regenerated_one():
    text = README.read_text("utf-8")
    assert text.split(readme.START)[1].split(readme.END)[0] == readme.table()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_code_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 4
    exec(compile("\n".join(blocks), "README.md", "exec"), {})
    assert "total" in capsys.readouterr().out


def test_every_linked_file_exists():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text("utf-8"))
    assert links
    for link in links:
        assert (README.parent / link).exists(), link
