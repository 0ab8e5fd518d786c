"""The folder of a corpus while it is being filled; `workbench/traces/corpus.py` reads it."""

from __future__ import annotations

import errno
import json
import os
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from workbench.analysis import tallies
from workbench.errors import TraceError
from workbench.traces.corpus import KIND, TYPES, map_arrays, read_json, read_totals
from workbench.traces.documents import BATCH
from workbench.traces.trace import Trace

SUMS = (*tallies.DECISIONS, "shared_share", "churn", "churn_tokens")  # [document, layer]
BY_DOMAIN = ("coactivation", *(f"transitions_{pairs}" for pairs in tallies.PAIRS))


class CorpusFolder:
    """A corpus while it is being filled.

    Parameters
    ----------
    settings
        What it is made of; another corpus in the same folder is refused.
    save_seconds
        Between two saves, at least.

    Raises
    ------
    TraceError
        For a folder of something else, or one that cannot be written.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], save_seconds: float) -> None:
        self.folder, self.settings, self.save_seconds = folder, settings, save_seconds
        self.names = list(dict.fromkeys(settings["domains"]))
        self.types = np.array(settings["vocabulary"], dtype=np.int64)
        with _explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / "settings.json").exists():
                _require_same(read_json(folder / "settings.json"), settings, folder)
            else:
                _allocate(folder / "documents.safetensors", self._row_shapes())
                _write_json(folder / "settings.json", settings)
        self.rows = map_arrays(folder / "documents.safetensors", "r+")
        progress = read_json(folder / "progress.json")
        self.done = self.saved = progress.get("done", 0)
        self.totals = read_totals(folder, progress) if self.done else self._empty_totals()
        self.last_save, self.whole = time.monotonic(), True

    def _row_shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        documents, layers = len(self.settings["domains"]), self.settings["num_moe_layers"]
        experts = (documents, layers, self.settings["num_experts"])
        return (
            {"tokens": ("<i8", (documents,)), "windows": ("<i8", (documents,))}
            | {name: ("<u4", experts) for name in ("count", "global_count")}
            | {name: ("<f4", experts) for name in ("weight", "probability")}
            | {name: ("<f8", (documents, layers)) for name in SUMS}
        )

    def _empty_totals(self) -> dict[str, np.ndarray]:
        layers, experts = self.settings["num_moe_layers"], self.settings["num_experts"]
        domains, bins = len(self.names), BATCH * self.settings["num_experts_per_tok"] + 1
        steps = np.zeros((domains, layers - 1, experts, experts))
        return {
            "coactivation": np.zeros((domains, layers, experts, experts)),
            "imbalance": np.zeros((layers, bins)),
            "imbalance_global": np.zeros((layers, bins)),
            "vocabulary": np.zeros((len(self.types), layers, experts), dtype=np.uint32),
        } | {f"transitions_{pairs}": steps.copy() for pairs in tallies.PAIRS}

    def add(self, windows: Iterable[tuple[Trace, np.ndarray]]) -> None:
        """One document, window by window; nothing of it counts before all of it is there."""
        place = self.done
        domain = self.names.index(self.settings["domains"][place])
        row = {name: np.zeros(array.shape[1:]) for name, array in self.rows.items()}
        sums = {
            name: np.zeros(array.shape[1:] if name in BY_DOMAIN else array.shape, array.dtype)
            for name, array in self.totals.items()
        }
        devices = self.settings["num_groups"]
        devices = devices if devices > 1 else self.settings["num_experts_per_tok"]
        for trace, mask in windows:
            _add_window(row, trace, mask)
            sums["coactivation"] += tallies.coactivation(trace, mask)
            for pairs in tallies.PAIRS:
                sums[f"transitions_{pairs}"] += tallies.transitions(trace, mask, pairs)
            for name, everywhere in (("imbalance", False), ("imbalance_global", True)):
                sums[name] += tallies.imbalance(trace, mask, BATCH, devices, everywhere)
            sums["vocabulary"] += tallies.vocabulary(trace, mask, self.types).astype(np.uint32)
        self.whole = False  # an interruption from here on leaves what was saved last
        for name, total in self.totals.items():
            (total[domain] if name in BY_DOMAIN else total)[...] += sums[name]
        for name, array in self.rows.items():
            array[place] = row[name]
        self.done += 1
        self.whole = True
        if time.monotonic() - self.last_save >= self.save_seconds:
            self.save()

    def save(self) -> None:
        """Rows first, then totals, then the number that makes both count."""
        if self.done == self.saved or not self.whole:
            return
        with _explained(self.folder):
            for array in self.rows.values():
                array.flush()
            name = f"totals-{self.done}.safetensors"
            part = self.folder / (name + ".part")
            save_file(self.totals, part)
            os.replace(part, self.folder / name)
            _write_json(self.folder / "progress.json", {"done": self.done, "totals": name})
            for old in self.folder.glob("totals-*"):
                if old.name != name:
                    old.unlink()
        self.saved, self.last_save = self.done, time.monotonic()


def _add_window(row: dict[str, np.ndarray], trace: Trace, mask: np.ndarray) -> None:
    row["tokens"] += mask.sum()
    row["windows"] += 1
    for name in tallies.LOADS:
        row[name] += tallies.load(trace, mask, name)
    for layer in range(trace.num_moe_layers):
        for name, values in tallies.decisions(trace, layer, mask).items():
            row[name][layer] += values.sum()
        row["shared_share"][layer] += np.nansum(tallies.shared_share(trace, layer, mask))
        tokens, values = tallies.churn(trace, layer, mask)
        row["churn"][layer] += values.sum()
        row["churn_tokens"][layer] += len(tokens)


def _require_same(found: dict[str, Any], wanted: dict[str, Any], folder: Path) -> None:
    if found.get("kind") != KIND:
        raise TraceError(
            f"{folder} has a settings.json that is not a corpus's; choose another folder."
        )
    before, now = found["fingerprints"], wanted["fingerprints"]
    if changed := [name for name in now if before.get(name) != now[name]]:
        detail = f" ({before['settings']} then, {now['settings']} now)" * ("settings" in changed)
        words = {"model": "another model", "texts": "other texts", "settings": "other settings"}
        raise TraceError(
            f"{folder} was recorded with {' and '.join(words[name] for name in changed)}{detail}: "
            "resuming would mix the two. Choose another folder, or delete this one."
        )


# -- files --------------------------------------------------------------------------------------


def _allocate(path: Path, arrays: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    """A safetensors file of zeros, to be filled through `map_arrays`.

    Its room is taken at once, where the system can: a disk that is full when a page of a mapped
    file is written ends the process.
    """
    entries, offset = {}, 0
    for name, (kind, shape) in arrays.items():
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        entries[name] = {
            "dtype": TYPES[kind],
            "shape": shape,
            "data_offsets": [offset, offset + size],
        }
        offset += size
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    size = 8 + len(header) + offset
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.flush()
        try:
            if hasattr(os, "posix_fallocate"):  # not on macOS and Windows
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot
                raise
        file.truncate(size)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Say in plain words that a file could not be written."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise TraceError(
            f"{folder} cannot be written ({error}); what was saved is kept: free some space, or make "
            "the folder writable, and run the same call again."
        ) from error


def _write_json(path: Path, values: dict[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
    os.replace(part, path)
