"""Threads that torch's OpenMP keeps waiting for the next operation of a thread that computes."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

SOFT = 1  # omp_pause_soft in omp.h


def let_go() -> None:
    """End the helpers that wait for this thread's next operation, which makes them anew.

    libgomp gives helpers of its own to every thread that computes. Once there are more than the
    processors can run, all of them sleep between operations instead of waiting awake, although
    only one thread computes: `demo` then generated a third of the tokens a second, on two cores,
    in a thread beside a main thread that had computed before. So whoever has computed lets go.
    Elsewhere than on Linux with libgomp this does nothing.
    """
    for library in _libraries():
        library.omp_pause_resource_all(SOFT)


@cache
def _libraries() -> tuple[ctypes.CDLL, ...]:
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        return ()
    paths = {line.split()[-1] for line in maps.read_text().splitlines() if "libgomp" in line}
    libraries = [ctypes.CDLL(path) for path in sorted(paths)]
    return tuple(library for library in libraries if hasattr(library, "omp_pause_resource_all"))
