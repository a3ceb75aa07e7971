"""Plan, manifest and drafts come in; planned cells with their states go out.

``cells`` fixes the list before any number is looked at, ``answers`` finds what the measurements say
of each and what is to be objected, ``states`` decides them together, ``folding`` puts one fact that
is told from several sides under one head.  Table wing.
"""
