import ast
import functools

from benchmarks import mutations, row_faults
from experiments import coverage


def test_each_mutation_changes_one_place_and_stays_python(tmp_path):
    @functools.cache
    def parsed(text):
        return ast.dump(ast.parse(text))

    for mutation in (*mutations.MUTATIONS, *row_faults.faults().values()):
        mutations.copy(tmp_path, [mutation.file])
        path = tmp_path / mutation.file
        original = path.read_text("utf-8")
        mutation.apply(tmp_path)
        changed = path.read_text("utf-8")
        if path.suffix == ".py":
            assert parsed(changed) != parsed(original), mutation.name


def test_names_are_unique_and_likely_tests_exist():
    names = [mutation.name for mutation in mutations.MUTATIONS]
    assert len(set(names)) == len(names) >= 20
    for mutation in mutations.MUTATIONS:
        assert mutation.likely and all((mutations.ROOT / test).exists() for test in mutation.likely)


def test_each_row_that_code_covers_has_a_fault():
    assert set(row_faults.faults()) == set(coverage.find_marks(coverage.TESTS))
