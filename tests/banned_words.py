"""Words that no document of the project may use of a model, and the names that hold them."""

import re

BANNED = re.compile(
    r"\b(un|de)?bias(ed)?\b|\b(un)?fair(ness|ly)?\b|\bcomplian(t|ce)\b", re.IGNORECASE
)
NAMES = re.compile(
    r"fairlearn|fairness-?indicators|docs?/?fairness|how_to_talk_about_fairness|\bbias=(True|False)",
    re.IGNORECASE,
)
"""Names of libraries, of their pages and of a layer's argument may hold the word; they make no claim."""
