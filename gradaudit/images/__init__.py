"""Files come in; pixels as the network expects them go out, with the same geometry for region
masks.

``decoding`` reads a file, ``preprocessing`` resizes, crops and normalises.  numpy and Pillow only:
no torch.
"""
