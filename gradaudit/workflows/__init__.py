"""Workflows: the jobs that need both wings, and the only modules that import both.

A manifest and a model come in and an audit goes out (``audit``); images come in and a folder of
explanations goes out (``explain_images``); a network comes in and its layers go out
(``layer_table``).
"""
