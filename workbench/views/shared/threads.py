"""Threads that work for a widget: one a generation, ended with its cell's next run and with Python."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Callable

from IPython import get_ipython

LAST_WAIT = 5  # seconds that the end of Python waits, at most, for generations to stop

# Threads, what stops them, and in which run of which notebook cell they began.
_running: weakref.WeakKeyDictionary[
    threading.Thread, tuple[threading.Event, tuple[str, str] | None]
] = weakref.WeakKeyDictionary()


def begun(work: Callable[[], None], stop: threading.Event, name: str) -> threading.Thread:
    """A thread that does `work`. When Python ends it is stopped by `stop` and waited for.

    torch aborts the process if it still computes while the interpreter is taken down.
    """
    thread = threading.Thread(target=work, name=name, daemon=True)
    _running[thread] = stop, _cell_run()
    thread.start()
    return thread


def end_earlier_run() -> None:
    """Stop what an earlier run of the notebook cell that runs now generates, and wait for its end."""
    run = _cell_run()
    if run is None:
        return
    earlier = [
        (thread, stop)
        for thread, (stop, began) in list(_running.items())
        if began is not None and began[0] == run[0] and began[1] != run[1]
    ]
    for _, stop in earlier:
        stop.set()
    for thread, _ in earlier:
        thread.join()


def _cell_run() -> tuple[str, str] | None:
    """The notebook cell that runs in this thread and its request, by id; None where none is told.

    JupyterLab tells the cell with the request. What a page's click began belongs to no cell.
    """
    shell = get_ipython()
    if not hasattr(shell, "get_parent") or (
        threading.current_thread() is not threading.main_thread()
    ):
        return None
    request = shell.get_parent() or {}
    cell = request.get("metadata", {}).get("cellId")
    return None if cell is None else (cell, request["header"]["msg_id"])


@atexit.register
def _end_all() -> None:
    running = [(thread, stop) for thread, (stop, _) in list(_running.items())]
    for _, stop in running:
        stop.set()
    deadline = time.monotonic() + LAST_WAIT
    for thread, _ in running:
        thread.join(max(0, deadline - time.monotonic()))
