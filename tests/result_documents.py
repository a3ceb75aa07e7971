"""Builders of realistic result documents: what the report's tests (and nobody else) look at.

Numbers are drawn from a seeded generator around means that are given here, so every figure has something to show.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from gradaudit.analysis.method_cards import method_cards
from gradaudit.analysis.sentences.audits import reason_of_cell
from gradaudit.analysis.sentences.comparisons import in_words
from gradaudit.number_text import Noun
from gradaudit.records import CellState, Effect, Finding, Interval, Limits, TestResult
from gradaudit.report.render import render_html
from gradaudit.result_schema import (
    AttributeFacts,
    AuditVerdict,
    CalibrationCurve,
    CalibrationPoint,
    CheckOutcome,
    CriteriaFacts,
    DataFacts,
    DifferenceMap,
    Distribution,
    Exclusion,
    FlowRow,
    GalleryItem,
    HeatRow,
    MeanMap,
    MethodFacts,
    ModelFacts,
    PerformanceRow,
    PictureGroup,
    PlannedCell,
    Question,
    RegionFacts,
    ResultDocument,
    RunRecord,
    SizeCurve,
)

GROUPS: dict[str, tuple[str, ...]] = {
    "skin_tone": ("I–II", "III–IV", "V–VI"),
    "sex": ("female", "male"),
    "site": ("trunk", "limbs", "head", "acral"),
}
SIZES = {
    "I–II": 1480,
    "III–IV": 640,
    "V–VI": 212,
    "female": 1190,
    "male": 1142,
    "trunk": 1010,
    "limbs": 820,
    "head": 448,
    "acral": 54,
}
REGIONS = {
    "lesion": ("attend", 0.55, 0.22),
    "ruler": ("avoid", 0.12, 0.05),
    "skin": ("neutral", 0.30, 0.60),
}
Gaps = Mapping[tuple[str, str, str], float]
SHORTCUT: Gaps = {
    ("skin_tone", "V–VI", "ruler"): 0.19,
    ("skin_tone", "V–VI", "lesion"): -0.14,
    ("skin_tone", "III–IV", "ruler"): 0.035,
}


def shortcut_document(**changes: Any) -> ResultDocument:
    """A shortcut in one group: criteria not met."""
    sentences = (
        "On skin tone V–VI, 31 % of the model's heat lies on the ruler; on all others, 12 % (n = 212 images of 98 patients and 2\u202f120 images of "
        "1\u202f060 patients). The plan allows a difference of 5 points; this one is +9.0 points even at the cautious end. Worse off: skin tone "
        "V–VI, with more heat where none should be. At equal region size and class: +17 points.",
        "On the lesion itself the heat share in V–VI is 14 points lower (9 to 19) than in all other images.",
        "For sex, every difference in every decisive region is smaller than the limit of 5 points.",
        "For body site, 2 of 8 comparisons stay open: acral sites have too few patients for a verdict.",
    )
    verdict = AuditVerdict(
        state="not_met",
        headline="On the darkest skin tones the model's heat falls on ruler marks instead of the lesion.",
        sentences=sentences,
        cannot_tell=(
            "Whether the model uses the ruler: heat on a region is not proof of use; removing the region and seeing the score change would be.",
            "Anything about groups that the manifest does not name, or about images from other clinics.",
        ),
        finding_anchors=("GA101-skin_tone-ruler-V–VI", "GA101-skin_tone-lesion-V–VI"),
        fact="On skin tone V–VI, 31 % of the model's heat map lies on the ruler; on all others, 12 %.",
        limit="The plan allows a difference of 5 points.",
        fact_finding="GA101-skin_tone-ruler-V–VI",
        questions=(
            Question(question="Does it matter?", answer="Not tested: no region was removed."),
            Question(
                question="Is it right?", answer="On 86 % of the V–VI images; on 86 % of the others."
            ),
            Question(question="Everything else?", answer="4 comparisons are still open."),
        ),
    )
    return _document(verdict, SHORTCUT, **changes)


def met_document(**changes: Any) -> ResultDocument:
    """No difference beyond the limit anywhere: criteria met."""
    verdict = AuditVerdict(
        state="met",
        headline="In every declared region, every group's heat share lies within 5 points of all others.",
        sentences=(
            "The largest difference is 1.2 points (−0.9 to 3.3), for acral sites on ruler marks.",
            "All 16 planned comparisons lie within the limit.",
        ),
        cannot_tell=(
            "Whether the model relies on what the heat shows.",
            "Anything about groups that the manifest does not name.",
        ),
        finding_anchors=("GA101-site-ruler-acral",),
    )
    return _document(verdict, {}, spread=0.05, **changes)


def insufficient_document(**changes: Any) -> ResultDocument:
    """Small groups: V–VI and acral are below the smallest cell that may be shown."""
    verdict = AuditVerdict(
        state="insufficient",
        headline="The groups are too small to show a disparity or to exclude one.",
        sentences=(
            "Skin tone V–VI has fewer than 11 patients; nothing is shown for it.",
            "With 40 patients a group, differences below 12 points would stay unseen.",
        ),
        cannot_tell=("Whether the groups differ.", "What a larger sample would show."),
    )
    return _document(
        verdict,
        {("skin_tone", "III–IV", "ruler"): 0.03},
        shrink=12,
        hidden=("V–VI", "acral"),
        cards=OLDER_CARDS,
        **changes,
    )


def no_criteria_document(**changes: Any) -> ResultDocument:
    """Nobody declared a margin: differences are described, none is judged."""
    verdict = AuditVerdict(
        state="none_declared",
        headline="Heat on ruler marks differs by skin tone; no margin was declared to judge the difference by.",
        sentences=(
            "On skin tone V–VI the heat share on ruler marks is 19 points higher (14 to 24).",
        ),
        cannot_tell=(
            "Whether a difference of this size matters.",
            "Whether the model relies on what the heat shows.",
        ),
        finding_anchors=("GA101-skin_tone-ruler-V–VI",),
    )
    return _document(verdict, SHORTCUT, margin=None, **changes)


HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)> & "quoted" $x_{1}$ {{7*7}} \u202e=HYPERLINK("http://evil.test") </style> | `code`'
"""Text that must come out as itself, wherever a name from a manifest may stand."""


def hostile_document() -> ResultDocument:
    """Names, labels and paths full of HTML, formulas and template syntax; a foreign picture address; script in an outline."""
    source = shortcut_document(gallery_items=3)
    item = source.gallery[0].model_copy(
        update={
            "image_id": HOSTILE,
            "path": "=cmd|' /C calc'!A0",
            "label": HOSTILE,
            "predicted": HOSTILE,
            "picked": (HOSTILE,),
            "levels": {HOSTILE: HOSTILE, "skin_tone": HOSTILE},
        }
        | {
            "values": {HOSTILE: 0.5, "ruler": 0.1},
            "outlines": {
                HOSTILE: source.gallery[0].outlines["lesion"],
                "ruler": 'M0 0"/><script>alert(2)</script>',
            },
        }
    )
    foreign = source.gallery[1].model_copy(update={"image": "https://evil.test/pixel.png"})
    findings = tuple(
        f.model_copy(
            update={
                "group": HOSTILE,
                "attribute": HOSTILE,
                "region": HOSTILE,
                "sentence": HOSTILE,
                "anchor": f"GA101-{HOSTILE}-{n}",
            }
        )
        for n, f in enumerate(source.findings[:4])
    )
    cells = tuple(
        c.model_copy(
            update={
                "attribute": HOSTILE, "group": HOSTILE, "reference": HOSTILE, "region": HOSTILE, "reason": HOSTILE,
                "settle": HOSTILE, "finding": f"GA101-{HOSTILE}-{n}",
            }
        )
        for n, c in enumerate(source.cells[:4])
    )  # fmt: skip
    attribute = source.attributes[0].model_copy(
        update={"name": HOSTILE, "levels": (HOSTILE, "b"), "description": HOSTILE}
    )
    picked = PictureGroup(
        finding=f"GA101-{HOSTILE}-0", side="group", region=HOSTILE, value=0.3, centre="mean", images=(HOSTILE,)
    )  # fmt: skip
    rows = tuple(
        h.model_copy(update={"level": HOSTILE, "attribute": HOSTILE, "region": HOSTILE})
        for h in source.heat[:3]
    )
    return source.model_copy(
        update={
            "title": HOSTILE,
            "notice": HOSTILE,
            "auditor": "=1+1",
            "audit_id": HOSTILE,
            "findings": findings,
            "cells": cells,
            "attributes": (attribute, *source.attributes[1:]),
            "pictures": (picked,),
            "heat": rows,
            "gallery": (item, foreign, source.gallery[2]),
            "verdict": source.verdict.model_copy(
                update={
                    "headline": HOSTILE,
                    "sentences": (HOSTILE,) * 3,
                    "finding_anchors": (f"GA101-{HOSTILE}-0",),
                    "fact": HOSTILE,
                    "limit": HOSTILE,
                    "second": HOSTILE,
                    "questions": (Question(question="Is it right?", answer=HOSTILE),),
                    "fact_finding": f"GA101-{HOSTILE}-0",
                }
            ),
            "flow": tuple(
                f.model_copy(update={"level": "=1+1", "attribute": HOSTILE})
                for f in source.flow[:2]
            ),
            "performance": tuple(
                p.model_copy(update={"level": HOSTILE}) for p in source.performance
            ),
            "mean_maps": tuple(
                m.model_copy(update={"level": HOSTILE, "regions": {HOSTILE: m.regions["lesion"]}})
                for m in source.mean_maps[:2]
            ),
            "exclusions": tuple(
                e.model_copy(update={"examples": (HOSTILE, "\x00\x1b[31mred")})
                for e in source.exclusions
            ),
            "plan": {HOSTILE: {"x": HOSTILE}},
            "run": source.run.model_copy(update={"command": HOSTILE}),
        }
    )


CAM_CARD = {
    "name": "gradcam", "label": "Grad-CAM", "summary": "weights each channel by its mean gradient", "source": "Selvaraju et al. 2017, ICCV, eqs 1 and 2",
    "formula": "ReLU(Σ_k mean(∂y/∂A_k) A_k)",
}  # fmt: skip
OLDER_CARDS: dict[str, tuple[dict[str, str], ...]] = {
    "metrics": (
        {
            "name": "heat_share",
            "label": "Heat share",
            "summary": "Fraction of an image's heat that falls inside the region",
            "formula": "Σ (H ⊙ M) / Σ H",
            "range": "0 to 1",
            "source": "Arras et al. 2022, eq. 1",
        },
        {
            "name": "mass_lift",
            "label": "Lift",
            "summary": "Heat share over area share",
            "formula": "share / area",
            "range": "0 and up, 1 = even spread",
            "source": "this tool",
            "caveat": "does not remove the confounding by size",
        },
    )
}
"""What a document of an earlier version holds: few families, no function."""


# ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _document(
    verdict: AuditVerdict,
    gaps: Gaps,
    *,
    margin: float | None = 0.05,
    spread: float = 0.30,
    shrink: int = 1,
    hidden: tuple[str, ...] = (),
    gallery_items: int = 12,
    notice: str = "",
    images_shown: bool = True,
    title: str = "Melanoma classifier, dermoscopy validation set",
    cards: dict[str, tuple[dict[str, str], ...]] | None = None,
) -> ResultDocument:
    cards = method_cards({"method": CAM_CARD}) if cards is None else cards
    rng = np.random.default_rng(11)
    sizes = {level: max(4, n // shrink) for level, n in SIZES.items()}
    total = sum(sizes[level] for level in GROUPS["skin_tone"])
    heat = tuple(_heat_rows(rng, sizes, gaps, hidden))
    findings = tuple(_findings(rng, sizes, gaps, margin, hidden, spread))
    cells = tuple(_cells(findings, margin))
    if verdict.state in ("not_met", "insufficient"):
        told = zip(cells, findings, strict=False)
        reasons = tuple(reason_of_cell(c, f) for c, f in told if not c.settled)
        verdict = verdict.model_copy(update={"reasons": reasons})
    flow = tuple(_flow(sizes, hidden))
    performance, maps = (
        tuple(_performance(rng, sizes, hidden)),
        tuple(_mean_maps(sizes, gaps, hidden)),
    )
    gallery = tuple(_gallery(rng, gallery_items))
    reference = {"skin_tone": "rest", "sex": "male", "site": "rest"}
    return ResultDocument(
        audit_id="3f2a9c41",
        created="2026-03-14T09:26:53Z",
        tool_version="0.1.0",
        title=title,
        auditor="Independent review unit",
        notice=notice,
        model=ModelFacts(
            source="factory:melanoma.py:build",
            digest="9b1c" * 16,
            layer="features.12",
            layer_reason="the last layer with a spatial grid (7 × 7) before pooling",
            grid=(7, 7),
            input_size=(224, 224),
            classes=("benign", "malignant"),
            preprocess={"resize": 256, "crop": 224, "mean": [0.485, 0.456, 0.406]},
            notes=("melanoma.py is the auditor's own Python and was run to build the network",),
        ),
        data=DataFacts(
            name="dermoscopy-2025",
            digest="17ac" * 16,
            n_images=total,
            n_clusters=int(total / 2.2),
            cluster_declared=True,
            cluster_name="patient",
        ),
        regions=tuple(
            RegionFacts(
                name=name,
                role=role,
                n_annotated=total - 40,
                n_present=total - 40 if name != "ruler" else total // 3,
                mean_area_share=area,
                description={"ruler": "ruler marks at the image border"}.get(name, ""),
                derive="complement(lesion)" if name == "skin" else "",
            )
            for name, (role, _, area) in REGIONS.items()
        ),
        attributes=tuple(
            AttributeFacts(
                name=name,
                kind="ordered" if name == "skin_tone" else "categorical",
                levels=levels,
                reference=reference[name],
                inferred=name == "skin_tone",
                within=name == "site",
            )
            for name, levels in GROUPS.items()
        ),
        criteria=None
        if margin is None
        else CriteriaFacts(
            margin=margin,
            undefined_margin=0.05,
            declared_by="Clinical safety board",
            declared_on="2026-02-20",
            rationale="Five points of heat are less than two raters differ by.",
        ),
        verdict=verdict,
        cells=cells,
        findings=findings,
        flow=flow,
        exclusions=(
            Exclusion(
                reason="unreadable",
                meaning="the image file cannot be read",
                count=21,
                by_level={"skin_tone": {"I–II": 14, "III–IV": None, "V–VI": None}},
                examples=("ISIC_0024306.jpg", "ISIC_0031633.jpg"),
            ),
            Exclusion(
                reason="missing_mask",
                meaning="the mask file does not exist",
                region="ruler",
                count=19,
                examples=("ISIC_0027419.jpg",),
            ),
        ),
        heat=heat,
        performance=performance,
        mean_maps=maps,
        gallery=gallery,
        pictures=tuple(_pictures(findings, gallery)) if gaps else (),
        distributions=tuple(_distributions(findings)),
        difference_maps=tuple(_difference_maps(findings)),
        calibration=tuple(_calibration(hidden)),
        size_curves=tuple(_size_curves(hidden)),
        checks=(
            CheckOutcome(
                code="GD01",
                name="Masks cover what they should",
                state="passed",
                detail="No mask is larger than its image.",
            ),
            CheckOutcome(
                code="GD02",
                name="Overlap of region size between groups",
                state="issue",
                detail="Ruler marks are larger in V–VI: 71 % overlap; contrasts are restricted to the common range.",
            ),
            CheckOutcome(
                code="GT01",
                name="Randomised weights",
                state="skipped",
                detail="Trust checks were not asked for.",
            ),
        ),
        method=MethodFacts(
            explain_method="gradcam",
            explain_target="predicted",
            alpha=0.05,
            permutations=9999,
            seed=0,
            unit="patient",
            confirmatory_contrasts=18,
            exploratory_contrasts=12,
            adjusted_for=("region size", "class"),
            cards=cards,
        ),
        limits=(
            "Skin tone was estimated from pixel colours; 4 % of labels are expected to be wrong.",
        ),
        plan={
            "model": {"source": "factory:melanoma.py:build", "weights": None},
            "criteria": {"margin": margin},
            "regions": {"ruler": {"role": "avoid"}},
            "run": {"seed": 0, "batch_size": 16},
        },
        run=RunRecord(
            command="gradaudit report manifest.csv --model factory:melanoma.py:build --out report.html",
            plan_id="a81d",
            digests={"manifest": "17ac" * 16, "weights": "9b1c" * 16},
            versions={"python": "3.12.3", "torch": "2.8.0", "numpy": "2.3.1"},
            device="cpu",
            dtype="float32",
            started="2026-03-14T09:11:02Z",
            finished="2026-03-14T09:26:53Z",
            seconds=951.2,
            counts={"images": total},
        ),
        min_cell=11,
        images_shown=images_shown,
    )


def _mean_share(attribute: str, level: str, region: str, gaps: Gaps) -> float:
    return REGIONS[region][1] + gaps.get((attribute, level, region), 0.0)


def _heat_rows(
    rng: np.random.Generator, sizes: Mapping[str, int], gaps: Gaps, hidden: tuple[str, ...]
) -> list[HeatRow]:
    rows = []
    for attribute, levels in GROUPS.items():
        for level in levels:
            for region in REGIONS:
                base = {
                    "attribute": attribute,
                    "level": level,
                    "region": region,
                    "method": "gradcam",
                    "target": "predicted",
                }
                if level in hidden:
                    rows.append(HeatRow(**base, n_images=None, n_clusters=None, suppressed=True))
                    continue
                n = sizes[level]
                m = _mean_share(attribute, level, region, gaps)
                values = rng.beta(6 * m, 6 * (1 - m), size=max(n // 2, 8))
                half = 1.96 * values.std() / len(values) ** 0.5
                rows.append(
                    HeatRow(
                        **base,
                        n_images=n,
                        n_clusters=len(values),
                        mean=values.mean(),
                        sd=values.std(),
                        ci_low=values.mean() - half,
                        ci_high=values.mean() + half,
                        adjusted_mean=values.mean() - 0.01,
                        quantiles=tuple(
                            np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)).tolist()
                        ),
                        histogram=tuple(np.histogram(values, bins=20, range=(0, 1))[0].tolist()),
                        mean_lift=values.mean() / REGIONS[region][2],
                        pointing_game=min(1.0, 1.3 * values.mean()),
                        undefined_share=0.012,
                    )
                )
    return rows


def _findings(
    rng: np.random.Generator,
    sizes: Mapping[str, int],
    gaps: Gaps,
    margin: float | None,
    hidden: tuple[str, ...],
    spread: float,
) -> list[Finding]:
    total = sum(sizes[level] for level in GROUPS["skin_tone"])
    findings = []
    for attribute, levels in GROUPS.items():
        for region, (role, mean, _) in REGIONS.items():
            if role == "neutral":
                continue
            for level in levels[: 1 if attribute == "sex" else None]:
                n = sizes[level]
                gap = gaps.get((attribute, level, region), 0.0) + rng.normal(0, 0.004)
                se = spread / (n / 2) ** 0.5
                state = _state(0.9 * gap, se, margin, n)
                suppressed = level in hidden
                raw = Interval(estimate=gap, low=gap - 1.96 * se, high=gap + 1.96 * se)
                adjusted = Interval(
                    estimate=0.9 * gap, low=0.9 * gap - 1.9 * se, high=0.9 * gap + 1.9 * se
                )
                p = float(min(1.0, 2 * np.exp(-0.5 * (gap / se) ** 2)))
                base = {
                    "code": "GA101",
                    "anchor": f"GA101-{attribute}-{region}-{level}",
                    "question": "group",
                    "attribute": attribute,
                    "group": level,
                    "reference": "male" if attribute == "sex" else "rest",
                    "region": region,
                    "role": role,
                    "method": "gradcam",
                    "target": "predicted",
                }
                if suppressed:
                    hidden_state = {"suppressed": True, "reason": "small_cell"}
                    family = TestResult(family="confirmatory")
                    findings.append(
                        Finding(**base, **hidden_state, state=CellState.WITHHELD, test=family)
                    )
                    continue
                findings.append(
                    Finding(
                        **base,
                        n_images=n,
                        n_clusters=n // 2,
                        n_images_reference=total - n,
                        n_clusters_reference=(total - n) // 2,
                        mean=Interval(
                            estimate=mean + gap, low=mean + gap - se, high=mean + gap + se
                        ),
                        mean_reference=Interval(estimate=mean),
                        raw=raw,
                        adjusted=adjusted if state is not CellState.NOT_ASSESSED else Interval(),
                        se=se,
                        margin=margin,
                        mde80=2.8 * se,
                        effect=Effect(
                            ratio=Interval(estimate=1 + gap / mean, low=0.9, high=1.3),
                            standardised_difference=gap / 0.2,
                            cliffs_delta=gap,
                        ),
                        test=TestResult(
                            name="studentised permutation t",
                            statistic=gap / se,
                            df=n / 2 - 2,
                            p=p,
                            p_adjusted=min(1.0, 6 * p),
                            p_beyond=None if margin is None else min(1.0, p + 0.02),
                            p_beyond_adjusted=None if margin is None else min(1.0, 6 * p + 0.02),
                            p_within=None if margin is None else 0.01,
                            family="confirmatory",
                            permutations=9999,
                        )
                        if state is not CellState.NOT_ASSESSED
                        else TestResult(),
                        state=state,
                        shown=state is CellState.BEYOND or abs(gap) > 1.96 * se,
                        **_whiskers(0.9 * gap, se, margin, state),
                        provisional=spread > 0.1 and 20 < n < 60,
                        adjusted_for=("region size", "class"),
                        reason="too_few_clusters" if state is CellState.NOT_ASSESSED else "",
                    )
                )
    undefined = findings[0].model_copy(
        update={
            "code": "GA111",
            "anchor": "GA111-skin_tone-ruler",
            "outcome": "undefined",
            "mean": Interval(estimate=0.012),
            "mean_reference": Interval(estimate=0.01),
            "raw": Interval(estimate=0.002, low=-0.01, high=0.014),
            "adjusted": Interval(),
            "state": CellState.NOT_JUDGED if margin is None else CellState.WITHIN,
            "shown": False,
            "region": "",
            "role": "",
            **_whiskers(0.002, 0.005, margin, CellState.WITHIN),
        }
    )
    signal = findings[0].model_copy(
        update={
            "code": "GA121",
            "anchor": "GA121-skin_tone-ruler",
            "outcome": "mass_lift",
            "mean": Interval(estimate=2.4),
            "mean_reference": Interval(estimate=2.1),
            "raw": Interval(estimate=0.3, low=-0.1, high=0.7),
            "adjusted": Interval(),
            "state": CellState.NOT_JUDGED,
            "shown": False,
            "margin": None,
            **_whiskers(0.3, 0.1, None, CellState.NOT_JUDGED),
            "test": findings[0].test.model_copy(update={"family": "exploratory"}),
        }
    )
    patients = Noun.of("patient")
    return [in_words(f, unit=patients) for f in (*findings, undefined, signal)]


def _state(gap: float, se: float, margin: float | None, n: int) -> CellState:
    if n < 30:
        return CellState.NOT_ASSESSED
    if margin is None:
        return CellState.NOT_JUDGED
    if abs(gap) - 2.9 * se > margin:
        return CellState.BEYOND
    return CellState.WITHIN if abs(gap) + 1.65 * se < margin else CellState.OPEN


def _whiskers(gap: float, se: float, margin: float | None, state: CellState) -> dict[str, Any]:
    """Thin and thick whisker, and the margins at which the word changes; nothing without a margin."""
    if margin is None or state is CellState.NOT_ASSESSED:
        nothing: dict[str, Any] = dict.fromkeys(("thin", "thick"), Limits())
        return nothing | dict.fromkeys(("beyond_up_to", "within_from"))
    thin = Limits(low=gap - 2.9 * se, high=gap + 2.9 * se)
    thick = Limits(low=gap - 1.65 * se, high=gap + 1.65 * se)
    return {
        "thin": thin,
        "thick": thick,
        "beyond_up_to": max(abs(gap) - 2.9 * se, 0.0),
        "within_from": abs(gap) + 1.65 * se,
    }


def _cells(findings: tuple[Finding, ...], margin: float | None) -> list[PlannedCell]:
    """The planned cell of every decisive finding."""
    cells = []
    for f in findings:
        if f.code == "GA121":
            continue
        best = f.adjusted if f.adjusted.estimate is not None else f.raw
        cells.append(
            PlannedCell(
                attribute=f.attribute,
                comparison="level",
                group=f.group,
                reference=f.reference,
                region=f.region,
                role=f.role,
                outcome=f.outcome,
                state=f.state,
                reason="a group of this comparison is too small to be shown"
                if f.suppressed
                else f.reason,
                settled=f.state is CellState.WITHIN and not f.provisional,
                estimate=best.estimate,
                ci_low=best.low,
                ci_high=best.high,
                margin=margin,
                coverage=None if f.suppressed else 0.97,
                provisional=f.provisional,
                finding="" if f.suppressed else f.anchor,
            )
        )
    return cells


def _flow(sizes: Mapping[str, int], hidden: tuple[str, ...]) -> list[FlowRow]:
    rows = []
    for attribute, levels in GROUPS.items():
        for level in (*levels, "(unknown)"):
            n = sizes.get(level, 17)
            base = {"attribute": attribute, "level": level}
            if level in hidden:
                rows.append(
                    FlowRow(
                        **base,
                        n_manifest=None,
                        n_readable=None,
                        n_mask_usable=None,
                        n_heat_usable=None,
                        n_analysed=None,
                        n_clusters=None,
                        suppressed=True,
                    )
                )
            else:
                prevalence = {"benign": 0.78, "malignant": 0.22}
                areas = {name: area for name, (_, _, area) in REGIONS.items()}
                rows.append(
                    FlowRow(
                        **base,
                        n_manifest=n,
                        n_readable=n - 1,
                        n_mask_usable=n - 2,
                        n_heat_usable=n - 3,
                        n_analysed=n - 3,
                        n_clusters=n // 2,
                        label_prevalence=prevalence,
                        area_share=areas,
                        mean_confidence=0.87,
                    )
                )
    return rows


def _performance(
    rng: np.random.Generator, sizes: Mapping[str, int], hidden: tuple[str, ...]
) -> list[PerformanceRow]:
    rows = []
    for attribute, levels in GROUPS.items():
        for level in levels:
            for metric, value in (
                ("accuracy", 0.86),
                ("sensitivity", 0.81),
                ("specificity", 0.88),
                ("auc", 0.91),
            ):
                base = {"attribute": attribute, "level": level, "metric": metric}
                if level in hidden:
                    rows.append(PerformanceRow(**base, estimate=None, suppressed=True))
                    continue
                at = value + rng.normal(0, 0.015)
                half = 0.9 / sizes[level] ** 0.5
                rows.append(
                    PerformanceRow(
                        **base,
                        estimate=at,
                        low=at - half,
                        high=min(1.0, at + half),
                        n_images=sizes[level],
                        n_clusters=sizes[level] // 2,
                    )
                )
    return rows


def _bump(h: int, w: int, y: float, x: float, spread: float) -> np.ndarray:
    rows, columns = np.mgrid[0:h, 0:w]
    return np.exp(-(((rows + 0.5) / h - y) ** 2 + ((columns + 0.5) / w - x) ** 2) / (2 * spread**2))


def _grid(values: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(float(v), 6) for v in row) for row in values)


def _mean_maps(sizes: Mapping[str, int], gaps: Gaps, hidden: tuple[str, ...]) -> list[MeanMap]:
    maps = []
    for attribute, levels in GROUPS.items():
        for level in levels:
            if level in hidden:
                continue
            ruler = max(_mean_share(attribute, level, "ruler", gaps), 0.05)
            heat = _bump(7, 7, 0.5, 0.5, 0.17) * (1 - ruler) + 2.2 * ruler * _bump(
                7, 7, 0.92, 0.5, 0.12
            )
            regions = {
                "lesion": _grid(np.clip(1.6 * _bump(28, 28, 0.5, 0.5, 0.2), 0, 1)),
                "ruler": _grid(np.clip(0.6 * (np.mgrid[0:28, 0:28][0] > 24), 0, 1)),
            }
            maps.append(
                MeanMap(
                    attribute=attribute,
                    level=level,
                    n_images=sizes[level],
                    heat=_grid(heat / heat.sum()),
                    regions=regions,
                )
            )
    return maps


def _photo(rng: np.random.Generator, tone: int, side: int, ruler: bool) -> str:
    """A sketch of a lesion on skin, as the JPEG a thumbnail would be."""
    base = np.array([(226, 190, 165), (190, 140, 105), (110, 72, 52)][tone], dtype=float)
    canvas = (
        base
        + rng.normal(0, 5, (side, side, 1))
        + 18 * (_bump(side, side, 0.4, 0.4, 0.6)[..., None] - 0.5)
    )
    cy, cx = 0.5 + rng.normal(0, 0.03, 2)
    blob = _bump(side, side, cy, cx, 0.16 + 0.03 * rng.random())[..., None]
    canvas = canvas * (1 - np.clip(1.5 * blob - 0.35, 0, 0.75)) + np.array((60, 30, 25)) * np.clip(
        1.5 * blob - 0.35, 0, 0.75
    )
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    if ruler:
        draw = ImageDraw.Draw(image)
        for x in range(4, side, 8):
            draw.line(
                [(x, side - 4), (x, side - (14 if x % 40 == 4 else 9))], fill=(20, 20, 20), width=1
            )
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=78)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _circle(centre: float, radius: float) -> str:
    half = f"a{radius:.1f} {radius:.1f} 0 1 0"
    return (
        f"M{centre - radius:.1f} {centre:.1f}{half} {2 * radius:.1f} 0{half} {-2 * radius:.1f} 0Z"
    )


def _gallery(rng: np.random.Generator, items: int, side: int = 160) -> list[GalleryItem]:
    result = []
    for index in range(items):
        tone = index % 3
        on_ruler = float(rng.beta(2, 3)) if tone == 2 else float(rng.beta(1.2, 8))
        heat = (
            3 * (1 - on_ruler) * _bump(7, 7, 0.5, 0.5, 0.15)
            + 4 * on_ruler * _bump(7, 7, 0.95, 0.5 + rng.normal(0, 0.1), 0.12)
            - 0.1
        )
        correct = bool(rng.random() < 0.8) if index % 7 else None
        level = GROUPS["skin_tone"][tone]
        result.append(
            GalleryItem(
                image_id=f"ISIC_{24306 + 37 * index:07d}",
                path=f"images/ISIC_{24306 + 37 * index:07d}.jpg",
                picked=(f"random: skin_tone={level}",)
                if index % 4
                else (f"highest: ruler, skin_tone={level}",),
                levels={
                    "skin_tone": level,
                    "sex": GROUPS["sex"][index % 2],
                    "site": GROUPS["site"][index % 4],
                },
                label="malignant" if index % 3 else "benign",
                predicted="malignant" if correct else "benign",
                probability=round(float(rng.uniform(0.5, 1)), 3),
                correct=correct,
                values={
                    "lesion": round(0.7 * (1 - on_ruler), 3),
                    "ruler": round(on_ruler, 3) if tone != 1 else None,
                    "skin": 0.25,
                },
                width=side,
                height=side,
                image=_photo(rng, tone, side, tone != 1),
                heat=_grid(heat),
                outlines={
                    "lesion": _circle(0.5 * side, 0.2 * side),
                    **({"ruler": f"M2 {side - 16}H{side - 2}V{side - 3}H2Z"} if tone != 1 else {}),
                },
            )
        )
    return result


# ── the figures of a finding ────────────────────────────────────────────────────────────────────────────────────────


def _told(findings: tuple[Finding, ...]) -> list[Finding]:
    """Findings that have figures: heat shares whose difference is shown."""
    return [f for f in findings if f.code == "GA101" and f.shown and not f.suppressed]


def _pictures(
    findings: tuple[Finding, ...], gallery: tuple[GalleryItem, ...]
) -> list[PictureGroup]:
    """The images nearest to the two means that the sentence states."""
    groups = []
    for f in _told(findings):
        if f.region not in ("lesion", "ruler"):
            continue
        for side, value in (("group", f.mean.estimate), ("reference", f.mean_reference.estimate)):
            own = [
                i
                for i in gallery
                if (i.levels[f.attribute] == f.group) == (side == "group") and i.values[f.region] is not None
            ]  # fmt: skip
            near = sorted(own, key=lambda i: abs(i.values[f.region] - value))
            groups.append(
                PictureGroup(
                    finding=f.anchor,
                    side=side,
                    region=f.region,
                    value=value,
                    centre="mean",
                    images=tuple(i.image_id for i in near[:3]),
                )
            )
    return groups


def _distributions(findings: tuple[Finding, ...]) -> list[Distribution]:
    parts = (np.arange(20) + 0.5) / 20 - 0.5
    return [
        Distribution(
            finding=f.anchor,
            group=tuple(np.clip(f.mean.estimate + 0.2 * parts, 0, 1).tolist()),
            reference=tuple(np.clip(f.mean_reference.estimate + 0.1 * parts, 0, 1).tolist()),
        )
        for f in _told(findings)
    ]


def _difference_maps(findings: tuple[Finding, ...]) -> list[DifferenceMap]:
    grid = 0.02 * (_bump(7, 7, 0.95, 0.5, 0.2) - _bump(7, 7, 0.5, 0.5, 0.2))
    return [
        DifferenceMap(
            finding=f.anchor,
            n_images=f.n_images,
            n_images_reference=f.n_images_reference,
            difference=_grid(grid * (0.5 + n)),
            shown=tuple(tuple(int(abs(v) > 0.004) for v in row) for row in grid.tolist()),
        )
        for n, f in enumerate(_told(findings))
    ]


def _calibration(hidden: tuple[str, ...]) -> list[CalibrationCurve]:
    curves = []
    for level in GROUPS["skin_tone"]:
        if level not in hidden:
            shift = 0.05 * (level == "V–VI")
            points = tuple(
                CalibrationPoint(confidence=c, correct=c - shift, n_images=40) for c in (0.55, 0.7, 0.85, 0.95)
            )  # fmt: skip
            curves.append(CalibrationCurve(attribute="skin_tone", level=level, points=points))
    return curves


def _size_curves(hidden: tuple[str, ...]) -> list[SizeCurve]:
    return [
        SizeCurve(
            attribute="skin_tone",
            level=level,
            region="ruler",
            points=tuple((0.02 + 0.02 * k, 0.1 + 0.03 * k, 25) for k in range(4)),
        )
        for level in GROUPS["skin_tone"]
        if level not in hidden
    ]


BUILDERS = {
    "shortcut": shortcut_document,
    "met": met_document,
    "insufficient": insufficient_document,
    "no_criteria": no_criteria_document,
    "hostile": hostile_document,
}


class Rendered(dict[str, str]):
    """Reports by the name of their builder; each is drawn when it is first asked for, and once."""

    def __missing__(self, name: str) -> str:
        return self.setdefault(name, render_html(BUILDERS[name]()))
