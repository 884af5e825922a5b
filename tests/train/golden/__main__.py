import pathlib
import shutil

from tests.train.test_golden import run

folder = pathlib.Path(__file__).parent / "format_1"
shutil.rmtree(folder, ignore_errors=True)
run(folder, epochs=2)
for name in ("lock", "log.jsonl"):
    (folder / name).unlink()
