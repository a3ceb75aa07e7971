"""Which images are picked, and what is told of them; that each number is the image's own is for ``test_recount``."""

import pytest
from compared_groups import a_plan, measured

from gradaudit.cohort.gallery import pick_images
from gradaudit.cohort.population import attribute_facts, level_groups
from gradaudit.disclosure.decision import suppressed_levels


@pytest.mark.parametrize("attribute", ["tone", "age"])
def test_nobody_of_a_withheld_level_is_picked(attribute):
    """Levels are the displayed ones: of ages, ranges, which no cell of the manifest holds."""
    meas, plan = measured(4, patients=80), a_plan()
    meas.images.loc[meas.images["cluster"] == "7", f"subgroup.{attribute}"] = None
    hidden = suppressed_levels(meas, plan)
    assert len(hidden[attribute]) > 1
    withheld = level_groups(meas, plan)[attribute].isin(hidden[attribute])
    members = set(meas.images.loc[withheld, "image_id"])
    everyone = pick_images(meas, plan, attribute_facts(meas, plan), {})
    picked = pick_images(meas, plan, attribute_facts(meas, plan), hidden)
    assert members & set(everyone)
    assert picked
    assert not members & set(picked)
