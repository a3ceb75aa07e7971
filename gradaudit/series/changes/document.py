"""Two audits in, a ``ComparisonDocument`` out."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

from gradaudit.cohort.gallery import shown_name
from gradaudit.plan import Plan
from gradaudit.result_schema import ResultDocument
from gradaudit.runs.measurements import Measurements
from gradaudit.runs.record import digest_of
from gradaudit.schema.comparison import (
    AuditSide,
    CellChange,
    ChangeMethod,
    ComparisonDocument,
    ImagePairing,
    PerformanceChange,
)
from gradaudit.series.changes.cells import SMALLEST, cell_changes
from gradaudit.series.changes.differences import Obstacles, differences
from gradaudit.series.changes.pairing import Pairing, paired
from gradaudit.series.changes.performance import performance_changes
from gradaudit.series.changes.sentences import cannot_tell, facts, headline
from gradaudit.series.changes.settings import ChangeSettings
from gradaudit.series.changes.sides import Audited, with_common_references

EXAMPLES = 3
"""Names of exchanged and renamed files that are told."""


def comparison_of(
    first: tuple[ResultDocument, Measurements, Plan, Plan],
    second: tuple[ResultDocument, Measurements, Plan, Plan],
    created: str,
) -> ComparisonDocument:
    """The comparison of two audits, the earlier one first.

    Each is a result with its measurements, the plan that it was made with, and the plan as it was
    declared; both results must withhold groups below the larger ``privacy.min_cell`` of the two
    (``workflows.comparisons`` sees to that).
    """
    pairing = paired(first[1].images, second[1].images)
    before, after = with_common_references(
        Audited(*first, clusters=pairing.clusters_before),
        Audited(*second, clusters=pairing.clusters_after),
    )
    settings = ChangeSettings.of(before.plan, after.plan)
    obstacles = Obstacles.between(before, after)
    told = differences(before, after, pairing, settings.min_cell)
    cells = cell_changes(before, after, obstacles, settings)
    performance = performance_changes(before, after, obstacles, settings)
    images = _pairing(before, after, pairing)
    return ComparisonDocument(
        comparison_id=digest_of([s.document.audit_id for s in (before, after)])[:12],
        created=created,
        tool_version=metadata.version("gradaudit"),
        title=_title(before, after),
        notices=_notices(before, after),
        before=_side(before),
        after=_side(after),
        pairing=images,
        differences=told,
        headline=headline(cells),
        facts=facts(cells, performance),
        cells=cells,
        performance=performance,
        cannot_tell=cannot_tell(told, images, cells),
        method=_method(before, settings, cells, performance),
        min_cell=settings.min_cell,
    )


def _method(
    before: Audited,
    settings: ChangeSettings,
    cells: Sequence[CellChange],
    performance: Sequence[PerformanceChange],
) -> ChangeMethod:
    return ChangeMethod(
        alpha=settings.alpha,
        permutations=settings.draws(len(cells)),
        seed=settings.seed,
        family=len(cells),
        family_performance=sum(p.change.estimate is not None for p in performance),
        smallest=SMALLEST,
        unit=before.document.method.unit,
        cluster_name=before.plan.analysis.cluster_name,
    )


def _title(before: Audited, after: Audited) -> str:
    titles = before.document.title, after.document.title
    return titles[0] if titles[0] == titles[1] else f"{titles[0]} → {titles[1]}"


def _notices(before: Audited, after: Audited) -> tuple[str, ...]:
    given = (side.document.notice for side in (before, after))
    return tuple(dict.fromkeys(notice for notice in given if notice))


def _side(side: Audited) -> AuditSide:
    document, run = side.document, side.run
    return AuditSide(
        audit_id=document.audit_id,
        measured=run.finished or run.started,
        title=document.title,
        model_source=document.model.source,
        model_digest=document.model.digest,
        data_name=document.data.name,
        data_digest=document.data.digest,
        n_images=document.data.n_images,
        n_clusters=document.data.n_clusters,
        state=document.verdict.state,
        state_words=document.verdict.words,
        headline=document.verdict.headline,
        margin=None if document.criteria is None else document.criteria.margin,
    )


def _pairing(before: Audited, after: Audited, pairing: Pairing) -> ImagePairing:
    n, m, k = len(pairing.names_before), len(pairing.names_after), len(pairing.before)
    by_digest = int(pairing.by_digest.sum())
    renamed = [f"{_name(a, before)} → {_name(b, after)}" for a, b in pairing.renamed]
    return ImagePairing(
        n_before=n,
        n_after=m,
        n_pairs=k,
        n_by_digest=by_digest,
        n_by_name=k - by_digest,
        n_renamed=len(renamed),
        n_replaced=len(pairing.replaced),
        n_only_before=n - k,
        n_only_after=m - k,
        n_clusters_before=before.document.data.n_clusters,
        n_clusters_after=after.document.data.n_clusters,
        n_clusters_both=pairing.clusters_in_both,
        n_clusters_joined=pairing.joined,
        renamed=tuple(renamed[:EXAMPLES]),
        replaced=tuple(_name(_name(r, before), after) for r in pairing.replaced[:EXAMPLES]),
    )


def _name(name: str, side: Audited) -> str:
    """A file's name as that audit shows it."""
    return shown_name(name, side.plan)
