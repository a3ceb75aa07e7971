"""A metric that is registered anywhere is compared, told and tabled like those of the package."""

import base64
import csv
import io
import json
import re
import zipfile
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
from html_pages import Page
from planted_levels import planted

from gradaudit.analysis.findings import analyze
from gradaudit.metrics.mass import METRICS
from gradaudit.number_text import decimal, share_percent
from gradaudit.outcomes import outcome, secondary_outcomes
from gradaudit.plan import Plan
from gradaudit.report.glossary import TERMS
from gradaudit.report.render import json_schema
from gradaudit.result import build_result
from tests.run_files import run_file


@pytest.fixture
def registry(monkeypatch):
    """The family of metrics; what a test registers is taken out again."""
    monkeypatch.setattr(METRICS, "_members", dict(METRICS._members))
    monkeypatch.setattr(METRICS, "_cards", dict(METRICS._cards))
    return METRICS


def add_metric(registry, name="near_edge", label="heat near the edge", unit="share"):
    @registry.register(
        name=name,
        label=label,
        summary="Share of the region's heat within one cell of its edge.",
        unit=unit,
        range="0 to 1",
        source="this test",
    )
    def near_edge(heat, masks):
        return np.full(masks.shape[:2], 0.5)

    return name


@pytest.fixture
def heat_near_edge(registry):
    return add_metric(registry)


OPEN = Plan(analysis={"permutations": 199}, privacy={"min_cell": 1})


def with_metric(name="near_edge", seed=0):
    """Measurements with one more metric, 0.4 to 0.6 with the heat share."""
    meas = planted({"I": 60, "II": 60}, seed)
    share = meas.table["heat_share"]
    meas.table[name] = np.where(share.notna(), 0.4 + 0.2 * share, np.nan)
    return meas


def result_of(meas, plan=OPEN):
    meas = replace(meas, run=run_file(plan=plan.model_dump(mode="json")))
    return build_result(meas, plan)


def in_percent(share):
    """As the text of a page holds it, thin spaces read as spaces."""
    return " ".join(share_percent(share).split())


def csv_files(html):
    content = re.search(r"data:application/zip;base64,([A-Za-z0-9+/=]+)", html)[1]
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(content))) as bundle:
        names = [name for name in bundle.namelist() if name.endswith(".csv")]
        return {n: list(csv.DictReader(io.StringIO(bundle.read(n).decode()))) for n in names}


def test_a_registered_metric_is_found_in_findings_and_sentences_in_percent(heat_near_edge):
    found = [f for f in analyze(with_metric(), OPEN) if f.outcome == heat_near_edge]
    assert {f.region for f in found} == {"lesion", "ruler"}
    for f in found:
        assert f.code == "GA121"
        assert f"the mean heat near the edge on the {f.region} is " in f.sentence
        assert "(95 % interval " in f.sentence
        assert "points" in f.sentence
    assert outcome(heat_near_edge).title == "heat near the edge"


def test_a_registered_metric_is_in_the_heat_rows_and_their_schema(heat_near_edge):
    meas = with_metric()
    result = result_of(meas)
    data = json.loads(result.to_json())
    jsonschema.validate(data, json_schema())
    rows = {(h["level"], h["region"]): h["others"][heat_near_edge] for h in data["heat"]}
    wide = meas.table.merge(meas.images[["image_id", "subgroup.tone"]], on="image_id")
    for level in ("I", "II"):
        own = wide[(wide["subgroup.tone"] == level) & (wide["region"] == "ruler")]
        assert rows[level, "ruler"] == pytest.approx(own[heat_near_edge].mean())  # one image each


def test_a_registered_metric_is_on_the_page_in_the_glossary_and_in_the_files(heat_near_edge):
    result = result_of(with_metric())
    html = result.to_html()
    row = next(h for h in result.document.heat if (h.level, h.region) == ("I", "ruler"))
    text = Page(html).text
    entry = "Heat near the edge Share of the region's heat within one cell of its edge."
    assert entry in text
    files = csv_files(html)
    lines = [r for r in files["heat.csv"] if (r["level"], r["region"]) == ("I", "ruler")]
    told = float(lines[0][f"others.{heat_near_edge}"])
    assert told == pytest.approx(row.others[heat_near_edge], rel=1e-4)
    assert any(r["outcome"] == heat_near_edge for r in files["contrasts.csv"])


def test_a_number_that_is_no_share_is_printed_as_it_is(registry):
    name = add_metric(registry, "distance", "distance to the edge", "pixels")
    result = result_of(with_metric(name))
    row = next(h for h in result.document.heat if (h.level, h.region) == ("I", "ruler"))
    lines = csv_files(result.to_html())["heat.csv"]
    told = next(r for r in lines if (r["level"], r["region"]) == ("I", "ruler"))
    assert float(told[f"others.{name}"]) == pytest.approx(row.others[name], rel=1e-4)
    own = [f for f in result.document.findings if f.outcome == name and f.mean.estimate is not None]
    finding = own[0]
    assert decimal(finding.mean.estimate) in finding.sentence
    assert in_percent(finding.mean.estimate) not in finding.sentence


@pytest.mark.parametrize(
    "label", ["heat {inner} 100 %", "<b>bold</b> & co", "Mean", "margin", "{0}", "%s"]
)
def test_a_label_is_no_template_no_markup_and_takes_no_term_away(registry, label):
    add_metric(registry, label=label)
    html = result_of(with_metric()).to_html()
    assert "<b>bold" not in html
    text = Page(html).text
    assert label in text
    for term in ("Mean", "Margin"):
        assert f"{term} {TERMS[term].meaning[:1].upper()}{TERMS[term].meaning[1:]}." in text


def test_a_mean_of_few_images_is_shown_in_no_group(heat_near_edge):
    """The metric is defined in all images of one group, and in three of the other."""
    meas, plan = with_metric(), OPEN.updated(privacy={"min_cell": 11})
    first = meas.images.loc[meas.images["subgroup.tone"] == "I", "image_id"]
    ruler = meas.table["region"] == "ruler"
    of_first = meas.table["image_id"].isin(first) & ruler & meas.table["heat_share"].notna()
    gone = meas.table.index[of_first][3:]
    meas.table.loc[gone, heat_near_edge] = np.nan
    rows = {(h.level, h.region): h for h in result_of(meas, plan).document.heat}
    assert not any(h.suppressed for h in rows.values())
    for (_, region), h in rows.items():
        assert (h.others[heat_near_edge] is None) == (region == "ruler")
    meas.table.loc[of_first, heat_near_edge] = np.nan  # of nobody, nothing is told
    rows = {(h.level, h.region): h for h in result_of(meas, plan).document.heat}
    assert rows["I", "ruler"].others[heat_near_edge] is None
    assert rows["II", "ruler"].others[heat_near_edge] is not None


def test_a_withheld_group_shows_no_other_metric(heat_near_edge):
    meas = with_metric()
    meas.images["subgroup.tone"] = ["few"] * 5 + ["I"] * 55 + ["II"] * 60
    found = result_of(meas, OPEN.updated(privacy={"min_cell": 11})).document.heat
    hidden = [h for h in found if h.suppressed]
    assert hidden
    assert all(h.others == {} for h in hidden)


def test_every_metric_beside_the_heat_share_is_a_secondary_outcome():
    names = ("mass_lift", "relevance_rank_accuracy", "pointing_game", "auc")
    assert secondary_outcomes() == names
    assert [outcome(name).is_share for name in names] == [False, True, True, True]
