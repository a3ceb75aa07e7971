"""Demo data with a known answer: rendered images, and small networks trained on them.

A seed comes in. Images, masks, a manifest, weights and plans go out. Only the command line and the
tests import this package; it uses torch.
"""
