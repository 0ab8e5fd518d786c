"""What these tests share. Conversion on disk."""

from pathlib import Path

import pytest

from workbench.loading.conversion import quantize_checkpoint
from workbench.loading.filling import Filler


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def stopped(
    source: Path, folder: Path, monkeypatch, modules: int = 70, shard_bytes: int = 300_000
) -> Path:
    """A conversion to 4 bit that was interrupted after so many modules."""
    fill, filled = Filler.fill, []

    def interrupted(self, module):
        if len(filled) == modules:
            raise KeyboardInterrupt
        filled.append(module)
        fill(self, module)

    with monkeypatch.context() as patched:
        patched.setattr(Filler, "fill", interrupted)
        with pytest.raises(KeyboardInterrupt):
            quantize_checkpoint(source, folder, 4, shard_bytes=shard_bytes)
    return folder
