"""One line of text, or a module, comes in; a ``Classifier`` goes out.

It holds network, layer, preprocess and class names.  ``sources`` reads the line; ``files``,
``huggingface`` and ``factory`` read whole networks, ``weights`` state dicts;
``torchvision_compat`` is the only door to torchvision.  Torch wing.
"""
