"""The trace file: what it must hold, and opening it without reading it.

The layout is that of safetensors: 8 bytes with the header's length, a JSON header, the arrays. The
header's `__metadata__` holds the kind of file, a format version and the trace's meta.
"""

from __future__ import annotations

import json
import math
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import TraceError

KIND = "pangu-workbench-trace"
FORMAT_VERSION = 1
ROUTING = (
    "router_logits",
    "selected_experts",
    "routing_weights",
    "routed_norm",
    "shared_norm",
)
NUMPY_TYPES = {
    "F32": "<f4", "F16": "<f2", "F64": "<f8", "I64": "<i8", "I32": "<i4", "I16": "<i2", "U8": "u1"
}  # fmt: skip
AXES = {
    "token_ids": ("token",),
    "router_logits": ("moe_layer", "token", "expert"),
    "selected_experts": ("moe_layer", "token", "slot"),
    "routing_weights": ("moe_layer", "token", "slot"),
    "routed_norm": ("moe_layer", "token"),
    "shared_norm": ("moe_layer", "token"),
    "query": ("attention_layer", "token", "head", "head_dim"),
    "key": ("attention_layer", "token", "kv_head", "head_dim"),
    "top_ids": ("token", "rank"),
    "top_logprobs": ("token", "rank"),
    "chosen_logprobs": ("token",),
}
META = {
    "model_name": str,
    "config": dict,
    "num_groups": int,
    "attention_layers": list,
    "text": str,
    "pieces": list,
    "offsets": list,
    "spans": list,
    "prompt_length": int,
    "vocabulary": dict,
}


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays, mapped, and the meta of a saved trace.

    Raises
    ------
    TraceError
        If the file is missing, damaged, of another kind, or of a newer format.
    """
    if not path.is_file():
        raise TraceError(f"{path} is not a file; pass the path that trace.save() was given.")
    size = path.stat().st_size
    entries, data_start = _read_header(path, size)
    metadata = entries.pop("__metadata__", None)
    if not isinstance(metadata, dict) or metadata.get("kind") != KIND:
        raise TraceError(
            f"{path} is not a trace ({size:,} bytes of something else). Expected a file written by "
            "trace.save()."
        )
    version = metadata.get("format_version")
    if version not in [str(number) for number in range(1, FORMAT_VERSION + 1)]:
        raise TraceError(
            f"{path} has trace format {version or 'unknown'}, and this workbench reads up to "
            f"{FORMAT_VERSION}. Update pangu-workbench to open it."
        )
    try:
        meta = json.loads(metadata["meta"])
        arrays = {
            name: _map(path, entry, data_start, size - data_start)
            for name, entry in entries.items()
        }
        _check(arrays, meta)
    except EOFError as error:
        raise TraceError(f"{path} ends early ({size:,} bytes); copy or record it again.") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise TraceError(
            f"{path} is damaged ({type(error).__name__}: {error}); copy or record it again."
        ) from error
    return arrays, meta


def require_writable(path: Path) -> None:
    """Refuse a place where no trace can be written, before anything is computed for it.

    Raises
    ------
    TraceError
        If `path` is a folder, its folder is missing or closed, or its name is too long.
    """
    try:
        if path.is_dir():
            raise TraceError(f"{path} is a folder; add the file's name.")
        if not path.parent.is_dir():
            raise TraceError(f"{path.parent} is not a folder; create it first.")
        path.with_name(path.name + ".part").exists()  # the name may be too long
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise TraceError(f"{path} cannot be written ({error}); choose another file.") from error


# -- inside -------------------------------------------------------------------------------------


def _read_header(path: Path, size: int) -> tuple[dict[str, Any], int]:
    """The JSON header, empty where there is none, and where the arrays begin."""
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        try:
            entries = json.loads(file.read(length)) if 0 < length <= size - 8 else None
        except (ValueError, RecursionError):
            entries = None
    return (entries if isinstance(entries, dict) else {}), 8 + length


def _map(path: Path, entry: dict[str, Any], data_start: int, available: int) -> np.ndarray:
    """One array as the header describes it, mapped read-only."""
    if entry["dtype"] not in NUMPY_TYPES:
        raise ValueError(f"an array is of type {entry['dtype']}")
    kind, shape = np.dtype(NUMPY_TYPES[entry["dtype"]]), tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
        raise ValueError(f"the shape or place of an array is {shape}, {begin} to {end}")
    if end > available:
        raise EOFError
    if end - begin != math.prod(shape) * kind.itemsize:
        raise ValueError(f"{end - begin} bytes cannot hold the shape {shape} of {entry['dtype']}")
    if begin == end:
        return np.empty(shape, kind)
    return np.memmap(path, kind, "r", offset=data_start + begin, shape=shape)


def _check(arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    """Everything that a Trace relies on is there and fits together; else a ValueError."""
    if not isinstance(meta, dict):
        raise ValueError("its meta is not a JSON object")
    for key, kind in META.items():
        if not isinstance(meta.get(key), kind):
            raise ValueError(f"{key} in its meta is {meta.get(key)!r:.60}")
    needed = {"token_ids"}
    if arrays.keys() & {*ROUTING}:  # a serving engine records only the choices
        needed |= {"selected_experts"} if "origin" in meta else {*ROUTING}
    if meta["attention_layers"]:
        needed |= {"query", "key"}
    if missing := needed - arrays.keys():
        raise ValueError(f"it has no {', '.join(sorted(missing))}")
    sizes = {"token": len(meta["pieces"]), "attention_layer": len(meta["attention_layers"])}
    if arrays.keys() & {"query", "key"}:  # a serving engine's config may not name the heads
        sizes["head"] = meta["config"]["num_attention_heads"]
        sizes["kv_head"] = meta["config"]["num_key_value_heads"]
    for name in sorted(arrays.keys() & AXES.keys()):
        shape, axes = arrays[name].shape, AXES[name]
        if len(shape) != len(axes):
            raise ValueError(f"{name} has {len(shape)} axes and not {' '.join(axes)}")
        for axis, length in zip(axes, shape, strict=True):
            if sizes.setdefault(axis, length) != length:
                raise ValueError(f"{name} has {length} and not {sizes[axis]} on its {axis} axis")
    if len(meta["offsets"]) != sizes["token"]:
        raise ValueError(f"there are {len(meta['offsets'])} offsets for {sizes['token']} tokens")
