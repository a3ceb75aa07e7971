"""A manifest and a classifier come in; a run folder of measurements goes out.

``prepare`` settles everything once, ``shard`` measures one part of the images, ``batch_rows`` one
batch of them.  ``samples`` decodes one image, without torch; ``batches`` does so ahead, in other
processes.  Torch wing.
"""
