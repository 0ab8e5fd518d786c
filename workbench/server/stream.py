"""An answer that a server streams, read step by step."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

from workbench.errors import ServerError
from workbench.generation.recipe import Recipe
from workbench.generation.steps import Generation, Step
from workbench.server.line import Connection, Line
from workbench.server.tokens import ChunkReader


class Answering(Connection, Protocol):
    """Who answers; `workbench.server.remote.RemotePangu` is one."""

    @property
    def engine(self) -> str: ...


class RemoteStream(Iterator[Step]):
    """An answer that is read while one iterates over it; made by `RemotePangu.stream`.

    Attributes
    ----------
    finish_reason : str or None
        None while it goes on; as of a `Generation`, or a word of the server's own such as
        "content_filter". "stop" where there are stop strings and the server does not tell whether
        one of them or the model ended the answer.
    recipe : Recipe
    """

    def __init__(
        self,
        server: Answering,
        endpoint: str,
        request: dict[str, Any],
        stop: threading.Event | None,
        recipe: Recipe,
        begun: list[Step],
        reader: ChunkReader,
    ) -> None:
        self.finish_reason: str | None = None
        self.recipe = recipe
        self._server = server
        self._reader = reader
        self._line = Line(server, stop)
        self._steps = list(begun)
        self._begun = len(self._steps)
        self._iterator = self._read(endpoint, request)

    def __next__(self) -> Step:
        return next(self._iterator)

    def close(self) -> None:
        """Close the connection; the server can then stop computing."""
        self._iterator.close()
        self.finish_reason = self.finish_reason or "stopped"

    @property
    def generation(self) -> Generation:
        """What has come so far, at any time."""
        reader = self._reader
        # A begun answer was sent as a part of the prompt: its ids are not the prompt's alone.
        prompt_ids = () if self._begun else reader.prompt_ids
        return Generation(
            token_ids=(*prompt_ids, *(step.token_id for step in self._steps)),
            prompt_length=len(prompt_ids),
            steps=tuple(self._steps),
            finish_reason=self.finish_reason or "stopped",
            stop_string=reader.stop_reason if isinstance(reader.stop_reason, str) else None,
            recipe=self.recipe,
        )

    def _read(self, endpoint: str, request: dict[str, Any]) -> Iterator[Step]:
        before, chunks = time.perf_counter(), 0
        for chunk in self._line.chunks(endpoint, request):
            if isinstance(chunk, str):
                raise self._broken(chunk)
            chunks += 1
            try:
                steps = self._reader.read(chunk)
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                raise self._broken(self._server.explain(error, chunks)) from error
            now = time.perf_counter()
            for step in steps:
                step = replace(step, seconds=(now - before) / len(steps))
                self._steps.append(step)
                yield step
            before = now
        if self._reader.finish_reason is None and not self._line.stopped:
            if not chunks:
                raise self._broken(
                    f"{self._server.url} answered with neither text nor an error; is this the "
                    "right address? It usually ends in /v1."
                )
            raise self._broken(
                f"{self._server.url} ended its answer without a finish reason; the "
                "server may have been stopped. Generate again."
            )
        self.finish_reason = self._reason()

    def _reason(self) -> str:
        reason = self._reader.finish_reason
        if reason is None or reason == "abort":
            return "stopped"
        if reason != "stop":
            return reason
        if isinstance(self._reader.stop_reason, str):
            return "stop_string"
        return "stop" if self.recipe.stop_strings and self._server.engine != "vllm" else "eos"

    def _broken(self, sentence: str) -> ServerError:
        self.finish_reason = "stopped"
        if count := len(self._steps) - self._begun:
            sentence += f" What came before is kept ({count} tokens)."
        error = ServerError(sentence)
        error.generation = self.generation
        return error
