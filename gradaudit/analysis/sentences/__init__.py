"""Findings and planned cells come in; sentences in plain words go out.

``names`` says who is compared and where, ``comparisons`` writes the sentence of one finding, and
``audits`` says what the audit as a whole found.
"""
