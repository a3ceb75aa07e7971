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

PERMUTED = "permutation: checked against another permutation below"
NOT_RECOUNTED = {
    "performance.*.low": "clustered intervals: tests/performance/test_table.py",
    "performance.*.high": "clustered intervals: tests/performance/test_table.py",
    "performance.*.test.p": "permutation: tests/performance/test_table.py",
    "performance.*.test.permutations": "how many were drawn: tests/subgroups/test_comparison.py",
    "findings.*.test.p": PERMUTED,
    "findings.*.test.p_beyond": PERMUTED,
    "findings.*.test.p_within": PERMUTED,
    "findings.*.test.permutations": "how many were drawn: tests/subgroups/test_comparison.py",
    "findings.*.raw.low": "permutation: its middle is checked below",
    "findings.*.raw.high": "permutation: its middle is checked below",
    "findings.*.adjusted.low": PERMUTED,
    "findings.*.adjusted.high": PERMUTED,
    "findings.*.thin.low": PERMUTED,
    "findings.*.thin.high": PERMUTED,
    "findings.*.thick.low": PERMUTED,
    "findings.*.thick.high": PERMUTED,
    "findings.*.mask_tipping": "found by search, to 0.01: held to its definition below",
    "findings.*.adjusted_predicted.low": "of curves alone, the largest of 78 t, drawn at random",
    "findings.*.adjusted_predicted.high": "of curves alone, the largest of 78 t, drawn at random",
}
"""Patterns of paths to numbers that are not counted again, and why."""

SETTINGS: dict[str, dict[str, Any]] = {
    "everything shown": {},
    "small cells withheld": {
        "privacy": {"min_cell": 11}, "subgroups": {"site": {"reference": "arm"}}, "criteria": {"margin": 0.03},
        "analysis": {"positive_class": None, "covariates": ["camera", "dose"], "regions": ["ruler"]},
    },
    "within hospitals": {
        "analysis": {"site": "hospital", "regions": ["ruler"]},
        "criteria": {"margin": 0.04, "undefined_margin": 0.3, "min_coverage": 0.6},
    },
}  # fmt: skip
"""Three readings of the same run.

The second also compares with one level, holds a factor and a number equal, has no positive class and so small a margin that some lie
beyond it.  In the third hospitals are the unit above patients, and so little has to be seen that some cells are settled.
"""


def _at(document: dict[str, Any], place: Place) -> Any:
    for key in place:
        document = document[key]
    return document


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


QUICK = "small cells withheld"
"""The setting that is counted wherever tests run; the others take as long each, and are marked slow."""
COUNTED = [pytest.param(s, marks=() if s == QUICK else pytest.mark.slow) for s in SETTINGS]


@pytest.fixture(scope="module", params=COUNTED)
def counted(request: pytest.FixtureRequest, measured: Any) -> Counted:
    from gradaudit.result import build_result

    meas, plan = measured
    plan = plan.updated(**SETTINGS[request.param])
    document = json.loads(build_result(meas, plan).to_json())
    recount = Recount(Parts(meas.folder), plan.model_dump(mode="json"))
    return Counted(
        request.param == "small cells withheld", document, recount.numbers(document), recount
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
        bare = re.sub(r"\u202f|(?<=\d),(?=\d{3})", "", text)  # between the thousands of a count
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
    assert {f"GA4{k:02d}" for k in range(1, 15)} <= set(seen)
    assert min(seen["GA101"], seen["GA131"]) > 2
    assert min(seen["cell GA101"], seen["settle GA101"], seen["reservation GA101"]) > (
        -1 if counted.withheld else 1
    )
    limits = [
        text
        for text in counted.document["limits"]
        if re.search(r"\d", text) and "are withheld, because" not in text
    ]
    assert set(limits) <= {check["detail"] for check in counted.document["checks"]}


def test_what_is_yes_or_no_is_what_the_numbers_say(counted: Counted) -> None:
    words = counted.recount.words(counted.document)
    wrong = [
        (place, have, words[place])
        for place in words
        if (have := _at(counted.document, place)) != words[place]
    ]
    assert not wrong
    states = {word for (*_, name), word in words.items() if name == "state"}
    assert states >= {"open", "not_judged"} | (
        {"not_met"} if counted.withheld else {"within", "insufficient"}
    )
    assert ("withheld" in states) == ("beyond" in states) == counted.withheld


def test_only_what_was_permuted_escapes(counted: Counted) -> None:
    """Student's t leaves nothing to chance, but for a curve, whose t is the largest of many."""
    for place, _ in leaves(counted.document["findings"], ("findings",)):
        if place in counted.numbers or place[-1] == "mask_tipping" or place[2] == "raw":
            continue
        f = counted.document["findings"][place[1]]
        assert f["curve"] or f["n_withheld"] or "permut" in f["test"]["name"] or f["stratum"], (
            f["anchor"],
            place,
        )


# ── whiskers, p and words ───────────────────────────────────────────────────────────────────────────────────────────


def test_p_and_interval_say_the_same(counted: Counted) -> None:
    alpha, seen = counted.document["method"]["alpha"], 0
    for f in counted.document["findings"]:
        spans = [
            f["mean"],
            f["mean_reference"],
            *([] if f["curve"] or "GA103" in f["code"] else [f["raw"], f["adjusted"]]),
        ]
        for span in [*spans, f["raw"], f["adjusted"], f["adjusted_predicted"]]:
            assert span["low"] is None or span["low"] <= span["estimate"] <= span["high"], f[
                "anchor"
            ]
        for span in spans:
            if span["low"] is not None:
                both = span["low"] + span["high"]
                assert math.isclose(both, 2 * span["estimate"], rel_tol=1e-9, abs_tol=1e-9), f[
                    "anchor"
                ]
        best, test = (f["adjusted"] if f["adjusted"]["low"] is not None else f["raw"]), f["test"]
        if test["p"] is None or best["low"] is None:
            continue
        seen += 1
        assert (best["low"] > 0 or best["high"] < 0) == (test["p"] <= alpha), f["anchor"]
    assert seen > 50
    for row in counted.document["performance"]:
        assert row["low"] is None or row["low"] <= row["estimate"] <= row["high"], row


def whisker_faults(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Anchor, and which word its whiskers contradict."""
    out, cells = [], {cell["finding"]: cell for cell in document["cells"] if cell["finding"]}
    for f in document["findings"]:
        (low, high), (near_low, near_high) = (
            (f[name]["low"], f[name]["high"]) for name in ("thin", "thick")
        )
        if low is None:
            continue
        margin, test, alpha = f["margin"], f["test"], document["method"]["alpha"]
        estimate = (f["adjusted"] if f["adjusted_for"] else f["raw"])["estimate"]
        faults = {
            "a whisker without its estimate": not (
                low <= estimate <= high and near_low <= estimate <= near_high
            ),
            "within": (-margin < near_low and near_high < margin) != (test["p_within"] <= alpha),
            "p of within": (test["p_within"] == 1) != (abs(estimate) >= margin),
            "beyond up to": f["beyond_up_to"] >= f["within_from"],
        }
        if not f["stratum"]:
            outside = low >= margin or high <= -margin
            faults["beyond"] = outside != (test["p_beyond_adjusted"] <= alpha)
            faults["state"] = f["state"] != (
                "beyond" if outside else "within" if test["p_within"] <= alpha else "open"
            )
            cell = cells[f["anchor"]]
            faults["cell"] = cell["state"] != f["state"] or (
                cell["settled"] and f["state"] != "within"
            )
            # the thin one is at a smaller level, so that it reaches farther, but for the end that a margin cuts
            wide = (low <= near_low + 1e-9 or estimate > 0) and (
                high >= near_high - 1e-9 or estimate < 0
            )
            faults["nested"] = not f["curve"] and not wide
        out += [(f["anchor"], name) for name, fault in faults.items() if fault]
    return out


def test_whiskers_are_the_words(counted: Counted) -> None:
    assert not whisker_faults(counted.document)
    document = copy.deepcopy(counted.document)
    judged = [f for f in document["findings"] if f["thin"]["low"] is not None and not f["stratum"]]
    assert len(judged) > 12
    for f in judged:  # one whisker of each contradicts its word
        estimate, margin = (
            (f["adjusted"] if f["adjusted_for"] else f["raw"])["estimate"],
            f["margin"],
        )
        if f["state"] == "beyond":
            f["thin"]["low" if estimate > 0 else "high"] = 0.0
        elif f["state"] == "within":
            f["thick"]["high"] = margin
        else:
            f["thick"] = {"low": -margin / 2, "high": margin / 2}
    assert {anchor for anchor, _ in whisker_faults(document)} == {f["anchor"] for f in judged}


def permuted_faults(counted: Counted, document: dict[str, Any]) -> tuple[list[Any], int]:
    """Levels that another permutation does not confirm, and how many it looked at."""
    out, seen, recount = [], 0, counted.recount
    for f in document["findings"]:
        if f["suppressed"] or f["reason"] or recount.by_student(f):
            continue
        for what, level, own, error in recount.permuted(f, document["cells"]):
            seen += 1
            out += [(f["anchor"], what, level, own)] if abs(level - own) > error else []
    return out, seen


def test_another_permutation_confirms_every_p_and_whisker(counted: Counted) -> None:
    wrong, seen = permuted_faults(counted, counted.document)
    assert not wrong
    # where sites are declared they are the units of nearly every test, and nothing is permuted
    assert seen > (30 if counted.document["plan"]["analysis"]["site"] is None else 5)
    document = copy.deepcopy(counted.document)
    own = [
        f
        for f in document["findings"]
        if f["thick"]["low"] is not None and not f["stratum"] and f["se"] is not None
    ]
    document["findings"] = own = [
        f for f in own if "permut" in f["test"]["name"] and not f["curve"]
    ]
    for f in own:  # the thick whisker a third too long, the interval a third too short
        shown = f["adjusted" if f["adjusted_for"] else "raw"]
        for end in ("low", "high"):
            f["thick"][end] += (f["thick"][end] - shown["estimate"]) / 3
            shown[end] -= (shown[end] - shown["estimate"]) / 3
    found = collections.Counter(what for _, what, *_ in permuted_faults(counted, document)[0])
    assert found["interval"] == len(own)
    assert found["thick"] >= 1.9 * len(own)


def tipping_fault(counted: Counted, f: dict[str, Any]) -> bool:
    """Whether the state does not change at the shift of the masks that is told, to 0.01, or changes before."""
    tip, room = f["mask_tipping"], counted.recount.room
    if tip is None:
        return min(room(f, 1.0), room(f, -1.0)) < 0
    sign, nearer = math.copysign(1, tip), abs(tip) - 0.011
    return (
        room(f, tip + 0.001 * sign) >= 0 or min(room(f, sign * nearer), room(f, -sign * nearer)) < 0
    )


def test_masks_change_a_state_where_it_is_said(counted: Counted) -> None:
    told = [f for f in counted.document["findings"] if counted.recount.tips(f)]
    assert told
    assert all(f["mask_tipping"] is None for f in counted.document["findings"] if f not in told)
    for f in told:
        assert not tipping_fault(counted, f), f["anchor"]
        tip = f["mask_tipping"] or 1.0
        assert tipping_fault(counted, {**f, "mask_tipping": tip - math.copysign(0.04, tip)}), f[
            "anchor"
        ]


# ── the recount itself ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_recount_sees_every_kind_of_wrong_number(counted: Counted) -> None:
    """One number of each pattern is falsified; each must be found, and nothing else."""
    examples = {
        pattern(place): place for place, _ in leaves(counted.document) if place in counted.numbers
    }
    assert len(examples) > 80
    document = copy.deepcopy(counted.document)
    for place in examples.values():
        inside = _at(document, place[:-1])
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
        "GA105",
        "GA111",
        "GA112",
        "GA121",
        "GA131",
        "GA132",
    }
    notes = " ".join(note for f in document["findings"] for note in f["notes"])
    assert all(
        words in notes
        for words in (
            "carry several levels",
            "compared among",
            "shrunken for display",
            *(() if counted.withheld else ("undefined heat counted as",)),
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
    findings = {f["anchor"]: f for f in document["findings"]}
    for part, told in (("pictures", 6), ("difference_maps", 3), ("distributions", 9)):
        if (
            part == "distributions" and counted.withheld
        ):  # at eleven patients a dot, all are too few
            continue
        own = [findings[row["finding"]] for row in document[part]]
        assert len(own) >= told
        assert len({f["attribute"] for f in own}) >= (1 if part == "difference_maps" else 2)
        assert len({f["reference"] == "rest" for f in own}) == 2 or part == "difference_maps"
    marks = [mark for m in document["difference_maps"] for row in m["shown"] for mark in row]
    assert counted.withheld or 0 < sum(marks) < len(marks)
    assert len({c["attribute"] for c in document["calibration"]}) >= (1 if counted.withheld else 4)
    assert {c["region"] for c in document["size_curves"]} == {"lesion", "ruler"}


def test_another_method_in_the_table_moves_no_number_of_the_plans_own(measured: Any) -> None:
    """The rows of a second method stand first, and every heat share of theirs is another: tables and gallery are those of the plan's method."""
    from gradaudit.analysis.descriptives import describe
    from gradaudit.cohort.gallery import gallery_items, pick_images
    from gradaudit.runs.measurements import Measurements

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
