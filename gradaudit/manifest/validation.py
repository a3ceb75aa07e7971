"""The list of all checks of a manifest, in the order in which their problems are reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gradaudit.manifest.column_checks import (
    check_attributes,
    check_clusters,
    check_columns,
    check_ids,
    check_labels,
    check_plan,
)
from gradaudit.manifest.draft import ManifestDraft
from gradaudit.manifest.file_checks import check_images, check_regions
from gradaudit.records import Problem

CHECKS: tuple[Callable[[ManifestDraft], Iterator[Problem]], ...] = (
    check_columns, check_plan, check_images, check_ids, check_labels, check_clusters, check_attributes, check_regions,
)  # fmt: skip
