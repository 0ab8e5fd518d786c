"""Modules that multiply quantized weights.

`quantization.py` makes bitsandbytes' 4-bit and 8-bit modules and fills them, `float32_linear.py`
multiplies in float32 on processors without bfloat16 instructions, `ascend_linear.py` computes with
what msmodelslim stored for Ascend. Start with `quantization.py`. A new kind of linear module gets a
file here, and is put in its place by `workbench/loading/filling.py`.

May import `checkpoints`, `models` and the leaves.
"""
