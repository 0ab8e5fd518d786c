"""Reading single tensors of safetensors files into memory of their own, at the disk's pace.

Mapping a file (as the safetensors library does) keeps what was read counted as this process's
memory, beside the copy that is quantized or packed.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from workbench.checkpoints.shards import TensorInfo, file_state
from workbench.errors import CheckpointError

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
SAFETENSORS_NAMES = {dtype: name for name, dtype in DTYPES.items()}
PIECE = 1 << 22  # numbers that are converted at a time
C_LIBRARY = ctypes.CDLL(None) if sys.platform == "linux" else None


def read_tensor(name: str, info: TensorInfo, dtype: torch.dtype | None = None) -> torch.Tensor:
    """One tensor, checked.

    Parameters
    ----------
    dtype
        What the numbers are converted to, piece by piece: the stored ones never stand beside the
        converted ones. As stored by default.

    Raises
    ------
    CheckpointError
        If the file changed since its header was read, ends early, or a number in it is NaN or
        infinite.
    """
    stored = DTYPES[info.dtype]
    tensor = torch.empty(info.shape, dtype=dtype or stored)
    flat = tensor.view(-1)
    in_place = flat.dtype == stored
    piece = flat if in_place else torch.empty(min(len(flat), PIECE), dtype=stored)
    with _opened(info) as file:
        file.seek(info.offset)
        for part in flat.split(len(piece) or 1):
            numbers = piece[: len(part)]
            _read_into(file, memoryview(numbers.view(torch.uint8).numpy()), name, info)
            _checked(name, info, numbers)
            if not in_place:
                part.copy_(numbers)
    return tensor


def read_rows(name: str, info: TensorInfo, rows: Sequence[int]) -> torch.Tensor:
    """Some rows of a matrix, checked: [row, column], in the order asked for.

    Raises
    ------
    CheckpointError
        As `read_tensor`.
    IndexError
        For a row that the matrix has not.
    """
    size = info.nbytes // info.shape[0]
    buffer = torch.empty(len(rows) * size, dtype=torch.uint8)
    view = memoryview(buffer.numpy())
    with _opened(info) as file:
        for place, row in enumerate(rows):
            if not 0 <= row < info.shape[0]:
                raise IndexError(f"{name} has {info.shape[0]} rows, and row {row} was asked for")
            file.seek(info.offset + row * size)
            _read_into(file, view[place * size : (place + 1) * size], name, info)
    return _checked(name, info, buffer.view(DTYPES[info.dtype]).view(len(rows), info.shape[1]))


def read_ahead(infos: Iterable[TensorInfo]) -> None:
    """Ask the system to fetch these tensors from the disk while something else is done."""
    if not hasattr(os, "posix_fadvise"):  # not on macOS and Windows
        return
    for path, runs in _runs(infos).items():
        with path.open("rb", buffering=0) as file:
            for offset, nbytes in runs:
                os.posix_fadvise(file.fileno(), offset, nbytes, os.POSIX_FADV_WILLNEED)


def give_back_free_memory() -> None:
    """Have the C library return to the system what it keeps for later, where it can (glibc).

    Large pieces that come and go between small ones that stay leave holes that it does not fill:
    converting 0.5 GB without this left a process with 0.6 GB that nobody used.
    """
    if hasattr(C_LIBRARY, "malloc_trim"):
        C_LIBRARY.malloc_trim(0)


# -- inside -------------------------------------------------------------------------------------


@contextmanager
def _opened(info: TensorInfo) -> Iterator[Any]:
    """The file that holds a tensor, which must be the one whose header was read, and stay it."""
    with info.file.open("rb", buffering=0) as file:
        _require_unchanged(file, info)
        try:
            yield file
        except OSError as error:
            error.filename = error.filename or str(info.file)  # a read that fails does not name it
            raise
        _require_unchanged(file, info)


def _require_unchanged(file: Any, info: TensorInfo) -> None:
    if file_state(file.fileno()) != info.state:
        raise CheckpointError(
            f"{info.file} changed after it was opened and now holds different weights; load the "
            "checkpoint again."
        )


def _read_into(file: Any, view: memoryview, name: str, info: TensorInfo) -> None:
    while view:
        count = file.readinto(view)
        if not count:
            raise CheckpointError(
                f"{name}: {info.file} has become shorter since it was opened; download it again."
            )
        view = view[count:]


def _checked(name: str, info: TensorInfo, tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_floating_point() and tensor.numel():
        least, most = torch.aminmax(tensor)  # NaN and infinity come through; one pass, no copy
        if not bool(torch.isfinite(least) & torch.isfinite(most)):
            raise CheckpointError(
                f"{name} in {info.file.name} holds NaN or infinity; the file is damaged. "
                "Download it again."
            )
    return tensor


def _runs(infos: Iterable[TensorInfo]) -> dict[Path, list[list[int]]]:
    """File → (first byte, bytes) of stretches, with neighbours joined."""
    runs: dict[Path, list[list[int]]] = {}
    for info in sorted(infos, key=lambda info: (info.file, info.offset)):
        stretches = runs.setdefault(info.file, [])
        if stretches and sum(stretches[-1]) == info.offset:
            stretches[-1][1] += info.nbytes
        else:
            stretches.append([info.offset, info.nbytes])
    return runs
