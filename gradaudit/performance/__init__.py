"""Labels and predictions come in; accuracy, sensitivity, AUC and the like by subgroup go out.

``metrics`` holds the metrics, ``intervals`` and ``ranking`` their formulas, ``differences`` and
``pseudo_values`` compare groups, ``table`` assembles the rows.  Table wing: no torch.
"""
