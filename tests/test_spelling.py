"""What a misspelt word may have meant, and that one module alone asks difflib."""

import ast
from pathlib import Path

import pytest

from gradaudit.spelling import did_you_mean, hint_in_brackets, nearest_names

PACKAGE = Path(__file__).parents[1] / "gradaudit"


@pytest.mark.parametrize(
    ("word", "known", "said"),
    [
        ("sexs", ("site", "sex"), "did you mean 'sex'?"),
        ("SEX", ("site", "sex"), "did you mean 'sex'?"),
        ("straße", ("STRASSE",), "did you mean 'STRASSE'?"),
        ("wrm", ["Warm", "warm"], "did you mean 'Warm'?"),
        ("it's", ["its"], 'did you mean \'its\'?'),
        ("its", ["it's"], 'did you mean "it\'s"?'),
        ("xyzzy", ("site", "sex"), ""),
        ("", ("site", ""[:0]), "did you mean ''?"),
        ("sex", (), ""),
    ],
)  # fmt: skip
def test_the_nearest_name_is_asked_after(word, known, said):
    assert did_you_mean(word, known) == said
    assert hint_in_brackets(word, known) == (f" ({said})" if said else "")


def test_several_names_come_nearest_first_and_once():
    known = (name for name in ("layer4", "layer3", "Layer3", "layer3", "head"))
    assert nearest_names("LAYER3", known, most=3) == ["layer3", "Layer3", "layer4"]
    assert (
        did_you_mean("layer5", ["layer4", "layer3"], most=2) == "did you mean 'layer4' or 'layer3'?"
    )


def test_the_cutoff_says_how_near_is_near():
    assert did_you_mean("lesn", ["lesion"], cutoff=0.7)
    assert not did_you_mean("lesn", ["lesion"], cutoff=0.9)


def test_one_module_asks_difflib():
    asking = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            if "difflib" in names:
                asking.append(path.relative_to(PACKAGE).as_posix())
    assert asking == ["spelling.py"]
