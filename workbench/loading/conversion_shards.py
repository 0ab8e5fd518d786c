"""The files that a conversion writes: which module goes into which, and writing one so that it can go on.

A file gets its header last, into room that is kept for it, and then its own name.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from workbench.checkpoints.reading import SAFETENSORS_NAMES, read_ahead
from workbench.checkpoints.shards import SINGLE
from workbench.errors import CheckpointError
from workbench.loading.conversion_journal import ConversionJournal, part_of
from workbench.loading.conversion_source import require_unchanged
from workbench.loading.filling import Filler

NOTE_SECONDS = 5  # between two notes of what is in: what a kill costs
ENTRY_BYTES = 140  # room in a header for one tensor's type, shape and offsets, beside its name


@dataclass(frozen=True)
class Shard:
    """A file to be written: its name, and the modules whose tensors it holds."""

    file_name: str
    modules: tuple[str, ...]


def header_room(filler: Filler, shard: Shard) -> int:
    """Bytes kept free for a file's header, before its tensors are known."""
    names = [name for module in shard.modules for name in filler.names(module)]
    return sum(2 * len(name) + 8 * ENTRY_BYTES for name in names) + 1024  # a weight has 6 parts


def shards_of(sizes: dict[str, int], shard_bytes: int) -> list[Shard]:
    groups: list[list[str]] = [[]]
    filled = 0
    for module, size in sizes.items():
        if groups[-1] and filled + size > shard_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(module)
        filled += size
    count = len(groups)
    names = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    return [
        Shard(SINGLE if count == 1 else name, tuple(group))
        for name, group in zip(names, groups, strict=True)
    ]


def modules_left(shard: Shard, journal: ConversionJournal) -> tuple[str, ...]:
    """Those that are still to be written into a file."""
    return shard.modules[len(journal.begun.get(shard.file_name, ())) :]


def write_shard(filler: Filler, shard: Shard, journal: ConversionJournal, bar: tqdm) -> None:
    """Write one file under another name, or go on with it, and then give it its own.

    The header comes last, into a room that is kept for it. Whatever ends this early, the disk has
    the modules that are in by then, and the journal says so.
    """
    temporary = part_of(journal.folder / shard.file_name)
    start = 8 + header_room(filler, shard)
    left = modules_left(shard, journal)
    modules = dict(journal.begun.get(shard.file_name, {}))
    temporary.touch()
    with temporary.open("r+b", buffering=0) as file:

        def keep() -> float:
            os.fsync(file.fileno())
            require_unchanged(filler.checkpoint, journal)
            journal.note(shard.file_name, modules, start + _end(modules))
            return time.monotonic()

        file.seek(file.truncate(start + _end(modules)))
        kept = time.monotonic()
        try:
            for module, following in zip_longest(left, left[1:]):
                read_ahead(filler.infos([following]) if following else [])
                filler.fill(module)
                modules[module] = _write_module(file, filler.model, module, file.tell() - start)
                filler.empty(module)
                bar.update(sum(info.nbytes for info in filler.infos([module])))
                if time.monotonic() - kept > NOTE_SECONDS:
                    kept = keep()
            _write_header(file, start, modules)
            os.fsync(file.fileno())
            require_unchanged(filler.checkpoint, journal)
        except BaseException as error:
            with suppress(OSError, CheckpointError):  # what ended this is told
                keep()
            if isinstance(error, CheckpointError):  # perhaps because the source changed
                require_unchanged(filler.checkpoint, journal)
            raise
    journal.finish(shard.file_name, modules)


def _end(modules: dict[str, dict[str, Any]]) -> int:
    """Where the bytes of the last module end, counted from the first tensor's."""
    entries = (entry for written in modules.values() for entry in written.values())
    return max((entry["data_offsets"][1] for entry in entries), default=0)


def _write_header(file: Any, start: int, modules: dict[str, dict[str, Any]]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for written in modules.values():
        header |= written
    room = start - 8
    text = json.dumps(header, separators=(",", ":")).encode()
    assert len(text) <= room, "the header outgrew its room"
    file.seek(0)
    _write_all(file, memoryview(room.to_bytes(8, "little") + text.ljust(room)))


def _write_module(
    file: Any, model: nn.Module, module: str, offset: int
) -> dict[str, dict[str, Any]]:
    """Write what one module stores; its entries in the header. No tensor is held afterwards."""
    entries = {}
    for name, tensor in _own_tensors(model, module).items():
        _write_all(file, memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy()))
        entries[name] = {
            "dtype": SAFETENSORS_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    return entries


def _own_tensors(model: nn.Module, module_name: str) -> dict[str, torch.Tensor]:
    """What a module itself stores, as transformers and bitsandbytes name it, without its children."""
    tensors: dict[str, torch.Tensor] = {}
    module = model.get_submodule(module_name)
    module._save_to_state_dict(tensors, f"{module_name}.", keep_vars=False)
    return tensors


def _write_all(file: Any, data: memoryview) -> None:
    while data:
        data = data[file.write(data) :]
