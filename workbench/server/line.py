"""One request to an OpenAI-compatible server: its chunks, a way to hang up, errors in plain words."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol
from urllib.parse import urlsplit

LOOPBACK = ("localhost", "127.0.0.1", "::1")
CONNECT_SECONDS = 10.0
LOOK_SECONDS = 0.2  # how soon the thread that waits for Stop sees that the answer ended by itself


class Connection(Protocol):
    """Where requests go; `workbench.server.remote.RemotePangu` is one."""

    @property
    def url(self) -> str: ...

    @property
    def api_key_env(self) -> str | None: ...

    @property
    def timeout(self) -> float: ...

    def explain(self, error: Exception, chunks: int) -> str:
        """An error of the connection as a sentence with a way out."""


class Line:
    """The connection of one request.

    Parameters
    ----------
    connection
        Whom to ask.
    stop
        When it is set the connection is closed at once, also while the server computes and sends
        nothing; it can then stop computing as well.
    """

    def __init__(self, connection: Connection, stop: threading.Event | None = None) -> None:
        self._connection, self._stop = connection, stop
        self._sockets: list[socket.socket] = []
        self._done = threading.Event()

    @property
    def stopped(self) -> bool:
        """Whether the caller wants no more."""
        return self._stop is not None and self._stop.is_set()

    def ask(self, call: Callable[[Any], Any]) -> Any:
        """What `call` gets from the client; (None, the trouble in plain words) if it fails.

        The key is nowhere in what is returned, and no exception that holds the request goes on.
        """
        from openai import OpenAIError

        try:
            with self._client() as client:
                return call(client), ""
        except (OpenAIError, ValueError, AttributeError, TypeError) as error:
            return None, self._connection.explain(error, 0)

    def chunks(self, endpoint: str, request: dict[str, Any]) -> Iterator[dict[str, Any] | str]:
        """The chunks of a streamed answer as dicts; a text at the end says what went wrong."""
        from openai import OpenAIError

        if self._stop is not None:
            threading.Thread(target=self._wait_for_stop, name="server-stop", daemon=True).start()
        count = 0
        trouble = ""
        try:
            with self._client() as client:
                resource = client.chat.completions if endpoint == "chat" else client.completions
                with resource.create(**request, stream=True) as answer:
                    for chunk in answer:
                        if self.stopped:
                            return
                        count += 1
                        yield chunk.to_dict(warnings=False)  # the reader says what is wrong
        except (OpenAIError, json.JSONDecodeError, AttributeError) as error:
            trouble = "" if self.stopped else self._connection.explain(error, count)
        finally:
            self._done.set()
        if trouble:
            yield trouble

    def _client(self) -> Any:
        import openai

        host = urlsplit(self._connection.url).hostname
        return openai.OpenAI(
            base_url=self._connection.url,
            api_key=api_key(self._connection.api_key_env) or "none",  # the library wants a text
            max_retries=0,
            http_client=openai.DefaultHttpxClient(
                timeout=openai.Timeout(self._connection.timeout, connect=CONNECT_SECONDS),
                trust_env=host not in LOOPBACK,  # a proxy cannot reach this machine
                event_hooks={"request": [self._watch]},
            ),
            timeout=openai.Timeout(self._connection.timeout, connect=CONNECT_SECONDS),
        )

    def _watch(self, request: Any) -> None:
        request.extensions["trace"] = self._connected

    def _connected(self, event: str, info: dict[str, Any]) -> None:
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._sockets.append(info["return_value"].get_extra_info("socket"))
            if self.stopped:
                self._hang_up()

    def _wait_for_stop(self) -> None:
        while not self._done.is_set():
            if self._stop.wait(LOOK_SECONDS):
                self._hang_up()
                return

    def _hang_up(self) -> None:
        # close() would wait for the read that goes on in the other thread; this ends it.
        for line in self._sockets:
            with contextlib.suppress(OSError):  # it may be closed already
                line.shutdown(socket.SHUT_RDWR)


def api_key(name: str | None) -> str | None:
    """The key in the environment, read anew for every request and kept nowhere."""
    return (os.environ.get(name) or None) if name else None
