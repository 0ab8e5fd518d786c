"""What prompts are put to: a model that generates, loaded here or on a server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from workbench.generation.steps import Generation, Step


class Answer(Iterator[Step], Protocol):
    """A generation that goes on while one iterates over it."""

    @property
    def generation(self) -> Generation:
        """What has come so far."""

    def close(self) -> None:
        """End it here."""


class Model(Protocol):
    """A model that generates; `workbench.Pangu` and `workbench.server.remote.RemotePangu` are such."""

    @property
    def name(self) -> str: ...

    def stream(self, prompt: Any, *settings: Any, **more_settings: Any) -> Answer:
        """Generate token by token."""
