"""Reads and runs the code blocks of the documentation."""

import ast
import builtins
import pathlib
import re
from typing import Any

DOCS = pathlib.Path(__file__).parent.parent / "docs"


def pages() -> list[str]:
    """Returns the paths below docs/ of all pages with Python blocks."""
    paths = (path for path in sorted(DOCS.rglob("*.md")) if "_build" not in path.parts)
    return [path.relative_to(DOCS).as_posix() for path in paths if blocks(path.read_text("utf-8"))]


def blocks(text: str) -> list[str]:
    """Returns the Python blocks of a page, or of a part of it.

    Code that cannot run, because it needs a file of the reader, is a `text` block.
    """
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def code(page: str) -> str:
    """Returns the program of a page: its Python blocks, one after the other."""
    return "\n".join(blocks((DOCS / page).read_text("utf-8")))


def run(page: str) -> dict[str, Any]:
    """Executes the Python blocks of a page as one program.

    Args:
      page: the path below docs/, such as "train/recipes.md".

    Returns:
      The global names of the program after its last block.
    """
    names: dict[str, Any] = {"__name__": page}
    exec(compile(code(page), page, "exec"), names)
    return names


def undefined_names(program: str) -> set[str]:
    """Returns the names that a program reads and defines nowhere."""
    used: set[str] = set()
    defined = set(dir(builtins)) | {"__name__"}
    for node in ast.walk(ast.parse(program)):
        match node:
            case ast.Import() | ast.ImportFrom():
                defined |= {(a.asname or a.name).split(".")[0] for a in node.names}
            case ast.Name():
                (used if isinstance(node.ctx, ast.Load) else defined).add(node.id)
            case ast.FunctionDef() | ast.ClassDef():
                defined.add(node.name)
            case ast.arg():
                defined.add(node.arg)
            case ast.ExceptHandler():
                defined.add(node.name or "")
    return used - defined
