"""Reading single tensors of safetensors files into memory of their own, at the disk's pace.

Mapping a file (as the safetensors library does) keeps what was read counted as this process's
memory, beside the copy that is quantized or packed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch

from workbench.errors import CheckpointError
from workbench.shards import TensorInfo

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
SAFETENSORS_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def read_tensor(name: str, info: TensorInfo) -> torch.Tensor:
    """One tensor, checked.

    Raises
    ------
    CheckpointError
        If the file ends early, or a number in it is NaN or infinite.
    """
    buffer = torch.empty(info.nbytes, dtype=torch.uint8)
    view = memoryview(buffer.numpy())
    with info.file.open("rb", buffering=0) as file:
        file.seek(info.offset)
        done = 0
        while done < info.nbytes:
            count = file.readinto(view[done:])
            if not count:
                raise CheckpointError(
                    f"{name}: {info.file} ends early, and did not when it was opened; "
                    "download it again."
                )
            done += count
    tensor = buffer.view(DTYPES[info.dtype]).view(info.shape)
    if tensor.is_floating_point() and tensor.numel():
        least, most = torch.aminmax(tensor)  # NaN and infinity come through; one pass, no copy
        if not bool(torch.isfinite(least) & torch.isfinite(most)):
            raise CheckpointError(
                f"{name} in {info.file.name} holds NaN or infinity; the file is damaged. "
                "Download it again."
            )
    return tensor


def read_ahead(infos: Iterable[TensorInfo]) -> None:
    """Ask the system to fetch these tensors from the disk while something else is done."""
    if not hasattr(os, "posix_fadvise"):  # not on macOS and Windows
        return
    for info in infos:
        with info.file.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), info.offset, info.nbytes, os.POSIX_FADV_WILLNEED)
