"""Paths of images and masks: which exist, which can be opened, and what is there instead."""

from __future__ import annotations

import importlib.util
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import fsspec

from gradaudit.number_text import count
from gradaudit.regions.text import is_url
from gradaudit.spelling import nearest_names

IMAGE_TYPES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".dcm", ".dicom",
)  # fmt: skip
LIST_FROM = 16
"""From this many files of one folder on, the folder is listed instead of asked for each file."""
PROTOCOL_PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "http": "aiohttp", "https": "aiohttp",
}  # fmt: skip
_SIGNATURES = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"GIF8",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"\0\0\0\x0cjP",
    b"P5",
    b"P6",
)


def absent_files(paths: Iterable[str], root: Path) -> dict[str, str]:
    """The local paths that are not a file, each with "missing" or "folder".

    A folder that many of the paths lie in is listed once instead of asked for each file.
    """
    folders: dict[str, list[str]] = defaultdict(list)
    for path in set(paths):
        folders[path[: path.rfind("/") + 1]].append(path)
    absent: dict[str, str] = {}
    for folder, wanted in folders.items():
        files = file_names(os.path.join(root, folder)) if len(wanted) >= LIST_FROM else frozenset()
        start = len(folder)
        for path in wanted if not files else [path for path in wanted if path[start:] not in files]:
            whole = os.path.join(root, path)
            if not os.path.isfile(whole):
                absent[path] = "folder" if os.path.isdir(whole) else "missing"
    return absent


def file_names(folder: str) -> frozenset[str]:
    """Names of the files in a folder; empty where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_file())
    except OSError:
        return frozenset()


def nearest_file(path: str, root: Path) -> str:
    """A remark on a missing file: one of a similar name, or how many files its folder holds."""
    folder, name = os.path.split(os.path.join(root, path))
    if not os.path.isdir(folder):
        return f"there is no folder {os.path.dirname(path) or folder!r}"
    names = sorted(file_names(folder))[:20_000]
    stem = os.path.splitext(name)[0].casefold()
    same = [other for other in names if os.path.splitext(other)[0].casefold() == stem]
    near = same or nearest_names(name, names[:2_000], cutoff=0.8)
    return (
        f"the folder has {near[0]!r}"
        if near
        else f"the folder has {count(len(names))} other files"
        if names
        else "the folder is empty"
    )


def why_not(protocol: str) -> str | None:
    """Why URLs of this protocol cannot be opened.

    None if fsspec can open them, else the package that it lacks; "" where it knows no such
    protocol.
    """
    try:
        fsspec.get_filesystem_class(protocol)
    except ValueError:
        return ""
    except ImportError as error:
        return PROTOCOL_PACKAGES.get(protocol) or str(error)
    return None


def is_installed(package: str) -> bool:
    """True if the package can be imported; it is not imported here."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # a module without a spec, or blocked in sys.modules
        return False


def is_picture(path: str, root: Path) -> bool:
    """True if the first bytes are those of an image format; URLs are not opened and count."""
    if is_url(path):
        return True
    try:
        with (root / path).open("rb") as stream:
            start = stream.read(132)
    except OSError:
        return False
    return (
        start.startswith(_SIGNATURES)
        or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
        or start[128:] == b"DICM"
    )
