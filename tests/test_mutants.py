"""The tables of `make mutants` fit the package: every named mutation finds its place, and every module its tests."""

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("mutants", ROOT / "benchmarks" / "mutants.py")
mutants = importlib.util.module_from_spec(_spec)
sys.modules["mutants"] = mutants
_spec.loader.exec_module(mutants)

TABLE = mutants.read_table()


def test_every_named_mutation_changes_what_it_names():
    found = mutants.named_mutants(TABLE)
    assert len(found) >= 40
    assert len({m.key for m in found}) == len(found)
    for m in found:
        whole = ast.dump(ast.parse((ROOT / m.file).read_text(encoding="utf-8")))
        assert ast.dump(ast.parse(m.source)) != whole, m.key
        assert m.why


def test_every_module_has_its_tests():
    for module in mutants.modules_of(TABLE).values():
        assert module.paths()
        assert module.tests
        for test in (*module.tests, *module.deselect):
            assert (ROOT / test.partition("::")[0]).exists(), test


def test_what_no_longer_fits_is_named():
    """Moved, renamed or rewritten code is told, entry by entry, and never passed over."""
    entry = {
        "module": "stats",
        "in": "p_value",
        "find": "(1 - TIE)",
        "put": "(1 + TIE)",
        "why": "ties",
    }
    wrong = [entry | {"in": "gone"}, entry | {"find": "no such text"}, entry | {"find": "1"}]
    with pytest.raises(
        mutants.TableError,
        match=r"(?s)3 of 4 named mutations.*gone: defined 0 times.*'no such text' is there 0 times.*'1' is there \d times",
    ):
        mutants.named_mutants({**TABLE, "named": [entry, *wrong]})
    moved = {**TABLE["module"], "stats": {"files": ["gradaudit/nowhere/*.py"], "tests": []}}
    with pytest.raises(mutants.TableError, match=r"no file matches gradaudit/nowhere/\*\.py"):
        mutants.named_mutants({"module": moved, "named": [entry]})


@pytest.mark.parametrize(
    ("sizes", "total", "given"),
    [
        ([1, 1], 1, [1, 0]),
        ([700, 200, 100], 10, [7, 2, 1]),
        ([3, 3, 3], 100, [3, 3, 3]),
        ([0, 5], 2, [0, 2]),
    ],
)
def test_the_draw_is_in_proportion(sizes, total, given):
    assert mutants.shares(sizes, total) == given
