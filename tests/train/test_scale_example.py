"""The documentation's example of many processes, started as Slurm starts them."""

import os
import pathlib
import subprocess
import sys

import pytest

EXAMPLE = pathlib.Path(__file__).parents[2] / "docs" / "examples" / "many_processes.py"


@pytest.mark.slow
def test_two_processes_by_the_launchers_variables():
    pytest.importorskip("grain", reason="grain is not installed")
    common = os.environ | {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "JAX_NUM_CPU_DEVICES": "2",
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
    }
    workers = [
        subprocess.Popen(
            [sys.executable, EXAMPLE],
            env=common | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    said = []
    for worker in workers:
        out, err = worker.communicate(timeout=240)
        assert worker.returncode == 0, err[-3000:]
        said.append([line for line in out.splitlines() if line.startswith(("fit:", "own:"))])
    (fit, own), second = said
    assert second == []
    assert fit.endswith("on 4 devices") and 0 < float(fit.split()[2]) < 1.5
    assert "None, 'model')" in own
