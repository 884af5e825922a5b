"""Writes the checkpoint of today's format anew: `python -m tests.train.golden`.

Only when the format changes, and then in a folder of its own, for the old one must stay readable.
Orbax notes in `commit_success.txt` where the checkpoint was written, and never reads it; the note
says nothing of that here.
"""

import pathlib
import shutil

from jaxdl.train.checkpoint_format import write_manifest
from tests.train.test_golden import run

folder = pathlib.Path(__file__).parent / "format_1"
shutil.rmtree(folder, ignore_errors=True)
run(folder, epochs=2)
for name in ("lock", "log.jsonl"):
    (folder / name).unlink()
for step in folder.glob("step_*"):
    (step / "arrays" / "commit_success.txt").write_text("Checkpoint commit was successful\n")
    write_manifest(step)
