"""Labels against the model's classes: none that matches is an error before measuring and after it, some that do not are named."""

import csv
import re

import numpy as np
import pandas as pd
import pytest

import gradaudit as ga
from gradaudit.analysis.data_checks import data_checks
from gradaudit.analysis.findings import analyze
from gradaudit.errors import ManifestError
from gradaudit.labels import class_index, foreign_labels
from gradaudit.performance.table import performance_table, positive_class, predictions
from gradaudit.plan import Plan
from gradaudit.result_schema import Tables
from gradaudit.runs.measurements import Measurements
from gradaudit.workflows.audit import classifier_of
from tests.run_files import run_file
from tests.small_audits import write_audit

NAMES = ("warm", "cold")


def audit_with(folder, labels, *, in_plan=False, target="predicted", classes=NAMES):
    """The small audit with other labels ({"warm": ..., "cold": ...} or a function of the row); class names by the network, or by the plan."""
    manifest = write_audit(folder, images=24)
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for k, row in enumerate(rows):
        row["label"] = labels(k, row["label"]) if callable(labels) else labels[row["label"]]
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    plan = (
        (folder / "audit.toml")
        .read_text()
        .replace(
            'classes = ["warm", "cold"]\n', "" if not in_plan else 'classes = ["warm", "cold"]\n'
        )
    )
    (folder / "audit.toml").write_text(f'{plan}\n[explain]\ntarget = "{target}"\n')
    if classes and not in_plan:
        network = folder / "network.py"
        text = network.read_text().replace(
            "import torch\n", "import gradaudit as ga\nimport torch\n", 1
        )
        network.write_text(
            text.replace(
                "    return module\n",
                f"    return ga.Classifier.wrap(module, classes={list(classes)!r})\n",
            )
        )
    return manifest


FOREIGN = {
    "case and short form": {"warm": "Warm", "cold": "c"},
    "numbers beyond the outputs": {"warm": "2", "cold": "3"},
    "numbers with a point": {"warm": "0.0", "cold": "1.0"},
    "another language": {"warm": "chaud", "cold": "froid"},
}


@pytest.mark.parametrize("labels", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("target", ["predicted", "label", "negated:label"])
def test_labels_that_match_no_class_are_an_error_before_measuring(
    tmp_path, run_command, labels, target, monkeypatch
):
    manifest = audit_with(tmp_path, labels, target=target)
    monkeypatch.setattr(
        "gradaudit.measurement.prepare.resolve_layer",
        lambda *_: pytest.fail("the network ran first"),
    )
    for command in ("report", "measure"):
        code, out, err = run_command(command, manifest, "--run", tmp_path / "run")
        err = " ".join(err.split())
        assert (code, out) == (2, "")
        assert "None of the 24 labels" in err
        for label in labels.values():
            assert re.search(rf"{label!r} \(\d+ rows?: \d", err)
        assert "warm, cold" in err
        assert "To do: Write class names" in err
    assert not (tmp_path / "run").exists()


def test_names_against_a_model_without_names(tmp_path, run_command):
    manifest = audit_with(tmp_path, {"warm": "warm", "cold": "cold"}, classes=None)
    code, out, err = run_command("report", manifest, "--run", tmp_path / "run")
    assert (code, out) == (2, "")
    assert "names no classes" in err
    assert "'warm'" in err
    assert "[model] classes" in err


@pytest.mark.parametrize(
    "labels", [{"warm": "0", "cold": "1"}, {"warm": "warm", "cold": "1"}], ids=["numbers", "mixed"]
)
def test_numbers_of_outputs_are_labels(tmp_path, run_command, labels):
    manifest = audit_with(tmp_path, labels)
    code, _, err = run_command("report", manifest, "--run", tmp_path / "run")
    assert code in (0, 1, 3)
    assert "label" not in err
    result = ga.build_result(ga.read_run(tmp_path / "run").measurements())
    assert check_of(result).state == "passed"
    assert accuracy_of(result).n_images == 24


def test_where_the_plan_names_classes_validate_says_both_sides(tmp_path, run_command):
    manifest = audit_with(tmp_path, {"warm": "Warm", "cold": "c"}, in_plan=True)
    code, out, err = run_command("validate", manifest)
    assert (code, out) == (2, "")
    assert "warm, cold" in err
    assert re.search(r"'Warm' in \d+ rows", err)
    assert re.search(r"'c' in \d+ rows", err)


def test_the_target_label_without_any_label_is_an_error(tmp_path, run_command, monkeypatch):
    manifest = audit_with(tmp_path, {"warm": "", "cold": ""}, target="label")
    monkeypatch.setattr(
        "gradaudit.measurement.prepare.resolve_layer",
        lambda *_: pytest.fail("the network ran first"),
    )
    code, out, err = run_command("measure", manifest, "--run", tmp_path / "run")
    assert (code, out) == (2, "")
    assert "target 'label'" in err
    assert "no image has a label" in " ".join(err.split())


def check_of(result, code="GA407"):
    return next(check for check in result.document.checks if check.code == code)


def accuracy_of(result):
    return next(
        row
        for row in result.document.performance
        if (row.attribute, row.metric) == ("(all)", "accuracy")
    )


def test_some_labels_that_match_no_class_are_named_and_counted(tmp_path, run_command):
    manifest = audit_with(
        tmp_path, lambda k, label: {3: "wrm", 7: "lukewarm", 11: "wrm"}.get(k, label)
    )
    code, _, err = run_command("report", manifest, "--run", tmp_path / "run")
    err = " ".join(err.split())
    assert code == 3
    assert "3 of 24 labels" in err
    assert "'wrm' (2 rows: 5, 13; did you mean 'warm'?)" in err
    assert "'lukewarm' (1 row: 9)" in err
    result = ga.build_result(ga.read_run(tmp_path / "run").measurements())
    check = check_of(result)
    assert check.state == "issue"
    for words in (
        "3 of 24",
        "wrm",
        "lukewarm",
        "no part in performance",
        "classes are warm and cold",
    ):
        assert words in check.detail
    assert accuracy_of(result).n_images == 21
    assert check.detail in result.document.limits


def stored(run, images=None, **changes):
    """Measurements of a run with other columns, as an older version could have stored them."""
    meas = ga.read_run(run).measurements()
    return Measurements(meas.table, meas.images.assign(**changes), meas.maps, meas.run, meas.folder)


@pytest.mark.parametrize(
    ("labels", "says"),
    [("Warm", "'Warm' (24 images; did you mean 'warm'?)"), ("9", "'9' (24 images)")],
)
def test_a_stored_run_whose_labels_match_no_class_is_refused(tmp_path, run_command, labels, says):
    manifest = audit_with(tmp_path, {"warm": "warm", "cold": "cold"})
    assert run_command("measure", manifest, "--run", tmp_path / "run")[0] == 0
    meas = stored(tmp_path / "run", label=labels, correct=None)
    for attempt in (lambda: ga.build_result(meas), lambda: ga.analyze(meas)):
        with pytest.raises(
            ManifestError, match=rf"(?s)None of the 24 labels.*{re.escape(says)}.*warm, cold"
        ):
            attempt()


# ── the rule ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_label_is_a_name_or_a_number():
    assert [class_index(text, ("b", "a", "0")) for text in ("a", " b ", "0", "1", "2", "3", "-1", "1.0", "A", "", "²", "9" * 5000)] == [
        1, 0, 2, 1, 2, None, None, None, None, None, None, None,
    ]  # fmt: skip
    assert [class_index(text, None) for text in ("7", "warm", "-1")] == [7, None, None]


def test_foreign_labels_keep_their_rows_and_unknown_is_none_of_them():
    found = foreign_labels(["a", None, "x", "b", "x", float("nan"), "y", ""], ("a", "b"))
    assert found == {"x": [2, 4], "y": [6]}
    assert foreign_labels([], ("a",)) == {}


def outputs_without_names(n=60, outputs=25, labels=None):
    """A measured run of a model with many outputs and no names: no probability columns, predictions are numbers."""
    rng = np.random.default_rng(0)
    predicted = rng.integers(0, outputs, n).astype(str)
    images = pd.DataFrame({
        "image_id": [f"i{k}" for k in range(n)], "path": "x.png", "label": predicted if labels is None else labels, "predicted": predicted,
        "probability": 0.9, "correct": None, "cluster": [f"c{k}" for k in range(n)], "status": "ok", "reason": "",
        "subgroup.site": rng.choice(["a", "b"], n),
    })  # fmt: skip
    return Measurements(pd.DataFrame(), images, None, run_file(classes=(), cluster_declared=False))


def test_names_are_not_wrong_predictions_of_a_model_without_names():
    meas = outputs_without_names(labels="tabby")
    rows = predictions(meas, Plan())[1]
    assert len(rows) == 0  # not 60 wrong ones
    levels = pd.Series(pd.Categorical(meas.images["subgroup.site"], ordered=True))
    whole = performance_table(meas, Plan(), {"site": levels}, {})[0]
    assert (whole.estimate, whole.reason) == (None, "no labelled image")
    state = next(check for check in data_checks(meas, Plan(), Tables()) if check.code == "GA407")
    assert state.state == "issue"
    assert "Every image" not in state.detail
    assert len(predictions(outputs_without_names(), Plan())[1]) == 60


@pytest.mark.parametrize(
    "labels",
    [
        ["warm", "cold"],
        ["0", "1"],
        ["Warm", "cold"],
        ["Warm", "Cold"],
        [None, "cold"],
        [None, None],
        ["2", "cold"],
    ],
)
def test_the_check_agrees_with_the_performance_section(labels):
    images = pd.DataFrame({
        "image_id": ["a", "b"], "path": ["a.png", "b.png"], "label": labels, "predicted": ["warm", "cold"], "probability": 0.9,
        "correct": None, "cluster": ["a", "b"], "status": "ok", "reason": "", "subgroup.site": ["n", "s"], "probability.warm": [0.9, 0.1],
        "probability.cold": [0.1, 0.9],
    })  # fmt: skip
    meas = Measurements(
        pd.DataFrame(columns=["area_share", "region", "reason"]),
        images,
        None,
        run_file(classes=NAMES),
    )
    counted = len(predictions(meas, Plan())[1])
    check = next(c for c in data_checks(meas, Plan(), Tables()) if c.code == "GA407")
    assert (check.state == "passed") == (counted == 2)
    assert ("Every image" in check.detail) == (counted == 2)


def test_a_positive_class_may_be_a_number_as_validate_says():
    assert positive_class(NAMES, Plan(analysis={"positive_class": "1"})) == ("cold", "")
    assert positive_class(NAMES, Plan(analysis={"positive_class": "2"}))[0] is None
    assert positive_class(("1", "0"), Plan(analysis={"positive_class": "0"})) == (
        "0",
        "",
    )  # a name comes before a number


def test_a_bare_table_with_probabilities_is_held_against_them():
    table = pd.DataFrame({
        "image_id": list("abcd"), "region": "r", "heat_share": [0.1, 0.2, 0.3, 0.4], "area_share": 0.1, "label": "Warm", "predicted": "warm",
        "subgroup.site": list("nsns"), "probability.warm": 0.9, "probability.cold": 0.1,
    })  # fmt: skip
    images = table.drop(columns=["region", "heat_share", "area_share"])
    with pytest.raises(ManifestError, match="None of the 4 labels"):
        analyze(table, images=images)


def test_classifier_and_analysis_read_labels_by_the_same_rule(tmp_path):
    write_audit(tmp_path, images=2)
    classifier = classifier_of(ga.read_plan(tmp_path / "audit.toml"), tmp_path)
    for text in ("warm", " cold ", "0", "01", "1", "2", "Warm", "1.0"):
        assert classifier.class_index(text) == class_index(text, NAMES)
