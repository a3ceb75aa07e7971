"""The text of a region cell comes in; a mask of 0 and 1 in the image's own pixels goes out.

``text`` reads the notation, ``masks`` turns it into pixels, ``derived`` combines regions.  Neither
wing: no torch.
"""
