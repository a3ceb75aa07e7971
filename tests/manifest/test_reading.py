"""The manifest: every rule is broken once and named with its rows; what is right is read as it stands."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gradaudit.errors import ManifestError
from gradaudit.manifest import file_checks
from gradaudit.manifest.plan_suggestion import suggest_plan
from gradaudit.manifest.reading import Manifest, read_manifest
from gradaudit.manifest.rules import RULES, render_problems
from gradaudit.plan import Plan, build_plan
from gradaudit.records import Problem
from gradaudit.regions.masks import region_masks

HEADER = "image,label,cluster,subgroup.sex,region.lesion"


def picture(path: Path, size: tuple[int, int] = (6, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images a.png to h.png, masks m0.png to m7.png, a text file, and a folder that is called like a picture."""
    for k, letter in enumerate("abcdefgh"):
        picture(tmp_path / f"{letter}.png")
        Image.fromarray(np.eye(6, 8, dtype=np.uint8)).save(tmp_path / f"m{k}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    return tmp_path


def write(folder: Path, text: str | bytes, name: str = "manifest.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems_of(path: Path, plan: Plan | None = None) -> tuple[Problem, ...]:
    """All problems, whether they stop the audit or not."""
    try:
        return read_manifest(path, plan).warnings
    except ManifestError as error:
        return error.problems


GOOD = f"""{HEADER}
a.png,benign,p1,f,m0.png
b.png,benign,p1,f,m1.png
c.png,malignant,p2,m,"box:1,1,4,5"
d.png,malignant,p3,m,
"""


# ── what is right is read as it stands ──────────────────────────────────────────────────────────────────────────────


def test_good_manifest(folder: Path) -> None:
    manifest = read_manifest(write(folder, GOOD))
    assert len(manifest) == 4
    assert manifest.warnings == manifest.problems == ()
    assert manifest.attributes == ("sex",)
    assert manifest.region_names == ("lesion",)
    assert manifest.cluster_declared
    assert manifest.root == folder
    assert list(manifest.table.columns) == [
        "id",
        "image",
        "label",
        "cluster",
        "subgroup.sex",
        "region.lesion",
    ]
    assert list(manifest.table.index) == [0, 1, 2, 3]
    third = manifest.samples[2]
    assert (third.index, third.id, third.image, third.label, third.cluster) == (
        2,
        "c.png",
        "c.png",
        "malignant",
        "p2",
    )
    assert third.subgroups == {"sex": "m"}
    assert third.regions == {"lesion": "box:1,1,4,5"}
    assert manifest.samples[3].regions == {}
    assert pd.isna(manifest.table["region.lesion"][3])


def test_digest_is_of_the_bytes(folder: Path) -> None:
    import hashlib

    path = write(folder, GOOD)
    assert read_manifest(path).digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_manifest(path).digest != read_manifest(write(folder, GOOD + "\n")).digest


def test_least_manifest_has_each_image_alone(folder: Path) -> None:
    manifest = read_manifest(write(folder, "image\na.png\nb.png\n"))
    assert not manifest.cluster_declared
    assert [sample.cluster for sample in manifest.samples] == ["a.png", "b.png"]
    assert [sample.label for sample in manifest.samples] == [None, None]
    assert {problem.rule for problem in manifest.warnings} == {"no_attribute", "no_region"}


ROWS = [
    {
        "image": "a.png",
        "label": "007",
        "cluster": "p1",
        "subgroup.sex": "f",
        "region.lesion": "box:1,1,4,5",
        "site": "1.50",
    },
    {
        "image": "b.png",
        "label": "1",
        "cluster": "p1",
        "subgroup.sex": "",
        "region.lesion": "",
        "site": "NA",
    },
    {
        "image": "c.png",
        "label": "",
        "cluster": "p2",
        "subgroup.sex": "x, y",
        "region.lesion": "polygon:0,0 4,0 0,4",
        "site": 'say "yes"',
    },
]


def as_csv(rows: list[dict[str, str]], **options: Any) -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), **options)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def as_parquet(rows: list[dict[str, str]]) -> bytes:
    out = io.BytesIO()
    pd.DataFrame([{key: value or None for key, value in row.items()} for row in rows]).to_parquet(
        out
    )
    return out.getvalue()


def nested(row: dict[str, str]) -> dict[str, Any]:
    plain = {key: value for key, value in row.items() if "." not in key}
    return plain | {
        "subgroup": {"sex": row["subgroup.sex"] or None},
        "region": {"lesion": row["region.lesion"] or None},
    }


FORMATS = {
    "manifest.csv": as_csv(ROWS),
    "bom.csv": "\ufeff" + as_csv(ROWS),
    "unix.csv": as_csv(ROWS, lineterminator="\n"),
    "mac.csv": as_csv(ROWS, lineterminator="\r"),
    "semicolon.csv": as_csv(ROWS, delimiter=";"),
    "trailing.csv": as_csv(ROWS).replace("\r\n", ",\r\n"),
    "tabs.tsv": as_csv(ROWS, delimiter="\t"),
    "tabs.csv": as_csv(ROWS, delimiter="\t"),
    "lines.jsonl": "\n".join(json.dumps(row) for row in ROWS),
    "nested.ndjson": "\n\n".join(json.dumps(nested(row)) for row in ROWS),
    "list.json": json.dumps(ROWS),
    "table.parquet": as_parquet(ROWS),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_samples(folder: Path, name: str) -> None:
    manifest = read_manifest(write(folder, FORMATS[name], name))
    found = [
        (s.index, s.image, s.label, s.cluster, s.subgroups, s.regions) for s in manifest.samples
    ]
    assert found == [
        (0, "a.png", "007", "p1", {"sex": "f"}, {"lesion": "box:1,1,4,5"}),
        (1, "b.png", "1", "p1", {"sex": None}, {}),
        (2, "c.png", None, "p2", {"sex": "x, y"}, {"lesion": "polygon:0,0 4,0 0,4"}),
    ]
    assert manifest.table["site"].tolist()[0] == "1.50"
    assert manifest.table["site"].tolist()[2] == 'say "yes"'
    assert pd.isna(manifest.table["site"][1])


def test_parquet_types_become_the_text_that_a_reader_would_write(folder: Path) -> None:
    frame = pd.DataFrame(
        {
            "image": ["a.png", "b.png", "c.png"], "subgroup.tone": [1.0, np.nan, 3.0], "subgroup.old": [True, False, True], "label": [0, 1, 1],
            "share": [0.5, 1.0, np.nan], "when": pd.to_datetime(["2026-01-02", None, "2026-01-04"]), "region.box": [[[0, 0, 4, 0, 0, 4]], None, None],
            "subgroup.site": pd.Categorical(["x", None, "y"]),
        }
    )  # fmt: skip
    frame.to_parquet(folder / "t.parquet")
    manifest = read_manifest(folder / "t.parquet")
    assert [s.subgroups["tone"] for s in manifest.samples] == ["1", None, "3"]
    assert [s.subgroups["old"] for s in manifest.samples] == ["true", "false", "true"]
    assert [s.subgroups["site"] for s in manifest.samples] == ["x", None, "y"]
    assert [s.label for s in manifest.samples] == ["0", "1", "1"]
    assert manifest.table["share"].tolist()[:2] == ["0.5", "1.0"]
    assert manifest.table["when"][0].startswith("2026-01-02")
    assert pd.isna(manifest.table["when"][1])
    masks = region_masks(manifest.samples[0], Plan(), manifest.root, (6, 8), ("box",))
    assert masks["box"][0].sum() > 0


def test_words_that_mean_unknown(folder: Path) -> None:
    words = ["", "NA", "n/a", "NaN", "null", "<NA>", "Unknown", " ", "None", "f"]
    text = "id,image,subgroup.sex,label\n" + "".join(
        f"{k},a.png,{word},{word}\n" for k, word in enumerate(words)
    )
    manifest = read_manifest(write(folder, text))
    assert [s.subgroups["sex"] for s in manifest.samples] == [None] * 8 + ["None", "f"]
    assert [s.label for s in manifest.samples] == [None] * 8 + ["None", "f"]


def test_declared_words_are_levels(folder: Path) -> None:
    plan = build_plan(
        {"subgroups": {"continent": {"order": ["EU", "NA"]}}, "model": {"classes": ["null", "one"]}}
    )
    manifest = read_manifest(
        write(folder, "image,label,subgroup.continent\na.png,null,NA\nb.png,one,EU\nc.png,,na\n"),
        plan,
    )
    assert [s.subgroups["continent"] for s in manifest.samples] == ["NA", "EU", None]
    assert [s.label for s in manifest.samples] == ["null", "one", None]


def test_ordered_attributes_read_minus_one_as_unknown_and_say_so(folder: Path) -> None:
    """Fitzpatrick17k writes -1 where the skin type is not known; its table cannot be edited by whoever audits with it."""
    plan = build_plan(
        {
            "columns": {"subgroups": {"skin": "fitzpatrick_scale"}},
            "subgroups": {"skin": {"order": ["1", "2"]}},
        }
    )
    manifest = read_manifest(
        write(folder, "image,fitzpatrick_scale\na.png,1\nb.png,-1\nc.png,2\n"), plan
    )
    assert [s.subgroups["skin"] for s in manifest.samples] == ["1", None, "2"]
    (problem,) = (p for p in manifest.warnings if p.rule == "doubtful_word")
    assert problem.rows == (3,)
    assert "read as unknown" in problem.message


def test_repeated_images_of_one_cluster_are_no_surprise(folder: Path) -> None:
    text = "id,image,cluster\n1,a.png,p\n2,a.png,p\n3,b.png,q\n4,b.png,r\n5,c.png,\n6,c.png,\n"
    (problem,) = (
        p for p in read_manifest(write(folder, text)).warnings if p.rule == "repeated_image"
    )
    assert problem.rows == (4, 5, 6, 7)


def test_empty_clusters_stand_alone(folder: Path) -> None:
    manifest = read_manifest(
        write(folder, "image,cluster,subgroup.s\na.png,p,x\nb.png,,y\nc.png,,y\n")
    )
    assert [s.cluster for s in manifest.samples] == ["p", "image:b.png", "image:c.png"]


def test_derived_regions_follow_the_columns(folder: Path) -> None:
    plan = build_plan(
        {"regions": {"margin": {"derive": "ring(lesion, 0.1)"}, "lesion": {"role": "attend"}}}
    )
    assert read_manifest(write(folder, GOOD), plan).region_names == ("lesion", "margin")


def test_urls_are_believed_until_they_are_measured(folder: Path) -> None:
    manifest = read_manifest(
        write(
            folder,
            "image,region.m\nmemory://bucket/a.png,memory://bucket/m.png#3\nmemory://bucket/b.dcm,\n",
        )
    )
    assert len(manifest) == 2


def test_pictures_without_an_extension_are_known_by_their_first_bytes(folder: Path) -> None:
    (folder / "a.png").rename(folder / "scan")
    (folder / "dicom.v2").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 10)
    assert (
        len(
            read_manifest(write(folder, "image\nscan\ndicom.v2\nB.PNG\n".replace("B.PNG", "b.png")))
        )
        == 2 + 1
    )


def test_carriage_of_line_numbers_over_quoted_line_breaks(folder: Path) -> None:
    text = 'image,note\na.png,"one\ntwo\nthree"\n\n"b.png","x\r\ny"\ngone.png,z\n'
    (problem,) = (p for p in problems_of(write(folder, text)) if p.rule == "missing_image")
    assert problem.rows == (8,)
    assert text.splitlines()[7].startswith("gone.png")


NOTES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)


@given(st.lists(st.tuples(NOTES, st.booleans()), min_size=1, max_size=8))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_text_survives_and_rows_are_the_editor_lines(
    tmp_path: Path, cells: list[tuple[str, bool]]
) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["image", "note"])
    lines = []
    for k, (cell, _) in enumerate(cells):
        lines.append(len(re.findall("\r\n|\r|\n", out.getvalue())) + 1)
        writer.writerow([f"{k}.png", "x" + cell + "y"])
    for k, (_, there) in enumerate(cells):
        (tmp_path / f"{k}.png").unlink(missing_ok=True)
        if there:
            (tmp_path / f"{k}.png").touch()
    path = tmp_path / "m.csv"
    path.write_bytes(out.getvalue().encode())
    gone = tuple(line for line, (_, there) in zip(lines, cells, strict=True) if not there)
    found = problems_of(path)
    assert next((p.rows for p in found if p.rule == "missing_image"), ()) == gone
    if not gone:
        assert read_manifest(path).table["note"].tolist() == ["x" + cell + "y" for cell, _ in cells]


# ── every rule, broken once ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Fault:
    """A manifest that breaks one rule: its text, the rows and the column that the answer must name, and its plan."""

    text: str | bytes
    rows: tuple[int, ...] = ()
    column: str = ""
    plan: dict[str, Any] = field(default_factory=dict)
    name: str = "manifest.csv"
    says: str = ""


def cells(column: str, *values: str, rest: str = "") -> str:
    """A manifest with one column more; the images are a.png, b.png, ..."""
    quoted = ['"' + value.replace('"', '""') + '"' for value in values]
    return f"image,{column}{rest}\n" + "".join(
        f"{'abcdefgh'[k]}.png,{value}\n" for k, value in enumerate(quoted)
    )


AGE = {"subgroups": {"age": {"kind": "continuous"}}}
SEX = {"sex": {"order": ["f", "m"]}}
FAULTS: dict[str, Fault] = {
    "file_format": Fault(b"PK\x03\x04...", says="Excel"),
    "encoding": Fault("image,site\na.png,Genf\nb.png,Zürich\n".encode("latin-1"), (3,), says="0xfc"),
    "nul_bytes": Fault("image,site\na.png,x\nb.png,y\0\n", (3,)),
    "broken_quotes": Fault('image,site\na.png,x\nb.png,"y\nc.png,z\n', (3,)),
    "broken_json": Fault('{"image": "a.png"}\n{"image": \n[1]\n', (2, 3), name="m.jsonl"),
    "no_rows": Fault("image,label\n\n"),
    "ragged_row": Fault("image,label\na.png,x\nb.png,x,y\nc.png\n", (3, 4), says="expected|header \\(2\\)"),
    "blank_row": Fault("image,label\na.png,x\n , \nb.png,x\n,\n", (3, 5)),
    "duplicate_column": Fault("image,label,label\na.png,x,y\n", (), "label", says="columns 2 and 3"),
    "unnamed_column": Fault("image,,label\na.png,3,y\n", (), "unnamed_2"),
    "no_image_column": Fault("imagge,label\na.png,x\n", says="did you mean 'imagge'"),
    "misspelt_column": Fault(cells("subgrup.sex", "f", "m"), (), "subgrup.sex", says="'subgroup.sex'"),
    "likely_column": Fault(cells("patient_id", "1", "2"), (), "patient_id", says='cluster = "patient_id"'),
    "bad_name": Fault(cells("region.whole", "box:1,1,3,3"), (), "region.whole"),
    "plan_column": Fault(cells("dx_type", "x"), (), "dx_tipe", {"columns": {"label": "dx_tipe"}}, says="did you mean 'dx_type'"),
    "plan_template": Fault(cells("isic_id", "1"), (), "", {"columns": {"image_template": "img/{isicid}.png"}}, says="did you mean 'isic_id'"),
    "column_taken_twice": Fault("image,label,dx\na.png,x,y\n", (), "label", {"columns": {"label": "dx"}}),
    "plan_subgroup": Fault(cells("subgroup.sex", "f"), (), "subgroup.sexs", {"subgroups": {"sexs": {}}}, says="did you mean 'sex'"),
    "unbuilt_attribute": Fault(cells("subgroup.sex", "f", "m"), (), "subgroup.ita", {"subgroups": {"ita": {}}}, says="ita"),
    "plan_region": Fault(cells("region.lesion", "m0.png"), (), "region.lession", {"regions": {"lession": {"role": "attend"}}}, says="'lesion'"),
    "plan_covariate": Fault(cells("site", "x"), (), "", {"analysis": {"covariates": ["sight"]}}, says="'sight'"),
    "plan_site": Fault(cells("hospital", "x"), (), "", {"analysis": {"site": "hospitl"}}, says="did you mean 'hospital'"),
    "plan_pairs": Fault(cells("pair", "x"), (), "", {"analysis": {"pairs": "pear"}}, says="did you mean 'pair'"),
    "plan_confirmatory": Fault(cells("region.lesion", "m0.png"), (), "", {"analysis": {"regions": ["leson"]}}, says="did you mean 'lesion'"),
    "plan_positive_class": Fault(cells("label", "benign", "malignant"), (), "", {"analysis": {"positive_class": "malign"}}, says="'malignant'"),
    "plan_reference": Fault(cells("subgroup.sex", "f", "m"), (), "subgroup.sex", {"subgroups": {"sex": {"reference": "female"}}}),
    "plan_order_numeric": Fault(cells("subgroup.a", "1", "2"), (), "subgroup.a", {"subgroups": {"a": {"order": ["1", "2"], "kind": "continuous"}}}),
    "no_role": Fault(cells("region.lesion", "m0.png"), (), "", {"criteria": {"margin": 0.1}}),
    "neutral_confirmatory": Fault(cells("region.lesion", "m0.png"), (), "", {"analysis": {"regions": ["lesion"]}}),
    "no_attribute": Fault(cells("region.lesion", "m0.png")),
    "no_region": Fault(cells("subgroup.sex", "f", "m")),
    "derive_syntax": Fault(cells("region.a", "m0.png"), (), "", {"regions": {"r": {"derive": "ring(a)"}}}),
    "derive_unknown": Fault(cells("region.a", "m0.png"), (), "", {"regions": {"r": {"derive": "ring(b, 0.1)"}}}, says="'b'"),
    "derive_cycle": Fault(cells("region.a", "m0.png"), (), "", {"regions": {"r": {"derive": "complement(r)"}}}),
    "derive_and_column": Fault(cells("region.a", "m0.png"), (), "", {"regions": {"a": {"derive": "frame(0.1)"}}}),
    "empty_image": Fault("image,label\na.png,x\n,x\nNA,y\n", (3, 4), "image"),
    "missing_image": Fault("image\na.png\nb.jpg\nc.png\n", (3,), "image", says="the folder has 'b.png'"),
    "image_is_folder": Fault("image\na.png\nfolder.png\n", (3,), "image"),
    "image_type": Fault("image\na.png\nnotes.txt\n", (3,), "image"),
    "windows_path": Fault("image\na.png\nimg\\b.png\n", (3,), "image"),
    "unknown_protocol": Fault("image\na.png\nsss://bucket/b.png\n", (3,), "image"),
    "missing_package": Fault("image\na.png\ns3://bucket/b.png\n", (3,), "image", says="s3fs"),
    "absolute_path": Fault("image\na.png\n{root}/b.png\n", (3,), "image"),
    "duplicate_image": Fault("image\na.png\nb.png\n./a.png\n", (2, 4), "image", says="also in row 4"),
    "repeated_image": Fault("id,image\n1,a.png\n2,b.png\n3,a.png\n", (2, 4), "image"),
    "empty_id": Fault("id,image\n1,a.png\n,b.png\n", (3,), "id"),
    "duplicate_id": Fault("id,image\n1,a.png\n2,b.png\n1,c.png\n", (2, 4), "id", says="also in row 4"),
    "unknown_label": Fault(
        cells("label", "benign", "1", "Malignant", "2"), (4, 5), "label", {"model": {"classes": ["benign", "malignant"]}},
        says="did you mean 'malignant'",
    ),
    "empty_cluster": Fault(cells("cluster", "p", "", "q"), (3,), "cluster"),
    "single_cluster": Fault(cells("cluster", "p", "p"), (), "cluster"),
    "spread_attribute": Fault("image,cluster,subgroup.sex\na.png,p,f\nb.png,q,m\nc.png,p,m\n", (2, 4), "subgroup.sex", says="'f', 'm'"),
    "unknown_level": Fault(cells("subgroup.sex", "f", "F", "m", "x"), (3, 5), "subgroup.sex", {"subgroups": SEX}, says="did you mean 'f'"),
    "level_spellings": Fault(cells("subgroup.sex", "f", "f", "F", "m", " M "), (4, 6), "subgroup.sex", says="'f' in 2 rows, 'F' in 1 row"),
    "reserved_level": Fault(cells("subgroup.sex", "f", "rest"), (3,), "subgroup.sex"),
    "not_a_number": Fault(cells("subgroup.age", "61", "61,5", "6_1"), (3, 4), "subgroup.age", AGE, says="use a decimal point"),
    "not_finite": Fault(cells("subgroup.age", "61", "inf", "1e999"), (3, 4), "subgroup.age", AGE),
    "one_level": Fault(cells("subgroup.sex", "f", "f", ""), (), "subgroup.sex"),
    "unknown_throughout": Fault(cells("subgroup.sex", "", "NA"), (), "subgroup.sex"),
    "unused_level": Fault(cells("subgroup.sex", "f", "f"), (), "subgroup.sex", {"subgroups": SEX}, says="'m'"),
    "many_levels": Fault("id,image,subgroup.age\n" + "".join(f"{k},a.png,{k}\n" for k in range(40)), (), "subgroup.age", says="40 levels"),
    "doubtful_word": Fault(cells("subgroup.sex", "f", "None", "m", "-"), (3, 5), "subgroup.sex", says="kept as a level"),
    "control_characters": Fault(cells("subgroup.sex", "f", "m\nf", "m\u200b"), (3, 5), "subgroup.sex"),
    "spaces": Fault("image,label\na.png,x\n b.png,y\n", (3,), "image"),
    "region_never": Fault(cells("region.lesion", "", ""), (), "region.lesion"),
    "missing_mask": Fault(cells("region.lesion", "m0.png", "m99.png", "n.png#3"), (3, 4), "region.lesion"),
    "mask_is_folder": Fault(cells("region.lesion", "folder.png", "m1.png"), (2,), "region.lesion"),
    "unmasked_rows": Fault(
        "image,k\na.png,0\nb.png,9\nc.png,2\n", (3,), "region.lesion", {"columns": {"region_templates": {"lesion": "m{k}.png"}}}
    ),
    "mask_is_image": Fault(cells("region.lesion", "m0.png", "b.png"), (3,), "region.lesion", says="#alpha"),
    "shared_mask": Fault(cells("region.lesion", "m0.png", "m1.png", "m0.png"), (2, 4), "region.lesion", says="2 images"),
    "region_kind": Fault(cells("region.r", "bax:1,1,2,2"), (2,), "region.r"),
    "mask_type": Fault(cells("region.r", "m0.png", "mask.mat"), (3,), "region.r"),
    "label_value": Fault(cells("region.r", "m0.png#1", "m1.png#x"), (3,), "region.r"),
    "box_malformed": Fault(cells("region.r", "box:1,1,3,3", "box:1,1,3", "box:1;1;3;3"), (3, 4), "region.r"),
    "box_empty": Fault(cells("region.r", "box:1,1,3,3", "box:5,1,3,3"), (3,), "region.r", says="xywh"),
    "box_outside": Fault(cells("region.r", "box:-9,1,-3,3"), (2,), "region.r"),
    "box_fractions": Fault(cells("region.r", "box:0.1,0.1,0.5,0.5"), (2,), "region.r"),
    "polygon_malformed": Fault(cells("region.r", "polygon:1,1 2,2 3"), (2,), "region.r"),
    "polygon_points": Fault(cells("region.r", "polygon:1,1 2,2"), (2,), "region.r"),
    "rle_malformed": Fault(cells("region.r", "rle:{}"), (2,), "region.r", says="counts"),
    "rle_size": Fault(cells("region.r", 'rle:{"size": [2, 2], "counts": [1, 2]}'), (2,), "region.r", says="height"),
}  # fmt: skip


@pytest.mark.parametrize("rule", [*FAULTS, "file_missing"])
def test_broken_rule_is_named_with_its_rows(folder: Path, rule: str) -> None:
    fault = FAULTS.get(rule, Fault(""))
    text = fault.text.replace("{root}", str(folder)) if isinstance(fault.text, str) else fault.text
    path = write(folder, text, fault.name) if rule in FAULTS else folder / "none.csv"
    found = problems_of(path, build_plan(fault.plan))
    named = [problem for problem in found if problem.rule == rule]
    assert named, f"found only {[problem.rule for problem in found]}"
    assert len(named) == 1 or rule == "duplicate_column"
    assert named[0].rows == fault.rows
    assert named[0].count == len(fault.rows)
    assert named[0].column == fault.column
    assert re.search(fault.says, f"{named[0].message} {named[0].example} {named[0].fix}")
    assert named[0].fix
    assert "{" not in re.sub(
        r"\{(\"size|isic_id|isicid).*?\}", "", named[0].message + named[0].fix
    ), "a placeholder was left unfilled"
    others = {problem.rule for problem in found if not RULES[problem.rule].warning} - {rule}
    assert not others, "the fault is blamed for more than it is"


def test_every_rule_has_a_case() -> None:
    assert {*FAULTS, "file_missing"} == set(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_rules_read_well(rule: str) -> None:
    text = RULES[rule]
    assert text.says.endswith((".", "}."))
    assert text.fix.endswith((".", '".'))


def test_warnings_do_not_stop_and_errors_do(folder: Path) -> None:
    for rule, fault in FAULTS.items():
        text = (
            fault.text.replace("{root}", str(folder)) if isinstance(fault.text, str) else fault.text
        )
        path = write(folder, text, fault.name)
        if RULES[rule].warning:
            assert rule in {
                problem.rule for problem in read_manifest(path, build_plan(fault.plan)).warnings
            }
        else:
            with pytest.raises(ManifestError) as caught:
                read_manifest(path, build_plan(fault.plan))
            assert rule in {problem.rule for problem in caught.value.problems}


# ── everything at once ──────────────────────────────────────────────────────────────────────────────────────────────

TWENTY = """\
id,image,label,cluster,subgroup.sex,subgroup.age,subgroup.tone,regoin.hair,region.lesion,region.ruler,site
1,a.png,benign,p1,f,61,I-II,,m0.png,,x
2,,benign,p1,f,61,I-II,,m1.png,,x
3,gone.png,benign,p2,m,60,I-II,,m2.png,,x
4,folder.png,benign,p2,m,60,I-II,,m3.png,,x
5,notes.txt,benign,p3,m,60,I-II,,m4.png,,x
5,b.png,benign,p3,m,60,III-IV,,m5.png,,x
7,c.png,bening,p4,m,60,III-IV,,m6.png,,x
8,d.png,benign,p4,M,60,III-IV,,m7.png,,x
9,e.png,benign,p5,m,sixty,III-IV,,whole,,x
10,f.png,benign,p5,m,inf,III-IV,,whole,,x
11,g.png,benign,p6,m,60,VII,,whole,,"two
lines"
12,h.png,benign,p6,m,60,V-VI,,m99.png,,x
13,sub/a.png,benign,p7,m,60,V-VI,,labels.png#x,,x
14,sub/b.png,benign,p7,m,60,V-VI,,"box:1,2,3",,x
15,sub/c.png,benign,p8,m,60,V-VI,,"box:9,2,3,4",,x
16,sub/d.png,benign,p8,m,60,V-VI,,"polygon:1,1 2,2",,x
17,sub/e.png,benign,p9,m,60,V-VI,,"rle:{""size"": [2, 2], ""counts"": [1, 1]}",,x
18,sub/f.png,benign,p9,m,60,V-VI,,"rle:{size}",,x
19,sub/g.png,benign,p9,m,60,V-VI,,bax:1,,x
20,sub/h.png,benign,p9,rest,60,V-VI,,mask.mat,,x
21,sub/i.png,benign,,f,60,V-VI,,folder.png,,x,surplus
22,sub\\j.png,benign,p10,f\tf,60,V-VI,,sub/l.png,,x
23,sub/l.png,benign,p10,f,60,V-VI,,sub/l.png,,x
24,zzz://a/l.png,benign,p10,f,60,V-VI,,"box:0.1,0.1,0.2,0.2",,x
"""

TWENTY_ROWS = {
    "misspelt_column": (), "empty_image": (3,), "missing_image": (4,), "image_is_folder": (5,), "image_type": (6,), "duplicate_id": (6, 7),
    "unknown_label": (8,), "level_spellings": (9,), "not_a_number": (10,), "not_finite": (11,), "unknown_level": (12,), "missing_mask": (14,),
    "label_value": (15,), "box_malformed": (16,), "box_empty": (17,), "polygon_points": (18,), "rle_size": (19,), "rle_malformed": (20,),
    "region_kind": (21,), "mask_type": (22,), "reserved_level": (22,), "ragged_row": (23,), "windows_path": (24,), "control_characters": (24,),
    "mask_is_image": (25,), "unknown_protocol": (26,), "box_fractions": (26,), "plan_covariate": (), "plan_subgroup": (), "derive_unknown": (),
}  # fmt: skip


def test_more_than_twenty_faults_in_one_answer(folder: Path) -> None:
    for letter in "abcdefghijkl":
        picture(folder / f"sub/{letter}.png")
    plan = build_plan(
        {
            "model": {"classes": ["benign", "malignant"]},
            "subgroups": {
                "tone": {"order": ["I-II", "III-IV", "V-VI"]},
                "age": {"kind": "continuous"},
                "sight": {},
            },
            "regions": {"margin": {"derive": "ring(leson, 0.1)"}},
            "analysis": {"covariates": ["scanner"]},
        }
    )
    with pytest.raises(ManifestError) as caught:
        read_manifest(write(folder, TWENTY), plan)
    errors = [problem for problem in caught.value.problems if not RULES[problem.rule].warning]
    assert {problem.rule: problem.rows for problem in errors} == TWENTY_ROWS
    assert len(errors) == 30
    text = str(caught.value)
    assert text.startswith(f"{folder / 'manifest.csv'}: 30 problems in 23 rows, and ")
    for rule, rows in TWENTY_ROWS.items():
        (line,) = (
            line
            for line in text.splitlines()
            if line.startswith(f"error: {rule} |") or line == f"error: {rule}"
        )
        assert all(str(row) in line for row in rows)
    assert text.index("error:") < text.index("warning:")
    assert {problem.rule for problem in caught.value.problems} - set(TWENTY_ROWS) == {
        "region_never",
        "shared_mask",
        "spread_attribute",
    }


def test_header_faults_do_not_hide_row_faults(folder: Path) -> None:
    found = problems_of(
        write(folder, "imag,image,image,sub_group.x\na.png,gone.png,x,y\nb.png,b.png,x\n")
    )
    assert {"duplicate_column", "misspelt_column", "missing_image", "ragged_row"} <= {
        problem.rule for problem in found
    }


def test_wrong_encoding_does_not_hide_other_faults(folder: Path) -> None:
    picture(folder / "Zürich.png")
    found = {
        p.rule: p.rows
        for p in problems_of(write(folder, "image\nZürich.png\ngone.png\n".encode("cp1252")))
    }
    assert found["encoding"] == (2,)
    assert found["missing_image"] == (3,)
    found = {
        p.rule: p.rows
        for p in problems_of(write(folder, "image\nZürich.png\ngone.png\n".encode("utf-16")))
    }
    assert found["missing_image"] == (3,)
    assert "encoding" in found


def test_counts_are_whole_where_lists_are_shortened(folder: Path) -> None:
    found = problems_of(
        write(folder, "image\n" + "".join(f"x{k}.png\na.png\n" for k in range(500)))
    )
    missing = next(problem for problem in found if problem.rule == "missing_image")
    assert missing.count == 500
    assert missing.rows == tuple(range(2, 1002, 2))
    line = render_problems([missing]).splitlines()[0]
    assert "500 rows: 2, 4, 6, 8" in line
    assert line.endswith(", ...")


def test_neighbouring_rows_are_joined() -> None:
    problem = Problem("missing_image", "m", (9, 3, 4, 5, 7), "e", "f")
    assert "5 rows: 3-5, 7, 9" in render_problems([problem])
    assert render_problems([]) == ""


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("subgrup.sex", "subgroup.sex"), ("Subgroup.sex", "subgroup.sex"), ("subgroups.sex", "subgroup.sex"), ("subgroup_sex", "subgroup.sex"),
        ("sub_group.sex", "subgroup.sex"), ("subgroup:sex", "subgroup.sex"), ("region_lesion", "region.lesion"), ("regoin.lesion", "region.lesion"),
        ("REGION.lesion", "region.lesion"), ("religion_code", None), ("regional_site", None), ("group", None), ("regions", None),
        ("subject.id", None),
        ("registry_no", None), ("age", None),
    ],
)  # fmt: skip
def test_misspelt_names(folder: Path, column: str, meant: str | None) -> None:
    found = [
        p
        for p in problems_of(write(folder, cells(column, "x", "y")))
        if p.rule == "misspelt_column"
    ]
    assert bool(found) == (meant is not None)
    assert meant is None or repr(meant) in found[0].message


def test_existing_tables_keep_columns_that_look_misspelt(folder: Path) -> None:
    plan = build_plan({"columns": {"label": "dx"}})
    assert "misspelt_column" not in {
        p.rule for p in problems_of(write(folder, "image,dx,region_code\na.png,x,3\n"), plan)
    }


def test_within_attributes_may_vary(folder: Path) -> None:
    text = "image,cluster,subgroup.site\na.png,p,arm\nb.png,p,leg\nc.png,q,leg\n"
    plan = build_plan({"subgroups": {"site": {"within": True}}})
    assert "spread_attribute" not in {
        p.rule for p in read_manifest(write(folder, text), plan).warnings
    }


def test_declared_order_settles_two_spellings(folder: Path) -> None:
    plan = build_plan({"subgroups": {"sex": {"order": ["f", "F"]}}})
    assert len(read_manifest(write(folder, cells("subgroup.sex", "f", "F")), plan)) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I-II", "I–II"),
        ("left arm", "left  arm"),
        ("left_arm", "Left arm"),
        ("1", "1.0"),
        ("ﬁne", "fine"),
    ],
)
def test_spellings_that_split_a_level(folder: Path, one: str, other: str) -> None:
    assert "level_spellings" in {
        p.rule for p in problems_of(write(folder, cells("subgroup.x", one, one, other)))
    }
    assert "level_spellings" in {
        p.rule for p in problems_of(write(folder, cells("label", one, one, other)))
    }


@pytest.mark.parametrize("name", ["ita", "brightness", "resolution"])
def test_attributes_that_would_be_measured_from_pixels_are_refused_until_they_are(
    folder: Path, name: str
) -> None:
    plan = build_plan({"subgroups": {name: {"kind": "continuous"}}})
    (found,) = [p for p in problems_of(write(folder, GOOD), plan) if not RULES[p.rule].warning]
    assert (found.rule, found.column) == ("unbuilt_attribute", f"subgroup.{name}")
    assert "does not measure" in found.message
    assert f"'subgroup.{name}'" in found.fix
    columned = cells(f"subgroup.{name}", "41.5", "12", "30")
    assert read_manifest(write(folder, columned), plan).attributes == (
        name,
    )  # a column of that name is an attribute like any other
    mapped = build_plan(
        {"subgroups": {name: {"kind": "continuous"}}, "columns": {"subgroups": {name: "angle"}}}
    )
    assert read_manifest(write(folder, cells("angle", "41.5", "12", "30")), mapped).attributes == (
        name,
    )


@pytest.mark.parametrize(
    ("analysis", "rule"),
    [
        ({"pairs": "cluster"}, "plan_pairs"), ({"pairs": "image"}, "plan_pairs"), ({"pairs": "subgroup.sex"}, "plan_pairs"),
        ({"covariates": ["image"]}, "plan_covariate"), ({"covariates": ["region.lesion"]}, "plan_covariate"),
    ],
)  # fmt: skip
def test_columns_that_the_analysis_could_not_find_are_named_before_measuring(
    folder: Path, analysis: dict[str, Any], rule: str
) -> None:
    assert [
        p.rule
        for p in problems_of(write(folder, GOOD), build_plan({"analysis": analysis}))
        if not RULES[p.rule].warning
    ] == [rule]


def test_covariates_may_be_attributes_labels_and_clusters(folder: Path) -> None:
    plan = build_plan({"analysis": {"covariates": ["sex", "subgroup.sex", "label", "cluster"]}})
    assert len(read_manifest(write(folder, GOOD), plan)) == 4


def test_volumes_and_dicom_need_their_packages(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("v.nii.gz", "a.dcm"):
        (folder / name).touch()
    path = write(folder, "image,region.brain\na.dcm,v.nii.gz#3\n")
    assert "missing_package" not in {p.rule for p in problems_of(path)}
    monkeypatch.setattr(file_checks, "is_installed", lambda package: False)
    found = [p for p in problems_of(path) if p.rule == "missing_package"]
    assert {p.column: re.search(r"gradaudit\[\w+\]", p.fix)[0] for p in found} == {
        "image": "gradaudit[dicom]",
        "region.brain": "gradaudit[nifti]",
    }


def test_folders_are_listed_once_and_files_not_asked_one_by_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "many").mkdir()
    for k in range(300):
        (folder / f"many/{k}.png").touch()
    asked, listed = [], []
    real_isfile, real_scandir = os.path.isfile, os.scandir
    monkeypatch.setattr(os.path, "isfile", lambda path: (asked.append(path), real_isfile(path))[1])
    monkeypatch.setattr(os, "scandir", lambda path: (listed.append(path), real_scandir(path))[1])
    assert (
        len(
            read_manifest(write(folder, "image\n" + "".join(f"many/{k}.png\n" for k in range(300))))
        )
        == 300
    )
    assert len(listed) == 1
    assert not asked


@given(st.data(), st.sampled_from(["m.csv", "m.tsv", "m.jsonl", "m.json", "m.parquet"]))
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damaged_files_end_in_a_manifest_error(
    tmp_path: Path, data: st.DataObject, name: str
) -> None:
    """Bytes cut out of, or put into, a file that was right: read, or refused with reasons, and nothing else."""
    whole = {
        "m.csv": TWENTY.encode(), "m.tsv": as_csv(ROWS, delimiter="\t").encode(), "m.jsonl": FORMATS["lines.jsonl"].encode(),
        "m.json": json.dumps(coco_file()).encode(), "m.parquet": FORMATS["table.parquet"],
    }[name]  # fmt: skip
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, min(len(whole), start + 40)))
    path = tmp_path / "alone" / name  # no crowd of folders for the suggestion to look through
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(whole[:start] + data.draw(st.binary(max_size=6)) + whole[stop:])
    for problem in problems_of(path):
        assert problem.message
        assert render_problems([problem])
    with contextlib.suppress(ManifestError):
        tomllib.loads(suggest_plan(path))


def test_a_named_index_of_parquet_is_a_column(folder: Path) -> None:
    pd.DataFrame({"image": ["a.png", "b.png"], "label": ["x", "y"]}).set_index("image").to_parquet(
        folder / "t.parquet"
    )
    assert [s.image for s in read_manifest(folder / "t.parquet").samples] == ["a.png", "b.png"]


def test_rows_of_old_mac_files(folder: Path) -> None:
    found = {
        p.rule: p.rows
        for p in problems_of(write(folder, b"image,n\ra.png,1\rb.png,\xfc\rgone.png,2\r"))
    }
    assert found["encoding"] == (3,)
    assert found["missing_image"] == (4,)


# ── existing tables ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_columns_map_an_existing_table(folder: Path) -> None:
    """HAM10000 as it is published, with a folder of images and one of masks."""
    text = "lesion_id,image_id,dx,dx_type,age,sex,localization\nL1,ISIC_1,mel,histo,80.0,male,back\nL1,ISIC_2,nv,histo,,unknown,face\n"
    for k in (1, 2):
        picture(folder / f"HAM10000_images/ISIC_{k}.jpg")
        (folder / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.eye(6, 8, dtype=np.uint8)).save(
            folder / f"masks/ISIC_{k}_segmentation.png"
        )
    plan = build_plan(
        {
            "columns": {
                "image_template": "HAM10000_images/{image_id}.jpg", "label": "dx", "cluster": "lesion_id", "id": "image_id",
                "subgroups": {"sex": "sex", "age": "age"}, "region_templates": {"lesion": "masks/{image_id}_segmentation.png"},
            },
            "subgroups": {"age": {"kind": "continuous"}},
            "analysis": {"covariates": ["localization"]},
        }
    )  # fmt: skip
    manifest = read_manifest(write(folder, text, "HAM10000_metadata.csv"), plan)
    first, second = manifest.samples
    assert (first.id, first.image, first.label, first.cluster) == (
        "ISIC_1",
        "HAM10000_images/ISIC_1.jpg",
        "mel",
        "L1",
    )
    assert first.subgroups == {"sex": "male", "age": "80.0"}
    assert second.subgroups == {"sex": None, "age": None}
    assert second.regions == {"lesion": "masks/ISIC_2_segmentation.png"}
    assert manifest.table["localization"].tolist() == ["back", "face"]
    assert list(manifest.table.columns)[-7:] == [
        "lesion_id",
        "image_id",
        "dx",
        "dx_type",
        "age",
        "sex",
        "localization",
    ]


def test_templates_build_boxes_and_paths_upwards(folder: Path) -> None:
    (folder / "tables").mkdir()
    plan = build_plan(
        {
            "columns": {
                "image_template": "../{f}.png",
                "region_templates": {"face": "xywh:{x},{y},{w},{h}"},
            }
        }
    )
    manifest = read_manifest(
        write(folder, "f,x,y,w,h\na,1,1,3,2\nb,NA,1,3,2\n", "tables/t.csv"), plan
    )
    assert [s.regions for s in manifest.samples] == [{"face": "xywh:1,1,3,2"}, {}]
    assert (
        region_masks(manifest.samples[0], plan, manifest.root, (6, 8), ("face",))["face"][0].sum()
        == 6
    )


TEMPLATES = [
    "img/{f",
    "img/}",
    "img.png",
    "{f.__class__}.png",
    "{f!r:{f}}.png",
    "{0}.png",
    "{f[0]}.png",
    "{}.png",
    "{f:d}.png",
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_put_in_cells_and_nothing_else(folder: Path, template: str) -> None:
    found = problems_of(
        write(folder, "f\na\n"), build_plan({"columns": {"image_template": template}})
    )
    assert [p.rule for p in found if not RULES[p.rule].warning] == ["plan_template"]


def test_a_template_without_any_mask_is_an_error(folder: Path) -> None:
    plan = build_plan({"columns": {"region_templates": {"lesion": "mosks/{image}"}}})
    found = [
        p
        for p in problems_of(write(folder, "image\na.png\nb.png\n"), plan)
        if not RULES[p.rule].warning
    ]
    assert [(p.rule, p.rows) for p in found] == [("missing_mask", (2, 3))]
    assert "no folder 'mosks'" in found[0].example


def test_unmasked_rows_are_not_annotated(folder: Path) -> None:
    fault = FAULTS["unmasked_rows"]
    manifest = read_manifest(write(folder, fault.text), build_plan(fault.plan))
    assert [s.regions for s in manifest.samples] == [{"lesion": "m0.png"}, {}, {"lesion": "m2.png"}]


def coco_file() -> dict[str, Any]:
    from pycocotools import mask as coco

    code = coco.encode(np.asfortranarray(np.eye(6, 8, dtype=np.uint8)))
    crowd = {"size": code["size"], "counts": code["counts"].decode()}
    square = [[1, 1, 3, 1, 3, 3, 1, 3]]
    return {
        "images": [
            {"id": k, "file_name": f"{letter}.png", "height": 6, "width": 8}
            for k, letter in enumerate("abcd")
        ],
        "categories": [{"id": 5, "name": "cat"}, {"id": 6, "name": "sofa"}],
        "annotations": [
            {"image_id": 0, "category_id": 5, "segmentation": square},
            {"image_id": 0, "category_id": 5, "segmentation": [[2, 2, 5, 2, 5, 5, 2, 5]]},
            {"image_id": 1, "category_id": 5, "segmentation": crowd, "iscrowd": 1},
            {"image_id": 2, "category_id": 5, "segmentation": crowd, "iscrowd": 1},
            {"image_id": 2, "category_id": 5, "segmentation": [[4, 0, 8, 0, 8, 3, 4, 3]]},
            {"image_id": 2, "category_id": 6, "segmentation": [], "bbox": [0, 0, 4, 2]},
        ],
    }


def test_coco_files_are_read_as_they_are(folder: Path) -> None:
    manifest = read_manifest(write(folder, json.dumps(coco_file()), "instances.json"))
    assert manifest.region_names == ("cat", "sofa")
    assert [s.id for s in manifest.samples] == ["0", "1", "2", "3"]
    areas = []
    for sample in manifest.samples:
        masks = region_masks(sample, Plan(), manifest.root, (6, 8), ("cat", "sofa"))
        areas.append([None if mask is None else int(mask.sum()) for mask, _ in masks.values()])
    eye_and_corner = np.eye(6, 8)
    eye_and_corner[0:3, 4:8] = 1
    assert areas == [[4 + 9 - 1, None], [6, None], [int(eye_and_corner.sum()), 8], [None, None]]


# ── a starting plan ─────────────────────────────────────────────────────────────────────────────────────────────────


def suggested(path: Path) -> tuple[str, dict[str, Any], Manifest]:
    """The suggestion, its content, and the manifest that it gives: a suggestion must pass the checks as it stands."""
    text = suggest_plan(path)
    data = tomllib.loads(text)
    return text, data, read_manifest(path, build_plan(data))


def test_suggestion_for_ham10000(folder: Path) -> None:
    rows = ["lesion_id,image_id,dx,dx_type,age,sex,localization"]
    for k in range(40):
        sex, site = (("male", "back"), ("female", "face"))[k // 2 % 2]
        rows.append(
            f"HAM_{k // 2},ISIC_{k:07d},{['mel', 'nv'][k % 2]},histo,{20 + k}.0,{sex},{site}"
        )
        picture(folder / f"HAM10000_images_part_1/ISIC_{k:07d}.jpg")
        picture(folder / f"segmentations/ISIC_{k:07d}_segmentation.png")
    text, data, manifest = suggested(write(folder, "\n".join(rows), "HAM10000_metadata.csv"))
    assert data["columns"]["image_template"] == "HAM10000_images_part_1/{image_id}.jpg"
    assert data["columns"]["region_templates"] == {
        "lesion": "segmentations/{image_id}_segmentation.png"
    }
    assert data["columns"]["cluster"] == "lesion_id"
    assert data["columns"]["label"] == "dx"
    assert data["columns"]["subgroups"] == {
        "age": "age",
        "sex": "sex",
        "localization": "localization",
    }
    assert data["subgroups"]["age"]["kind"] == "continuous"
    assert data["regions"]["lesion"]["role"] == "attend"
    assert "male" in text
    assert len(manifest) == 40
    assert manifest.cluster_declared
    assert "HAM_1" not in text, "cluster values may name patients"


def test_suggestion_finds_regions_in_columns(folder: Path) -> None:
    """Boxes, COCO segmentations and paths of masks that are there; a column of notes with one box in it is none."""
    rows = ["file\tsex\tbbox\tsegmentation\tMarker mask\tnotes"]
    for k in range(10):
        note = "box:0,0,1,1" if k == 0 else f"text {k}"
        rows.append(
            f"pictures/{k}.jpg\t{'mf'[k % 2]}\tbox:1,1,{3 + k % 3},4\t[[1, 1, 4, 1, 4, {3 + k % 2}]]\tmarks/{k % 2}.png\t{note}"
        )
        picture(folder / f"pictures/{k}.jpg")
        picture(folder / f"marks/{k % 2}.png")
    _, data, manifest = suggested(write(folder, "\n".join(rows), "table.tsv"))
    assert data["columns"]["regions"] == {
        "bbox": "bbox",
        "segmentation": "segmentation",
        "marker_mask": "Marker mask",
    }
    assert data["regions"]["marker_mask"]["role"] == "avoid"
    assert set(manifest.samples[0].regions) == {"bbox", "segmentation", "marker_mask"}


def test_suggestion_names_the_other_folders(folder: Path) -> None:
    for k in range(8):
        picture(folder / f"part_{1 + k // 5}/ISIC_{k}.jpg")
    text = suggest_plan(
        write(folder, "isic_id,sex\n" + "".join(f"ISIC_{k},{'mf'[k % 2]}\n" for k in range(8)))
    )
    assert (
        'image_template = "part_1/{isic_id}.jpg"  # such files are there for 5 of 8 rows tried; 3 in part_2'
        in text
    )


def test_suggestion_for_fitzpatrick17k(folder: Path) -> None:
    rows = ["md5hash,fitzpatrick_scale,label,three_partition_label,url"]
    for k in range(24):
        disease, part = (("psoriasis", "benign"), ("acne", "malignant"))[k % 2]
        rows.append(
            f"{k:032x},{[1, 2, 3, 4, 5, 6, -1][k % 7]},{disease},{part},https://x.org/{k}.jpg"
        )
        picture(folder / f"images/{k:032x}.jpg")
    _, data, manifest = suggested(write(folder, "\n".join(rows), "fitzpatrick17k.csv"))
    assert data["columns"]["image_template"] == "images/{md5hash}.jpg"
    assert data["columns"]["subgroups"]["fitzpatrick_scale"] == "fitzpatrick_scale"
    assert data["subgroups"]["fitzpatrick_scale"]["order"] == ["1", "2", "3", "4", "5", "6"]
    assert "label" not in data["columns"]  # it has that name already
    assert manifest.samples[0].label == "psoriasis"
    assert manifest.samples[6].subgroups["fitzpatrick_scale"] is None


def test_suggestion_for_ddi(folder: Path) -> None:
    rows = ["DDI_ID,DDI_file,skin_tone,malignant,disease"]
    rows += [f"{k},{k:06d}.png,{[12, 34, 56][k % 3]},{bool(k % 2)},d{k % 4}" for k in range(1, 13)]
    for k in range(1, 13):
        picture(folder / f"pictures/{k:06d}.png")
    _, data, manifest = suggested(write(folder, "\n".join(rows), "ddi_metadata.csv"))
    assert data["columns"]["image_template"] == "pictures/{DDI_file}"
    assert data["subgroups"]["skin_tone"]["order"] == ["12", "34", "56"]
    assert data["columns"]["label"] == "malignant"
    assert len(manifest) == 12


def test_suggestion_for_chexpert(folder: Path) -> None:
    rows = ["Path,Sex,Age,Frontal/Lateral,Pleural Effusion"]
    for k in range(30):
        path = f"CheXpert-v1.0-small/train/patient{k:05d}/study1/view1_frontal.jpg"
        picture(folder / path)
        rows.append(
            f"{path},{['Male', 'Female'][k % 2]},{30 + k},{['Frontal', 'Lateral'][k % 2]},{['1.0', '', '-1.0'][k % 3]}"
        )
    text, data, manifest = suggested(
        write(folder, "\n".join(rows), "CheXpert-v1.0-small/train.csv")
    )
    assert data["columns"]["image_template"] == "../{Path}"
    assert data["columns"]["subgroups"]["sex"] == "Sex"
    assert data["subgroups"]["age"]["kind"] == "continuous"
    assert "every image would count as independent" in text
    assert manifest.attributes == ("sex", "age")


def test_suggestion_for_a_manifest_is_roles_only(folder: Path) -> None:
    text, data, _ = suggested(write(folder, GOOD + "e.png,benign,p5,f,\n"))
    assert "columns" not in data
    assert data["regions"] == {"lesion": {"role": "attend"}}
    assert "guessed from its name" in text


def test_suggestion_without_files_says_so(folder: Path) -> None:
    text = suggest_plan(write(folder, "isic_id,sex\nISIC_1,male\nISIC_2,female\n"))
    assert "no image file was found" in text
    tomllib.loads(text)


@given(
    st.lists(st.text(max_size=10), min_size=1, max_size=5, unique=True),
    st.lists(st.text(max_size=10), min_size=1, max_size=6),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_suggestions_always_parse(tmp_path: Path, names: list[str], values: list[str]) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(json.dumps(dict.fromkeys(names, value)) for value in values))
    build_plan(tomllib.loads(suggest_plan(path)))


def test_suggestion_of_an_unreadable_table_is_an_error(folder: Path) -> None:
    for path in (folder / "none.csv", write(folder, "image\n"), write(folder, "x", "t.xlsx")):
        with pytest.raises(ManifestError):
            suggest_plan(path)


# ── shown in a notebook ─────────────────────────────────────────────────────────────────────────────────────────────


def test_html_counts_and_escapes(folder: Path) -> None:
    manifest = read_manifest(
        write(folder, cells("subgroup.<b>", "<script>alert(1)</script>", "x", ""))
    )
    shown = manifest._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt; 1" in shown
    assert "1 unknown" in shown
    assert "3 images" in shown
    assert repr(manifest).startswith("Manifest('manifest.csv': 3 images")
    assert len(repr(manifest)) < 200


def test_the_suggested_criteria_are_those_of_a_plan(folder):
    text = suggest_plan(write(folder, "image_path,sex\na.png,male\nb.png,female\n"))
    start = text.index("# [criteria]")
    plan = build_plan(tomllib.loads(re.sub(r"(?m)^# ?", "", text[start:])))
    assert plan.criteria.undefined_margin == 0.10
    assert (
        plan.criteria.min_coverage
        == build_plan({"criteria": {"margin": 0.1}}).criteria.min_coverage
    )
    assert set(plan.criteria.model_fields_set) == set(type(plan.criteria).model_fields)
