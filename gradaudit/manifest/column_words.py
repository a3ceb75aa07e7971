"""Words by which a table's columns are recognised: images, masks, groups, orders, and what is none of them."""

from __future__ import annotations

import re

COLUMN_WORDS = {
    "image": ("image", "path", "file", "filename", "file_name", "filepath", "file_path", "image_path", "img", "img_path", "ddi_file"),
    "label": ("label", "dx", "diagnosis", "target", "class", "benign_malignant", "malignant", "y", "ground_truth", "category"),
    "cluster": (
        "cluster", "patient_id", "patientid", "patient", "subject_id", "subject", "participant_id", "person_id", "lesion_id", "case_id", "study_id",
        "video_id", "video", "vehicle_id", "vehicle", "animal_id",
    ),
    "id": ("id", "isic_id", "image_id", "image_name", "md5hash", "ddi_id", "sop_instance_uid", "uid", "name"),
}  # fmt: skip
"""Names under which existing tables keep each part, likeliest first."""
MASK_SUFFIXES = (
    "",
    "_segmentation",
    "_Segmentation",
    "_mask",
    "-mask",
    "_seg",
    "_gt",
    "_lesion",
    "_label",
)
MASK_WORD = re.compile("mask|seg|annot|ground.?truth|_gt|label", re.I)
GROUP_WORD = re.compile(
    r"\b(sex|gender|age|race|ethnic\w*|ancestry|skin|fitzpatrick|phototype|tone|ita|site|location|localization|anatom|body|hospital|cent(er|re)"
    r"|institution|scanner|device|camera|manufacturer|machine|view|insurance|language|country|continent|weather|daytime|light\w*)\b",
    re.I,
)
ORDER_WORD = re.compile(
    "fitzpatrick|skin_?(tone|type)|phototype|monk|scale|stage|grade|severity", re.I
)
NOT_GROUPS = frozenset(
    {
        "url",
        "md5",
        "width",
        "height",
        "split",
        "fold",
        "index",
        "qc",
        "license",
        "copyright_license",
        "attribution",
    }
)
ATTEND_WORD = re.compile(
    r"\b(lesion|nodule|tumou?r|object|digit|face|organ|lungs?|opacity|polyp|cell|foreground)\b",
    re.I,
)
AVOID_WORD = re.compile(
    r"\b(ruler|marker|text|hairs?|vignette|border|frame|margin|background|watermark|tag|tags|logo|bubbles?|gel)\b",
    re.I,
)
