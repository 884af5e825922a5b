"""Runs the code blocks of a page of the documentation."""

import pathlib
import re
from typing import Any

DOCS = pathlib.Path(__file__).parent.parent / "docs"


def run(page: str) -> dict[str, Any]:
    """Executes the Python blocks of a page as one program.

    Args:
      page: the path below docs/, such as "train/recipes.md".

    Returns:
      The global names of the program after its last block.
    """
    text = (DOCS / page).read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert blocks, f"{page} has no Python blocks"
    names: dict[str, Any] = {}
    exec(compile("\n".join(blocks), page, "exec"), names)
    return names
