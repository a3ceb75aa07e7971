"""Result documents that put the page to the test, made from the stored runs of `make reports`.

Each is the analysis of real measurements, changed in one way: more attributes and regions with long, Arabic and Chinese names; 27 images;
masks in which no region was found; no criteria.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from gradaudit.plan import Plan, build_plan
from gradaudit.report import read_result, write_report
from gradaudit.result import build_result, recorded_plan
from gradaudit.result_schema import ResultDocument
from gradaudit.runs.folder import read_run
from gradaudit.runs.measurements import Measurements

DEMO = "dermoscopy-shortcut"
CLINICS = (
    "東京大学医学部附属病院", "北京协和医院皮肤科", "Ōtautahi Christchurch", "São Paulo", "Αθήνα", "A",
    "Hospital de Nossa Senhora da Conceição do Sul (ambulatório)", "Санкт-Петербург",
    "Universitätsklinikum Schleswig-Holstein, Campus Lübeck, Klinik für Dermatologie",
    "مستشفى الملك فيصل التخصصي", "Łódź", "Kyiv",
)  # fmt: skip
DEVICES = (
    "DermLite DL5 with immersion fluid, polarised",
    "FotoFinder bodystudio ATBM",
    "Heine Delta 30",
)
CENTRE = "centre of the picture where the lesion would be expected"
MADE_OF = {
    "clinic": CLINICS,
    "اللغة": ("English", "中文", "العربية"),
    "device manufacturer and model (as recorded in the DICOM header)": DEVICES,
    "age": ("18-29", "30-44", "45-59", "60-74", "75 and older"),
    "insurance": ("private", "public"),
}
"""Attributes drawn at random, which together with the demo's three make 8 of 32 levels."""


def documents(runs: Path, store: Path) -> dict[str, ResultDocument]:
    """Every document by its name; analysed once and kept in ``store``."""
    makers: dict[str, Callable[[], ResultDocument]] = {
        "demo": lambda: analysed(runs / DEMO),
        "digits": lambda: analysed(runs / "digits"),
        "objects": lambda: analysed(runs / "objects"),
        "8 x 6 x 33": lambda: many_names(runs / DEMO),
        "27 images": lambda: few_images(runs / DEMO),
        "nothing comparable": lambda: no_region_found(runs / DEMO),
        "no criteria": lambda: without_criteria(runs / DEMO),
    }
    store.mkdir(parents=True, exist_ok=True)
    return {name: _kept(store / f"{name}.json", maker) for name, maker in makers.items()}


def _kept(path: Path, maker: Callable[[], ResultDocument]) -> ResultDocument:
    if not path.exists():
        write_report(maker(), path)
    return read_result(path)


def analysed(run: Path) -> ResultDocument:
    measured = read_run(run).measurements()
    assert measured.run is not None
    return build_result(measured, recorded_plan(measured.run)).document


def _demo(run: Path) -> tuple[Measurements, Plan]:
    measured = read_run(run).measurements()
    assert measured.run is not None
    return measured, recorded_plan(measured.run)


def _changed(plan: Plan, **parts: object) -> Plan:
    data = plan.model_dump(mode="json")
    for name, part in parts.items():
        if isinstance(part, dict) and isinstance(data.get(name), dict):
            data[name] = data[name] | part
        else:
            data[name] = part
    return build_plan({key: value for key, value in data.items() if value is not None}, "benchmark")


def _with_tables(measured: Measurements, images: pd.DataFrame, table: pd.DataFrame) -> Measurements:
    return Measurements(table, images, measured.maps, measured.run, measured.folder)


def many_names(run: Path) -> ResultDocument:
    """8 attributes of 32 levels and 6 regions; four regions decide."""
    measured, plan = _demo(run)
    rng = np.random.default_rng(5)
    images, table = measured.images.copy(), measured.table.copy()
    clusters = images["cluster"].unique()
    for name, levels in MADE_OF.items():
        drawn = dict(zip(clusters, rng.choice(levels, size=len(clusters)), strict=True))
        images[f"subgroup.{name}"] = images["cluster"].map(drawn)
    images, table = _two_more_regions(rng, images, table)
    assert measured.run is not None
    data = measured.run.data.model_copy(
        update={
            "attributes": (*measured.run.data.attributes, *MADE_OF),
            "regions": (*measured.run.data.regions, "border", CENTRE),
        }
    )
    grown = dataclasses.replace(
        _with_tables(measured, images, table),
        run=measured.run.model_copy(update={"data": data}),
    )
    attributes = {
        "age": {"order": list(MADE_OF["age"])},
    }
    changed = _changed(
        plan,
        analysis={"regions": ["ruler", "lesion", "border", CENTRE]},
        subgroups=attributes,
        regions={"border": {"role": "avoid"}, CENTRE: {"role": "attend"}},
    )
    return build_result(grown, changed).document


def _two_more_regions(
    rng: np.random.Generator, images: pd.DataFrame, table: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table with two regions in which no group differs."""
    own = table[table["region"] == "skin"]
    more = []
    for name, mean in (("border", 0.12), (CENTRE, 0.4)):
        share = np.clip(rng.normal(mean, 0.05, len(own)), 0.001, 0.999)
        more.append(own.assign(region=name, heat_share=share, area_share=0.2))
    return images, pd.concat([table, *more], ignore_index=True)


def few_images(run: Path) -> ResultDocument:
    measured, plan = _demo(run)
    kept = measured.images.iloc[:: len(measured.images) // 27].head(27)
    names = set(kept["image_id"])
    table = measured.table[measured.table["image_id"].isin(names)]
    return build_result(_with_tables(measured, kept, table), plan).document


def no_region_found(run: Path) -> ResultDocument:
    """Masks with the wrong values: no region is found in any image."""
    measured, plan = _demo(run)
    numbers = measured.table.columns[measured.table.columns.get_loc("heat_share") :]
    table = measured.table.assign(reason="empty_mask", **dict.fromkeys(numbers, np.nan))
    absent = measured.table.loc[measured.table["reason"] == "empty_mask", "status"]
    table["status"] = absent.iloc[0]
    return build_result(_with_tables(measured, measured.images, table), plan).document


def without_criteria(run: Path) -> ResultDocument:
    measured, plan = _demo(run)
    return build_result(measured, _changed(plan, criteria=None)).document
