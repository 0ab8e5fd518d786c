"""What widgets that generate share: one thread, Stop, the kernel's interrupt, news in batches."""

from __future__ import annotations

import atexit
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil
from IPython import get_ipython

from workbench.errors import GenerationError, WorkbenchError
from workbench.generation.steps import FINISH_REASONS
from workbench.views.shared.widget import View

if TYPE_CHECKING:
    from workbench.generation.steps import Generation, Step

PAUSE = 1 / 30  # seconds between two messages: a page draws no faster, and a model is not slowed
ROLL_SECONDS = 10  # that a page may take to answer the roll
LAST_WAIT = 5  # seconds that the end of Python waits, at most, for generations to stop
MEETINGS = ("hello", "here", "bye")  # what pages say of themselves

# Settings as the page calls them.
LABELS = {
    "top_p": "top-p", "top_k": "top-k", "min_p": "min-p", "max_new_tokens": "max tokens",
    "repetition_penalty": "repetition penalty",
}  # fmt: skip


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


@contextmanager
def layers_told(model: Any, tell: Callable[[str], None]) -> Iterator[None]:
    """Tell, in words, of every layer that a model on disk runs inside, in this thread; "" at the end.

    Its tokens take long, and no progress bar is shown in a thread. Of a model in memory, or of a
    server's, nothing is told.
    """
    streaming = getattr(model, "streaming", None)
    if streaming is None:
        yield
        return
    thread, told = threading.current_thread(), 0.0

    def on_layer(layer: int, layers: int) -> None:
        nonlocal told
        if threading.current_thread() is not thread:
            return  # somebody else's, who runs the same model
        if time.perf_counter() - told >= PAUSE:
            told = time.perf_counter()
            tell(f"layer {layer} of {layers}, from disk ({streaming})")

    streaming.on_layer = on_layer
    try:
        yield
    finally:
        if streaming.on_layer is on_layer:
            streaming.on_layer = None
        tell("")


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
                "Memory ran out. What could be given back has been: try again, with fewer max tokens "
                "or a shorter prompt; or load the model with fewer bits, or with "
                'memory="auto" to keep a part of it on disk.'
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


class News:
    """Steps for the page, sent together and at most every PAUSE seconds.

    Parameters
    ----------
    send
        Called with the place of the first new step, the new steps, and a status.
    given
        So many steps the page has already.
    pause
        Seconds between two messages, at least.

    Attributes
    ----------
    count : int
        New steps so far.
    """

    def __init__(
        self,
        send: Callable[[int, list[Any], dict[str, Any]], None],
        given: int = 0,
        pause: float = PAUSE,
    ) -> None:
        self._send, self._from, self._pause = send, given, pause
        self._new: list[dict[str, Any]] = []
        self._first: float | None = None
        self.count = 0
        self._began = self._sent = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.perf_counter() - self._began

    @property
    def speed(self) -> float | None:
        """Tokens a second after the first one, which takes the prompt with it."""
        if self._first is None or self.count < 2:
            return None
        return (self.count - 1) / max(1e-9, time.perf_counter() - self._first)

    def add(self, step: dict[str, Any], status: Callable[[], dict[str, Any]]) -> None:
        """Keep a step; send if it is time."""
        now = time.perf_counter()
        if self._first is None:
            self._first = now
        self.count += 1
        self._new.append(step)
        if now - self._sent >= self._pause or self.count == 1:
            self.flush(status())

    def give(self, steps: list[dict[str, Any]]) -> None:
        """Take along steps that were not generated now."""
        self._new += steps

    def flush(self, status: dict[str, Any]) -> None:
        """Send what waits."""
        new, self._new = self._new, []
        self._send(self._from, new, status)
        self._from += len(new)
        self._sent = time.perf_counter()


def step_message(step: Step, given: bool = False) -> dict[str, Any]:
    """A step for the page; what is not known, or the logarithm of 0, is None."""
    return {
        "id": step.token_id,
        "piece": step.piece,
        "text": step.text,
        "cut": step.cut,
        "logprob": _finite(step.logprob),
        "entropy": _finite(step.entropy_bits),
        "span": step.span,
        "given": given,
        "others": [
            [o.token_id, o.piece, _finite(o.logprob), _finite(o.drawn_logprob), o.kept]
            for o in step.alternatives
        ],
    }


def with_labels(text: str) -> str:
    """An error that names settings as Python does, with the words that the page has for them."""
    names = "|".join(LABELS)
    return re.sub(rf"\b({names})\b", lambda found: f"{LABELS[found[0]]} ({found[0]})", text)


def require_question(asked: Any) -> None:
    """Refuse a conversation whose last turn is the assistant's: there is nothing to answer.

    Raises
    ------
    GenerationError
    """
    if not isinstance(asked, str) and asked[-1].get("role") == "assistant":
        raise GenerationError(
            "the last turn is the assistant's, and there is nothing to answer: write the next user "
            "turn, or remove the last turn to have the one before it answered anew."
        )


def settle(shown: list[dict[str, Any]], steps: Sequence[Step]) -> int:
    """Give messages their steps' texts as they are in the end; the place of the first that changed.

    The number of messages where none did.
    """
    first = len(shown)
    for place, (message, step) in enumerate(zip(shown, steps, strict=False)):
        texts = {"text": step.text, "cut": step.cut}
        if message | texts != message:
            shown[place], first = message | texts, min(first, place)
    return first


def memory_gb(device: Any) -> float:
    """What this process holds: on a GPU the allocated memory there, else the resident memory."""
    if str(device).startswith("cuda"):
        import torch

        return torch.cuda.memory_allocated(device) / 1e9
    return psutil.Process().memory_info().rss / 1e9


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, a GPU's, or torch's on the CPU."""
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and ("out of memory" in text or "allocate memory" in text))
    )  # fmt: skip


def reason(generation: Generation) -> str:
    """Why a generation ended, in words."""
    said = FINISH_REASONS.get(generation.finish_reason, generation.finish_reason)
    if generation.finish_reason == "context" and _asked_as_text(generation):
        return "the model's context is full: shorten the text"
    if generation.finish_reason == "stop_string" and generation.stop_string:
        return f"the stop string {generation.stop_string!r} came"
    return said


def _asked_as_text(generation: Generation) -> bool:
    return generation.recipe is not None and isinstance(generation.recipe.prompt, str)


def _finite(value: float | None) -> float | None:
    return None if value is None or value != value or abs(value) == float("inf") else value
