"""A corpus: the routing of many documents as sums, read without torch.

A folder holds `settings.json` (model, texts and settings it was made of), `documents.safetensors`
(what each document adds, a row each, filled as they are read), `totals-N.safetensors` (sums over
the first N documents) and `progress.json`, whose N is what counts: it is replaced last.
`workbench.tracing.corpus_recording` fills it.
"""

from __future__ import annotations

import json
import struct
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from workbench.errors import TraceError
from workbench.traces.documents import BATCH, Documents

KIND = "pangu-workbench-corpus"
FORMAT_VERSION = 1
TYPES = {"<u4": "U32", "<f4": "F32", "<f8": "F64", "<i8": "I64"}


class RoutingCorpus(Documents):
    """What `trace_corpus` recorded: every measure that takes a corpus reads it.

    Attributes
    ----------
    domains : list of str
        One per document that was read.
    tokens, windows : numpy.ndarray
        [document] int64: counted tokens; stretches in which the document was read, 1 unless it was
        longer than the window.
    settings : dict
        model_name, fingerprints, window, where and counts, as recorded.
    complete : bool
        Whether all documents were read.
    """

    domains: list[str]

    def __init__(
        self, folder: Path, settings: dict[str, Any], done: int, totals: dict[str, np.ndarray]
    ) -> None:
        self.folder, self.settings, self.done = folder, settings, done
        self.num_moe_layers = settings["num_moe_layers"]
        self.num_experts, self.num_groups = settings["num_experts"], settings["num_groups"]
        self.num_experts_per_tok = settings["num_experts_per_tok"]
        self._totals = totals
        self._rows = map_arrays(folder / "documents.safetensors", "r")
        self.domains = settings["domains"][:done]
        self.tokens = np.array(self._rows["tokens"][:done])
        self.windows = np.array(self._rows["windows"][:done])
        self.complete = done == len(settings["domains"])

    def __repr__(self) -> str:
        read = (
            f"{self.done}" if self.complete else f"{self.done} of {len(self.settings['domains'])}"
        )
        cut = int((self.windows > 1).sum())
        return (
            f"RoutingCorpus({self.settings['model_name']!r}, {read} documents of "
            f"{len(set(self.domains))} domains, {int(self.tokens.sum()):,} tokens"
            + (f", {cut} documents cut into windows of {self.settings['window']}" if cut else "")
            + ")"
        )

    @classmethod
    def load(cls, folder: str | Path) -> RoutingCorpus:
        """Open a corpus, also one whose recording was interrupted: it has what was finished.

        Raises
        ------
        TraceError
            If the folder holds no corpus, or one of a newer format.
        """
        folder = Path(folder)
        settings = read_json(folder / "settings.json")
        if settings.get("kind") != KIND:
            raise TraceError(
                f"{folder} does not contain a corpus; expected a folder of wb.trace_corpus."
            )
        if settings["format_version"] > FORMAT_VERSION:
            raise TraceError(
                f"{folder} has corpus format {settings['format_version']}, and this workbench reads "
                f"up to {FORMAT_VERSION}. Update pangu-workbench to open it."
            )
        progress = read_json(folder / "progress.json")
        if not progress.get("done"):
            raise TraceError(f"no document of {folder} has been read yet; run wb.trace_corpus.")
        return cls(folder, settings, progress["done"], read_totals(folder, progress))

    def has(self, name: str) -> bool:
        return name in self._rows

    def per_document(self, name: str) -> np.ndarray:
        return np.asarray(self._rows[name][: self.done], dtype=np.float64)

    def coactivation(self, domain: str | None) -> np.ndarray:
        return self._total("coactivation", domain)

    def transitions(self, pairs: str, domain: str | None) -> np.ndarray:
        return self._total(f"transitions_{pairs}", domain)

    def _total(self, name: str, domain: str | None) -> np.ndarray:
        self.in_domain(domain)
        names = list(dict.fromkeys(self.settings["domains"]))
        total = self._totals[name]  # [domain, …]
        return total.sum(0) if domain is None else total[names.index(domain)]

    def imbalance(self, batch: int, devices: int, everywhere: bool) -> np.ndarray:
        if (batch, devices) != (BATCH, self._devices):
            raise TraceError(
                f"this corpus has scores of batches of {BATCH} tokens on {self._devices} devices; "
                f"{batch} tokens on {devices} were asked for. Measure traces instead."
            )
        return self._totals["imbalance_global" if everywhere else "imbalance"]

    @cached_property
    def _devices(self) -> int:
        return self.num_groups if self.num_groups > 1 else self.num_experts_per_tok

    def vocabulary(self, minimum: int) -> tuple[np.ndarray, list[str], np.ndarray, np.ndarray]:
        counts = self._totals["vocabulary"]  # [type, layer, expert]
        occurrences = counts[:, 0].sum(-1, dtype=np.int64) // self.num_experts_per_tok
        keep = np.flatnonzero(occurrences >= minimum)
        pieces = [self.settings["pieces"][place] for place in keep]
        ids = np.array(self.settings["vocabulary"], dtype=np.int64)
        return ids[keep], pieces, occurrences[keep], counts[keep].astype(np.int64)


# -- files --------------------------------------------------------------------------------------


def map_arrays(path: Path, mode: str) -> dict[str, np.memmap]:
    """The arrays of a safetensors file, mapped.

    Raises
    ------
    TraceError
        If it is missing or damaged.
    """
    kinds = {word: kind for kind, word in TYPES.items()}
    try:
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            entries = json.loads(file.read(length))
        end = 8 + length + max(entry["data_offsets"][1] for entry in entries.values())
        if path.stat().st_size < end:  # mapped to be written, it would grow by zeros
            raise ValueError("it ends early")
        return {
            name: np.memmap(
                path,
                kinds[entry["dtype"]],
                mode,
                offset=8 + length + entry["data_offsets"][0],
                shape=tuple(entry["shape"]),
            )
            for name, entry in entries.items()
        }
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise TraceError(
            f"{path} is missing or damaged ({error}); delete its folder and record again."
        ) from error


def read_totals(folder: Path, progress: dict[str, Any]) -> dict[str, np.ndarray]:
    try:
        return load_file(folder / progress["totals"])
    except (OSError, SafetensorError) as error:
        raise TraceError(
            f"{folder / progress['totals']} is missing or damaged ({error}); delete the folder and "
            "record again."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise TraceError(
            f"{path} is damaged ({error}); delete its folder and record again."
        ) from error
