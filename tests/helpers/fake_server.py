"""A server with OpenAI's interface on this machine, that says what a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BREAK, HANG, GARBAGE = "break", "hang", "garbage"  # in the place of a chunk


@dataclass
class Script:
    """What the server does next; a test changes it as it goes.

    `chunks` are sent one by one; `status` other than 200 refuses. `gone` is set when a client
    hung up in the middle of an answer.
    """

    chunks: list[Any] = field(default_factory=list)
    models: list[dict[str, Any]] = field(
        default_factory=lambda: [{"id": "pangu", "owned_by": "vllm", "max_model_len": 512}]
    )
    status: int = 200
    error: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    key: str | None = None
    done: bool = True  # whether [DONE] ends an answer
    requests: list[dict[str, Any]] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)
    began: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    url: str = ""


def handler(script: Script) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def do_GET(self) -> None:
            if self._allowed():
                self._json(200, {"object": "list", "data": script.models})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            script.requests.append(
                {
                    "path": self.path,
                    "body": json.loads(body),
                    "authorization": self.headers["authorization"],
                }
            )
            if self._allowed():
                self._stream()

        def _allowed(self) -> bool:
            sent = self.headers["authorization"]
            if script.key is not None and sent != f"Bearer {script.key}":
                # As careless servers do: the refused key is repeated.
                self._json(401, {"error": {"message": f"Incorrect API key provided: {sent}."}})
            elif script.status != 200:
                self._json(script.status, script.error)
            else:
                return True
            return False

        def _json(self, status: int, value: Any) -> None:
            content = value.encode() if isinstance(value, str) else json.dumps(value).encode()
            kind = "text/html" if isinstance(value, str) else "application/json"
            self.send_response(status)
            for name, text in {"content-type": kind, **script.headers}.items():
                self.send_header(name, text)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _stream(self) -> None:
            chunks = list(script.chunks)
            if chunks and chunks[0] == HANG:  # not even a header is sent
                self._hang()
                return
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            script.began.set()
            for chunk in chunks:
                if chunk == BREAK:
                    self.close_connection = True
                    return
                if chunk == HANG:
                    self._hang()
                    return
                self._event("{no json" if chunk == GARBAGE else json.dumps(chunk))
            if script.done:
                self._event("[DONE]")
            self.wfile.write(b"0\r\n\r\n")

        def _event(self, text: str) -> None:
            content = f"data: {text}\n\n".encode()
            self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
            self.wfile.flush()

        def _hang(self) -> None:
            """Wait for the client to hang up, or for the test to let go."""
            script.began.set()
            self.close_connection = True
            self.connection.settimeout(0.05)
            while not script.release.is_set():
                try:
                    if self.connection.recv(1) == b"":
                        script.gone.set()
                        return
                except TimeoutError:
                    continue
                except OSError:
                    script.gone.set()
                    return

    return Handler


@contextmanager
def fake_server(**settings: Any) -> Iterator[Script]:
    """A server on a free port; its address is `script.url`."""
    script = Script(**settings)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(script))
    server.daemon_threads = True
    script.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True)
    thread.start()
    try:
        yield script
    finally:
        script.release.set()
        server.shutdown()
        server.server_close()


def chat(
    content: str = "",
    entries: list[dict] | None = None,
    finish: str | None = None,
    reasoning: str | None = None,
    **more: Any,
) -> dict:
    """One chunk of a chat, as OpenAI and vLLM send it."""
    delta = {"content": content} | ({} if reasoning is None else {"reasoning_content": reasoning})
    choice = {
        "index": 0,
        "delta": delta,
        "logprobs": None if entries is None else {"content": entries},
        "finish_reason": finish,
        **more,
    }
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "pangu",
        "choices": [choice],
    }


def entry(
    token: str,
    logprob: float,
    others: dict[str, float] | None = None,
    content: bytes | None = b"text",
) -> dict:
    """A token of `logprobs.content`; by default its bytes are its text, and None leaves them out."""
    content = token.encode() if content == b"text" else content
    tops = [
        {"token": name, "logprob": value, "bytes": list(name.encode())}
        for name, value in (others or {}).items()
    ]
    return {
        "token": token,
        "logprob": logprob,
        "bytes": None if content is None else list(content),
        "top_logprobs": tops,
    }


def completion(
    text: str, logprobs: dict | None = None, finish: str | None = None, **more: Any
) -> dict:
    """One chunk of a completion."""
    choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish, **more}
    return {
        "id": "c",
        "object": "text_completion",
        "created": 1,
        "model": "pangu",
        "choices": [choice],
    }
