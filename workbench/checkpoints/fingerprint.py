"""A short name for exactly these files, and for the machine and packages that run them."""

from __future__ import annotations

import hashlib
import platform
import struct
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from workbench import __version__

SAMPLES, SAMPLE_BYTES = 64, 4096  # of each file's weights: at equal distances
DESCRIPTIONS = (
    "config.json",
    "generation_config.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "model.safetensors.index.json",
    "quant_model_descr*.json",  # msmodelslim's, and its index
    "quant_model_weight*.index.json",
)
PACKAGES = ("torch", "transformers", "bitsandbytes", "numpy")


def fingerprint(folder: Path) -> str:
    """16 hexadecimal digits that differ for different checkpoints.

    The SHA-256 of the descriptions (config, generation config, tokenizer, index, and how an Ascend
    file is quantized), of every weight file's name, size and safetensors header, and of 64 samples
    of 4 KiB of its weights. Other weights of the same shapes are told apart; a single changed weight
    may go unnoticed: reading all of a large checkpoint would take minutes.
    """
    digest = hashlib.sha256()
    for name in DESCRIPTIONS:
        for file in sorted(folder.glob(name)):
            _add(digest, file.name.encode(), file.read_bytes())
    for file in sorted(folder.glob("*.safetensors")):
        size = file.stat().st_size
        with file.open("rb") as weights:
            length = weights.read(8)
            header = weights.read(struct.unpack("<Q", length)[0])
            _add(digest, file.name.encode(), str(size).encode(), header)
            for place in range(SAMPLES):
                weights.seek(8 + len(header) + (size - 8 - len(header)) * place // SAMPLES)
                digest.update(weights.read(SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """What results depend on beside the weights: packages, Python, processor, torch's threads."""
    torch = sys.modules.get("torch")  # nothing is computed where it was not imported
    return _installed() | ({} if torch is None else {"threads": str(torch.get_num_threads())})


@cache
def _installed() -> dict[str, str]:
    found = {"workbench": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # reading needs none of them
            continue
    return found | {"python": platform.python_version(), "processor": _processor()}


def _processor() -> str:
    """The processor's own name where the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _add(digest: hashlib._Hash, *parts: bytes) -> None:
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
