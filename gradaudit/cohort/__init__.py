"""The cohort: who was measured, how far each image came, how heat is distributed, by subgroup.

``Measurements`` and a plan come in; complete tables go out, with nothing withheld (``disclosure``
does that). ``population`` joins the rows of the measurements to images once, into a ``Cohort``; the
other modules count and average over it. Table wing: no torch.
"""
