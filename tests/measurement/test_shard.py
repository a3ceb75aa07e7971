"""Measuring end to end on a small audit: resume after SIGKILL, bad images as rows, thumbnails."""

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import gradaudit as ga
from gradaudit.errors import GradauditError, ImageError, InputError, RunError
from gradaudit.measurement.prepare import prepare
from gradaudit.measurement.shard import finish, run_shard
from gradaudit.measurement.thumbnails import outline_path
from gradaudit.plan import find_plan
from gradaudit.records import IMAGE_COLUMNS, TABLE_COLUMNS
from gradaudit.workflows.audit import classifier_of, measure_with_gallery
from tests.small_audits import write_audit


def open_audit(manifest):
    plan, root = find_plan(None, manifest)
    return ga.read_manifest(manifest, plan), classifier_of(plan, root), plan


def test_the_table_has_a_row_per_image_and_region_in_manifest_order(tmp_path):
    table, classifier, plan = open_audit(write_audit(tmp_path, images=10))
    meas = ga.measure(table, classifier, plan)
    assert list(meas.table.columns[: len(TABLE_COLUMNS)]) == list(TABLE_COLUMNS)
    assert set(IMAGE_COLUMNS) <= set(meas.images.columns)
    assert list(meas.images["image_id"]) == [s.id for s in table.samples]
    assert list(meas.table["region"][:2]) == ["square", "surround"]
    assert len(meas.table) == 20
    assert list(meas.images["meta.camera"][:4]) == ["c0", "c1", "c2", "c0"]
    both = meas.table.pivot(index="image_id", columns="region", values="heat_share").dropna()
    assert len(both) > 5
    np.testing.assert_allclose(both["square"] + both["surround"], 1, atol=1e-5)


def test_memory_and_folder_give_the_same_table(tmp_path):
    table, classifier, plan = open_audit(write_audit(tmp_path, images=26))
    in_memory = ga.measure(table, classifier, plan)
    on_disk = ga.measure(table, classifier, plan, run=tmp_path / "run")
    pd.testing.assert_frame_equal(in_memory.table, on_disk.table)
    pd.testing.assert_frame_equal(in_memory.images, on_disk.images)
    pd.testing.assert_frame_equal(in_memory.maps, on_disk.maps)


def files_of(run):
    """Everything that is the same for every way of measuring: run.json holds times of day."""
    parts = ("images", "regions", "maps", "receipts")
    paths = [path for part in parts for path in (run / part).iterdir()]
    return {path.relative_to(run): path.read_bytes() for path in paths}


def test_shards_one_by_one_in_any_order_give_the_bytes_of_measure(tmp_path):
    table, classifier, plan = open_audit(write_audit(tmp_path, images=26))
    whole = ga.measure(table, classifier, plan, run=tmp_path / "whole")
    prepared = prepare(table, classifier, plan, tmp_path / "shards")
    assert len(prepared.pending) == 3
    for shard in reversed(prepared.pending):
        receipt = run_shard(prepared, shard)
        assert (receipt.start, receipt.stop) == (shard.start, shard.stop)
        assert receipt.parts["images"].rows == shard.stop - shard.start
    assert files_of(tmp_path / "shards") == files_of(tmp_path / "whole")
    again = finish(prepared, seconds=1.5)
    assert (again.run.seconds, again.run.plan_id) == (1.5, whole.run.plan_id)
    pd.testing.assert_frame_equal(again.table, whole.table)
    pd.testing.assert_frame_equal(again.images, whole.images)
    pd.testing.assert_frame_equal(again.maps, whole.maps)


def test_decoding_ahead_over_the_borders_of_shards_gives_the_same_bytes(tmp_path):
    table, classifier, plan = open_audit(write_audit(tmp_path, images=26))
    plan = plan.updated(run={"workers": 2})
    ga.measure(table, classifier, plan, run=tmp_path / "ahead")
    prepared = prepare(table, classifier, plan, tmp_path / "shards")
    for shard in prepared.pending:
        run_shard(prepared, shard)
    assert files_of(tmp_path / "shards") == files_of(tmp_path / "ahead")


def test_finish_names_the_planned_shards_that_are_not_committed(tmp_path):
    """Compared, not counted: a receipt of other rows stands in for nothing."""
    table, classifier, plan = open_audit(write_audit(tmp_path, images=26))
    prepared = prepare(table, classifier, plan, tmp_path / "run")
    for shard in prepared.pending[:2]:
        run_shard(prepared, shard)
    receipts = tmp_path / "run" / "receipts"
    (receipts / "000007.json").write_bytes((receipts / "000001.json").read_bytes())
    with pytest.raises(RunError, match=r"1 of 3 shards .* 000002 \(rows 25-26\)"):
        finish(prepared)
    assert "finished" not in json.loads((tmp_path / "run" / "run.json").read_text())


def test_a_run_prepared_without_a_folder_writes_no_shard(tmp_path):
    table, classifier, plan = open_audit(write_audit(tmp_path, images=4))
    prepared = prepare(table, classifier, plan)
    with pytest.raises(InputError, match=r"prepare\(\.\.\., run=FOLDER\)"):
        run_shard(prepared, prepared.pending[0])


class Shades(nn.Module):
    """A network that another process can import; the audits' own comes from a file of the test."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 2, 4, stride=4)
        self.head = nn.Linear(2, 2)

    def forward(self, images):
        return self.head(torch.relu(self.features(images)).mean((2, 3)))


def test_another_process_runs_one_shard_of_a_prepared_run(tmp_path):
    table, given, plan = open_audit(write_audit(tmp_path, images=26))
    torch.manual_seed(3)
    classifier = ga.Classifier.wrap(
        Shades().eval(), classes=("warm", "cold"), preprocess=given.preprocess
    )
    ga.measure(table, classifier, plan, run=tmp_path / "whole")
    prepared = prepare(table, classifier, plan, tmp_path / "shards")
    (tmp_path / "prepared.pickle").write_bytes(pickle.dumps(prepared))
    code = (
        "import pickle, sys; from gradaudit.measurement.shard import run_shard\n"
        "prepared = pickle.loads(open(sys.argv[1], 'rb').read())\n"
        "run_shard(prepared, prepared.pending[1])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "prepared.pickle")]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    for shard in prepared.folder.pending():
        run_shard(prepared, shard)
    assert files_of(tmp_path / "shards") == files_of(tmp_path / "whole")


def test_a_process_that_only_decodes_loads_no_torch():
    code = "import sys, gradaudit.measurement.samples; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def run_measure(manifest, run, **environment):
    command = [sys.executable, "-m", "gradaudit", "measure", str(manifest), "--run", str(run)]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_a_run_killed_half_way_resumes_and_ends_with_the_same_table(tmp_path):
    manifest = write_audit(tmp_path, images=48)
    killed = run_measure(manifest, tmp_path / "killed", TEST_KILL_AFTER="30")
    assert killed.returncode == -signal.SIGKILL
    finished = sorted(p.name for p in (tmp_path / "killed" / "receipts").iterdir())
    assert 0 < len(finished) < 4
    before = {
        name: (tmp_path / "killed" / "receipts" / name).stat().st_mtime_ns for name in finished
    }
    resumed = run_measure(manifest, tmp_path / "killed")
    assert resumed.returncode == 0, resumed.stderr
    assert {
        name: (tmp_path / "killed" / "receipts" / name).stat().st_mtime_ns for name in finished
    } == before
    assert run_measure(manifest, tmp_path / "whole").returncode == 0
    killed_run, whole_run = (
        ga.read_run(tmp_path / name).measurements() for name in ("killed", "whole")
    )
    pd.testing.assert_frame_equal(killed_run.table, whole_run.table)
    pd.testing.assert_frame_equal(killed_run.images, whole_run.images)
    pd.testing.assert_frame_equal(killed_run.maps, whole_run.maps)


def test_a_broken_image_becomes_a_row_and_moves_no_neighbour(tmp_path):
    manifest = write_audit(tmp_path, images=12)
    table, classifier, plan = open_audit(manifest)
    whole = ga.measure(table, classifier, plan)
    path = tmp_path / "images" / "005.png"
    path.write_bytes(path.read_bytes()[:200])
    broken = ga.measure(table, classifier, plan)
    row = broken.images.iloc[5]
    assert (row["status"], row["reason"]) == ("failed", "truncated")
    rows = broken.table[broken.table["image_id"] == row["image_id"]]
    assert len(rows) == 2
    assert rows["heat_share"].isna().all()
    assert set(rows["reason"]) == {"truncated"}
    others = whole.table["image_id"] != row["image_id"]
    pd.testing.assert_frame_equal(whole.table[others], broken.table[others])
    with pytest.raises(ImageError, match=r"row 6.*--strict"):
        ga.measure(table, classifier, plan, strict=True)


def test_no_readable_image_is_an_error(tmp_path):
    manifest = write_audit(tmp_path, images=3)
    table, classifier, plan = open_audit(manifest)
    for path in (tmp_path / "images").iterdir():
        path.write_bytes(b"not a picture")
    with pytest.raises(GradauditError, match="None of the 3 images"):
        ga.measure(table, classifier, plan)


def test_another_model_or_setting_does_not_mix_into_a_run(tmp_path):
    table, classifier, plan = open_audit(write_audit(tmp_path, images=8))
    ga.measure(table, classifier, plan, run=tmp_path / "run")
    with pytest.raises(RunError, match="plan: was"):
        ga.measure(
            table, classifier, plan.updated(explain={"target": "label"}), run=tmp_path / "run"
        )
    with pytest.raises(RunError, match="batches: was 4 of 12, is 3 of 12"):
        ga.measure(table, classifier, plan.updated(run={"batch_size": 3}), run=tmp_path / "run")
    ga.measure(
        table,
        classifier,
        plan.updated(report={"title": "words move no number"}),
        run=tmp_path / "run",
    )


def test_decoding_in_other_processes_changes_nothing(tmp_path):
    table, classifier, plan = open_audit(write_audit(tmp_path, images=24))
    alone = ga.measure(table, classifier, plan)
    helped = ga.measure(table, classifier, plan.updated(run={"workers": 2}))
    pd.testing.assert_frame_equal(alone.table, helped.table)


def test_progress_counts_every_image_and_starts_where_a_run_stopped(tmp_path):
    table, classifier, plan = open_audit(write_audit(tmp_path, images=26))
    run = tmp_path / "run"
    ga.measure(table, classifier, plan, run=run)
    (run / "receipts" / "000001.json").unlink()
    seen = []
    ga.measure(
        table, classifier, plan, run=run, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(14, 26), (18, 26), (22, 26), (26, 26)]


def test_thumbnails_are_small_plain_jpegs_with_outlines(tmp_path):
    table, classifier, plan = open_audit(write_audit(tmp_path, images=48))
    meas = measure_with_gallery(table, classifier, plan, tmp_path / "run")
    index = json.loads((tmp_path / "run" / "thumbs" / "index.json").read_text())
    assert index
    assert set(index) <= set(meas.images["image_id"])
    entry = next(iter(index.values()))
    with Image.open(tmp_path / "run" / "thumbs" / entry["file"]) as picture:
        assert picture.format == "JPEG"
        assert not picture.getexif()
        assert picture.size == (entry["width"], entry["height"])
    assert entry["outlines"]["square"].startswith("M")


def test_no_pixel_is_kept_where_none_is_wanted(tmp_path):
    table, classifier, plan = open_audit(write_audit(tmp_path, images=24))
    measure_with_gallery(
        table, classifier, plan.updated(privacy={"images": "none"}), tmp_path / "run"
    )
    assert not (tmp_path / "run" / "thumbs").exists()


def test_the_outline_of_a_square_is_its_border():
    mask = np.zeros((20, 20))
    mask[5:15, 5:15] = 1
    numbers = [
        float(n)
        for n in outline_path(mask).replace("M", " ").replace("L", " ").replace("Z", " ").split()
    ]
    assert min(numbers) == pytest.approx(5, abs=0.6)
    assert max(numbers) == pytest.approx(15, abs=0.6)
    assert outline_path(np.zeros((20, 20))) == ""


def test_the_faster_copy_gives_the_same_table_and_is_said(tmp_path):
    table, classifier, plan = open_audit(write_audit(tmp_path, images=12))
    fast = ga.measure(table, classifier, plan)
    plain = ga.measure(table, classifier, plan.updated(run={"accelerate": False}))
    assert any("channels last" in note for note in fast.run.model.notes)
    assert not any("channels last" in note for note in plain.run.model.notes)
    np.testing.assert_allclose(fast.table["heat_share"], plain.table["heat_share"], atol=1e-4)
    assert list(fast.images["predicted"]) == list(plain.images["predicted"])


def test_half_precision_moves_shares_a_little_and_makes_another_run(tmp_path):
    table, classifier, plan = open_audit(write_audit(tmp_path, images=12))
    full = ga.measure(table, classifier, plan, run=tmp_path / "run")
    half_plan = plan.updated(run={"precision": "bfloat16"})
    half = ga.measure(table, classifier, half_plan)
    assert (full.run.dtype, half.run.dtype) == ("float32", "bfloat16")
    distance = np.abs(half.table["heat_share"] - full.table["heat_share"])
    assert 0 < distance.max() < 0.05
    with pytest.raises(RunError, match="speed"):
        ga.measure(table, classifier, half_plan, run=tmp_path / "run")


def test_each_image_carries_the_digest_of_its_file(tmp_path):
    """Two audits are paired by it, so it is of the bytes on disk, and not of the pixels or the name."""
    table, classifier, plan = open_audit(write_audit(tmp_path, images=8))
    (tmp_path / "images" / "003.png").write_bytes(b"no picture")
    meas = ga.measure(table, classifier, plan, tmp_path / "run")
    for row in meas.images.itertuples():
        content = (tmp_path / row.path).read_bytes()
        expected = "" if row.status == "failed" else hashlib.sha256(content).hexdigest()
        assert row.digest == expected
    assert (meas.images["digest"] == "").sum() == 1
    stored = ga.read_run(tmp_path / "run").measurements()
    assert list(stored.images["digest"]) == list(meas.images["digest"])
