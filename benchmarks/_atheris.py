"""`python -m benchmarks._atheris READER [libFuzzer options]`: coverage-guided fuzzing of a reader.

Needs the package atheris. The readers are those of `_malformed.all_readers`; anything but a
ValueError or an OSError is a finding.
"""

from __future__ import annotations

import pathlib
import sys
import tempfile

from benchmarks import _malformed


def main() -> None:
    import atheris  # type: ignore[import-not-found]

    reader_name, *options = sys.argv[1:]
    atheris.instrument_all()
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
