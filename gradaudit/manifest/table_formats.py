"""Tables of any accepted format, read as columns of text with the row numbers that an editor shows.

Formats: CSV and TSV (UTF-8, with or without BOM; semicolons are recognised), Parquet, JSON Lines,
and ``.json`` that holds a list of records or a COCO annotation file (one ``region.<category>`` per
category).  Every cell is text: "007" stays "007".  Cells are stripped.  These mean unknown, in any
case of letters: empty, NA, N/A, NaN, NULL, <NA>, unknown; unless the plan's ``order`` or
``classes`` names the word.  "none" stays a level (no ruler is not an unknown ruler).

A row number is what a text editor shows: the header is line 1, a quoted cell with line breaks spans
several.  In Parquet and ``.json`` row 1 is the first record.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pycocotools import mask as coco_mask

from gradaudit.errors import ImageError, InputError
from gradaudit.manifest.rules import as_problem
from gradaudit.records import Problem
from gradaudit.regions.masks import load_region

Columns = dict[str, list[str]]
UNKNOWN_WORDS = frozenset({"", "na", "n/a", "nan", "null", "<na>", "unknown"})
DOUBTFUL_WORDS = frozenset(
    {"none", "-", "--", "?", ".", "-1", "missing", "not available", "not reported", "unspecified"}
)


def read_table(path: Path, problems: list[Problem]) -> tuple[Columns | None, list[int], str]:
    """Read a table: columns of text, the editor line or record number of each row, and the digest.

    Problems are appended to ``problems``; the columns are None where the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        problems.append(as_problem("file_missing", why=f"{path}: {error.strerror or error}"))
        return None, [], ""
    reader = _READERS.get(path.suffix.lower())
    why = (
        "an Excel workbook or a zip archive"
        if data[:2] == b"PK"
        else "an old Excel workbook"
        if data[:4] == b"\xd0\xcf\x11\xe0"
        else ""
    )
    if reader is None or why or (data[:4] == b"PAR1" and reader is not _read_parquet):
        why = why or (
            "a Parquet file under another name"
            if data[:4] == b"PAR1"
            else f"the extension is {path.suffix!r}"
        )
        problems.append(as_problem("file_format", why=why))
        return None, [], ""
    columns, lines = reader(data, path, problems)
    return columns, lines, hashlib.sha256(data).hexdigest()


def _decoded(data: bytes, problems: list[Problem]) -> str:
    """The text of a file.

    Where it is not UTF-8, that is a problem, and the text is decoded by the likeliest encoding so
    that the other checks can go on.
    """
    for mark, codec in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            problems.append(as_problem("encoding", why="it begins with the mark of UTF-16"))
            return data.decode(codec, "replace").replace("\0", "")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = data.decode("cp1252", "replace")
        escaped = _lines(data.decode("utf-8", "surrogateescape"))
        rows = [
            number for number, line in enumerate(escaped, 1) if re.search("[\udc80-\udcff]", line)
        ]
        example = f"row {rows[0]}: byte 0x{data[error.start]:02x} in {_lines(text)[rows[0] - 1].strip()[:60]!r}"
        problems.append(
            as_problem("encoding", rows, example=example, why="probably Windows-1252 or Latin-1")
        )
    if "\0" in text:
        rows = [number for number, line in enumerate(_lines(text), 1) if "\0" in line]
        problems.append(as_problem("nul_bytes", rows))
        text = text.replace("\0", "")
    return text


def _lines(text: str) -> list[str]:
    """Lines as an editor and the csv module count them; str.splitlines splits too often."""
    return re.split("\r\n|\r|\n", text)


def _read_delimited(
    data: bytes, path: Path, problems: list[Problem]
) -> tuple[Columns | None, list[int]]:
    text = _decoded(data, problems)
    numbers, records = _records(text, _delimiter(text, path), problems)
    if not records:
        return {}, []
    header = _header(records)
    names = _column_names(header, records, problems)
    rows, lines = _whole_rows(numbers[1:], records, len(header), problems)
    columns = map(list, zip(*rows, strict=True)) if rows else ([] for _ in names)
    return dict(zip(names, columns, strict=True)), lines


def _delimiter(text: str, path: Path) -> str:
    """Tab by the file's name; else the commonest separator of the first line, comma if they tie."""
    if path.suffix.lower() in (".tsv", ".tab"):
        return "\t"
    first = next((line for line in _lines(text[:100_000]) if line.strip()), "")
    return max(",;\t", key=lambda mark: (first.count(mark), mark == ","))


def _header(records: list[list[str]]) -> list[str]:
    """Remove and return the first record; a separator at the end of every line names no column."""
    header = [name.strip() for name in records.pop(0)]
    while header and not header[-1]:
        last = len(header) - 1
        if any(len(row) > last and row[last].strip() for row in records):
            break
        header.pop()
    return header


def _whole_rows(
    numbers: Sequence[int], records: Sequence[list[str]], width: int, problems: list[Problem]
) -> tuple[list[list[str]], list[int]]:
    """Rows of ``width`` cells, with their lines.

    Blank rows and rows of another width are left out and become problems.
    """
    rows, lines, ragged, blank = [], [], [], []
    for line, row in zip(numbers, records, strict=True):
        while len(row) > width and not row[-1].strip():
            row.pop()
        if not any(map(str.strip, row)):
            blank.append(line)
        elif len(row) != width:
            ragged.append((line, len(row)))
        else:
            rows.append(row)
            lines.append(line)
    if ragged:
        example = f"row {ragged[0][0]} has {ragged[0][1]} cells"
        wrong = [line for line, _ in ragged]
        problems.append(as_problem("ragged_row", wrong, example=example, expected=width))
    if blank:
        problems.append(as_problem("blank_row", blank))
    return rows, lines


def _records(
    text: str, delimiter: str, problems: list[Problem]
) -> tuple[list[int], list[list[str]]]:
    """First editor line, and cells, of each record that is not an empty line."""
    lines: list[int] = []
    records: list[list[str]] = []
    limit = csv.field_size_limit(max(len(text), 131_072))  # run-length codes are long
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        while True:
            line = reader.line_num + 1
            try:
                row = next(reader)
            except StopIteration:
                return lines, records
            except csv.Error as error:
                problems.append(as_problem("broken_quotes", [line], example=f"row {line}: {error}"))
                continue
            if row:
                lines.append(line)
                records.append(row)
    finally:
        csv.field_size_limit(limit)


def _column_names(
    header: Sequence[str], rows: Sequence[Sequence[str]], problems: list[Problem]
) -> list[str]:
    names: list[str] = []
    for place, name in enumerate(header):
        if not name:
            name = f"unnamed_{place + 1}"
            if any(len(row) > place and row[place].strip() for row in rows):
                problems.append(as_problem("unnamed_column", column=name, name=name))
        if name in names:
            places = f"columns {names.index(name) + 1} and {place + 1}"
            problems.append(as_problem("duplicate_column", column=name, example=places))
            name = f"{name} ({place + 1})"
        names.append(name)
    return names


def _read_json_lines(
    data: bytes, path: Path, problems: list[Problem]
) -> tuple[Columns | None, list[int]]:
    records, lines, broken, doubled = [], [], [], []
    for number, line in enumerate(_decoded(data, problems).split("\n"), 1):
        if not line.strip():
            continue
        repeated: list[str] = []
        try:
            record = json.loads(line, object_pairs_hook=partial(_object, repeated))
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            records.append(record)
            lines.append(number)
            doubled += [(number, name) for name in repeated]
        else:
            broken.append((number, line))
    if broken:
        example = f"row {broken[0][0]}: {broken[0][1].strip()[:80]!r}"
        problems.append(
            as_problem("broken_json", [number for number, _ in broken], example=example)
        )
    for name in dict.fromkeys(name for _, name in doubled):
        problems.append(
            as_problem("duplicate_column", [row for row, other in doubled if other == name], name)
        )
    return _columns_of(records), lines


def _object(repeated: list[str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    counts = Counter(name for name, _ in pairs)
    repeated += [name for name, count in counts.items() if count > 1]
    return dict(pairs)


def _columns_of(records: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Records as columns; {"subgroup": {"sex": ...}} becomes the column subgroup.sex."""
    flat = [
        {
            (f"{key.strip()}.{inner}" if nested else key).strip(): value
            for key, cell in record.items()
            for nested in [key.strip() in ("subgroup", "region") and isinstance(cell, dict)]
            for inner, value in (cell.items() if nested else [("", cell)])
        }
        for record in records
    ]
    names = dict.fromkeys(name for record in flat for name in record)
    return {name: [_text(record.get(name)) for record in flat] for name in names}


def _text(value: Any) -> str:
    if value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def _read_json(
    data: bytes, path: Path, problems: list[Problem]
) -> tuple[Columns | None, list[int]]:
    try:
        content = json.loads(_decoded(data, problems))
    except (ValueError, RecursionError) as error:
        problems.append(as_problem("file_format", why=f"no valid JSON ({error})"))
        return None, []
    try:
        records = content if isinstance(content, list) else _coco_records(content)
    except (AttributeError, TypeError, ValueError):  # parts of another shape than COCO's
        records = None
    if records is None or not all(isinstance(record, dict) for record in records):
        problems.append(
            as_problem(
                "file_format",
                why="the JSON is neither a list of records nor a COCO annotation file",
            )
        )
        return None, []
    return _columns_of(records), list(range(1, len(records) + 1))


def _coco_records(content: Any) -> list[dict[str, Any]] | None:
    """One record per image of a COCO file: its fields, and one ``region.<category>`` per category.

    The region is the union of the category's objects. An image without an object of a category is
    not annotated for it, because the file does not say whether anyone looked for one.
    """
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        return None
    categories = {item.get("id"): str(item.get("name")) for item in content.get("categories", [])}
    objects: dict[tuple[Any, str], list[dict[str, Any]]] = defaultdict(list)
    for item in content.get("annotations", []):
        if item.get("category_id") in categories:
            objects[item.get("image_id"), categories[item["category_id"]]].append(item)
    return [
        {
            "image": image.get("file_name"),
            **image,
            **{
                f"region.{name}": _coco_region(objects[image.get("id"), name], image)
                for name in categories.values()
            },
        }
        for image in content["images"]
    ]


def _coco_region(items: Sequence[Mapping[str, Any]], image: Mapping[str, Any]) -> Any:
    """One cell for all objects of a category: their rings, or the RLE of their union.

    A shape that is broken is passed on as it is, so that the checks name it.
    """
    shapes = [item.get("segmentation") or _ring(item.get("bbox") or ()) for item in items]
    if all(isinstance(shape, list) for shape in shapes):
        return [ring for shape in shapes for ring in shape] or None
    if len(shapes) == 1:
        return shapes[0]
    height, width = image.get("height"), image.get("width")
    if type(height) is not int or type(width) is not int or min(height, width) < 1:
        return {
            "size": [height, width],
            "counts": "the union of several objects needs the image's height and width",
        }
    union = np.zeros((height, width), np.bool_)
    for shape in shapes:
        try:
            union |= load_region(json.dumps(shape), Path(), (height, width)) > 0
        except (InputError, ImageError):
            return shape
    code = coco_mask.encode(np.asfortranarray(union.astype(np.uint8)))
    return {"size": [height, width], "counts": code["counts"].decode()}


def _ring(bbox: Sequence[float]) -> list[list[float]]:
    if len(bbox) != 4:
        return []
    x, y, width, height = bbox
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def _read_parquet(
    data: bytes, path: Path, problems: list[Problem]
) -> tuple[Columns | None, list[int]]:
    try:
        frame = pd.read_parquet(io.BytesIO(data))
        frame = (
            frame.reset_index(allow_duplicates=True) if any(frame.index.names) else frame
        )  # a named index is a column
    except Exception as error:  # pyarrow raises its own and OSError on damaged files
        problems.append(
            as_problem("file_format", why=f"no readable Parquet ({type(error).__name__})")
        )
        return None, []
    names = _column_names([str(name).strip() for name in frame.columns], [], problems)
    columns = {
        name: [_text(_plain(value)) for value in _whole(frame.iloc[:, place])]
        for place, name in enumerate(names)
    }
    return columns, list(range(1, len(frame) + 1))


def _whole(column: pd.Series) -> Iterable[Any]:
    """Text of whole-number floats without ".0".

    pandas turns a column of integers with gaps into floats, so 3.0 must read "3".
    """
    if column.dtype.kind == "f" and (column.dropna() % 1 == 0).all():
        return column.astype("Int64").astype(object)
    return column.astype(object)


def _plain(value: Any) -> Any:
    if value is pd.NA:
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


_READERS: dict[str, Callable[[bytes, Path, list[Problem]], tuple[Columns | None, list[int]]]] = {
    ".csv": _read_delimited, ".txt": _read_delimited, ".tsv": _read_delimited, ".tab": _read_delimited,
    ".jsonl": _read_json_lines, ".ndjson": _read_json_lines, ".json": _read_json, ".parquet": _read_parquet, ".pq": _read_parquet,
}  # fmt: skip


def known_text(cell: str, declared: Collection[str] = ()) -> str:
    """The cell; "" where it means unknown and is not one of the ``declared`` words."""
    return (
        "" if len(cell) <= 7 and cell.casefold() in UNKNOWN_WORDS and cell not in declared else cell
    )


def as_number(text: str) -> float | None:
    """The number that a cell holds, or None."""
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None
