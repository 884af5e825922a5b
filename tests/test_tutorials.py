"""The notebooks in docs/tutorials run from top to bottom, on little work."""

import json
import pathlib

import jax
import pytest

FOLDER = pathlib.Path(__file__).parent.parent / "docs" / "tutorials"
SMALL = {
    "explain_flax": {"epochs": 1},
    "train_mnist": {"epochs": 1, "examples": 200},
    "lstm_text": {"epochs": 1},
    "judge_explanations": {"epochs": 1, "random_networks": 2, "steps": 4},
}
"""Values that replace those of the cell with the tag "parameters"."""


def test_every_notebook_is_small_somewhere():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(SMALL)
    index = (FOLDER / "index.md").read_text("utf-8")
    assert all(f"{name}.ipynb" in index for name in SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_the_notebook_is_stored_with_the_outputs_of_one_run(name):
    """The documentation shows them, and does not run the notebooks."""
    path = FOLDER / f"{name}.ipynb"
    cells = [c for c in json.loads(path.read_text("utf-8"))["cells"] if c["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), (
        f"run `jupyter execute --inplace docs/tutorials/{name}.ipynb`"
    )
    kinds = {output["output_type"] for cell in cells for output in cell["outputs"]}
    assert "stream" in kinds and "error" not in kinds
    assert path.stat().st_size < 150_000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SMALL)
def test_the_notebook_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text("utf-8"))
    names = {}
    # Users' programs run without the strict modes of the tests.
    with jax.numpy_dtype_promotion("standard"), jax.debug_key_reuse(False):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), f"{name}.ipynb", "exec"), names)
                if "parameters" in cell["metadata"].get("tags", ()):
                    assert set(SMALL[name]) <= set(names)
                    names |= SMALL[name]
