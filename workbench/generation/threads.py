"""How many of torch's threads compute, and what becomes of those that wait.

Threads of OpenMP meet after every operation. In a small model the operations are so short that the
meetings cost as much as is won; and where a processor is busy with something else (a browser, a
neighbour), all wait for the one whose turn on it has not come.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

SOFT = 1  # omp_pause_soft in omp.h


@contextmanager
def alone() -> Iterator[None]:
    """Have this thread compute without helpers; other threads keep theirs.

    Elsewhere than on Linux with libgomp this does nothing. (`torch.set_num_threads` would count for
    threads, too, that begin to compute meanwhile.)
    """
    import torch

    torch.get_num_threads()  # a thread that is new takes over torch's number now, and not inside
    libraries, mkl = _libraries(), _mkl()
    before = [library.omp_get_max_threads() for library in libraries]
    own = mkl(1) if mkl else 0  # 0: no number of this thread's own
    try:
        for library in libraries:
            library.omp_set_num_threads(1)
        yield
    finally:
        for library, count in zip(libraries, before, strict=True):
            library.omp_set_num_threads(count)
        if mkl:
            mkl(own)


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


def _libraries() -> tuple[ctypes.CDLL, ...]:
    """libgomp, as often as it was loaded; nothing before torch is there."""
    return _loaded() if "torch" in sys.modules else ()


@cache
def _loaded() -> tuple[ctypes.CDLL, ...]:
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        return ()
    paths = {line.split()[-1] for line in maps.read_text().splitlines() if "libgomp" in line}
    libraries = [ctypes.CDLL(path) for path in sorted(paths)]
    return tuple(library for library in libraries if hasattr(library, "omp_pause_resource_all"))


@cache
def _mkl() -> Callable[[int], int] | None:
    """Sets the number of MKL's threads for the calling thread, and tells the one before."""
    import torch

    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    if not library.is_file() or not _libraries():
        return None
    return getattr(ctypes.CDLL(str(library)), "MKL_Set_Num_Threads_Local", None)
