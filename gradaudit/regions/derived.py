"""Derived regions: masks made of other masks, e.g. ``ring(union(lesion, scar), 0.1)``.

| expression | inside |
|---|---|
| ``complement(a)`` | everything that is not a |
| ``union(a, b, ...)``, ``intersection(a, b, ...)`` | in any / in all of them |
| ``difference(a, b, ...)`` (also ``minus``) | in a and in none of the others |
| ``ring(a, 0.1)`` | the pixels around a, up to 0.1 x sqrt(area of a) from it |
| ``frame(0.05)`` | the border of the image, 0.05 x its shorter side broad |
| ``skin(minus=a)`` | complement(a), for close-ups that show skin everywhere else |
| ``whole()`` | the image |

The plan holds the expressions (``derive = "..."``). They nest. A region's name that is not an
identifier stands in quotes. Nothing is evaluated as Python: the text is parsed into ``Term``.
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gradaudit.errors import InputError
from gradaudit.number_text import plain_number

Mask = npt.NDArray[np.float32]
Inside = npt.NDArray[np.bool_]
Size = tuple[int, int]


@dataclass(frozen=True)
class Term:
    """One node of a derivation: an operation, its operands, and its width if it has one."""

    operation: str
    terms: tuple[Term | str, ...]
    width: float = 0.0


@dataclass(frozen=True)
class Derivation:
    """A parsed derivation; ``needs`` are the region names in it, each once, in order of appearance."""

    text: str
    term: Term | str
    needs: tuple[str, ...]


def _ring(masks: Sequence[Inside], size: Size, width: float) -> Inside:
    """Pixels outside the region, at most width x sqrt(area of the region) from it.

    The ring is at least one pixel wide. The region's own size is the scale, so that the margin of a
    lesion means the same at every zoom.
    """
    region = masks[0]
    if not region.any():
        return np.zeros(size, np.bool_)
    reach = max(1.0, width * math.sqrt(np.count_nonzero(region)))
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    pad = math.ceil(reach)
    near = tuple(
        slice(max(0, int(line[0]) - pad), int(line[-1]) + pad + 1) for line in (rows, columns)
    )
    ring = np.zeros(size, np.bool_)
    ring[near] = (ndimage.distance_transform_edt(~region[near]) <= reach) & ~region[near]
    return ring


def _frame(masks: Sequence[Inside], size: Size, width: float) -> Inside:
    """The border of the image, width x its shorter side broad; at least one pixel."""
    broad = max(1, round(width * min(size)))
    frame = np.ones(size, np.bool_)
    frame[broad:-broad, broad:-broad] = False
    return frame


@dataclass(frozen=True)
class _Operation:
    """What an operation does, how many regions it takes, and whether it has a width."""

    form: str
    least: int
    most: int
    apply: Callable[[Sequence[Inside], Size, float], Inside]
    width_limit: float = 0.0
    keyword: str = ""


OPERATIONS: dict[str, _Operation] = {
    "complement": _Operation("complement(a)", 1, 1, lambda masks, size, _: ~masks[0]),
    "union": _Operation(
        "union(a, b, ...)", 1, 99, lambda masks, size, _: np.logical_or.reduce(masks)
    ),
    "intersection": _Operation(
        "intersection(a, b, ...)", 1, 99, lambda masks, size, _: np.logical_and.reduce(masks)
    ),
    "difference": _Operation(
        "difference(a, b, ...)",
        2,
        99,
        lambda masks, size, _: masks[0] & ~np.logical_or.reduce(masks[1:]),
    ),
    "minus": _Operation(
        "minus(a, b, ...)",
        2,
        99,
        lambda masks, size, _: masks[0] & ~np.logical_or.reduce(masks[1:]),
    ),
    "ring": _Operation("ring(a, 0.1)", 1, 1, _ring, width_limit=5.0),
    "frame": _Operation("frame(0.05)", 0, 0, _frame, width_limit=0.5),
    "skin": _Operation("skin(minus=a)", 1, 1, lambda masks, size, _: ~masks[0], keyword="minus"),
    "whole": _Operation("whole()", 0, 0, lambda masks, size, _: np.ones(size, np.bool_)),
}
"""Operations of ``derive``.

``skin(minus=lesion)`` is everything that is not lesion, which is right for close-ups that show skin
everywhere else. No color rule decides what is skin, because such rules err more on some skin tones
than on others.
"""


@lru_cache(maxsize=1024)
def parse_derivation(expr: str) -> Derivation:
    """Parse an expression such as ``ring(union(lesion, scar), 0.1)``; see the table above.

    Nothing is evaluated as Python.

    Errors: ``InputError`` saying which part is wrong and what is known.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Python warns of odd literals in what is not Python here
            tree = ast.parse(expr.strip(), mode="eval") if len(expr) <= 2000 else None
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        tree = None
    if tree is None:
        raise InputError(
            f"{_short(expr)} is no derivation; write for example {', '.join(item.form for item in OPERATIONS.values())}"
        )
    term = _term(tree.body, 0)
    return Derivation(expr, term, tuple(dict.fromkeys(_names(term))))


def _term(node: ast.expr, depth: int) -> Term | str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or depth > 50:
        raise InputError(
            f"{_short(ast.unparse(node))} is neither a region nor an operation; known are {', '.join(OPERATIONS)}"
        )
    operation = OPERATIONS.get(node.func.id)
    if operation is None:
        raise InputError(
            f"there is no operation {node.func.id!r}; known are {', '.join(item.form for item in OPERATIONS.values())}"
        )
    arguments = list(node.args)
    width = _width(node, arguments, operation) if operation.width_limit else 0.0
    named = {
        word.arg: word.value
        for word in node.keywords
        if word.arg != "width" or not operation.width_limit
    }
    if operation.keyword:
        arguments += (
            [named.pop(operation.keyword)] if operation.keyword in named and not arguments else []
        )
    if named or not operation.least <= len(arguments) <= operation.most:
        raise InputError(f"{_short(ast.unparse(node))}: write {operation.form}")
    return Term(node.func.id, tuple(_term(argument, depth + 1) for argument in arguments), width)


def _width(node: ast.Call, arguments: list[ast.expr], operation: _Operation) -> float:
    """Take the width out of the arguments: the last one, or ``width=``."""
    given = [word.value for word in node.keywords if word.arg == "width"] or (
        arguments[-1:] if len(arguments) > operation.least else []
    )
    if arguments and given and given[0] is arguments[-1]:
        arguments.pop()
    value = given[0].value if given and isinstance(given[0], ast.Constant) else None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 < value <= operation.width_limit
    ):
        raise InputError(
            f"{_short(ast.unparse(node))}: write {operation.form}; the width is a number above 0, at most {plain_number(operation.width_limit)}"
        )
    return float(value)


def _names(term: Term | str) -> list[str]:
    return (
        [term] if isinstance(term, str) else [name for part in term.terms for name in _names(part)]
    )


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def derive(expr: str, masks: Mapping[str, npt.NDArray[Any]], size: Size) -> Mask:
    """The region that ``expr`` builds from ``masks``: (H, W) float32 of 0 and 1.

    masks : name -> (H, W) = ``size``; a pixel is inside where the value is above 0

    Errors: ``InputError`` for a broken expression, a name that ``masks`` lacks, or a mask of
    another shape.
    """
    derivation = parse_derivation(expr)
    inputs: dict[str, Inside] = {}
    for name in derivation.needs:
        if name not in masks:
            raise InputError(
                f"{_short(expr)} needs the region {name!r}; given are {', '.join(masks) or 'none'}"
            )
        if masks[name].shape != size:
            raise InputError(
                f"the mask of {name!r} has the shape {masks[name].shape}, expected {size}"
            )
        inputs[name] = masks[name] > 0
    return evaluate(derivation.term, inputs, size).astype(np.float32)


def evaluate(term: Term | str, inputs: Mapping[str, Inside], size: Size) -> Inside:
    """The mask (H, W) of a parsed term; ``inputs`` holds every name that it needs."""
    if isinstance(term, str):
        return inputs[term]
    return OPERATIONS[term.operation].apply(
        [evaluate(part, inputs, size) for part in term.terms], size, term.width
    )


def derivation_faults(
    derivations: Mapping[str, str], columns: Collection[str]
) -> list[tuple[str, str, str]]:
    """Faults of a plan's derived regions, as (region, rule, what is wrong).

    derivations : derived region -> its expression
    columns : the regions that the manifest has columns for
    """
    faults: list[tuple[str, str, str]] = []
    parsed: dict[str, Derivation] = {}
    for name, expr in derivations.items():
        try:
            parsed[name] = parse_derivation(expr)
        except InputError as error:
            faults.append((name, "derive_syntax", str(error)))
        if name in columns:
            faults.append(
                (
                    name,
                    "derive_and_column",
                    f"{name!r} is derived in the plan and has a column region.{name}",
                )
            )
    known = {*columns, *derivations}
    for name, derivation in parsed.items():
        unknown = [need for need in derivation.needs if need not in known]
        if unknown:
            text = f"{', '.join(map(repr, unknown))} in {derivation.text!r} is no region of the manifest or the plan"
            faults.append((name, "derive_unknown", text))
        if _reaches(name, name, parsed, set()):
            faults.append(
                (
                    name,
                    "derive_cycle",
                    f"{derivation.text!r} needs {name!r} itself, directly or through other derived regions",
                )
            )
    return faults


def _reaches(start: str, goal: str, parsed: Mapping[str, Derivation], seen: set[str]) -> bool:
    needs = parsed[start].needs if start in parsed and start not in seen else ()
    seen.add(start)
    return goal in needs or any(_reaches(need, goal, parsed, seen) for need in needs)
