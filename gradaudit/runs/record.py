"""The record of a run: what run.json says, as a checked value.

Keys stay as they are written here within one ``run_version``; a file of another version is refused,
so that no number is ever read under a meaning it did not have.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from gradaudit.errors import RunError
from gradaudit.records import Record
from gradaudit.spelling import hint_in_brackets

RUN_VERSION = 1
"""Version of run.json that is written and read.  Files from before versions were written have no
``run_version``; they are version 1.
"""


class RunPart(Record):
    """Part of run.json: frozen, closed against unknown keys, and "5" is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RunModel(RunPart):
    """The network that was explained.

    classes : names of its outputs; empty where they have none
    input_size : (height, width); empty where it follows each image
    preprocess : ``Preprocess.as_dict``, or empty      notes : what was noticed on loading
    """

    source: str
    digest: str
    layer: str
    layer_reason: str
    classes: tuple[str, ...]
    input_size: tuple[int, ...]
    preprocess: dict[str, Any]
    notes: tuple[str, ...]


class RunData(RunPart):
    """The manifest that was measured; ``cluster_declared``: it has a column of clusters."""

    name: str
    digest: str
    cluster_declared: bool
    attributes: tuple[str, ...]
    regions: tuple[str, ...]


class RunFile(RunPart):
    """The content of run.json.

    identity : each ingredient that moves a measured number -> its digest; ``plan_id``: theirs
    rows, shard_size : rows of the manifest, and how many of them make a shard
    plan : as it was read, or None (a later analysis then needs one of its own)
    cards : "method" and "target" -> the card of the map method and of the explained score
    command : as the user typed it, or ""      started, finished : ISO 8601, UTC; None: not finished
    seconds : what measuring took, summed over all sessions; None: not known
    """

    run_version: int = RUN_VERSION
    identity: dict[str, str]
    plan_id: str
    rows: int = Field(ge=0)
    shard_size: int = Field(ge=1)
    model: RunModel
    data: RunData
    plan: dict[str, Any] | None = None
    cards: dict[str, dict[str, str]]
    versions: dict[str, str]
    device: str
    dtype: str
    seed: int
    command: str
    started: str
    finished: str | None = None
    seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    def as_json(self) -> dict[str, Any]:
        """The keys of run.json; a plan, an end or a duration that is not known is left out."""
        known = self.model_dump(mode="json")
        absent = [key for key in ("plan", "finished", "seconds") if known[key] is None]
        return {key: value for key, value in known.items() if key not in absent}


def digest_of(value: Any) -> str:
    """sha256 of a JSON-able value in canonical form (sorted keys, no spaces)."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()
    ).hexdigest()


def parse_run_file(content: bytes, where: str) -> RunFile:
    """Read and check the content of run.json.  ``where``: the file's name in messages.

    Errors: ``RunError`` naming the file, each key at fault, what was expected and found, and what
    to do: no JSON, not the record of a run, another version, a missing, unknown or mistyped key, a
    ``plan_id`` that does not belong to the identity.
    """
    fields = _json_object(content, where)
    _refuse_other_version(fields, where)
    try:
        run = RunFile.model_validate_json(content)
    except ValidationError as error:
        raise RunError(_what_is_wrong(error, where)) from None
    if run.plan_id != digest_of(run.identity):
        raise RunError(
            f"{where}: 'plan_id' is not the digest of 'identity' (expected {digest_of(run.identity)[:12]}..., got "
            f"{run.plan_id[:12]!r}...): one of the two was changed after measuring. {_ADVICE}"
        )
    return run


_ADVICE = "Restore the file as gradaudit wrote it, or measure again with --fresh."


def _json_object(content: bytes, where: str) -> dict[str, Any]:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        raise RunError(
            f"{where} is damaged: it is not JSON, or ends too early ({len(content)} bytes). {_ADVICE}"
        ) from None
    if not isinstance(fields, dict) or "identity" not in fields:
        raise RunError(
            f"{where} is not the record of a gradaudit run: it has no key 'identity'. Name another folder."
        )
    return fields


def _refuse_other_version(fields: dict[str, Any], where: str) -> None:
    found = fields.get("run_version", RUN_VERSION)
    if type(found) is int and found == RUN_VERSION:
        return
    newer = type(found) is int and found > RUN_VERSION
    advice = "Install a newer gradaudit, or measure again with --fresh." if newer else _ADVICE
    raise RunError(
        f"{where}: 'run_version' is {found!r}, and this version of gradaudit reads {RUN_VERSION}. {advice}"
    )


def _what_is_wrong(error: ValidationError, where: str) -> str:
    """One line for each key at fault."""
    lines = []
    for fault in error.errors(include_url=False):
        key = ".".join(map(str, fault["loc"]))
        if fault["type"] == "missing":
            lines.append(f"  - the key {key!r} is missing")
        elif fault["type"] == "extra_forbidden":
            lines.append(f"  - the key {key!r} is unknown{_nearest(key)}")
        else:
            got = json.dumps(fault["input"], default=str)
            shown = got if len(got) <= 40 else f"{got[:40]}..."
            lines.append(f"  - {key!r}: {_expected(fault['msg'])}, got {shown}")
    count = f"{len(lines)} key{' is' if len(lines) == 1 else 's are'}"
    return "\n".join([f"{where}: {count} not as a run is recorded:", *lines, _ADVICE])


def _expected(message: str) -> str:
    """ "Input should be a valid integer" -> "expected a valid integer" """
    return message.replace("Input should", "expected", 1).replace("expected be", "expected", 1)


def _nearest(key: str) -> str:
    parents: dict[str, type[RunPart]] = {"": RunFile, "model": RunModel, "data": RunData}
    parent, _, last = key.rpartition(".")
    known = parents[parent].model_fields if parent in parents else {}
    return hint_in_brackets(last, list(known))
