"""Two audits side by side: what changed from the one to the other, and how sure that is.

Two results with their measurements and plans come in (``sides``); a ``ComparisonDocument`` goes out
(``document``).  ``pairing`` finds the images and clusters that are in both, ``differences`` lists
what else differs and what therefore cannot be compared, ``joint_tests`` takes the change of a
difference with its error, ``cells`` and ``performance`` apply it, ``sentences`` put it in words.
Table wing: no torch.
"""
