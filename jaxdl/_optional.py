"""Imports of packages that belong to an extra, such as `jaxdl[plot]`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def extra(name: str, caller: str) -> Iterator[None]:
    """Runs imports, and adds the line that installs a missing package to its error.

    The imports stay ordinary statements, which type checkers and editors can follow:

        with extra("data", "mnist"):
            import pooch

    Args:
      name: the extra in pyproject.toml.
      caller: the function that needs the package, for the message.

    Raises:
      ImportError: a package is missing.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or str(error)).partition(".")[0]
        raise ImportError(
            f'{caller} needs the package {package}. Install it with pip install "jaxdl[{name}]".',
            name=error.name,
        ) from error
