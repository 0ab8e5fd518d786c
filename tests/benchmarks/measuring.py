"""What the benchmarks of large files share: fresh processes, peaks of memory, files read from disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def in_own_process(file: str, *arguments: str) -> dict[str, Any]:
    """Run a script in a process of its own; what its last line says in JSON."""
    command = [sys.executable, file, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measured(call: Callable[[], Any]) -> dict[str, Any]:
    """Seconds of a call, also of the processor, and the memory at its peak beyond that before.

    Joined to what the call returns, where that is a dict.

    Seconds of the processor (of all threads) are what counts on a machine that others use too.
    """
    before = reset_peak()
    started, started_cpu = time.perf_counter(), time.process_time()
    told = call()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - started_cpu
    figures = told if isinstance(told, dict) else {}
    return figures | {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "peak_gb": round((memory("VmHWM") - before) / 1e9, 3),
    }


def reset_peak() -> int:
    """Forget this process's peak of memory; returns what it takes now."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def memory(field: str) -> int:
    """Bytes of a line of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def drop_from_cache(folder: Path) -> None:
    """Have the system forget what it keeps of a checkpoint's files."""
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def size_of(folder: Path) -> int:
    """Bytes of a checkpoint's weights."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def rate(nbytes: float, seconds: float) -> float:
    """GB a second."""
    return round(nbytes / 1e9 / seconds, 2) if seconds else 0.0
