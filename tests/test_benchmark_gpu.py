import json
import os
import signal
import subprocess
import sys
import time

import pytest

from benchmarks import _gpu_process, _gpu_timing, gpu
from benchmarks import _gpu_works as gpu_works
from benchmarks.__main__ import main

WORKS = [gpu_works.Work(name, "any", {}) for name in "abcd"]
HELLO = "import json, os, signal, sys, time; sys.stderr.write('last words')\n" + (
    "say = lambda **message: print(json.dumps(message), flush=True)\n"
    "say(machine={'device': 'toy'})\n"
)
ONE_ROW_EACH = "for key in sys.argv[1:]: say(key=key, ms=1.0)\nsay(end=True)\n"


def measured(script, works=WORKS, share=60.0, end=60.0, limit=30.0):
    """What `measure` gives for worker processes that run `script`, and what it leaves."""
    rows, machines = {}, []

    def command(works, seconds):
        return [sys.executable, "-c", script, *(work.key for work in works)]

    left = _gpu_process.measure(
        command,
        works,
        share=share,
        end=time.monotonic() + end,
        limit=limit,
        record=lambda work, fields: rows.update({work.name: fields}),
        machine=machines.append,
    )
    return rows, machines, [work.name for work in left]


def test_every_work_of_a_good_process_has_its_row():
    rows, machines, left = measured(HELLO + ONE_ROW_EACH)
    assert rows == {name: {"ms": 1.0} for name in "abcd"}
    assert machines == [{"device": "toy"}] and left == []


def test_a_process_that_dies_costs_one_work():
    script = HELLO + (
        "for key in sys.argv[1:]:\n"
        "    if key == 'b|': os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    say(key=key, ms=1.0)\n"
        "say(end=True)\n"
    )
    rows, machines, left = measured(script)
    assert rows.pop("b") == {
        "note": f"failed: the process ended with status {-signal.SIGSEGV}: last words",
        "trace": "last words",
    }
    assert rows == {name: {"ms": 1.0} for name in "acd"}
    assert len(machines) == 2 and left == []


def test_a_process_that_dies_at_its_start_costs_all_works_once():
    rows, _, left = measured("raise OSError('no driver')")
    assert set(rows) == set("abcd") and left == []
    assert all("OSError: no driver" in fields["note"] for fields in rows.values())


def test_a_work_over_its_limit_is_stopped_and_the_next_ones_are_measured(tmp_path):
    script = HELLO + (
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "for key in sys.argv[1:]:\n"
        "    time.sleep(60 if key == 'd|' else 0)\n"
        "    say(key=key, ms=1.0)\n"
    )
    rows, _, left = measured(script, limit=3.0)
    assert rows.pop("d") == {"note": "stopped after 3 s"}
    assert rows == {name: {"ms": 1.0} for name in "abc"} and left == []
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_at_the_end_of_the_time_what_is_missing_is_left():
    began = time.monotonic()
    script = HELLO + "say(key=sys.argv[1], ms=1.0)\ntime.sleep(60)\n"
    rows, _, left = measured(script, end=3.0)
    assert rows == {"a": {"ms": 1.0}} and left == ["b", "c", "d"]
    assert time.monotonic() - began < 20


def test_a_library_that_is_not_installed_is_said_to_be():
    rows, machines, left = measured('print(\'{"missing": "torch"}\', flush=True)')
    assert rows == {name: {"note": "not installed: torch"} for name in "abcd"}
    assert machines == [] and left == []


def test_no_work_is_begun_after_the_share_of_the_time():
    assert measured(HELLO + ONE_ROW_EACH, share=0.0) == ({}, [], list("abcd"))


def test_the_table_has_ratios_and_shares_of_the_best_matmul(tmp_path, capsys):
    file = tmp_path / "table.json"
    table = gpu.Table({"gpu": "toy"}, file)
    product = gpu_works.Work("matmul", "matmul", {}, flops=2e9, dtype="bf16")
    step = gpu_works.Work("step", "step", {}, flops=1e9, dtype="bf16")
    layer = gpu_works.Work("step", "step", {}, variant="fused", flops=1e9, dtype="bf16")
    table.describe("ours", {"device": "toy"})
    table.add("ours", product, {"ms": 2.0})
    table.add("torch", product, {"ms": 1.0})  # the peak: 2e12 FLOP/s
    table.add("ours", layer, {"ms": 4.0, "compile_s": 3.0, "peak_mb": 5.0})
    table.add("torch", step, {"ms": 2.0})
    table.add("Flax", step, {"note": "skipped: out of time"})
    assert not table.failed
    table.add("torch.compile", step, {"note": "failed: out of memory", "trace": "line 1"})
    assert table.failed
    table.print_ratios()

    saved = json.loads(file.read_text())
    assert saved["machine"] == {
        "gpu": "toy",
        "ours": {"device": "toy"},
        "matmul_tflops": {"bf16": 2.0},
    }
    assert saved["rows"][2] == {
        "work": "step",
        "library": "ours, fused",
        "ms": 4.0,
        "compile_s": 3.0,
        "peak_mb": 5.0,
        "share_of_peak": 0.125,
        "note": "",
    }
    assert saved["rows"][4]["ms"] is None and saved["rows"][4]["note"] == "skipped: out of time"
    assert saved["failures"] == [{"work": "step", "library": "torch.compile", "trace": "line 1"}]
    assert saved["ratios"] == [
        {"work": "matmul", "ours": "ours", "peer": "torch", "ratio": 2.0},
        {"work": "step", "ours": "ours, fused", "peer": "torch", "ratio": 2.0},
    ]
    assert "ours, fused" in capsys.readouterr().out


def test_times_are_medians_of_a_call():
    waits = []
    ms = _gpu_timing.median_ms(lambda: time.sleep(0.002), waits.append, seconds=0.1)
    assert 2 <= ms < 20
    assert 2 <= len(waits) <= 8  # not one for each of about fifty calls


def test_flops_are_those_of_the_published_networks():
    """Multiplications and additions of torchvision's table: 1.814 and 4.089 billion."""
    for name, billions in (("ResNet-18", 1.814), ("ResNet-50", 4.089)):
        block, depths = gpu_works.DEPTHS[name]
        assert gpu_works.resnet_flops(block, depths, 224) / 2e9 == pytest.approx(billions, 1e-3)


@pytest.mark.parametrize("smoke", [False, True])
def test_keys_name_one_work_of_each_library(smoke):
    for library in gpu_works.LIBRARIES:
        keys = [work.key for work in gpu_works.works(smoke) if library in work.libraries]
        assert len(set(keys)) == len(keys) > 0


def test_it_needs_neither_tyro_nor_pooch():
    """The machines that have a GPU may lack them."""
    code = (
        "import runpy, sys\n"
        "sys.modules['tyro'] = sys.modules['pooch'] = None\n"
        "sys.argv = ['benchmarks', 'gpu', '--only', 'nothing']\n"
        "runpy.run_module('benchmarks', run_name='__main__')\n"
    )
    environment = os.environ | {"PYTHONPATH": str(_gpu_process.ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 2 and "no work's name contains 'nothing'" in done.stdout, done.stderr


@pytest.mark.slow
def test_everything_runs_in_small(tmp_path, capsys):
    file = tmp_path / "table.json"
    assert main(["gpu", "--smoke", "--json", str(file)]) == 0
    table = json.loads(file.read_text())
    ours = [row for row in table["rows"] if row["library"].startswith("ours")]
    assert len(ours) == sum("ours" in work.libraries for work in gpu_works.works(True))
    for row in ours:
        on_a_gpu = "cudnn" in row["library"] or "cuDNN" in row["work"]
        assert (row["ms"] or 0) > 0 or (on_a_gpu and row["note"] == "skipped: no GPU"), row
