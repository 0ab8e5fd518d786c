"""What a conversion reads, and that it stays as it was."""

from __future__ import annotations

import hashlib
from typing import Any

from workbench.checkpoints.checkpoint import Checkpoint
from workbench.errors import CheckpointError
from workbench.loading.conversion_journal import ConversionJournal

SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "quant_model_descr*.json",
)


def source_fingerprint(checkpoint: Checkpoint) -> dict[str, Any]:
    """Size, time and header of every file of weights, and the hash of what else is read."""
    told: dict[str, Any] = {}
    for file in sorted({info.file for info in checkpoint.tensors.values()}):
        status = file.stat()
        with file.open("rb") as stream:
            head = hashlib.sha256(stream.read(min(status.st_size, 1 << 16))).hexdigest()
        told[file.name] = [status.st_size, status.st_mtime_ns, head]
    for pattern in SMALL_FILES:
        for file in checkpoint.path.glob(pattern):
            told[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return told


def require_unchanged(checkpoint: Checkpoint, journal: ConversionJournal) -> None:
    if source_fingerprint(checkpoint) != journal.job["source"]:
        raise CheckpointError(
            f"{checkpoint.path} changed while it was being read (sizes, times or headers of its files "
            f"differ now); remove {journal.folder} and start again with a source that does not "
            "change."
        )
