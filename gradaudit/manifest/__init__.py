"""The manifest: reads a table of images, groups and regions, and checks it before any measurement.

A path and a plan come in. A checked ``Manifest`` goes out, or a ``ManifestError`` with every
problem at once. ``reading`` is the entry point; ``table_formats`` reads files, ``validation`` runs
the checks, ``rules`` holds the text of every problem, and ``plan_suggestion`` writes a starting
plan for ``gradaudit init``. Neither wing: no torch.
"""
