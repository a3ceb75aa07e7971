"""Findings and planned cells come in; sentences in plain words go out.

``names`` says who is compared and where, ``comparisons`` writes the sentence of one finding,
``performance`` how often the model is right, and ``audits`` says what the audit as a whole found.
``plain_facts`` and ``three_questions`` are page one: the fact in at most 25 words, what the plan
allows, and three answers.
"""
