"""The run folder: whole or not at all, refused when it belongs to something else, types independent of content."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gradaudit.errors import InputError, RunError
from gradaudit.report import write_report
from gradaudit.runs.folder import (
    cut_into_shards,
    joined_tables,
    local_path,
    open_run,
    read_run,
    shard_tables,
    write_atomically,
)
from tests.run_files import run_file

IDENTITY = {"manifest": "aa", "model": "bb", "plan": "cc"}


def run_record(rows=5, shard_size=2, **changes):
    return run_file(identity={**IDENTITY, **changes}, rows=rows, shard_size=shard_size)


def tables_of(start, stop, *, label="cat"):
    ids = [f"image-{i}" for i in range(start, stop)]
    images = [{"image_id": i, "path": i, "label": label, "predicted": "cat", "probability": 0.5, "correct": label == "cat", "cluster": i,
               "status": "ok", "reason": "", "subgroup.tone": None} for i in ids]  # fmt: skip
    regions = [{"image_id": i, "method": "gradcam", "target": "predicted", "region": "lesion", "role": "attend", "status": "ok", "reason": "",
                "heat_share": float("nan"), "area_share": 0.25, "mass_lift": 1.0, "relevance_rank_accuracy": 0.5, "pointing_game": 1.0, "auc": 0.5}
               for i in ids]  # fmt: skip
    maps = [
        {
            "image_id": i,
            "kind": "heat",
            "name": "predicted",
            "height": 1,
            "width": 2,
            "values": np.float32([1, 2]).tobytes(),
        }
        for i in ids
    ]
    return shard_tables(images, regions, maps)


def commit_all(folder):
    for shard in folder.shards():
        folder.commit(shard, tables_of(shard.start, shard.stop))


def test_shards_cover_every_row_once_and_in_order():
    shards = cut_into_shards(7, 3)
    assert [row for s in shards for row in range(s.start, s.stop)] == list(range(7))
    assert [s.name for s in shards] == ["000000", "000001", "000002"]
    assert cut_into_shards(0, 3) == ()


def test_a_table_read_back_equals_the_one_in_memory(tmp_path):
    folder = open_run(tmp_path / "run", run_record())
    commit_all(folder)
    in_memory = joined_tables([tables_of(s.start, s.stop) for s in folder.shards()])
    read = read_run(tmp_path / "run").measurements()
    pd.testing.assert_frame_equal(read.images, in_memory["images"])
    pd.testing.assert_frame_equal(read.table, in_memory["regions"])
    pd.testing.assert_frame_equal(read.maps, in_memory["maps"])
    assert read.images["subgroup.tone"].isna().all()


def test_types_do_not_depend_on_content():
    empty, full = tables_of(0, 1, label=None), tables_of(0, 1)
    assert empty.images.schema == full.images.schema


def test_a_shard_without_its_receipt_is_pending_and_named(tmp_path):
    folder = open_run(tmp_path / "run", run_record())
    commit_all(folder)
    (folder.path / "receipts" / "000001.json").unlink()
    assert [s.index for s in folder.pending()] == [1]
    with pytest.raises(RunError, match=r"1 of 3 shards.*000001 \(rows 3-4\)"):
        folder.measurements()


@pytest.mark.parametrize("part", ["images", "regions", "maps"])
def test_a_damaged_part_is_measured_again(tmp_path, part):
    folder = open_run(tmp_path / "run", run_record())
    commit_all(folder)
    path = folder.path / part / "000002.parquet"
    path.write_bytes(path.read_bytes()[:-7])
    assert [s.index for s in folder.pending()] == [2]


def test_the_same_rows_give_the_same_bytes(tmp_path):
    first, second = open_run(tmp_path / "a", run_record()), open_run(tmp_path / "b", run_record())
    commit_all(first)
    commit_all(second)
    for part in sorted(first.path.rglob("*.parquet")):
        assert part.read_bytes() == (second.path / part.relative_to(first.path)).read_bytes()


def test_another_model_under_the_same_name_is_refused_and_named(tmp_path):
    commit_all(open_run(tmp_path / "run", run_record()))
    with pytest.raises(RunError, match=r"1 thing differs:\n  - model: was bb, is zz"):
        open_run(tmp_path / "run", run_record(model="zz"))


def test_fresh_starts_over_and_spares_foreign_files(tmp_path):
    folder = open_run(tmp_path / "run", run_record())
    commit_all(folder)
    (folder.path / "notes.txt").write_text("mine")
    again = open_run(tmp_path / "run", run_record(model="zz"), fresh=True)
    assert len(again.pending()) == 3
    assert (folder.path / "notes.txt").read_text() == "mine"


def test_resuming_keeps_what_is_finished(tmp_path):
    folder = open_run(tmp_path / "run", run_record())
    folder.commit(folder.shards()[0], tables_of(0, 2))
    assert [s.index for s in open_run(tmp_path / "run", run_record()).pending()] == [1, 2]


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(RunError, match="not a run folder"):
        open_run(tmp_path, run_record())
    with pytest.raises(RunError, match=r"no run\.json"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        read_run(tmp_path)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_atomically(path, b"old")

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_run_json_records_the_identity(tmp_path):
    folder = open_run(tmp_path / "run", run_record())
    record = json.loads((folder.path / "run.json").read_text())
    assert record["identity"] == IDENTITY
    assert len(record["plan_id"]) == 64


def test_a_resumed_run_keeps_the_time_it_began(tmp_path):
    def began(started, **options):
        record = run_record().model_copy(update={"started": started})
        return open_run(tmp_path / "run", record, **options).run.started

    assert [began("first"), began("later"), began("anew", fresh=True)] == ["first", "first", "anew"]


# ── addresses are no folders ────────────────────────────────────────────────────────────────────────────────────────

ADDRESSES = (
    "s3://bucket/run",
    "gs://bucket/a/b",
    "https://host/x",
    "file:///tmp/x",
    "simplecache::s3://bucket/x",
    "memory://x",
)


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("kind", [str, Path], ids=["text", "path"])  # Path makes one slash of two
def test_an_address_is_no_local_folder(address, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    attempts = (
        lambda: open_run(kind(address), run_record()),
        lambda: read_run(kind(address)),
        lambda: write_atomically(kind(address), b"x"),
        lambda: write_report(None, kind(f"{address}/report.html")),
    )
    for attempt in attempts:
        with pytest.raises(InputError, match=f"{re.escape(address[:14])}.*local"):
            attempt()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "path", ["run", "a/b:c/d", "/abs/run", "C:/runs/x", "C:\\runs", "a::b", "x:y"]
)
def test_paths_are_paths(path):
    assert local_path(path, "--run") == Path(path)
