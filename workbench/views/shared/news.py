"""What a page is told while something is generated: steps in batches, and the layer that runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil

from workbench.generation.steps import Step

PAUSE = 1 / 30  # seconds between two messages: a page draws no faster, and a model is not slowed


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


def _finite(value: float | None) -> float | None:
    return None if value is None or value != value or abs(value) == float("inf") else value
