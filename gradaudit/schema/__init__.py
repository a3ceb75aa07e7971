"""Records of documents that stand beside ``result.json``, with their published JSON Schemas.

``comparison``: two audits side by side (``comparison.json``).  The ``.json`` files here are what
others may read; a test holds each equal to its records, so that a change asks for a new version.
"""
