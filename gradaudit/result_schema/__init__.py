"""The records of ``result.json``: everything a report shows, and nothing that it has to compute.

``document`` holds the document with its verdict and tables, ``figures`` what pictures and curves
are drawn from.  Numbers come in from the analysis, and typed records go out to reports; import
every record from here.
"""

from gradaudit.result_schema.document import (
    AUDIT_STATE_MEANINGS,
    AUDIT_STATE_WORDS,
    SCHEMA_VERSION,
    AttributeFacts,
    AuditState,
    AuditVerdict,
    CheckOutcome,
    CriteriaFacts,
    DataFacts,
    Exclusion,
    FlowRow,
    GalleryItem,
    HeatRow,
    MeanMap,
    MethodFacts,
    ModelFacts,
    PerformanceRow,
    PlannedCell,
    Question,
    RegionFacts,
    ResultDocument,
    RunRecord,
    Tables,
)
from gradaudit.result_schema.figures import (
    CalibrationCurve,
    CalibrationPoint,
    DifferenceMap,
    Distribution,
    PictureGroup,
    SizeCurve,
)

__all__ = [
    "AUDIT_STATE_MEANINGS",
    "AUDIT_STATE_WORDS",
    "SCHEMA_VERSION",
    "AttributeFacts",
    "AuditState",
    "AuditVerdict",
    "CalibrationCurve",
    "CalibrationPoint",
    "CheckOutcome",
    "CriteriaFacts",
    "DataFacts",
    "DifferenceMap",
    "Distribution",
    "Exclusion",
    "FlowRow",
    "GalleryItem",
    "HeatRow",
    "MeanMap",
    "MethodFacts",
    "ModelFacts",
    "PerformanceRow",
    "PictureGroup",
    "PlannedCell",
    "Question",
    "RegionFacts",
    "ResultDocument",
    "RunRecord",
    "SizeCurve",
    "Tables",
]
