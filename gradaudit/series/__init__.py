"""Questions about more than one audit: how many more patients would settle what is open.

A result or measurements come in, with the plan; tables with one row per open planned cell, size of
study and assumed truth go out.  Table wing: no torch.
"""
