"""Missing optional packages: the error names the extra to install."""

import subprocess
import sys

import pytest

BLOCKED = """
import sys

import numpy as np

for package in ("matplotlib", "pooch", "safetensors", "sklearn"):
    sys.modules[package] = None  # an import of it raises ImportError

from jaxdl import data, interpret, metrics
from jaxdl.interop import safetensors

scores, labels = np.eye(2, dtype=np.float32), np.array([0, 1])
calls = {
    "plot": lambda: interpret.plot.heat_map(np.ones((1, 4, 4), np.float32)),
    "data": data.mnist,
    "checkpoint": lambda: safetensors.save_weights("weights.safetensors", {}),
    "metrics": lambda: metrics.r2().compute(scores[:, 0], scores[:, 1]),
}
for extra, call in calls.items():
    try:
        call()
    except ImportError as error:
        print(extra, error)
"""


def test_a_missing_package_names_its_extra(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert set(lines) == {"plot", "data", "checkpoint", "metrics"}
    for extra, message in lines.items():
        assert message.endswith(f'Install it with pip install "jaxdl[{extra}]".'), message
        assert "needs the package" in message


def test_an_import_that_works_changes_nothing():
    from jaxdl._optional import extra

    with extra("plot", "caller"):
        import json
    assert json.loads("1") == 1
    with pytest.raises(ValueError, match="other"), extra("plot", "caller"):
        raise ValueError("other")
