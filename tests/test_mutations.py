import ast
import functools

from benchmarks import mutations


def test_each_mutation_changes_one_place_and_stays_python(tmp_path):
    @functools.cache
    def parsed(text):
        return ast.dump(ast.parse(text))

    for mutation in mutations.MUTATIONS:
        mutations.copy(tmp_path, [mutation.file])
        path = tmp_path / mutation.file
        original = path.read_text("utf-8")
        mutation.apply(tmp_path)
        assert parsed(path.read_text("utf-8")) != parsed(original), mutation.name


def test_names_are_unique_and_likely_tests_exist():
    names = [mutation.name for mutation in mutations.MUTATIONS]
    assert len(set(names)) == len(names) >= 20
    for mutation in mutations.MUTATIONS:
        assert mutation.likely and all((mutations.ROOT / test).exists() for test in mutation.likely)
