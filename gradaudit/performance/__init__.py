"""Performance: accuracy, sensitivity, AUC and the like by subgroup, with intervals and tests.

Labels, predictions and probabilities come in; rows of the performance table go out. ``metrics``
holds the metrics; ``intervals`` and ``ranking`` hold their formulas; ``differences`` and
``pseudo_values`` compare groups; ``table`` assembles the rows. Metrics of heat are not here but in
``gradaudit.metrics``. Table wing: no torch.
"""
