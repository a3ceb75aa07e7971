"""A plan written as TOML is read back as the same plan, whatever its names and texts hold."""

import math
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradaudit.errors import PlanError
from gradaudit.manifest.plan_suggestion import suggest_plan
from gradaudit.plan import Plan, build_plan, plan_toml, read_plan, toml_key, toml_value

NAMES = (
    "plain", "with space", "a.b", 'say "hi"', "it's", "back\\slash", "[table]", "#no comment", "= x", "", " ", "ä-日本-\U0001f600",
    "line\nbreak", "carriage\r\nreturn", "tab\there", "bell\x07", "delete\x7f", "next\x85line\u2028", "\ufeffmark", '"""', "true", "1",
)  # fmt: skip

RICH = {
    "model": {
        "source": "factory:n.py:build", "weights": "w ä.pt", "layer": "features.3", "classes": ["a\n", '"b"'], "output": 1,
    },
    "preprocess": {
        "resize": [256, 224], "crop": 224, "fit": "exact", "interpolation": "bicubic", "mean": [0.1, 1e-9, 0.30000000000000004],
        "std": [1.0, 1e12, 0.5], "channels": 3, "invert": True, "antialias": False,
    },
    "explain": {"method": "hirescam", "target": "class:it's", "sign": -1},
    "columns": {
        "image_template": "{a}/{b}.png", "label": "dx", "cluster": "p", "id": "i", "subgroups": {n: n for n in NAMES},
        "regions": {"r.1": "c"}, "region_templates": {"m": "{a}_\\.png"},
    },
    "regions": {n: {"role": "avoid", "derive": "frame(0.1)", "description": n} for n in NAMES},
    "subgroups": {
        n: {"order": [n, "other"], "reference": n, "kind": "ordered", "within": True, "inferred": True, "description": n} for n in NAMES
    },
    "criteria": {"margin": 0.1, "undefined_margin": 0.2, "declared_by": "x", "declared_on": "2026-01-15", "rationale": "two\nlines"},
    "analysis": {"alpha": 0.01, "permutations": 199, "covariates": ["a", "b.c"], "regions": ["plain"], "pairs": "pair", "positive_class": "m"},
    "privacy": {"min_cell": 1, "images": "none", "hash_names": True},
    "run": {"batch_size": 3, "device": "cpu", "workers": 0, "seed": 10**20, "accelerate": False, "precision": "bfloat16"},
    "report": {"title": '"t"', "auditor": "\\", "notice": "n\x00", "gallery_per_cell": 0, "thumbnail": 32},
}  # fmt: skip


def read_back(plan, folder):
    path = folder / "audit.toml"
    path.write_text(plan_toml(plan), encoding="utf-8")
    return read_plan(path)


def test_the_rich_plan_names_every_section():
    assert set(RICH) == set(Plan.model_fields)


@pytest.mark.parametrize("sections", [{}, RICH, *({name: RICH[name]} for name in RICH)])
def test_a_plan_comes_back_from_its_toml(sections, tmp_path):
    plan = build_plan(sections)
    assert read_back(plan, tmp_path) == plan
    assert plan_toml(plan.model_dump(mode="json")) == plan_toml(plan)  # as a stored result holds it


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(deadline=None, max_examples=150)
@given(
    names=st.lists(TEXTS, max_size=3, unique=True),
    text=TEXTS,
    number=st.floats(1e-300, 1e300, allow_nan=False),
)
def test_any_name_text_and_number_comes_back(tmp_path_factory, names, text, number):
    plan = build_plan(
        {
            "model": {"source": text, "classes": names},
            "preprocess": {"std": [number], "mean": [-number]},
            "regions": {name: {"description": text} for name in names},
            "columns": {"subgroups": dict.fromkeys(names, text)},
        }
    )
    assert read_back(plan, tmp_path_factory.getbasetemp()) == plan


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_numbers_that_are_not_finite_are_refused(number, tmp_path):
    with pytest.raises(PlanError, match=r"preprocess\.mean\.0: .*finite"):
        build_plan({"preprocess": {"mean": [number]}})
    (tmp_path / "audit.toml").write_text(f"[preprocess]\nstd = [{number}]\n")
    with pytest.raises(PlanError, match="finite"):
        read_plan(tmp_path / "audit.toml")
    with pytest.raises(PlanError, match=rf"preprocess\.mean: .*got {number}"):
        plan_toml({"preprocess": {"mean": [number]}})


@pytest.mark.parametrize("name", NAMES)
def test_single_keys_and_values_are_escaped_alike(name):
    assert tomllib.loads(f"{toml_key(name)} = {toml_value(name)}") == {name: name}
    assert tomllib.loads(f"x = {toml_value([name, name])}  # why") == {"x": [name, name]}


def test_a_suggested_plan_of_a_table_with_unusual_names_is_a_plan(tmp_path):
    path = tmp_path / 'my\n[model]\nsource = "x".csv'
    path.write_text(
        'image,patient,"subgroup.to""ne\x7f","region.a.b"\n'
        + "".join(f"{i}.png,p{i},{i % 2},\n" for i in range(8))
    )
    text = suggest_plan(path)
    plan = build_plan(tomllib.loads(text))
    assert "a.b" in plan.regions
    assert plan.model.source is None
