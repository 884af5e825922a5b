from tests import budget

FILES = {"tests/nn/test_a.py": 10.0, "tests/nn/test_b.py": 4.0, "tests/test_c.py": 2.0}
KNOWN = {"budget": {"tests/nn": 20.0, "tests": 3.0}, "files": FILES}


def test_seconds_are_summed_by_folder():
    assert budget.by_folder(FILES | {"tests/interpret/lrp/test_d.py": 1.5}) == {
        "tests": 2.0,
        "tests/interpret": 1.5,
        "tests/nn": 14.0,
    }


def test_a_slower_machine_is_no_growth():
    lines = budget.report({file: 3 * seconds for file, seconds in FILES.items()}, KNOWN)
    assert lines[0] == "48 s of tests; this machine takes 3.00 times the recorded"
    assert lines[-1] == "nothing grew since the last commit"
    assert not any("over budget" in line for line in lines)


def test_a_file_that_grew_and_a_folder_over_its_budget_are_named():
    lines = budget.report(FILES | {"tests/nn/test_a.py": 18.0}, KNOWN)
    assert [line.split() for line in lines if "tests/nn" in line] == [
        ["tests/nn", "22.0", "20.0", "over", "budget"],
        ["tests/nn/test_a.py", "10.0", "->", "18.0"],
    ]


def test_a_new_file_counts_as_growth_and_a_small_change_does_not():
    lines = budget.report(FILES | {"tests/nn/test_a.py": 11.9, "tests/test_new.py": 5.0}, KNOWN)
    assert [line.split()[0] for line in lines if "->" in line] == ["tests/test_new.py"]


def test_a_run_of_some_files_keeps_the_seconds_of_the_others():
    here, gone = "tests/test_budget.py", "tests/test_gone.py"
    before = {here: 4.0, "tests/conftest.py": 3.0, gone: 2.0}
    after = budget.merged({here: 8.0, "tests/test_new.py": 1.0}, before)  # a machine half as fast
    assert after == {here: 4.0, "tests/conftest.py": 3.0, "tests/test_new.py": 0.5}


def test_every_folder_has_a_budget():
    known = budget.recorded()
    assert set(budget.by_folder(known["files"])) <= set(known["budget"])
