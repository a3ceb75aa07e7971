"""A table of images, groups and regions comes in; a checked ``Manifest`` goes out, or every problem
at once.

``table_formats`` reads files, ``validation`` checks what ``rules`` lists, ``reading`` is the door,
``plan_suggestion`` writes a starting plan for ``gradaudit init``.  Neither wing: no torch.
"""
