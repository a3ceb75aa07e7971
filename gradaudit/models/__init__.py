"""One line of text, or a module at hand, comes in; a ``Classifier`` goes out: network, layer,
preprocess, class names.

``sources`` reads the line, ``files`` whole networks in one file, ``weights`` state dicts;
``torchvision_compat`` is the only door to torchvision.  Torch wing.
"""
