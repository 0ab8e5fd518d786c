"""Stop: a forward pass ends before its next layer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from workbench.errors import GenerationError


class StoppedError(GenerationError):
    """Raised inside a forward pass that was stopped."""


@contextmanager
def stoppable(model: nn.Module, stop: threading.Event | None) -> Iterator[None]:
    """Let a forward pass end before its next layer when `stop` is set."""
    if stop is None:
        yield
        return
    thread = threading.get_ident()

    def check(*_: Any) -> None:
        if stop.is_set() and threading.get_ident() == thread:
            raise StoppedError("stopped in the middle of a forward pass.")

    check()
    handles = [layer.register_forward_pre_hook(check) for layer in model.model.layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
