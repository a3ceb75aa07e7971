"""Images: reads a file and turns its pixels into the network's input.

Files come in. Pixels as the network expects them go out, and region masks moved in the same way.
``decoding`` reads a file; ``preprocessing`` resizes, crops and normalizes. Neither wing: numpy and
Pillow, no torch.
"""
