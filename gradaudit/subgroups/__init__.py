"""Values and group labels as arrays come in; contrasts between the groups go out.

``comparison`` is the public door (``ga.disparity``), ``settings`` says how to compare and
``analysis_set`` picks the usable rows.  ``between_clusters``, ``slopes`` and ``within_clusters``
say who is compared with whom, ``cluster_model`` fits, ``contrast_tests`` tests.  Table wing: no
torch.
"""
