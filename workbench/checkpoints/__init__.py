"""Files of a checkpoint: opened safely, described, read.

`checkpoint.py` finds a checkpoint and says what it is; `shards.py` reads the headers of its files,
`hub.py` fetches them, `ascend.py` knows msmodelslim's layout. `reading.py` reads single tensors,
`fingerprint.py` tells two checkpoints apart. Start with `checkpoint.py`.

May import `models` (for the configuration's classes, when a checkpoint is opened) and the leaves.
Only `reading.py` imports torch.
"""
