"""Page one: the fact, the three questions, six pictures, the matrix, and who signs."""

from __future__ import annotations

from collections.abc import Sequence

from gradaudit.number_text import count, declared_points
from gradaudit.records import CellState, Finding
from gradaudit.report.comparisons import (
    LOOKS,
    Comparison,
    Key,
    key_words,
    read_comparisons,
)
from gradaudit.report.matrix import (
    MatrixLine,
    MatrixMaker,
    chosen_lines,
    columns_of,
    in_order,
    is_all_within,
    matrix_lines,
)
from gradaudit.report.page_blocks import Matrix, PageOne, Six, State
from gradaudit.report.pictures import PictureStore
from gradaudit.report.wording import clusters_words, left_out_words, plain, together, unique
from gradaudit.result_schema import ResultDocument

GENERAL_LINES = 2
"""So many lines of ``cannot_tell`` are true of every audit; those of these data follow them."""


def page_one(document: ResultDocument) -> PageOne:
    """The page that decides, from the document alone."""
    verdict = document.verdict
    comparisons = read_comparisons(document)
    planned = [c for c in comparisons if c.planned]
    shown = planned or list(comparisons)
    matrix, note = first_matrix(document, comparisons, shown)
    return PageOne(
        title=document.title,
        notice=document.notice,
        identity=identity(document),
        state=verdict.state,
        words=_capital(verdict.words),
        fact=verdict.fact or f"{_capital(verdict.headline).rstrip('.')}.",
        limit=verdict.limit,
        second=f"{_capital(verdict.second)}." if verdict.second else "",
        answers=answers(document),
        counted=counted_words(shown),
        tally=tally(shown),
        pictures=first_pictures(document),
        matrix=matrix,
        note=note,
        cannot_tell=cannot_tell(document),
        declared=declared(document),
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def identity(document: ResultDocument) -> tuple[tuple[str, str, str], ...]:
    """Term, text and digest of the header: what was audited, by whom, when."""
    facts = (
        ("Data", data_words(document), ""),
        ("Model", "", document.model.digest[:8]),
        ("Audit", document.created[:10], document.audit_id),
        ("Auditor", document.auditor, ""),
    )
    return tuple(fact for fact in facts if fact[1] or fact[2])


def data_words(document: ResultDocument) -> str:
    """ "621 images of 300 patients"; without clusters, that each image counts by itself."""
    images = f"{count(document.data.n_images)} images"
    if not document.data.cluster_declared:
        return f"{images}, each counted as independent"
    return f"{images} of {clusters_words(document)}"


def answers(document: ResultDocument) -> tuple[tuple[str, str], ...]:
    """The three questions; of an older result, its first sentences instead."""
    asked = tuple((q.question, q.answer) for q in document.verdict.questions if q.answer)
    return asked or tuple(("", sentence) for sentence in document.verdict.sentences[:2])


def cannot_tell(document: ResultDocument) -> tuple[str, ...]:
    """Two lines: those made from this run before those that are true of every audit."""
    lines = document.verdict.cannot_tell
    return (*lines[GENERAL_LINES:], *lines[:GENERAL_LINES])[:2]


def declared(document: ResultDocument) -> tuple[str, ...]:
    """What was held immaterial, by whom, and when."""
    criteria = document.criteria
    if criteria is None:
        return (
            "No limit was set: differences are described, and none is called large or small.",
            f"{' '.join(left_out_words(document)[:1])}",
        )
    heat, gone = declared_points(criteria.margin), declared_points(criteria.undefined_margin)
    held = (
        f"Differences of up to {heat} points of heat, and of up to {gone} points in images "
        "without a heat map, are held immaterial."
    )
    by = f"By {criteria.declared_by}, " if criteria.declared_by else "Nobody signed for it, "
    return held, f"{by}{_when(document)}."


def _when(document: ResultDocument) -> str:
    """The date as it was typed, and whether it lies before the measuring."""
    typed = document.criteria.declared_on if document.criteria else ""
    started = (document.run.started or document.created)[:10]
    if not typed:
        return "no date given"
    order = "before" if typed < started else "on the day of" if typed == started else "after"
    return f"on {typed} as typed, {order} the measuring ({started})"


# ── tally and pictures ────────────────────────────────────────────────────────────────────────────


def counted_words(comparisons: Sequence[Comparison]) -> str:
    n = len(comparisons)
    kind = "planned comparison" if any(c.planned for c in comparisons) else "comparison"
    return f"{count(n)} {kind}{'s' * (n != 1)}" if n else ""


def tally(comparisons: Sequence[Comparison]) -> tuple[State, ...]:
    """How many comparisons have which look; also the legend of the shapes."""
    counts = [(look, [c for c in comparisons if c.look == look]) for look in LOOKS]
    return tuple(State(look, _tally_words(look, found)) for look, found in counts if found)


def _tally_words(look: str, found: Sequence[Comparison]) -> str:
    return f"{count(len(found))} {LOOKS[look]}"


def first_pictures(document: ResultDocument) -> Six | None:
    """The pictures of the finding that the fact tells, else of the first that has some."""
    names = unique(g.finding for g in document.pictures)
    told = document.verdict.fact_finding
    chosen = told if told in names else next(iter(names), "")
    f = next((f for f in document.findings if f.anchor == chosen), None)
    if f is None:
        return None
    return PictureStore(document).six(chosen, *side_names(f))


def side_names(f: Finding) -> tuple[str, str]:
    """What the two sides of a finding are called: "Skin tone V–VI", "All others"."""
    name = _capital(plain(f.attribute))
    other = "All others" if f.reference in ("rest", "") else f"{name} {f.reference}"
    return f"{name} {f.group}", other


# ── the matrix of page one ────────────────────────────────────────────────────────────────────────


def first_matrix(
    document: ResultDocument, comparisons: Sequence[Comparison], shown: Sequence[Comparison]
) -> tuple[Matrix | None, tuple[str, ...]]:
    """The matrix and the sentences below it; None where nothing was compared."""
    if not shown:
        return None, ()
    lines = matrix_lines(shown)
    first, rest = columns_of(shown)
    told = [line for line in lines if any(key in line.cells for key in first)]
    chosen = chosen_lines(told)
    groups = joined(in_order(document, chosen))
    few = len(lines) <= len(chosen) and len(first) == 1

    def linked(c: Comparison) -> bool:
        return c.state is CellState.BEYOND or (few and c.state is CellState.OPEN)

    matrix = MatrixMaker(document, comparisons).matrix(
        "Each group against all others", groups, first, linked=linked, first_page=True
    )
    return matrix, (
        *reading(document, shown, matrix),
        *what_is_left(shown, told, chosen, rest, first),
    )


def joined(groups: Sequence[Sequence[MatrixLine]]) -> list[list[MatrixLine]]:
    """Attributes with one line each stand together, in one block of the table."""
    blocks: list[list[MatrixLine]] = []
    for group in groups:
        single = len(group) == 1 and blocks and blocks[-1][-1].attribute != group[0].attribute
        before = single and len({line.attribute for line in blocks[-1]}) == len(blocks[-1])
        if before:
            blocks[-1].extend(group)
        else:
            blocks.append(list(group))
    return blocks


def reading(
    document: ResultDocument, shown: Sequence[Comparison], matrix: Matrix
) -> tuple[str, ...]:
    """How to read the shapes and lines, in as few words as they need."""
    limited = any(c.margin is not None and c.has_number for c in shown)
    lines = []
    if limited:
        lines.append(
            "Grey band: the limit. A thick line inside the band is “within”, a thin line outside "
            "it is “beyond”."
        )
    if any(cell.look == "differs" for row in matrix.rows for cell in row.cells):
        lines.append("Triangle: differs (no limit was set).")
    equal = together(document.method.adjusted_for)
    lines.append(f"Heat at equal {equal}." if equal else "Heat as measured.")
    return tuple(lines)


def what_is_left(
    shown: Sequence[Comparison],
    told: Sequence[MatrixLine],
    chosen: Sequence[MatrixLine],
    rest: Sequence[Key],
    first: Sequence[Key],
) -> tuple[str, ...]:
    """What page one does not show, so that nobody takes its rows for all there are."""
    lines = []
    if len(chosen) < len(told):
        hidden = [line for line in told if line not in chosen and line.is_beyond]
        more = f" {count(len(hidden))} more lie beyond the limit." if hidden else ""
        limited = any(c.margin is not None for c in shown)
        which = "what lies beyond the limit, then the next worst" if limited else "then the next"
        lines.append(
            f"Shown are {count(len(chosen))} of {count(len(told))} rows: the worst group of each "
            f"attribute, {which}.{more} The others stand under Attributes."
        )
    for key in rest:
        looks = together([s.words for s in tally([c for c in shown if c.key == key])])
        lines.append(f"{_capital(key_words(key))}: {looks}; under Findings.")
    left = [key for key in unique(c.key for c in shown) if key not in (*first, *rest)]
    within = [key_words(k) for k in left if is_all_within([c for c in shown if c.key == k])]
    if within:
        lines.append(f"Every group is within the limit for {together(within)}.")
    return tuple(lines)
