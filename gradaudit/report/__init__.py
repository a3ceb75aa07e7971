"""The report of an audit: one HTML file, Markdown or JSON.

Each is a pure render of a ``ResultDocument``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from gradaudit.errors import InputError
from gradaudit.report.render import (
    json_schema,
    render_fragment,
    render_html,
    render_markdown,
    to_json,
)
from gradaudit.result_schema import ResultDocument
from gradaudit.runs.folder import local_path, write_atomically

__all__ = [
    "check_report_path",
    "json_schema",
    "read_result",
    "render_fragment",
    "render_html",
    "render_markdown",
    "to_json",
    "write_report",
]

_RENDERS = {".html": render_html, ".htm": render_html, ".md": render_markdown, ".json": to_json}


def write_report(document: ResultDocument, path: str | Path) -> Path:
    """Write the report in the format that the file name ends in (.html, .md or .json).

    The file is written whole or not at all.

    Errors: ``InputError`` for another ending, an address, or where the file cannot be written.
    """
    path, render = _place_and_render(path)
    content = render(document).encode("utf-8")
    try:
        write_atomically(path, content)
    except OSError as error:
        raise InputError(
            f"The report cannot be written to {path}: {error.strerror or error}."
        ) from error
    return path


def check_report_path(path: str | Path) -> Path:
    """The path, if a report could be written there now: for doors before hours of work.

    Errors: ``InputError`` for an address, another ending, a folder, or a place where nothing can be
    written.
    """
    path, _ = _place_and_render(path)
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    why = (
        "it is a folder"
        if path.is_dir()
        else f"{folder} is no folder"
        if not folder.is_dir()
        else ""
    )
    why = why or (
        "" if os.access(folder, os.W_OK | os.X_OK) else f"nothing may be written to {folder}"
    )
    if why:
        raise InputError(f"The report cannot be written to {path}: {why}. Name another file.")
    return path


def _place_and_render(path: str | Path) -> tuple[Path, Callable[[ResultDocument], str]]:
    path = local_path(path, "The report")
    render = _RENDERS.get(path.suffix.lower())
    if render is None:
        raise InputError(
            f"The report {path} ends in {path.suffix or 'nothing'!r}; expected one of {', '.join(_RENDERS)}."
        )
    return path, render


def read_result(path: str | Path) -> ResultDocument:
    """Read a ``result.json``.

    Errors: ``InputError`` naming the first fields that do not fit, or why the file cannot be read.
    """
    path = Path(path)
    try:
        return ResultDocument.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The result {path} cannot be read: {error.strerror or error}.") from error
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, detail['loc'])) or 'file'}: {detail['msg']}"
            for detail in error.errors()[:5]
        ]
        raise InputError(
            f"{error.error_count()} fields of {path} do not fit a result of this version: {'; '.join(lines)}."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"The result {path} is not UTF-8 text ({error.reason} at byte {error.start})."
        ) from error
