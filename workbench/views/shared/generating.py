"""What widgets that generate share: one thread, Stop, the kernel's interrupt, and the pages that watch."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from IPython import get_ipython

from workbench.errors import GenerationError, WorkbenchError, is_out_of_memory
from workbench.views.shared.threads import begun
from workbench.views.shared.widget import View
from workbench.views.shared.words import with_labels

ROLL_SECONDS = 10  # that a page may take to answer the roll
MEETINGS = ("hello", "here", "bye")  # what pages say of themselves


class GeneratingView(View):
    """A widget whose work runs in a thread, so that the kernel can hear Stop.

    A subclass has a synced trait `running` and calls `_begin`.
    """

    # Here, for a view that could not be made is closed too.
    _thread: threading.Thread | None = None
    _beginning = threading.RLock()  # a cell and a click may begin at the same time
    _closed = False
    _error = ""  # what went wrong, for the page

    def __init__(self, **settings: Any) -> None:
        self._stop = threading.Event()
        self._pages: set[Any] = set()  # that show the widget, as far as they told
        self._called: set[Any] = set()  # that have not answered the roll yet
        self._rolled = 0.0  # when it was called
        self._left = False  # the last page has gone, and none has come since
        super().__init__(**settings)
        self._hear_interrupts()

    def stop(self) -> None:
        """End the generation before its next token."""
        self._stop.set()

    def wait(self, timeout: float | None = None) -> Any:
        """Wait for the generation that is running; an interrupt of the kernel stops it."""
        if self._thread is not None:
            try:
                self._thread.join(timeout)
            except KeyboardInterrupt:
                self.stop()
                raise
        return None

    def close(self) -> None:
        """Stop, wait for the end, and give back what was held for the next generation."""
        with self._beginning:
            self._closed = True
        if self._thread is not None and self._thread is not threading.current_thread():
            self.stop()
            self._thread.join()
        self._release()
        super().close()

    # -- for subclasses -------------------------------------------------------------------------

    def _ended(self) -> None:
        """Tell the page, after `running` has become False."""

    def _release(self) -> None:
        """Give back memory that can be had again: caches, traces."""

    def _fail(self, text: str) -> None:
        """Keep an error, to be shown."""
        self._error = text

    def _begin(self, work: Callable[[], None]) -> None:
        """Do `work` in a thread.

        Raises
        ------
        GenerationError
            If something is running, or the view is closed.
        """
        with self._beginning:
            self._require_idle()
            if self._closed:
                raise GenerationError("this view is closed; make a new one.")
            self._stop.clear()
            self.running = True
            self._thread = begun(partial(self._guarded, work), self._stop, type(self).__name__)

    def _require_idle(self) -> None:
        if self.running:
            raise GenerationError("a generation is running; stop it first.")

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except WorkbenchError as error:
            if error.__cause__ is not None and is_out_of_memory(error.__cause__):
                self._release()
            self._fail(with_labels(str(error)))
        except Exception as error:
            if not is_out_of_memory(error):
                self._fail(f"{type(error).__name__}: {error}")
                raise  # a thread's error would be lost: let it be seen as well
            self._release()
            self._fail(
                "Out of memory. What could be freed has been freed: try again with fewer max tokens "
                "or a shorter prompt, or load the model with fewer bits or with "
                'memory="auto", which keeps part of it on disk.'
            )
        finally:
            self.running = False
            if self._left:
                self._release()
            self._ended()

    def _settled(self, question: Mapping[str, Any]) -> bool:
        """Whether this is what pages of all such views say: "hello", "here", "bye", "stop"; done then."""
        kind = question.get("kind")
        if kind == "stop":
            self.stop()
        elif kind in MEETINGS:
            self._meet(question)
        else:
            return False
        return True

    def _meet(self, question: Mapping[str, Any]) -> None:
        """A page shows the widget, or no longer; after the last one stop and give back memory.

        A page that is loaded anew, or lost with its browser, does not say "bye". So with every
        "hello" the pages are counted anew: those that are there answer the roll with "here", and
        have a while for it.
        """
        kind, page = question["kind"], question.get("page")
        if kind == "hello":
            self._called, self._rolled = self._called | self._pages, time.monotonic()
            self._pages = {page}
            self.send({"kind": "roll"})
        elif kind == "here":
            self._pages.add(page)
        else:
            self._pages.discard(page)
        self._called.discard(page)
        if self._called and not self._pages:  # nobody may tell anything any more
            timer = threading.Timer(ROLL_SECONDS, self._count_pages, [self._rolled])
            timer.daemon = True
            timer.start()
        self._count_pages(time.monotonic() - ROLL_SECONDS)

    def _count_pages(self, rolled_before: float) -> None:
        """Stop and give back memory after the last page; what did not answer a roll of then is none."""
        if self._rolled <= rolled_before:
            self._called.clear()
        self._left = not self._pages and not self._called
        if self._left:
            self.stop()
            if not self.running:  # else its thread does it
                self._release()

    def _hear_interrupts(self) -> None:
        """Let *Interrupt the kernel* stop the generation while no cell is running.

        An idle kernel ignores the signal. It sets the handler that it saved when it has dealt with
        a message: that one is replaced, once for all widgets. Only the main thread may do so, where
        cells run; a widget that a page's click makes in another one joins those that are there.
        """
        kernel = getattr(get_ipython(), "kernel", None)
        if not hasattr(kernel, "saved_sigint_handler"):
            return
        before = kernel.saved_sigint_handler
        if not hasattr(before, "views"):
            if threading.current_thread() is not threading.main_thread():
                return

            def heard(number: int, frame: Any) -> None:
                for view in list(heard.views):
                    view.stop()
                if callable(before):
                    before(number, frame)

            heard.views = weakref.WeakSet()
            kernel.saved_sigint_handler = heard
        kernel.saved_sigint_handler.views.add(self)
