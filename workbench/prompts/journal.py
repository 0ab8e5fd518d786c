"""Append-only files of JSON lines: readable by people, safe against crashes and several writers.

Nothing in such a file is ever changed: what is learnt later is a later line.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import HistoryError

try:
    import fcntl
except ImportError:  # Windows has no such locks: there a line is still one write at the file's end
    fcntl = None


@dataclass(frozen=True)
class DamagedLine:
    """A line that is no JSON object: its number, counted from 1, and what stands in it."""

    number: int
    text: str


class Journal:
    """A file of JSON objects, one a line, that is only ever added to.

    Several processes may append and read at the same time. A line that a crash cut short stays in
    the file, is told once as a warning and kept in `damaged`; all others are read.

    Parameters
    ----------
    path
        Made with the first line; its folder must be there.

    Raises
    ------
    HistoryError
        If the path is a folder, or in a folder that is not there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.damaged: list[DamagedLine] = []
        self._records: list[dict[str, Any]] = []
        self._offset = 0  # bytes that were read
        self._lines = 0
        if self.path.is_dir():
            raise HistoryError(f"{self.path} is a folder; expected the name of a file.")
        if not self.path.absolute().parent.is_dir():
            raise HistoryError(
                f"{self.path} cannot be written: there is no folder {self.path.absolute().parent}; "
                "make it first."
            )

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one line, and return when the disk has it.

        Numbers that JSON has not (infinity, NaN) become null. Half a surrogate pair, which UTF-8
        cannot hold, is written as JSON's escape and read back the same.

        Raises
        ------
        HistoryError
            If the file cannot be written.
        """
        text = json.dumps(_plain(record), ensure_ascii=False, allow_nan=False)
        line = text.encode("utf-8", errors="backslashreplace")  # half a surrogate pair: \udc80
        content = line + b"\n"
        try:
            file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _BINARY, 0o666)
            try:
                with _locked(file, exclusive=True):
                    if not _ends_in_newline(file):  # after a crash: begin a line of our own
                        content = b"\n" + content
                    while content:
                        content = content[os.write(file, content) :]
                    os.fsync(file)
                    if os.lseek(file, 0, os.SEEK_CUR) == len(line) + 1:  # a new file: its name too
                        _sync_folder(self.path.absolute().parent)
            finally:
                os.close(file)
        except OSError as error:
            raise HistoryError(
                f"{self.path} cannot be written ({error.strerror}); free some space or choose another "
                "path. The unsaved data is still in memory."
            ) from error

    def read(self) -> list[dict[str, Any]]:
        """All records in the file's order; only what is new since the last call is read.

        Raises
        ------
        HistoryError
            If the file is there and cannot be read.
        """
        try:
            with self.path.open("rb") as file, _locked(file.fileno(), exclusive=False):
                size = os.fstat(file.fileno()).st_size
                if size < self._offset:  # another file of this name
                    self.damaged, self._records, self._offset, self._lines = [], [], 0, 0
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            self.damaged, self._records, self._offset, self._lines = [], [], 0, 0
            return []
        except OSError as error:
            raise HistoryError(f"{self.path} cannot be read ({error.strerror}).") from error
        known = len(self.damaged)
        for line in content.split(b"\n")[: None if content[-1:] != b"\n" else -1]:
            self._lines += 1
            self._take(line)
        if content and content[-1:] != b"\n":
            # The next line begins with the end of this one, which will be counted then.
            self._lines -= 1
        self._offset += len(content)
        self._tell(self.damaged[known:])
        return list(self._records)

    def _take(self, line: bytes) -> None:
        text = line.decode("utf-8", errors="replace").removesuffix("\r")
        if not text.strip():
            return
        try:
            record = json.loads(text)
            if not isinstance(record, dict):
                raise ValueError
        except (ValueError, RecursionError):
            self.damaged.append(DamagedLine(self._lines, text))
        else:
            self._records.append(record)

    def _tell(self, damaged: list[DamagedLine]) -> None:
        if damaged:
            numbers = ", ".join(str(line.number) for line in damaged[:5])
            more = f" and {len(damaged) - 5} more" if len(damaged) > 5 else ""
            warnings.warn(
                f"{self.path}: line {numbers}{more} is damaged, perhaps by a crash. It stays in the "
                "file and in .damaged; all other lines were read.",
                stacklevel=4,
            )


# -- inside -------------------------------------------------------------------------------------

_BINARY = getattr(os, "O_BINARY", 0)  # Windows would turn \n into two bytes


@contextmanager
def _locked(file: int, exclusive: bool) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _sync_folder(folder: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):  # not on Windows
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _ends_in_newline(file: int) -> bool:
    size = os.lseek(file, 0, os.SEEK_END)
    if size == 0:
        return True
    os.lseek(file, size - 1, os.SEEK_SET)
    return os.read(file, 1) == b"\n"


def _plain(value: Any) -> Any:
    """The value in JSON's types: NumPy's numbers become Python's, NaN and infinity null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
