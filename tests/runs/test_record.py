"""run.json: read back as it was written, and refused in plain words where it is not what was written."""

import json

import pytest
from pydantic import ValidationError

from gradaudit.errors import RunError
from gradaudit.runs.folder import open_run, read_run
from gradaudit.runs.record import RUN_VERSION, RunFile, parse_run_file
from tests.run_files import run_file

CHANGES = {
    "rows": 5, "shard_size": 2, "plan": {"explain": {"layer": None}}, "finished": "2026-11-24T19:23:10+00:00", "seconds": 21.77,
    "command": "gradaudit report 'ä.csv'", "seed": 3,
}  # fmt: skip


def stored(**changes):
    return {**json.loads(json.dumps(run_file(**CHANGES).as_json())), **changes}


def without(record, *keys):
    part = record
    for key in keys[:-1]:
        part = part[key]
    del part[keys[-1]]
    return record


def with_part(part, **changes):
    record = stored()
    record[part] = {**record[part], **changes}
    return record


def refusal(record):
    content = record if isinstance(record, bytes) else json.dumps(record).encode()
    with pytest.raises(RunError) as caught:
        parse_run_file(content, "runs/x/run.json")
    assert "runs/x/run.json" in str(caught.value)
    return str(caught.value)


def test_a_record_comes_back_as_it_was_written():
    for run in (run_file(**CHANGES), run_file()):
        assert parse_run_file(json.dumps(run.as_json()).encode(), "x") == run
    assert not {"plan", "finished", "seconds"} & set(run_file().as_json())


def test_a_record_from_before_versions_is_version_one_and_gains_only_that_key():
    old = without(stored(), "run_version")
    run = parse_run_file(json.dumps(old).encode(), "x")
    assert run.as_json() == {**old, "run_version": 1}
    assert RUN_VERSION == 1


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (without(stored(), "rows"), ["'rows' is missing"]),
        (without(stored(), "model", "layer"), ["'model.layer' is missing"]),
        (without(without(stored(), "seed"), "device"), ["2 keys are", "'seed' is", "'device' is"]),
        (stored(rows="5"), ["'rows'", "integer", '"5"']),
        (stored(rows=True), ["'rows'", "integer", "true"]),
        (stored(rows=-1), ["'rows'", "greater than or equal to 0", "-1"]),
        (stored(shard_size=0), ["'shard_size'", "greater than or equal to 1"]),
        (stored(seconds=-1.0), ["'seconds'", "greater than or equal to 0"]),
        (stored(seconds=float("nan")), ["'seconds'", "finite"]),
        (stored(identity={"manifest": 1}), ["'identity.manifest'", "string", "got 1"]),
        (stored(model=[]), ["'model'", "got []"]),
        (with_part("data", cluster_declared="yes"), ["'data.cluster_declared'", "boolean", '"yes"']),
        (stored(sead=1), ["'sead' is unknown", "mean 'seed'"]),
        (with_part("model", note=[]), ["'model.note' is unknown", "mean 'notes'"]),
        (stored(identity={"manifest": "other"}), ["'plan_id'", "changed after measuring"]),
        (json.dumps(stored()).encode()[:-40], ["ends too early", "bytes"]),
        (b"", ["0 bytes"]),
        (b"\xff\xfe{", ["damaged"]),
        (b"[" * 100_000, ["damaged"]),
        (b"[]", ["not the record of a gradaudit run"]),
        (b'{"name": "another tool"}', ["not the record of a gradaudit run"]),
    ],
)  # fmt: skip
def test_what_is_not_a_record_is_refused_by_key(record, words):
    text = refusal(record)
    assert [word for word in words if word not in text] == []
    assert "--fresh" in text or "another folder" in text


@pytest.mark.parametrize("version", [2, 99, 0, "1", 1.5, True, None])
def test_another_version_is_refused_before_its_keys_are_judged(version):
    text = refusal({**stored(run_version=version), "key_of_tomorrow": 1})
    assert "'run_version'" in text
    assert "reads 1" in text
    assert "key_of_tomorrow" not in text
    assert ("newer gradaudit" in text) == (version in (2, 99))


def test_a_record_is_frozen_and_closed():
    run = run_file()
    with pytest.raises(ValidationError):
        run.rows = 3
    with pytest.raises(ValidationError):
        RunFile(**{**dict(run), "rowz": 3})


# ── in a folder ─────────────────────────────────────────────────────────────────────────────────────


def damaged(folder, content=b'{"identity": '):
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_bytes(content)
    return folder


def test_a_damaged_record_is_not_read_and_not_resumed(tmp_path):
    for act in (read_run, lambda path: open_run(path, run_file())):
        with pytest.raises(RunError, match="ends too early"):
            act(damaged(tmp_path / "run"))
    assert (tmp_path / "run" / "run.json").read_bytes() == b'{"identity": '


def test_fresh_starts_a_damaged_run_over_and_keeps_what_is_not_a_runs(tmp_path):
    folder = damaged(tmp_path / "run")
    (folder / "receipts").mkdir()
    (folder / "receipts" / "000000.json").write_text("{}")
    (folder / "notes.txt").write_text("mine")
    open_run(folder, run_file(), fresh=True)
    assert read_run(folder).run == run_file()
    assert not list((folder / "receipts").iterdir())
    assert (folder / "notes.txt").read_text() == "mine"


def test_fresh_does_not_clear_a_folder_of_another_tool(tmp_path):
    folder = damaged(tmp_path / "run", b'{"name": "another tool"}')
    (folder / "images").mkdir()
    (folder / "images" / "x.parquet").write_text("theirs")
    with pytest.raises(RunError, match="not the record of a gradaudit run"):
        open_run(folder, run_file(), fresh=True)
    assert (folder / "images" / "x.parquet").exists()


def test_a_resumed_run_keeps_what_was_recorded_of_its_time(tmp_path):
    first = open_run(tmp_path / "run", run_file(started="first"))
    first.record_end("later", 2.5)
    again = open_run(tmp_path / "run", run_file(started="second")).run
    assert (again.started, again.finished, again.seconds) == ("first", "later", 2.5)
