"""Bare tables come in; the same tables go out with small cells withheld, so that nobody can solve
for one.

``suppression`` decides what is hidden, ``decision`` says which levels and cells that concerns,
``attacker`` tries to solve the finished tables and hides more where it succeeds.  Table wing.
"""
