"""Labels and predictions come in; accuracy, sensitivity, AUC and the like by subgroup go out, with
their differences.

``metrics`` holds the figures and their intervals, ``differences`` compares groups, ``table``
assembles the rows.  Table wing.
"""
