import json
import os
import signal
import subprocess
import sys
import time
import types

import jax
import pytest
from jax.experimental import rnn

from benchmarks import _gpu_flax, _gpu_jax, _gpu_ours, _gpu_process, _gpu_timing, gpu
from benchmarks import _gpu_works as gpu_works
from benchmarks.__main__ import main

WORKS = [gpu_works.Work(name, "any", {}) for name in "abcd"]
HELLO = "import json, os, signal, sys, time; sys.stderr.write('last words')\n" + (
    "say = lambda **message: print(json.dumps(message), flush=True)\n"
    "say(machine={'device': 'toy'})\n"
)
ONE_ROW_EACH = "for key in sys.argv[1:]: say(key=key, ms=1.0)\nsay(end=True)\n"


def measured(script, share=60.0, end=60.0, limit=30.0, on_row=lambda: None):
    """What `measure` gives for worker processes that run `script`, and what it leaves."""
    rows, machines = {}, []

    def record(work, fields):
        rows[work.name] = fields
        on_row()

    def command(works, seconds):
        return [sys.executable, "-c", script, *(work.key for work in works)]

    left = _gpu_process.measure(
        command,
        WORKS,
        share=share,
        end=time.monotonic() + end,
        limit=limit,
        record=record,
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


def test_a_process_that_does_not_start_is_given_up(monkeypatch):
    monkeypatch.setattr(_gpu_process, "START", 1.0)
    rows, _, left = measured("import time; time.sleep(60)")
    assert rows == {name: {"note": "failed: no process within 1 s"} for name in "abcd"}
    assert left == []


def test_a_work_over_its_limit_is_stopped_and_the_next_ones_are_measured(tmp_path):
    script = HELLO + (
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "for key in sys.argv[1:]:\n"
        "    time.sleep(60 if key == 'd|' else 0)\n"
        "    say(key=key, ms=1.0)\n"
    )
    rows, _, left = measured(script, limit=1.0)
    assert rows.pop("d") == {"note": "stopped after 1 s"}
    assert rows == {name: {"ms": 1.0} for name in "abc"} and left == []
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_at_the_end_of_the_time_what_is_missing_is_left(monkeypatch):
    late = [0.0]
    clock = types.SimpleNamespace(monotonic=lambda: time.monotonic() + late[0])
    monkeypatch.setattr(_gpu_process, "time", clock)
    script = HELLO + "say(key=sys.argv[1], ms=1.0)\ntime.sleep(60)\n"
    rows, _, left = measured(script, on_row=lambda: late.append(late.pop() + 100.0))
    assert rows == {"a": {"ms": 1.0}} and left == ["b", "c", "d"]


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
    layer = gpu_works.Work("step", "step", {}, (), "fused", flops=1e9, dtype="bf16", images=8)
    table.describe("ours", {"device": "toy"})
    table.add("ours", product, {"ms": 2.0})
    table.add("torch", product, {"ms": 1.0})  # the peak: 2e12 FLOP/s
    table.add("ours", layer, {"ms": 4.0, "compile_s": 3.0, "peak_mb": 5.0})
    table.add("torch", step, {"ms": 2.0})
    table.add("Flax", step, {"note": "skipped: out of time"})
    assert not table.has_failures
    table.add("torch.compile", step, {"note": "failed: out of memory", "trace": "line 1"})
    assert table.has_failures
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
        "images_per_s": 2000.0,
    }
    assert saved["rows"][4]["ms"] is None and saved["rows"][4]["note"] == "skipped: out of time"
    assert saved["failures"] == [{"work": "step", "library": "torch.compile", "trace": "line 1"}]
    assert saved["ratios"] == [
        {"work": "matmul", "ours": "ours", "peer": "torch", "ratio": 2.0},
        {"work": "step", "ours": "ours, fused", "peer": "torch", "ratio": 2.0},
    ]
    printed = capsys.readouterr().out
    assert "ours, fused" in printed and "0.125  2,000 images/s" in printed


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


@pytest.mark.parametrize("name, count", [("ResNet-18", 11_689_512), ("ResNet-50", 25_557_032)])
def test_flax_has_the_same_residual_networks(name, count):
    block, depths = gpu_works.DEPTHS[name]
    model, x = _gpu_flax.ResNet(block, depths), jax.ShapeDtypeStruct((1, 64, 64, 3), "float32")
    params = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


@pytest.mark.parametrize("name, count", [("ResNet-18", 11_689_512), ("ResNet-50", 25_557_032)])
def test_torch_has_the_same_residual_networks(name, count):
    pytest.importorskip("torch")
    from benchmarks import _gpu_torch

    net = _gpu_torch.resnet(*gpu_works.DEPTHS[name])
    assert sum(parameter.numel() for parameter in net.parameters()) == count


def stand_in(change):
    """JAX's own reference in the place of cuDNN's LSTM, with changed weights."""

    def lstm(x, h, c, weights, lengths, *sizes):
        parts = rnn.unpack_lstm_weights(change(weights), *sizes[:3], sizes[4])
        return rnn.lstm_ref(x, h, c, *parts, lengths, *sizes)

    return lstm


@pytest.mark.slow
@pytest.mark.parametrize("change, verdict", [(1.0, "pass"), (1.001, "FAIL")])
def test_the_check_of_cudnn_passes_only_the_right_result(monkeypatch, change, verdict):
    monkeypatch.setattr(rnn, "lstm", stand_in(lambda weights: change * weights))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    row = _gpu_ours.check_cudnn(seconds=0.1, shape=(3, 4, 2, 3))
    assert row["note"].startswith(f"{verdict}: largest relative error")


@pytest.mark.slow
@pytest.mark.parametrize("library", ["ours", "Flax"])
def test_works_of_full_size_are_lowered_for_a_card_that_is_not_there(monkeypatch, library):
    """Shapes, the GPU's branches and operations without a GPU rule show without a GPU."""
    lowered = []

    def lower(f, *args, **options):
        lowered.append(jax.jit(f).trace(*args).lower(lowering_platforms=("cuda",)).as_text())
        return {}

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for name in ("pure", "measure_step"):
        monkeypatch.setattr(_gpu_jax, name, lower)
    kinds = {"ours": _gpu_ours, "Flax": _gpu_flax}[library].kinds(library)
    count = 0
    for work in gpu_works.works(smoke=False):
        # cuDNN asks the card for its workspace; `fit` and `train_many` compile by themselves.
        ready = work.variant != "cudnn" and work.kind in ("recurrent", "resnet_step", "explain")
        if library in work.libraries and ready:
            with jax.numpy_dtype_promotion("standard"):  # as outside of the tests: Flax needs it
                kinds[work.kind](**work.size, seconds=1.0)
            count += 1
    assert len(lowered) == count > 0 and all("stablehlo" in text for text in lowered)


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
