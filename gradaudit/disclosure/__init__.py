"""Disclosure control: withholds small cells so that no reader can compute them from the rest.

Complete tables come in (from ``cohort`` and ``performance``); the same tables go out with counts of
1 to ``min_cell`` - 1 withheld. ``decision`` decides once per analysis which levels and cells that
concerns, ``suppression`` removes them from the tables, and ``attacker`` tries to solve the finished
tables for a small cell, so that no more is withheld than needed. Table wing: no torch.
"""
