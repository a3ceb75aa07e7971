"""A network and images come in; raw signed heat maps go out, one status per image.

``explanation`` is the door (``ga.explain``).  ``layer_choice`` finds the layer, ``capture`` runs
the network around it, ``targets`` says which score is explained, ``methods`` and its two sisters
turn activations and gradients into maps. Torch wing.
"""
