"""Values and group labels on bare arrays come in; contrasts between the groups go out
(``ga.disparity``).

``comparison`` is the door, ``analysis_set`` picks the usable rows, ``between_clusters`` and
``within_clusters`` say who is compared with whom, ``cluster_model`` fits and tests.  Table wing: no
torch.
"""
