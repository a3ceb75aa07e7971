"""The blocks a report is made of, and the words for numbers in them.

A section returns blocks; a template renders each kind in one way.  Blocks hold text as it is
(escaping is the template's business) and numbers already worded: a share of 0.312 is "31.2 %", a
difference of 0.19 is "+19.0".
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

from gradaudit.number_text import (
    count,
    interval,
    points,
    share_interval,
    share_percent,
    significant,
)
from gradaudit.records import Finding, Interval
from gradaudit.result_schema import ResultDocument

_JSON_DIGITS, _CSV_DIGITS = 6, 5
_JSON_ALONE = (
    "sentence", "question", "effect", "curve", "notes", "folded_under", "mask_tipping", "se", "mde80",
    "beyond_up_to", "within_from",
)  # fmt: skip
"""Fields of a finding that the CSV leaves out: nothing is stored twice that is long."""
WITHHELD = "withheld"
"""Stands for a number that the small-cell rule hides."""


@dataclass(frozen=True)
class Block:
    """One piece of a section; ``kind`` names its rendering."""

    kind: ClassVar[str] = "block"


@dataclass(frozen=True)
class Paragraph(Block):
    kind = "paragraph"
    text: str
    small: bool = False


@dataclass(frozen=True)
class Heading(Block):
    """A heading below the section's own; ``level`` 3 or 4."""

    kind = "heading"
    text: str
    level: int = 3
    anchor: str = ""


@dataclass(frozen=True)
class Note(Block):
    """A boxed remark: how to read what follows, or a caution."""

    kind = "note"
    text: str
    caution: bool = False


@dataclass(frozen=True)
class Listing(Block):
    kind = "listing"
    items: tuple[str, ...]


@dataclass(frozen=True)
class Facts(Block):
    """Terms and what they are, as a definition list; ``code`` terms are shown in fixed-width type."""

    kind = "facts"
    rows: tuple[tuple[str, str], ...]
    code: bool = False


@dataclass(frozen=True)
class Column:
    label: str
    number: bool = False
    unit: str = ""


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    ``sub``: further lines below the text.  ``icon``: the icon's name, for a verdict.  ``link``:
    where the text leads ("#id").
    """

    text: str
    sub: str = ""
    icon: str = ""
    link: str = ""


@dataclass(frozen=True)
class Row:
    """One row of a table: cells in the order of the columns.

    The first cell heads the row.  ``group``: a row group opens wherever it changes.
    """

    cells: tuple[Cell, ...]
    anchor: str = ""
    group: str = ""
    muted: bool = False


def columns(*heads: str | tuple[str, str]) -> tuple[Column, ...]:
    """Columns of a table: a text is a column of words, a pair (label, unit) one of numbers."""
    return tuple(
        Column(head) if isinstance(head, str) else Column(head[0], True, head[1]) for head in heads
    )


def row(*cells: str | Cell, anchor: str = "", group: str = "", muted: bool = False) -> Row:
    """A row from cells, plain texts standing for cells of one line."""
    return Row(
        tuple(Cell(cell) if isinstance(cell, str) else cell for cell in cells), anchor, group, muted
    )


@dataclass(frozen=True)
class Table(Block):
    kind = "table"
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""
    anchor: str = ""


@dataclass(frozen=True)
class Details(Block):
    """Blocks behind a summary line."""

    kind = "details"
    summary: str
    blocks: tuple[Block, ...]
    anchor: str = ""


@dataclass(frozen=True)
class Code(Block):
    kind = "code"
    text: str
    label: str = ""


@dataclass(frozen=True)
class Download:
    """A file inside the report: its name, what it holds, and its content as a data URI."""

    name: str
    description: str
    href: str
    size: int


@dataclass(frozen=True)
class Downloads(Block):
    kind = "downloads"
    files: tuple[Download, ...]


# ── cells of numbers ──────────────────────────────────────────────────────────────────────────────


def shown_count(number: int | None, *, withheld: bool) -> str:
    """A count; where there is none, that it is withheld, or ``MISSING``."""
    return WITHHELD if number is None and withheld else count(number)


def points_cell(found: Interval) -> Cell:
    return Cell(points(found.estimate), interval(found.low, found.high, points))


def percent_cell(found: Interval) -> Cell:
    ends = share_interval(found.low, found.high)
    return Cell(share_percent(found.estimate), ends)


# ── files inside the report ───────────────────────────────────────────────────────────────────────


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV (RFC 4180), safe to open in a spreadsheet: no text is read as a formula.

    Numbers stay numbers, and ``None`` is an empty field.

    A text that starts with = + - @ or a control character gets a leading apostrophe (OWASP, CSV
    injection).
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow([_inert(name) for name in header])
    writer.writerows([_inert(value) for value in row] for row in rows)
    return buffer.getvalue()


def _inert(value: object) -> object:
    if isinstance(value, str) and value.lstrip(" ")[:1] in (
        "=",
        "+",
        "-",
        "@",
        "\t",
        "\r",
        "\n",
        "＝",
        "＋",
        "－",
        "＠",
    ):
        return "'" + value if value.strip(" ") else value
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""
    return "" if value is None else value


def data_files(document: ResultDocument) -> tuple[Download, ...]:
    """One ZIP archive with every table as CSV and the whole document as JSON.

    The JSON leaves out the pictures, which the page holds, and rounds to six significant digits, the
    CSV to five.  Sentences, effect sizes and the details of tests stand in the JSON alone.

    One archive, because its text shrinks tenfold: the page stays small.  It opens on every desktop
    without a tool.
    """
    tables = {
        "contrasts.csv": document.findings, "cells.csv": document.cells, "heat.csv": document.heat, "flow.csv": document.flow,
        "performance.csv": document.performance, "exclusions.csv": document.exclusions,
    }  # fmt: skip
    bare = document.model_copy(
        update={
            "gallery": tuple(item.model_copy(update={"image": ""}) for item in document.gallery)
        }
    )
    whole = _rounded(bare.model_dump(mode="json", exclude_defaults=True), _JSON_DIGITS)
    packed = json.dumps(whole, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    texts = {"result.json": packed} | {
        name: records_csv(rows) for name, rows in tables.items() if rows
    }
    return (archive("gradaudit-data.zip", f"{', '.join(texts)}: every number of this page", texts),)


def archive(name: str, description: str, texts: dict[str, str]) -> Download:
    """A ZIP file as a data URI; entries carry a fixed date, so the same texts give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as bundle:
        for entry, text in texts.items():
            info = zipfile.ZipInfo(entry, date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            bundle.writestr(info, text.encode("utf-8"))
    content = buffer.getvalue()
    return Download(
        name,
        description,
        f"data:application/zip;base64,{base64.b64encode(content).decode('ascii')}",
        len(content),
    )


def records_csv(records: Sequence[Any]) -> str:
    """Records as flat columns: nested fields are joined with a dot, lists with a semicolon."""
    flat = [_flat(_rounded(_columns_of(record), _CSV_DIGITS)) for record in records]
    header = tuple(dict.fromkeys(name for line in flat for name in line))
    return csv_text(header, ([line.get(name) for name in header] for line in flat))


def _without_withheld(record: Any) -> Any:
    """The record with empty fields in place of counts that are withheld.

    The finding itself carries 0 there, which in a file would be read as a count.
    """
    if not isinstance(record, Finding) or not (record.suppressed or record.n_withheld):
        return record
    return record.model_copy(
        update=dict.fromkeys(
            ("n_images", "n_clusters", "n_images_reference", "n_clusters_reference")
        )
    )


def _columns_of(record: Any) -> dict[str, Any]:
    """The fields of a record that a spreadsheet needs."""
    data: dict[str, Any] = _without_withheld(record).model_dump()
    if isinstance(record, Finding):
        data = {name: value for name, value in data.items() if name not in _JSON_ALONE}
        data["test"] = {name: data["test"][name] for name in ("p", "p_adjusted", "family")}
    return data


def _rounded(value: Any, digits: int) -> Any:
    """The value with every number in it at so many significant digits."""
    if isinstance(value, float):
        return significant(value, digits) if math.isfinite(value) else value
    if isinstance(value, dict):
        return {name: _rounded(inner, digits) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner, digits) for inner in value]
    return value


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, dict):
            flat |= _flat(inner, f"{prefix}{name}.")
        elif isinstance(inner, list | tuple):
            flat[prefix + name] = "; ".join("" if v is None else str(v) for v in inner)
        else:
            flat[prefix + name] = inner
    return flat


def anchor_id(text: str) -> str:
    """Text as an element id: an id may hold anything but white space."""
    return "-".join(text.split()) or "finding"


def fragment_link(anchor: str) -> str:
    return "#" + quote(anchor, safe="")
