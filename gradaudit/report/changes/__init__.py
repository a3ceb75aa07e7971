"""The page of two audits side by side: HTML, Markdown or JSON, pure renders of a ``ComparisonDocument``.

``display`` chooses, sorts and words what the page shows, ``intervals`` draws the small intervals, and
``changes.html`` beside this folder is the markup.
"""

from gradaudit.report.changes.page import (
    comparison_json,
    comparison_schema,
    render_comparison,
    render_comparison_fragment,
    write_comparison,
)
from gradaudit.report.changes.plain_text import render_comparison_markdown

__all__ = [
    "comparison_json",
    "comparison_schema",
    "render_comparison",
    "render_comparison_fragment",
    "render_comparison_markdown",
    "write_comparison",
]
