"""What the figures of a report are drawn from: a study and its findings come in, records go out.

``sides`` says which images stand on each side of a comparison, ``pictures`` which of them are
shown, ``distributions`` how their heat is spread, and ``difference_maps`` where it lies.  Every
record keeps to what small cells allow.
"""
