"""From measurements and a plan to the findings, the verdict and the tables of a result.

``study`` arranges the measurements, ``questions`` asks, ``planned`` holds the planned cells against
their margins, ``findings`` joins it all, ``verdict`` says what the audit may say, ``sentences`` puts
it in words; ``descriptives`` and ``data_checks`` make the tables around it.  Table wing: no torch.
"""
