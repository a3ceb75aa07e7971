"""Tables of one shard come in; a run folder that survives being killed at any moment goes out, and
is read back.

``folder`` is the only place that knows the files of a run.  Neither wing: no torch.
"""
