"""`python -m benchmarks._atheris READER [libFuzzer options]`: coverage-guided fuzzing of a reader.

Needs the package atheris. The readers are those of `_malformed.all_readers`; anything but a
ValueError or an OSError is a finding.
"""

from __future__ import annotations

import importlib
import pathlib
import sys
import tempfile
from typing import Any


def main() -> None:
    atheris: Any = importlib.import_module("atheris")
    reader_name, *options = sys.argv[1:]
    # Our readers alone: coverage of JAX and NumPy would guide the fuzzer into them.
    with atheris.instrument_imports(include=["jaxdl.data", "jaxdl.interop", "jaxdl.train"]):
        _malformed = importlib.import_module("benchmarks._malformed")
    folder = pathlib.Path(tempfile.mkdtemp())
    reader = _malformed.all_readers(folder)[reader_name]
    (folder / "files" / reader.name).parent.mkdir(parents=True)
    corpus = folder / "corpus"
    corpus.mkdir()
    (corpus / "valid").write_bytes(reader.content)

    def one(content: bytes) -> None:
        (folder / "files" / reader.name).write_bytes(content)
        try:
            reader.read(folder / "files")
        except (ValueError, OSError):
            pass

    atheris.Setup([sys.argv[0], str(corpus), *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
