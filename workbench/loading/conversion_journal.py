"""The folder of a conversion: who writes there, what is finished, and how far the next file is.

A journal tells which files are finished, a note beside it which modules of the next one are in.
Both are replaced whole, when the disk has what they tell of: a run may be killed at any moment.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from workbench.checkpoints.checkpoint import JOURNAL
from workbench.checkpoints.shards import read_header
from workbench.errors import CheckpointError, QuantizationError
from workbench.locks import take_lock

LOCK = JOURNAL + ".lock"  # held by the one process that writes
NOTE = "unfinished_shard.json"
TEMPORARY = "unfinished_files"  # a folder: tokenizer and settings, before they get their places
PART = ".part"  # follows the name of what is not whole yet


class ConversionJournal:
    """What is converted in a folder, and how far it is.

    Parameters
    ----------
    folder
        Where the converted checkpoint is written.
    job
        Source, settings and files. A journal that is there already must tell of the same.

    Attributes
    ----------
    finished : dict
        File → tensor → bytes, of every finished file that is there with its header and its size.
    begun : dict
        File → module → tensor → its entry in the header, of the modules that are in a file which
        is not finished; at most one file, whose bytes are there.
    claimed : list of str
        Names of what is written when every file is finished: tokenizer, settings, index.

    Raises
    ------
    QuantizationError
        If the journal is damaged, or tells of another job; if something is in the folder that
        this job did not write.
    """

    def __init__(self, folder: Path, job: dict[str, Any]) -> None:
        self.folder, self.job = folder, job
        self.finished: dict[str, dict[str, int]] = {}
        self.begun: dict[str, dict[str, dict[str, Any]]] = {}
        self.claimed: list[str] = []
        self._in_parts = {JOURNAL, NOTE, *job["shards"]}  # first written under another name
        if (folder / JOURNAL).exists():
            before, finished, self.claimed = self._read()
            if before != job:
                raise QuantizationError(
                    f"{folder} contains an unfinished conversion with other settings: "
                    f"{_differences(before, job)}. Run it as before, or remove the folder and "
                    "start again."
                )
            for name, entries in finished.items():
                if _holds(part_of(folder / name), entries):  # a kill came before its own name
                    os.replace(part_of(folder / name), folder / name)
                if _holds(folder / name, entries):
                    self.finished[name] = entries
            self.begun = self._read_note()
            own = {LOCK, TEMPORARY, *self.claimed, *self._in_parts}
            own |= {name + PART for name in self._in_parts}
            self._refuse(_names_in(folder) - own)

    def write(self) -> None:
        """Say what is converted, and what is finished: from now on the folder is this job's."""
        told = {"job": self.job, "finished": self.finished, "claimed": self.claimed}
        write_whole(self.folder / JOURNAL, json.dumps(told).encode())

    def note(self, file_name: str, modules: dict[str, dict[str, Any]], size: int) -> None:
        """Say which modules the disk has, in the first `size` bytes of a file that is not finished."""
        self.begun = {file_name: modules}
        told = {"file": file_name, "size": size, "modules": modules}
        write_whole(self.folder / NOTE, json.dumps(told).encode())

    def finish(self, file_name: str, modules: dict[str, dict[str, Any]]) -> None:
        """Say that a file is whole, with these modules, and give it its own name."""
        self.finished[file_name] = {
            name: end - begin
            for entries in modules.values()
            for name, entry in entries.items()
            for begin, end in [entry["data_offsets"]]
        }
        self.write()
        os.replace(part_of(self.folder / file_name), self.folder / file_name)
        if self.begun.pop(file_name, None) is not None:
            (self.folder / NOTE).unlink()

    def claim(self, names: list[str]) -> None:
        """Say which names the last files get.

        Raises
        ------
        QuantizationError
            If one of them is there, and not from this job.
        """
        self._refuse(
            name for name in names if (self.folder / name).exists() and name not in self.claimed
        )
        self.claimed = names
        self.write()

    def end(self) -> None:
        """The conversion is whole: nothing is left to tell."""
        (self.folder / JOURNAL).unlink()

    def remove_leftovers(self) -> None:
        """What a killed run left half written, and nobody goes on with."""
        if not self.begun:
            (self.folder / NOTE).unlink(missing_ok=True)
        for name in self._in_parts - self.begun.keys():
            part_of(self.folder / name).unlink(missing_ok=True)
        if (self.folder / TEMPORARY).exists():
            shutil.rmtree(self.folder / TEMPORARY)

    def _refuse(self, names: Iterable[str]) -> None:
        if found := ", ".join(sorted(names)):
            raise QuantizationError(
                f"{self.folder} contains files that this conversion did not write ({found}), and nothing is "
                "overwritten. Move them elsewhere and run the conversion again."
            )

    def _read(self) -> tuple[dict[str, Any], dict[str, dict[str, int]], list[str]]:
        file = self.folder / JOURNAL
        try:
            told = json.loads(file.read_bytes())
            job, finished = told["job"], told["finished"]
            claimed = [str(name) for name in told["claimed"]]
            if not all(isinstance(part, dict) for part in (job, finished, *finished.values())):
                raise ValueError("another shape was expected")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise QuantizationError(
                f"{file} is damaged ({type(error).__name__}: {error}); without it, "
                f"nobody can tell what is finished. Remove {self.folder} and start again."
            ) from error
        return job, finished, claimed

    def _read_note(self) -> dict[str, dict[str, dict[str, Any]]]:
        """What the note says; nothing where it is damaged, or the file has not what it says."""
        try:
            told = json.loads((self.folder / NOTE).read_bytes())
            name, size, modules = told["file"], told["size"], told["modules"]
            there = name not in self.finished and part_of(self.folder / name).stat().st_size >= size
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}
        return {name: modules} if there else {}


def require_usable(folder: Path) -> None:
    """Refuse a folder that holds something else than an unfinished conversion.

    Raises
    ------
    QuantizationError
        If so.
    """
    if folder.exists() and not folder.is_dir():
        raise QuantizationError(f"{folder} is a file; pass a folder that is new or empty.")
    names = _names_in(folder) if folder.is_dir() else set()
    if names - {LOCK, JOURNAL + PART} and JOURNAL not in names:
        found = "holds a whole checkpoint already" if "config.json" in names else "is not empty"
        raise QuantizationError(
            f"{folder} {found} and nothing in it is overwritten; pass a folder that is new or empty."
        )


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep every other run out of the folder, which is made if it is not there.

    The system lets go of the lock when the process ends, however it ends. Where nothing was begun,
    what was made goes away again.

    Raises
    ------
    QuantizationError
        If another run is in it.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("ab") as file:
        if not take_lock(file.fileno()):
            raise QuantizationError(
                f"another run is writing to {folder}; wait until it has ended, or choose another "
                "folder."
            )
        try:
            yield
        finally:
            file.close()  # Windows removes no file that is open
            if not (folder / JOURNAL).exists():
                with suppress(OSError):  # a waiting run has it open, or the folder is not empty
                    (folder / LOCK).unlink()
                    for path in made:
                        path.rmdir()


def part_of(file: Path) -> Path:
    """What a file is called until it is whole."""
    return file.with_name(file.name + PART)


def write_whole(file: Path, content: bytes) -> None:
    """Replace a file in one step."""
    temporary = part_of(file)
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


# -- inside -------------------------------------------------------------------------------------


def _names_in(folder: Path) -> set[str]:
    """What a folder holds, but for what systems leave there (.DS_Store), which is in nobody's way."""
    return {file.name for file in folder.iterdir() if not file.name.startswith(".")}


def _differences(before: dict[str, Any], job: dict[str, Any]) -> str:
    """What another conversion was asked for, in words."""
    said = []
    if before.get("source") != job["source"]:
        said.append("its source was different, or has changed since")
    if before.get("bits") != job["bits"]:  # the other settings follow
        said.append(f"bits was {before.get('bits')} and is {job['bits']}")
    elif before.get("quant_type") != job["quant_type"]:
        said.append(f"quant_type was {before.get('quant_type')} and is {job['quant_type']}")
    return ", ".join(said) or "its files had a different size"


def _holds(file: Path, entries: dict[str, int]) -> bool:
    """Whether a finished shard is still there, with a header of these tensors and with its size."""
    try:
        return {name: info.nbytes for name, info in read_header(file).items()} == entries
    except (OSError, CheckpointError):
        return False
