"""The audit plan: what is audited, how, and by which criteria; validated before anything runs.

A plan is a TOML file (``audit.toml`` beside the manifest, or ``--config``), a ``Plan(...)`` in
code, or nothing at all. Every field has a default, a meaning and a range; an unknown key is an
error with the nearest known name.
"""

from __future__ import annotations

import datetime
import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from gradaudit.errors import PlanError
from gradaudit.spelling import did_you_mean

Role = Literal["attend", "avoid", "neutral"]
ROLES: tuple[Role, ...] = ("attend", "avoid", "neutral")


class Section(BaseModel):
    """A table of the plan: frozen, closed against unknown keys, and its numbers are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PreprocessPlan(Section):
    """How a decoded image becomes the network's input; ``None`` leaves what the model source
    declares.

    ``resize``: shorter side in pixels, or [height, width].  ``crop``: centre crop, side or [height,
    width]. ``fit``: "shorter" (resize the shorter side, then crop), "exact" (resize to [h, w],
    aspect not kept) or "pad" (resize the longer side, pad with the mean colour to a square).
    ``mean``/``std``: per channel, on values in [0, 1].  ``channels``: 3 (RGB) or 1 (luma).
    ``invert``: 1 - value, before normalising.  ``antialias``: false samples single pixels, as
    ``cv2.resize`` and ``tf.image.resize`` do.
    """

    resize: int | tuple[int, int] | None = None
    crop: int | tuple[int, int] | None = None
    fit: Literal["shorter", "exact", "pad"] | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: Literal[1, 3] | None = None
    invert: bool | None = None
    antialias: bool | None = None

    @field_validator("resize", "crop")
    @classmethod
    def _positive(cls, value: int | tuple[int, int] | None) -> int | tuple[int, int] | None:
        if value is not None and min(value if isinstance(value, tuple) else (value,)) < 1:
            raise ValueError("sizes are whole pixels, at least 1")
        return value

    @field_validator("std")
    @classmethod
    def _std_above_zero(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and min(value) <= 0:
            raise ValueError("std must be above 0 in every channel")
        return value


class ModelPlan(Section):
    """Which network: ``torchvision:NAME``, ``timm:NAME``, ``factory:file.py:function``."""

    source: str | None = None
    weights: str | None = None
    layer: str = "auto"
    classes: tuple[str, ...] | None = None
    output: str | int | None = Field(
        default=None, description="key or index of the logits in a dict or tuple output"
    )


class ExplainPlan(Section):
    """Which map of which score. ``target``: predicted, label, class:NAME or class:INDEX.

    ``sign`` -1: evidence against.
    """

    method: str = "gradcam"
    target: str = "predicted"
    sign: Literal[1, -1] = 1


class RegionPlan(Section):
    """Role of a region, and (for derived ones) the expression that builds it from others."""

    role: Role = "neutral"
    derive: str | None = None
    description: str = ""


class SubgroupPlan(Section):
    """One attribute. ``order`` makes it ordered; ``kind = "continuous"`` makes it numeric;
    ``reference`` a level or "rest".

    ``within``: the attribute may vary inside a cluster (body site within patient), contrasts use
    patient fixed effects. ``inferred``: the labels were estimated by an algorithm, and every table
    says so.
    """

    order: tuple[str, ...] | None = None
    reference: str = "rest"
    kind: Literal["categorical", "ordered", "continuous"] | None = None
    within: bool = False
    inferred: bool = False
    description: str = ""

    @model_validator(mode="after")
    def _reference_is_a_level(self) -> SubgroupPlan:
        if self.order and len(set(self.order)) < len(self.order):
            raise ValueError(f"order = {list(self.order)} names a level twice")
        if self.order and self.reference != "rest" and self.reference not in self.order:
            raise ValueError(
                f"reference {self.reference!r} is not among order = {list(self.order)}"
            )
        return self


class CriteriaPlan(Section):
    """The margin below which a disparity in heat share is held to be immaterial, and who declared
    it.
    """

    margin: float = Field(gt=0, lt=1)
    undefined_margin: float = Field(default=0.05, gt=0, lt=1)
    min_coverage: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="share of each group's patients that a comparison must rest on to count as within",
    )
    declared_by: str = ""
    declared_on: datetime.date | None = None
    rationale: str = ""


class AnalysisPlan(Section):
    """Settings of the statistical protocol."""

    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    permutations: int = Field(default=9999, ge=99)
    weights: Literal["equal", "precision"] = Field(
        default="equal",
        description="each cluster counts once, or by the precision of its mean where the number of "
        "its images is unrelated to the outcome",
    )
    covariates: tuple[str, ...] = ()
    regions: tuple[str, ...] = Field(
        default=(), description="confirmatory regions; empty: every attend/avoid region"
    )
    site: str | None = Field(
        default=None,
        description="column of a unit above the clusters (hospital): everything is compared within it",
    )
    pairs: str | None = None
    cluster_name: str = Field(
        default="cluster",
        description="what a cluster is, in the reader's own word: patient; or with its plural: person/people",
    )
    positive_class: str | None = Field(
        default=None, description="class whose sensitivity, specificity and AUC are reported"
    )

    @field_validator("cluster_name")
    @classmethod
    def _is_a_word(cls, value: str) -> str:
        parts = [part.strip() for part in value.split("/")]
        if len(parts) > 2 or not all(re.fullmatch(r"[^\W\d_][\w '-]{0,39}", p) for p in parts):
            raise ValueError('a word such as "patient", or a word with its plural: "person/people"')
        return value


class PrivacyPlan(Section):
    """Cells of fewer than ``min_cell`` images or clusters are suppressed; ``images = "none"``
    leaves no pixel.
    """

    min_cell: int = Field(default=11, ge=1)
    images: Literal["thumbnails", "none"] = "thumbnails"
    hash_names: bool = False


class RunPlan(Section):
    """How the measuring runs; only ``batch_size``, ``shard_size``, ``seed``, ``accelerate`` and
    ``precision`` may move a number.

    ``accelerate``: batch norms folded and channels last, where the first images' maps stay within
    1e-5 of the plain network's.
    """

    batch_size: int = Field(default=16, ge=1)
    shard_size: int = Field(default=256, ge=1)
    device: str = "auto"
    workers: int | Literal["auto"] = "auto"
    seed: int = Field(default=0, ge=0)
    accelerate: bool = True
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="of the network up to the explained layer"
    )


class ReportPlan(Section):
    """What the report says of itself. ``notice`` is printed on every page (e.g.

    that the images are rendered).
    """

    title: str = ""
    auditor: str = ""
    notice: str = ""
    gallery_per_cell: int = Field(default=4, ge=0, le=50)
    thumbnail: int = Field(default=160, ge=32, le=512)


class ColumnsPlan(Section):
    """Which columns of an existing table play which part; absent entries keep the manifest's own
    names.

    ``subgroups`` and ``regions`` map a name to a column: ``{skin_tone = "fitzpatrick_skin_type"}``.
    ``image_template`` builds a path from columns: ``"images/{isic_id}.jpg"``; ``region_templates``
    likewise for masks.
    """

    image: str | None = None
    image_template: str | None = None
    label: str | None = None
    cluster: str | None = None
    id: str | None = None
    subgroups: dict[str, str] = Field(default_factory=dict)
    regions: dict[str, str] = Field(default_factory=dict)
    region_templates: dict[str, str] = Field(default_factory=dict)


class Plan(Section):
    """The whole audit plan; see ``gradaudit report --print-config`` for the resolved one."""

    model: ModelPlan = ModelPlan()
    preprocess: PreprocessPlan = PreprocessPlan()
    explain: ExplainPlan = ExplainPlan()
    columns: ColumnsPlan = ColumnsPlan()
    regions: dict[str, RegionPlan] = Field(default_factory=dict)
    subgroups: dict[str, SubgroupPlan] = Field(default_factory=dict)
    criteria: CriteriaPlan | None = None
    analysis: AnalysisPlan = AnalysisPlan()
    privacy: PrivacyPlan = PrivacyPlan()
    run: RunPlan = RunPlan()
    report: ReportPlan = ReportPlan()

    def region_role(self, name: str) -> Role:
        return self.regions[name].role if name in self.regions else "neutral"

    def updated(self, **sections: dict[str, Any]) -> Plan:
        """A copy with single fields replaced: ``plan.updated(run={"device": "cpu"})``; checked like
        a new plan.
        """
        merged = self.model_dump()
        for section, fields in sections.items():
            if merged.get(section) is None:
                merged[section] = {}
            merged[section].update(fields)
        return build_plan(merged, origin="the settings given")


def read_plan(path: str | Path) -> Plan:
    """Read and check ``audit.toml``; relative paths in it stay relative to its folder.

    Errors: ``PlanError`` with every broken field at once (name, what was expected, what was found).
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise PlanError(f"The plan {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise PlanError(
            f"The plan {path} is not UTF-8 text ({error.reason} at byte {error.start})."
        ) from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"The plan {path} is not valid TOML: {error}") from error
    return build_plan(data, origin=str(path))


def find_plan(plan: str | Path | None, manifest: str | Path) -> tuple[Plan, Path]:
    """The plan and the folder that its relative paths start from.

    ``plan`` a path: that file.  None: ``audit.toml`` beside the manifest, or the defaults where
    there is none.
    """
    if plan is not None:
        return read_plan(plan), Path(plan).parent
    beside = Path(manifest).parent
    default = beside / "audit.toml"
    return (read_plan(default) if default.exists() else Plan()), beside


def build_plan(data: dict[str, Any], origin: str = "the plan") -> Plan:
    """Check a nested dict against the plan's rules; all problems in one ``PlanError``."""
    try:
        return Plan.model_validate(data)
    except ValidationError as error:
        lines = [_problem_line(detail) for detail in error.errors()]
        noun = "problem" if len(lines) == 1 else "problems"
        raise PlanError(
            f"{len(lines)} {noun} in {origin}:\n" + "\n".join(f"  - {line}" for line in lines)
        ) from error


# ── a plan as TOML ────────────────────────────────────────────────────────────────────────────────


def plan_toml(plan: Plan | Mapping[str, Any]) -> str:
    """The plan as TOML that ``read_plan`` reads back as the same plan.

    plan : a plan, or its fields as a stored result holds them
    Settings without a value are left out, as TOML has no null.
    Errors: ``PlanError`` for a number that is not finite.
    """
    fields = plan.model_dump(mode="json") if isinstance(plan, Plan) else plan
    return tomli_w.dumps(_as_toml(fields, ""))


def toml_value(value: str | Sequence[str]) -> str:
    """A text, or a list of texts, as TOML on one line."""
    if isinstance(value, str):
        # JSON's escapes are TOML's; the delete character is the one that JSON leaves as it is.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"[{', '.join(map(toml_value, value))}]"


def toml_key(name: str) -> str:
    """A name as the key of a TOML table, quoted where it has to be."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)


def _as_toml(value: Any, place: str) -> Any:
    if isinstance(value, Mapping):
        return {
            str(key): _as_toml(inner, f"{place}.{key}" if place else str(key))
            for key, inner in value.items()
            if inner is not None
        }
    if isinstance(value, list | tuple):
        return [_as_toml(inner, place) for inner in value if inner is not None]
    if isinstance(value, float) and not math.isfinite(value):
        raise PlanError(f"{place}: a plan holds finite numbers only (got {value})")
    return value


# ── problems ──────────────────────────────────────────────────────────────────────────────────────


def _problem_line(detail: Any) -> str:
    place = [str(part) for part in detail["loc"]]
    dotted = ".".join(place)
    if detail["type"] == "extra_forbidden":
        known = _fields_at(place[:-1])
        hint = did_you_mean(place[-1], known) or f"known here: {', '.join(known)}"
        return f"{dotted}: no such setting; {hint}"
    got = repr(detail.get("input"))
    return f"{dotted or 'plan'}: {detail['msg']} (got {got if len(got) < 80 else got[:77] + '...'})"


def _fields_at(place: list[str]) -> list[str]:
    model: type[BaseModel] = Plan
    for part in place:
        field = model.model_fields.get(part)
        if (
            field is None
        ):  # the name of a region or subgroup: its section type is the dict's value type
            continue
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next(
            (c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model
        )
    return list(model.model_fields)


def measured_target(plan: Plan) -> str:
    """The plan's target as rows of measurements bear it: with its sign."""
    return f"negated:{plan.explain.target}" if plan.explain.sign == -1 else plan.explain.target
