"""The published JSON Schema of comparison.json: equal to the records, and every made-up comparison fits it."""

import json
from pathlib import Path

import jsonschema
import pytest

import gradaudit
from gradaudit.report.changes import comparison_json, comparison_schema
from gradaudit.schema.comparison import (
    CHANGE_MEANINGS,
    CHANGE_WORDS,
    COMPARISON_VERSION,
    ComparisonDocument,
)
from tests.report import comparison_documents as documents

PUBLISHED = Path(gradaudit.__file__).parent / "schema" / f"comparison-{COMPARISON_VERSION}.json"


def test_the_published_schema_is_that_of_the_records():
    """Red: a field changed. Raise COMPARISON_VERSION, and publish the schema under the new name beside the old one."""
    assert json.loads(PUBLISHED.read_text("utf-8")) == comparison_schema()


@pytest.mark.parametrize(
    "made", [documents.comparison, documents.hostile, documents.nothing_compared]
)
def test_every_comparison_fits_and_reads_back(made):
    text = comparison_json(made())
    jsonschema.validate(json.loads(text), comparison_schema(), cls=jsonschema.Draft202012Validator)
    assert ComparisonDocument.model_validate_json(text) == made()
    assert text.endswith("}\n")


def test_an_unknown_field_is_refused():
    data = json.loads(comparison_json(documents.comparison())) | {"verdict": "good"}
    with pytest.raises(ValueError, match="verdict"):
        ComparisonDocument.model_validate(data)


def test_every_word_has_its_meaning():
    assert set(CHANGE_MEANINGS) == set(CHANGE_WORDS)
