"""Locks on files, between processes."""

from __future__ import annotations

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    fcntl = None


def take_lock(file: int) -> bool:
    """Lock an open file for its opener alone, until it is closed; False if another has locked it.

    Where the file system knows no locks, nothing is locked and the answer is True.
    """
    try:
        if fcntl is None:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True
