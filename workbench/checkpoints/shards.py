"""The safetensors files of a checkpoint: which tensor lies where, checked before any is read."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import CheckpointError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
ASCEND_PREFIX = "quant_model_weight"  # msmodelslim's name for the same files
ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1
}  # fmt: skip


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor lies: file, safetensors type name, shape, first byte, size in bytes.

    `state` is the file's `file_state` when its header was read; None while it is on the hub.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    state: tuple[int, int] | None = None


def tensors_in(folder: Path) -> dict[str, TensorInfo]:
    """Every tensor of the checkpoint in a folder, from the headers of its files alone.

    Raises
    ------
    CheckpointError
        For pickled weights, a missing, truncated or damaged file, a tensor that stands in two
        files, and files that do not hold what their index says.
    """
    weight_map = read_index(folder)
    if weight_map is None:
        singles = [*sorted(folder.glob(f"{ASCEND_PREFIX}*.safetensors")), folder / SINGLE]
        if not singles[0].is_file():
            refuse_without_weights(str(folder), [file.name for file in folder.iterdir()])
        if len(singles) > 2:
            raise CheckpointError(
                f"{folder} holds {singles[0].name}, {singles[1].name} and no index that says which "
                "belong together. Keep the files of one checkpoint, with their index."
            )
        return read_header(singles[0])
    names = sorted(set(weight_map.values()))
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise CheckpointError(
            f"{missing[0]} is missing from {folder}: {INDEX} names {len(names)} files. "
            "Download it again."
        )
    tensors: dict[str, TensorInfo] = {}
    for name in names:
        header = read_header(folder / name)
        if twice := sorted(tensors.keys() & header.keys()):
            raise CheckpointError(
                f"{twice[0]} is in both {tensors[twice[0]].file.name} and {name}; expected it "
                "once. The files do not belong to one checkpoint: download them again."
            )
        tensors |= header
    for tensor, name in weight_map.items():
        if tensor not in tensors or tensors[tensor].file.name != name:
            raise CheckpointError(
                f"{tensor} is missing from {name}, where {INDEX} says that it is. "
                "Download that file again."
            )
    return tensors


def read_index(folder: Path) -> dict[str, str] | None:
    """Tensor name to file name, or None where the checkpoint has no index.

    Raises
    ------
    CheckpointError
        If the index is damaged or names a file outside the folder.
    """
    file = next(iter(sorted(folder.glob(f"{ASCEND_PREFIX}*.index.json"))), folder / INDEX)
    if not file.is_file() or (
        file.name == INDEX and any(folder.glob(f"{ASCEND_PREFIX}*.safetensors"))
    ):
        return None  # an index of the weights that Ascend's were made from is not theirs
    weight_map = read_json(file).get("weight_map")
    if (
        not isinstance(weight_map, dict)
        or not weight_map
        or not all(isinstance(name, str) for name in weight_map.values())
    ):
        raise CheckpointError(f"{file} has no weight_map of names to files; download it again.")
    for name in weight_map.values():
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(
                f"{file} names {name!r}; expected a .safetensors file of the same folder. "
                "Do not trust this checkpoint; download it from its publisher."
            )
    return weight_map


def refuse_without_weights(where: str, names: list[str]) -> None:
    """Raise for a checkpoint without safetensors files, whose files are called `names`."""
    pickled = sorted(name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt")))
    if pickled:
        raise CheckpointError(
            f"{where} holds only pickled weights ({', '.join(pickled[:3])}), which can run any code "
            "when they are opened; they are refused. Pass a checkpoint with .safetensors files, "
            "or convert it to safetensors on a machine where you trust it."
        )
    raise CheckpointError(
        f"{where} contains no weights: expected {SINGLE}, or {INDEX} and the files it names. "
        "Download them again."
    )


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object.

    Raises
    ------
    CheckpointError
        If the file is no JSON object.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not JSON ({error}); download it again.") from error
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read ({error}).") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{file} does not contain a JSON object; download it again.")
    return values


def read_header(file: Path) -> dict[str, TensorInfo]:
    """The header of a safetensors file: 8 bytes of length, JSON, then the tensors' bytes.

    Raises
    ------
    CheckpointError
        If the file ends early, or its header does not describe its bytes exactly.
    """
    with file.open("rb") as stream:
        state = file_state(stream.fileno())
        size = state[0]
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
        if not 0 < length <= size - 8:
            raise CheckpointError(
                f"{file} ends early or is not a safetensors file ({size:,} bytes); download it again."
            )
        text = stream.read(length)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        infos = {name: _info(file, entry, 8 + length, state) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{file} has a damaged safetensors header ({error}); download it again."
        ) from error
    end = 8 + length
    for info in sorted(infos.values(), key=lambda info: (info.offset, info.nbytes)):
        if info.offset != end:
            raise CheckpointError(
                f"{file} has a damaged safetensors header (tensors overlap or leave a hole at byte "
                f"{min(end, info.offset):,}); download it again."
            )
        end += info.nbytes
    if size < end:
        raise CheckpointError(
            f"{file} ends early ({size / 1e9:.6f} of {end / 1e9:.6f} GB); download it again."
        )
    if size > end:
        raise CheckpointError(
            f"{file} has {size - end:,} bytes after its last tensor, which its header does not "
            "name; download it again."
        )
    return infos


def file_state(descriptor: int) -> tuple[int, int]:
    """Size of an open file and time of its last change: others for other bytes.

    Its number is left out: some file systems over a network number their files anew.
    """
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns


def _info(file: Path, entry: Mapping[str, Any], data: int, state: tuple[int, int]) -> TensorInfo:
    dtype, shape = entry["dtype"], tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise ValueError(f"type {dtype!r} is not one of {', '.join(ITEM_BYTES)}")
    if not all(isinstance(number, int) and number >= 0 for number in (*shape, begin, end)):
        raise ValueError(f"shape {shape} and offsets {begin}, {end} are not whole numbers")
    if end - begin != math.prod(shape) * ITEM_BYTES[dtype]:
        raise ValueError(f"shape {shape} of {dtype} does not take {end - begin} bytes")
    return TensorInfo(file, dtype, shape, data + begin, end - begin, state)
