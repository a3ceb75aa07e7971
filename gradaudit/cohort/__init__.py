"""Measurements come in; bare tables of who was measured and how far each image came go out, nothing
withheld.

``population`` joins table rows to images once; the other modules count and average over what it
arranged.  Table wing.
"""
