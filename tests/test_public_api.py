"""Every public name exists, has a docstring of the house's form, and is in the docs."""

import importlib
import inspect
import pathlib
import pkgutil
import re

import pytest

import jaxdl

DOCS = pathlib.Path(__file__).parent.parent / "docs"
MODULES = sorted(
    name
    for _, name, _ in pkgutil.walk_packages(jaxdl.__path__, "jaxdl.")
    if not any(part.startswith("_") for part in name.split("."))
    and not name.startswith("jaxdl.jaxpr")  # internal, except `jaxdl.depth`
)
PUBLIC = [
    (module, name)
    for module in ["jaxdl", *MODULES]
    for name in getattr(importlib.import_module(module), "__all__", ())
]


def documented() -> set[str]:
    """The last part of every name that a page documents."""
    text = "\n".join(page.read_text() for page in DOCS.rglob("*.md"))
    names = set(re.findall(r"auto(?:function|class|exception|data)::\s+([\w.]+)", text))
    for module in re.findall(r"automodule::\s+([\w.]+)\n\s*:members:", text):
        names |= set(importlib.import_module(module).__all__)
    return {name.rsplit(".", 1)[-1] for name in names}


@pytest.mark.parametrize("module, name", PUBLIC, ids=[f"{m}.{n}" for m, n in PUBLIC])
def test_public_name(module, name):
    thing = getattr(importlib.import_module(module), name)
    assert not name.startswith("_")
    if inspect.ismodule(thing):
        assert thing.__doc__
        return
    assert name in documented(), f"{module}.{name} stands on no page of the docs"
    if not callable(thing):
        return
    text = inspect.getdoc(thing)
    assert text, f"{module}.{name} has no docstring"
    if inspect.isfunction(thing) and inspect.signature(thing).parameters:
        wanted = ("Args:", "Returns:", "Yields:", "Raises:", "`")
        assert any(word in text for word in wanted), f"{module}.{name}: what does it take and give?"


def test_every_module_says_what_it_is():
    for module in MODULES:
        assert importlib.import_module(module).__doc__, f"{module} has no docstring"
