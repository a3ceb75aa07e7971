"""The run folder: writes the measured tables of each shard, and reads them back.

The tables of one shard come in. A folder that can be killed at any moment without damage goes out,
and so do its ``Measurements`` when it is read back. ``folder`` is the only module that knows which
files a run consists of. Neither wing: no torch.
"""
