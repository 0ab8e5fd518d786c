"""From a checkpoint to a model, or to another checkpoint.

Loading is a straight line: `checkpoints/checkpoint.py` opens, `plan.py` decides (with `precision.py`,
`tensors.py`, `sizes.py`, `devices.py`), `checking.py` refuses, `filling.py` reads every module from its
own tensors, `receipt.py` counts what came of it. `streaming.py` fills while the model runs, in the
pieces of `units.py`; `conversion.py` writes what was filled to disk, file by file
(`conversion_shards.py`), so that it can go on after an interruption (`conversion_journal.py`,
`conversion_source.py`). Start with `workbench.pangu.load`, then `plan.py`.

May import `linear`, `checkpoints`, `models` and the leaves.
"""
