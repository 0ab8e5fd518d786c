"""Whose turn it is: one thread at a time generates with a model."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from workbench.errors import GenerationError

if TYPE_CHECKING:
    from workbench.generation import Stream


class Turn:
    """Who generates with a model now, and a lock for every forward pass.

    A stream takes the turn when it is made and whenever it goes on. It is refused while a stream
    of another thread is unfinished; streams of one thread may take turns as they like. A stream
    that is finished, closed or forgotten, or whose thread has ended, is in nobody's way.

    Attributes
    ----------
    passes : threading.RLock
        Held during every forward pass: a 4-bit model repacks its weights in its first one.
    """

    def __init__(self) -> None:
        self.passes = threading.RLock()
        self._lock = threading.Lock()
        self._holder: weakref.ref[Stream] | None = None
        self._thread = threading.current_thread()

    def take(self, stream: Stream) -> None:
        """Let this stream of the current thread go on.

        Raises
        ------
        GenerationError
            While another thread generates.
        """
        thread = threading.current_thread()
        with self._lock:
            holder = None if self._holder is None else self._holder()
            if (
                holder not in (None, stream)
                and holder.finish_reason is None
                and self._thread is not thread
                and self._thread.is_alive()
            ):
                raise GenerationError(
                    f"this model is generating already, in the thread {self._thread.name!r} "
                    f"({len(holder.generation.steps)} tokens so far); stop that generation or wait "
                    "until it ends."
                )
            self._holder, self._thread = weakref.ref(stream), thread

    def leave_waiting(self) -> None:
        """Streams of this thread that wait between two tokens are in no other thread's way.

        For a widget that starts a thread: a stream that a cell left unfinished must not keep the
        model for ever. It may go on when the turn is free again.
        """
        with self._lock:
            if self._thread is threading.current_thread():
                self._holder = None

    def leave(self, stream: Stream) -> None:
        """This stream does not go on for now."""
        with self._lock:
            if self._holder is not None and self._holder() is stream:
                self._holder = None
