"""Real signals, processes and damage; `python -m benchmarks reliability` runs larger counts."""

import signal

import pytest

from benchmarks import _malformed, _reliability


def all_went_well(actual):
    assert actual.good == actual.of, actual.wrong


@pytest.mark.slow
def test_sigterm_at_twenty_random_steps():
    all_went_well(_reliability.stop_and_resume(20, seed=1))


@pytest.mark.parametrize("times", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_ctrl_c_at_random_steps(times):
    all_went_well(_reliability.stop_and_resume(times, seed=2, number=signal.SIGINT))


@pytest.mark.slow
def test_five_hundred_damaged_files():
    all_went_well(_reliability.damage_checkpoints(500, seed=1))


@pytest.mark.slow
def test_two_thousand_malformed_inputs():
    actual = _malformed.fuzz(150, seed=1)
    assert sum(tally.cases for tally in actual.values()) >= 2000
    for kind, tally in actual.items():
        assert not tally.wrong, (kind, tally.wrong)
        assert tally.refused + tally.read == tally.cases
    assert actual["manifest"].read == 0  # no changed manifest is taken for one


@pytest.mark.slow
def test_sigkill_at_random_moments_of_saving():
    all_went_well(_reliability.killed_while_saving(20, seed=1))


@pytest.mark.slow
def test_eight_processes_fetch_one_file():
    all_went_well(_reliability.fetch_concurrently(8))


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["devices", "move_between_devices", "kill_one_of_two"])
def test_one_device_eight_and_two_processes(measure):
    actual = getattr(_reliability, measure)()
    assert actual.good <= actual.of


@pytest.mark.slow
def test_ten_thousand_steps_keep_no_memory():
    memory, arrays = _reliability.soak(10_000)
    assert memory.good < memory.of
    assert arrays.good == 0
