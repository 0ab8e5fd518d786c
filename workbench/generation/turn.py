"""Whose turn it is: one thread at a time generates with a model."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from workbench.errors import GenerationError
from workbench.generation.threads import let_go


class Going(Protocol):
    """A generation that takes turns; `workbench.generation.stream.Stream` is one."""

    finish_reason: str | None
    token_ids: list[int]
    prompt_length: int


_turns: weakref.WeakSet[Turn] = weakref.WeakSet()


class Turn:
    """Who generates with a model now, and a lock for every forward pass.

    A stream has the turn from its first token to its end; what generates several texts holds it from
    the first one to the last. Streams of one thread may take turns as
    they like; another thread is refused. A stream that is finished, closed or forgotten, or whose
    thread has ended, is in nobody's way.

    Attributes
    ----------
    passes : threading.RLock
        Held during every forward pass: a 4-bit model repacks its weights in its first one.
    """

    def __init__(self) -> None:
        self.passes = threading.RLock()
        self._lock = threading.Lock()
        self._holder: weakref.ref[Going] | None = None
        self._thread = threading.current_thread()
        self._holds: set[object] = set()  # of `held`, one inside the other
        _turns.add(self)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the turn for the current thread, also between two streams.

        Raises
        ------
        GenerationError
            While another thread generates.
        """
        hold = object()
        try:
            with self._lock:
                self._require_free(None)
                self._holder, self._thread = None, threading.current_thread()
                self._holds.add(hold)
            yield
        finally:
            self._holds.discard(hold)  # without the lock: an interrupt while waiting would leave it

    def take(self, stream: Going) -> None:
        """Let this stream go on in the current thread.

        Raises
        ------
        GenerationError
            While another thread generates.
        """
        with self._lock:
            self._require_free(stream)
            self._holder, self._thread = weakref.ref(stream), threading.current_thread()

    def ask(self) -> None:
        """Whether a stream may be made now; streams of this thread that wait leave the turn.

        A stream that a cell left unfinished can so be in no other thread's way for ever. It may go
        on when the turn is free again.

        Raises
        ------
        GenerationError
            While another thread generates.
        """
        with self._lock:
            self._require_free(None)
            self._holder = None
        let_go()

    def rest(self) -> None:
        """Streams of this thread that wait leave the turn, until they go on."""
        with self._lock:
            if self._thread is threading.current_thread() and not self._holds:
                self._holder = None

    def leave(self, stream: Going) -> None:
        """This stream does not go on for now."""
        with self._lock:
            if self._holder is not None and self._holder() is stream:
                self._holder = None
        let_go()

    def _require_free(self, stream: Going | None) -> None:
        if self._thread is threading.current_thread() or not self._thread.is_alive():
            return
        holder = None if self._holder is None else self._holder()
        going = holder not in (None, stream) and holder.finish_reason is None
        if going or self._holds:
            count = (
                f" ({len(holder.token_ids) - holder.prompt_length} tokens so far)" if going else ""
            )
            raise GenerationError(
                f"this model is already generating, in the thread {self._thread.name!r}{count}; stop "
                "that generation or wait for it to end."
            )


def cell_ended(_result: Any = None) -> None:
    """After a cell of a notebook: what its thread left unfinished is in no other thread's way.

    A page's click is heard in another thread than the cells, which may not say so itself.
    """
    for turn in list(_turns):
        turn.rest()
    let_go()


def ask_turn(pangu: Any) -> None:
    """Before a thread generates with a model: `Turn.ask`; of a server, nothing."""
    if hasattr(pangu, "turn"):
        pangu.turn.ask()


def held(pangu: Any) -> AbstractContextManager[None]:
    """The turn of a model for several texts; of a server, which takes several at once, nothing."""
    return pangu.turn.held() if hasattr(pangu, "turn") else nullcontext()
