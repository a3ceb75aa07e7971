"""A network and images come in; raw signed heat maps go out, one status per image.

``explanation`` is the door (``ga.explain``).  ``layer_choice`` finds the layer, ``capture`` runs
the network around it, ``targets`` says which score is explained and ``scores`` computes it;
``methods``, ``pixel_methods`` and ``perturbation_methods`` make maps.  Torch wing.
"""
