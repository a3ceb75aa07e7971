"""Every number of result.json counted a second time, by ``recounts``, from the parts of a real run; no difference is allowed."""

from __future__ import annotations

import collections
import copy
import json
import math
import re
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pytest
from recounts import Numbers, Parts, Place, Recount, leaves
from small_audits import MIXED_REGIONS, spoil_mixed_audit, write_mixed_audit

NOT_RECOUNTED = {
    "performance.*.low": "clustered intervals: tests/performance/test_table.py",
    "performance.*.high": "clustered intervals: tests/performance/test_table.py",
    "performance.*.test.p": "permutation: tests/performance/test_table.py",
    "performance.*.test.permutations": "how many were drawn: tests/subgroups/test_comparison.py",
    "findings.*.test.p": "permutation: tests/stats/test_stats.py; its relation to the interval is checked below",
    "findings.*.test.p_equivalence": "permutation: tests/stats/test_stats.py; its relation to the interval is checked below",
    "findings.*.test.permutations": "how many were drawn: tests/subgroups/test_comparison.py",
    "findings.*.raw.low": "permutation: tests/stats/test_stats.py; its middle is checked below",
    "findings.*.raw.high": "permutation: tests/stats/test_stats.py; its middle is checked below",
    "findings.*.adjusted.low": "permutation: tests/stats/test_stats.py; its middle is checked below",
    "findings.*.adjusted.high": "permutation: tests/stats/test_stats.py; its middle is checked below",
}
"""Patterns of paths to numbers that are not counted again, and why."""

SETTINGS: dict[str, dict[str, Any]] = {
    "everything shown": {},
    "small cells withheld": {
        "privacy": {"min_cell": 11}, "subgroups": {"site": {"reference": "arm"}},
        "analysis": {"positive_class": None, "covariates": ["camera", "dose"], "regions": ["ruler"]},
    },
    "within hospitals": {
        "analysis": {"site": "hospital", "regions": ["ruler"]},
        "criteria": {"margin": 0.04, "undefined_margin": 0.3, "min_coverage": 0.6},
    },
}  # fmt: skip
"""Two readings of the same run; the second also compares with one level, holds a covariate equal and has no positive class."""


@dataclass(frozen=True)
class Counted:
    """One result document beside its second count."""

    withheld: bool
    document: dict[str, Any]
    numbers: Numbers
    recount: Recount


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Measurements of the mixed audit by the real pipeline, and its plan."""
    from gradaudit.manifest.reading import read_manifest
    from gradaudit.plan import find_plan
    from gradaudit.workflows.audit import (
        classifier_of,
        measure_with_gallery,
    )  # here: collecting the tests must not load torch

    folder = tmp_path_factory.mktemp("mixed") / "audit"
    path = write_mixed_audit(folder)
    plan, root = find_plan(None, path)
    manifest = read_manifest(path, plan)
    spoil_mixed_audit(folder)
    return measure_with_gallery(manifest, classifier_of(plan, root), plan, folder / "run"), plan


@pytest.fixture(scope="module", params=SETTINGS)
def counted(request: pytest.FixtureRequest, measured: Any) -> Counted:
    from gradaudit.result import build_result

    meas, plan = measured
    plan = plan.updated(**SETTINGS[request.param])
    document = json.loads(build_result(meas, plan).to_json())
    recount = Recount(Parts(meas.folder), plan.model_dump(mode="json"))
    return Counted(
        request.param != "everything shown", document, recount.numbers(document), recount
    )


def pattern(place: Place) -> str:
    """The place with ``*`` for every position in a list, and for names that are data."""
    text = ".".join("*" if isinstance(part, int) else str(part) for part in place)
    return re.sub(
        r"^(flow\.\*\.(?:label_prevalence|area_share)|gallery\.\*\.values|mean_maps\.\*\.regions|run\.counts)\.[^.]+",
        r"\1.*",
        text,
    )


def differences(
    document: dict[str, Any], numbers: Numbers, withheld: bool
) -> list[tuple[Place, float | None, float | None]]:
    """Place, number found and number counted, wherever they differ.  ``withheld``: a number may be missing, and rounded where its n is."""
    found = dict(leaves(document))
    out = []
    for place, wanted in numbers.items():
        have = found.get(place)
        if wanted is None or have is None:
            if have is not None or (wanted is not None and not withheld):
                out.append((place, have, wanted))
        elif not math.isclose(have, wanted, rel_tol=1e-7, abs_tol=1e-9) and not (
            withheld and _is_rounded(document, place, have, wanted)
        ):
            out.append((place, have, float(wanted)))
    return out


def _is_rounded(document: dict[str, Any], place: Place, have: float, wanted: float) -> bool:
    """Figures of performance keep two digits where all of them would give away the number of images that is withheld."""
    return (
        place[0] == "performance"
        and document["performance"][place[1]]["n_images"] is None
        and have == round(wanted, 2)
    )


# ── the recount ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_number_is_what_the_parts_say(counted: Counted) -> None:
    wrong = differences(counted.document, counted.numbers, counted.withheld)
    told = [(pattern(place), place, have, wanted) for place, have, wanted in wrong]
    assert not wrong, (
        f"{len(wrong)} of {len(counted.numbers)} numbers differ: {collections.Counter(t[0] for t in told)}; first: {told[:5]}"
    )
    shown = dict(leaves(counted.document))
    assert sum(place in shown for place in counted.numbers) > 5000


def test_no_number_escapes_the_recount(counted: Counted) -> None:
    escaped = collections.Counter(
        pattern(place) for place, _ in leaves(counted.document) if place not in counted.numbers
    )
    allowed = {
        *NOT_RECOUNTED,
        *(["performance.*.test.p_adjusted"] if counted.withheld else []),
    }  # of a family that is not shown whole
    assert set(escaped) <= allowed, {name: n for name, n in escaped.items() if name not in allowed}
    assert set(NOT_RECOUNTED) <= set(escaped), "a pattern that no number has"


def test_numbers_in_reasons_notes_and_checks_are_what_the_parts_say(counted: Counted) -> None:
    names, seen = counted.recount.names(), collections.Counter()
    for where, text, wanted in counted.recount.texts(counted.document, counted.numbers):
        bare = text.replace("\u202f", "")  # between the thousands of a count
        for name in names:
            bare = bare.replace(name, "…")
        words = re.findall(r"(?<![\w.])[-+−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?", bare)
        found = [float(word.replace("−", "-")) for word in words]
        steps = [
            10 ** -len(word.partition("e")[0].partition(".")[2])
            * 10 ** int(word.partition("e")[2] or 0)
            for word in words
        ]
        assert len(found) == len(wanted), (where, text, wanted)
        assert all(
            abs(a - b) <= 0.5 * step + 1e-9 for a, b, step in zip(found, wanted, steps, strict=True)
        ), (where, text, wanted)
        seen[where.partition("-")[0]] += bool(words)
    assert {f"GA4{k:02d}" for k in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)} <= set(seen)
    assert min(seen["GA101"], seen["GA131"]) > 2
    limits = [
        text
        for text in counted.document["limits"]
        if re.search(r"\d", text) and "are withheld, because" not in text
    ]
    assert set(limits) <= {check["detail"] for check in counted.document["checks"]}


def test_p_and_interval_say_the_same(counted: Counted) -> None:
    alpha, seen = counted.document["method"]["alpha"], 0
    for f in counted.document["findings"]:
        for span in (f["raw"], f["adjusted"], f["mean"], f["mean_reference"]):
            if span["low"] is not None:
                assert span["low"] <= span["estimate"] <= span["high"], f["anchor"]
                assert math.isclose(
                    span["low"] + span["high"], 2 * span["estimate"], rel_tol=1e-9, abs_tol=1e-9
                ), f["anchor"]
        best, test = (f["adjusted"] if f["adjusted"]["low"] is not None else f["raw"]), f["test"]
        if test["p"] is None or best["low"] is None:
            continue
        seen += 1
        assert (best["low"] > 0 or best["high"] < 0) == (test["p"] <= alpha), f["anchor"]
        if test["p_equivalence"] is not None:
            assert (max(-best["low"], best["high"]) < f["margin"]) == (
                test["p_equivalence"] <= alpha
            ), f["anchor"]
    assert seen > 50
    for row in counted.document["performance"]:
        assert row["low"] is None or row["low"] <= row["estimate"] <= row["high"], row


def test_the_recount_sees_every_kind_of_wrong_number(counted: Counted) -> None:
    """One number of each pattern is falsified; each must be found, and nothing else."""
    examples = {
        pattern(place): place for place, _ in leaves(counted.document) if place in counted.numbers
    }
    assert len(examples) > 80
    document = copy.deepcopy(counted.document)
    for place in examples.values():
        inside: Any = document
        for key in place[:-1]:
            inside = inside[key]
        inside[place[-1]] += 1 if isinstance(inside[place[-1]], int) else 1e-3
    assert {place for place, *_ in differences(document, counted.numbers, counted.withheld)} == set(
        examples.values()
    )


def test_the_audit_holds_what_a_recount_has_to_meet(measured: Any, counted: Counted) -> None:
    """Without these the recount would agree with code that is wrong."""
    parts, document = counted.recount.parts, counted.document
    for region in MIXED_REGIONS:
        own = parts.regions[parts.regions["region"] == region]
        assert {
            "",
            "empty_mask",
            "empty_after_crop",
            "not_annotated",
            "mask_below_cell",
            "zero_heat",
            "flat",
        } <= set(own["reason"])
        assert {"flat", "no_positive_evidence"} <= set(
            own.loc[own["reason"] == "empty_mask", "status"]
        )  # absent, and without heat
    assert {"missing_mask", "unreadable_mask", "mask_size", "full_mask"} <= set(
        parts.regions["reason"]
    )
    assert {"truncated", "missing_file"} <= set(parts.images["reason"])
    assert {a["kind"] for a in document["attributes"]} == {"categorical", "ordered", "continuous"}
    assert all(parts.images[f"subgroup.{a['name']}"].isna().any() for a in document["attributes"])
    assert (parts.images.groupby("cluster").size() > 1).mean() > 0.5
    assert 0.1 < 1 - parts.images["correct"].dropna().astype(float).mean() < 0.4
    assert parts.images["label"].isna().any()
    assert len(sorted((parts.folder / "images").glob("*.parquet"))) > 2
    assert {f["code"] for f in document["findings"]} == {
        "GA101",
        "GA102",
        "GA103",
        "GA104",
        "GA111",
        "GA112",
        "GA121",
        "GA131",
    }
    notes = " ".join(note for f in document["findings"] for note in f["notes"])
    assert all(
        words in notes
        for words in (
            "carry several levels",
            "compared among",
            "undefined heat counted as",
            "shrunken for display",
        )
    )
    assert counted.withheld or any(
        f["reason"].startswith("fewer than") for f in document["findings"]
    )
    hidden = [
        row
        for part in ("flow", "heat", "performance", "findings")
        for row in document[part]
        if row["suppressed"]
    ]
    assert bool(hidden) == counted.withheld
    assert document["gallery"]
    assert document["mean_maps"]


def test_another_method_in_the_table_moves_no_number_of_the_plans_own(measured: Any) -> None:
    """The rows of a second method stand first, and every heat share of theirs is another: tables and gallery are those of the plan's method."""
    from gradaudit.analysis.descriptives import describe
    from gradaudit.cohort.gallery import gallery_items, pick_images
    from gradaudit.records import Measurements

    meas, plan = measured
    other = meas.table.assign(method="hirescam", heat_share=(1 - meas.table["heat_share"]) ** 2)
    cold = other["image_id"].isin(
        meas.images.loc[meas.images["subgroup.site"] == "leg", "image_id"]
    )
    other.loc[cold, "status"], other.loc[cold, "reason"], other.loc[cold, "heat_share"] = (
        "flat",
        "flat",
        float("nan"),
    )
    both = Measurements(
        pd.concat([other, meas.table], ignore_index=True),
        meas.images,
        meas.maps,
        meas.run,
        meas.folder,
    )
    told = []
    for one in (meas, both):
        parts = dict(vars(describe(one, plan)))
        # GA411 looks at every method, and names the one that it means
        checks = [check for check in parts["checks"] if check.code != "GA411"]
        details = {check.detail for check in checks}
        picks = pick_images(one, plan, parts["attributes"], {})
        told.append(
            {
                **parts,
                "heat": [row for row in parts["heat"] if row.method == plan.explain.method],
                "checks": checks,
                "limits": [text for text in parts["limits"] if text in details],
                "picks": picks,
                "gallery": gallery_items(one, plan, picks, one.folder),
            }
        )
    assert len(told[0]["gallery"]) > 20
    for name, alone in told[0].items():
        assert told[1][name] == alone, name
