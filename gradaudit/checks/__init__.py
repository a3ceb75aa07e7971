"""Experiments on images: what happens to the score when a region goes.

Preprocessed images, region masks and a classifier come in; rows of numbers go out.  Each fill is
a member of a family with a card (``fills.FILLS``).
"""
