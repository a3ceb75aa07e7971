"""The run folder. A shard is written completely or not at all, so a kill loses at most one.

    runs/<name>/
      run.json               what this folder belongs to, see ``runs.record.RunFile``
      images/000017.parquet  one row per image
      regions/000017.parquet one row per image x method x target x region
      maps/000017.parquet    coarse maps for display (see ``Measurements.maps``)
      receipts/000017.json   rows and sha256 of each part; its presence means "finished"
      thumbs/                thumbnails of the gallery, with index.json
      result.json report.html

A part is written under a temporary name in its own folder, synced and renamed; the receipt comes
last. A shard without a receipt was not finished and is measured again. A part whose digest differs
from its receipt is damaged: it is reported and never read.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gradaudit.errors import InputError, RunError
from gradaudit.records import IMAGE_COLUMNS, TABLE_COLUMNS
from gradaudit.runs.measurements import Measurements
from gradaudit.runs.receipts import PartReceipt, Receipt
from gradaudit.runs.record import RunFile, parse_run_file

PARTS = ("images", "regions", "maps")
_TEXT_COLUMNS = frozenset(
    {
        "image_id",
        "path",
        "label",
        "predicted",
        "cluster",
        "status",
        "reason",
        "digest",
        "message",
        "heat_status",
        "method",
        "target",
        "region",
        "role",
        "kind",
        "name",
    }
)
_MAP_COLUMNS = ("image_id", "kind", "name", "height", "width", "values")


@dataclass(frozen=True)
class Shard:
    """Rows ``start`` to ``stop`` (exclusive) of the manifest."""

    index: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """The stem of the shard's files, such as "000017"."""
        return f"{self.index:06d}"


@dataclass(frozen=True)
class ShardTables:
    """The three parts of one shard, as they are written."""

    images: pa.Table
    regions: pa.Table
    maps: pa.Table


def cut_into_shards(rows: int, shard_size: int) -> tuple[Shard, ...]:
    """Cut ``rows`` manifest rows, in order, into shards of ``shard_size`` (the last: smaller)."""
    return tuple(
        Shard(k, start, min(start + shard_size, rows))
        for k, start in enumerate(range(0, rows, shard_size))
    )


_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*::)*[A-Za-z][A-Za-z0-9+.-]+:/")


def local_path(path: str | Path, what: str) -> Path:
    """Return ``path`` if it lies on this machine.

    what : the words for what will be written there, for the error message

    Errors: ``InputError`` for an address (``s3://bucket/run``, in a ``Path`` too). Without this
    check a local folder called "s3:" would be made.
    """
    text = str(path)
    if _ADDRESS.match(text):
        address = re.sub(":/+", ":///" if text.startswith("file:") else "://", text, count=1)
        raise InputError(
            f"{what}: {address} is an address, and results are written to local folders only. Name one and copy it afterwards."
        )
    return Path(path)


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` so that ``path`` never holds half of it, not even after a power loss.

    The file holds either its old bytes or all of the new ones.

    Errors: ``InputError`` for an address (see ``local_path``); ``OSError``.
    """
    path = local_path(path, "A file to write")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class RunFolder:
    """One run folder, opened for a given identity (what is measured); see ``open_run``."""

    def __init__(self, path: Path, run: RunFile) -> None:
        self.path = path
        self.run = run

    @property
    def plan_id(self) -> str:
        """Digest of the identity: of everything that decides what is measured."""
        return self.run.plan_id

    def shards(self) -> tuple[Shard, ...]:
        """All shards of the run, in manifest order, finished or not."""
        return cut_into_shards(self.run.rows, self.run.shard_size)

    def finished(self, shard: Shard) -> bool:
        """True if the shard has a receipt of this plan and every part has the digest on it."""
        receipt = self._receipt(shard)
        if (
            receipt is None
            or receipt.get("plan_id") != self.plan_id
            or receipt.get("range") != [shard.start, shard.stop]
        ):
            return False
        return all(self._part_is_whole(part, shard, receipt) for part in PARTS)

    def pending(self) -> tuple[Shard, ...]:
        """The shards that are still to be measured."""
        return tuple(shard for shard in self.shards() if not self.finished(shard))

    def commit(self, shard: Shard, tables: ShardTables) -> Receipt:
        """Write the parts of one shard, then its receipt."""
        parts: dict[str, PartReceipt] = {}
        for part in PARTS:
            table: pa.Table = getattr(tables, part)
            content = _parquet_bytes(table, part)
            write_atomically(self._part(part, shard), content)
            parts[part] = PartReceipt(table.num_rows, hashlib.sha256(content).hexdigest())
        receipt = Receipt(self.plan_id, shard.start, shard.stop, parts)
        path = self.path / "receipts" / f"{shard.name}.json"
        write_atomically(path, _json_bytes(receipt.as_json()))
        return receipt

    def record_end(self, finished: str, seconds: float) -> None:
        """Write to run.json when measuring ended, and what it took over all sessions."""
        self.run = self.run.model_copy(update={"finished": finished, "seconds": seconds})
        self.write_record()

    def write_record(self) -> None:
        """Write run.json."""
        write_atomically(self.path / "run.json", _json_bytes(self.run.as_json()))

    def measurements(self) -> Measurements:
        """Read every shard, in manifest order.

        Errors: ``RunError`` naming the shards that are not finished, or whose parts are damaged.
        """
        shards = self.shards()
        missing = [shard for shard in shards if not self.finished(shard)]
        if missing:
            names = ", ".join(f"{s.name} (rows {s.start + 1}-{s.stop})" for s in missing[:5])
            raise RunError(
                f"{len(missing)} of {len(shards)} shards of {self.path} are not finished or damaged: {names}"
                f"{', ...' if len(missing) > 5 else ''}. Run `gradaudit measure` (or `report`) on the same manifest again: "
                "it measures just those."
            )
        tables = {part: self._read_part(part, shards) for part in PARTS}
        return Measurements(
            tables["regions"], tables["images"], tables["maps"], self.run, self.path
        )

    def _read_part(self, part: str, shards: Sequence[Shard]) -> pd.DataFrame:
        if not shards:
            return pd.DataFrame(
                columns=list(
                    {"images": IMAGE_COLUMNS, "regions": TABLE_COLUMNS, "maps": _MAP_COLUMNS}[part]
                )
            )
        tables = [pq.read_table(self._part(part, shard)) for shard in shards]
        return tables_to_frame(pa.concat_tables(tables, promote_options="permissive"))

    def _part(self, part: str, shard: Shard) -> Path:
        return self.path / part / f"{shard.name}.parquet"

    def _receipt(self, shard: Shard) -> dict[str, Any] | None:
        path = self.path / "receipts" / f"{shard.name}.json"
        try:
            receipt: dict[str, Any] = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return None
        return receipt

    def _part_is_whole(self, part: str, shard: Shard, receipt: Mapping[str, Any]) -> bool:
        try:
            content = self._part(part, shard).read_bytes()
        except OSError:
            return False
        return bool(
            hashlib.sha256(content).hexdigest() == receipt["parts"].get(part, {}).get("sha256")
        )


def open_run(path: str | Path, run: RunFile, *, fresh: bool = False) -> RunFolder:
    """Open or create the run folder for the identity in ``run``.

    run : what is measured, and on what
    fresh : throw away what was measured there before, also where its run.json is damaged

    Errors: ``RunError`` where the folder belongs to another identity (naming what differs), holds
    files that are not a run, or a run.json that cannot be read; ``InputError`` for an address.
    """
    path = local_path(path, "The run folder")
    if fresh:
        _clear_earlier_run(path)
    existing = None if fresh else _existing_run(path)
    if existing is not None and existing.plan_id != run.plan_id:
        raise RunError(_what_differs(path, existing.identity, run.identity))
    if existing is not None:  # resumed: the run began when its first shard was measured, not now
        kept = ("started", "finished", "seconds")
        run = run.model_copy(update={key: getattr(existing, key) for key in kept})
    folder = RunFolder(path, run)
    folder.write_record()
    return folder


def read_run(path: str | Path) -> RunFolder:
    """Open an existing run folder for reading (``ga.read_run``); nothing in it is changed.

    ``.measurements()`` of the result gives the ``Measurements`` that ``ga.analyze`` takes.

    Errors: ``RunError`` where there is no readable run.json; ``InputError`` for an address.
    """
    path = local_path(path, "The run folder")
    existing = _recorded_run(path)
    if existing is None:
        raise RunError(
            f"{path} is not a run folder: there is no run.json in it. `gradaudit measure MANIFEST --run {path}` makes one."
        )
    return RunFolder(path, existing)


def shard_tables(
    images: Sequence[Mapping[str, Any]],
    regions: Sequence[Mapping[str, Any]],
    maps: Sequence[Mapping[str, Any]],
) -> ShardTables:
    """The three tables of a shard, from the rows that the torch wing measured.

    The column types are the same whatever the rows hold, so that shards can be joined.
    """
    return ShardTables(
        *(
            _typed_table(rows, leading)
            for rows, leading in (
                (images, IMAGE_COLUMNS),
                (regions, TABLE_COLUMNS),
                (maps, _MAP_COLUMNS),
            )
        )
    )


def joined_tables(parts: Sequence[ShardTables]) -> dict[str, pd.DataFrame]:
    """Join shards that are kept in memory: part -> the frame that a run folder would give."""
    return {
        part: tables_to_frame(
            pa.concat_tables([getattr(p, part) for p in parts], promote_options="permissive")
        )
        for part in PARTS
    }


def tables_to_frame(table: pa.Table) -> pd.DataFrame:
    """Convert Arrow to pandas with types that do not depend on the content.

    Text becomes ``object`` (missing: None), booleans become nullable, numbers float or int.
    """
    frame: pd.DataFrame = table.to_pandas(types_mapper=_pandas_type)
    for column in frame.columns:
        if isinstance(frame[column].dtype, pd.StringDtype):
            text = frame[column].astype(object)
            frame[column] = text.where(text.notna(), None)
    return frame


def _pandas_type(kind: pa.DataType) -> Any:
    return pd.BooleanDtype() if kind == pa.bool_() else None


def _columns(rows: Sequence[Mapping[str, Any]], leading: Sequence[str]) -> list[str]:
    seen: dict[str, None] = dict.fromkeys(leading)
    for row in rows:
        seen.update(dict.fromkeys(row))
    return list(seen)


def _typed_table(rows: Sequence[Mapping[str, Any]], leading: Sequence[str]) -> pa.Table:
    return pa.table(
        {
            name: _typed_array([row.get(name) for row in rows], name)
            for name in _columns(rows, leading)
        }
    )


def _typed_array(values: list[Any], name: str) -> pa.Array:
    """Missing values are null in text and flags, NaN in numbers."""
    if name == "values":
        return pa.array(values, type=pa.binary())
    if name in _TEXT_COLUMNS or name.startswith(("subgroup.", "meta.")):
        return pa.array(
            [v if type(v) is str else None if _missing(v) else str(v) for v in values],
            type=pa.string(),
        )
    if name == "correct":
        return pa.array([None if _missing(v) else bool(v) for v in values], type=pa.bool_())
    if name in ("height", "width", "index"):
        return pa.array(values, type=pa.int64())
    return pa.array(
        [v if type(v) is float else float("nan") if _missing(v) else float(v) for v in values],
        type=pa.float64(),
    )


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def _parquet_bytes(table: pa.Table, part: str) -> bytes:
    sink = io.BytesIO()
    # The compression level and the absence of pandas metadata are part of "same plan, same bytes".
    pq.write_table(table, sink, compression="zstd", compression_level=3 if part != "maps" else 9)
    return sink.getvalue()


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, default=str) + "\n").encode()


def _existing_run(path: Path) -> RunFile | None:
    """The run in ``path``; None where there is nothing yet.  Errors: see ``open_run``."""
    run = _recorded_run(path)
    if run is None and path.exists() and any(path.iterdir()):
        raise RunError(
            f"{path} exists, holds files, and is not a run folder (it has no run.json). Name another folder with --run."
        )
    return run


def _clear_earlier_run(path: Path) -> None:
    """Clear the run in ``path``.  Errors: as ``_existing_run``, except that
    a run.json that cannot be read is a run's where receipts lie beside it.
    """
    try:
        existing = _existing_run(path)
    except RunError:
        if not ((path / "run.json").is_file() and (path / "receipts").is_dir()):
            raise
        _clear_run(path)
    else:
        if existing is not None:
            _clear_run(path)


def _recorded_run(path: Path) -> RunFile | None:
    """What run.json says; None where there is none."""
    file = path / "run.json"
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror or error}") from error
    return parse_run_file(content, str(file))


def _what_differs(path: Path, before: Mapping[str, str], now: Mapping[str, str]) -> str:
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    lines = "\n".join(
        f"  - {key}: was {_short(before.get(key))}, is {_short(now.get(key))}" for key in keys
    )
    return (
        f"The run folder {path} belongs to another run; {len(keys)} thing{' differs' if len(keys) == 1 else 's differ'}:\n{lines}\n"
        "Name another folder with --run, or start this one over with --fresh."
    )


def _short(value: str | None) -> str:
    text = "absent" if value is None else str(value) or "nothing"
    return text if len(text) <= 48 else text[:12]


def _clear_run(path: Path) -> None:
    """Remove what a run writes and nothing else: the folder may hold a user's own notes."""
    for folder, pattern in (
        *((part, "*.parquet") for part in PARTS),
        ("receipts", "*.json"),
        ("thumbs", "*"),
    ):
        for file in (path / folder).glob(pattern):
            file.unlink()
    for name in ("run.json", "result.json", "report.html"):
        (path / name).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
