"""A model behind an OpenAI-compatible server, against one on this machine that says what it is told: trouble."""

import json
import os
import signal
import threading
import time

import pytest

from tests.helpers.fake_server import BREAK, GARBAGE, HANG, chat, entry
from tests.server.answers import ASK, END
from workbench.errors import ServerError
from workbench.server.remote import connect


@pytest.mark.parametrize(
    ("status", "error", "headers", "expected"),
    [
        (404, {"error": {"message": "The model `pangu` does not exist."}}, {}, "does not exist.*lists its models"),
        (429, {"error": {"message": "Slow down"}}, {"retry-after": "20"}, "Slow down.*wait 20 s"),
        (400, {"error": {"message": "logprobs must be at most 5"}}, {}, "at most 5.*alternatives=0"),
        (503, "<html>down</html>", {}, "failed .HTTP 503"),
        (403, {"error": {"message": "not for you"}}, {}, "not for you.*set OPENAI_API_KEY"),
    ],
)  # fmt: skip
def test_a_refusal_is_told_with_a_way_out(server, status, error, headers, expected):
    pangu = connect(server.url)
    server.status, server.error, server.headers = status, error, headers
    with pytest.raises(ServerError, match=expected):
        pangu.generate(ASK)


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (BREAK, "broke in the middle"),
        (GARBAGE, "not answer like OpenAI's API"),
        (
            {"error": {"message": "CUDA out of memory", "code": 500}},
            "stopped with an error: CUDA out",
        ),
        (None, "without a finish reason"),
    ],
)
def test_what_came_before_a_stream_broke_is_kept(server, last, expected):
    server.chunks = [chat("To", [entry("To", -0.5)]), chat(" be", [entry(" be", -0.5)])]
    server.chunks += [] if last is None else [last]
    server.done = last is not None
    seen = []
    stream = connect(server.url).stream(ASK)
    with pytest.raises(ServerError, match=expected) as broken:
        seen.extend(step.text for step in stream)
    assert seen == ["To", " be"]
    assert "What came before is kept (2 tokens)" in str(broken.value)
    assert broken.value.generation.text == stream.generation.text == "To be"
    assert stream.finish_reason == "stopped"


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": [None]},
        {"choices": {"text": "5"}},
        chat(5),
        chat("5", [entry("5", "x")]),
        chat("5", [entry("5", -0.5) | {"bytes": [300]}]),
        chat("5", [entry("5", -0.5) | {"bytes": "abc"}]),
        chat("5", [entry("5", -0.5) | {"bytes": 10**15}]),
        chat("5", [entry("5", -0.5) | {"top_logprobs": "x"}]),
        chat("5", [entry("5", -0.5)], token_ids=["x"]),
        chat("5", "text"),
        chat("5", logprobs=[1]),
        chat("5", prompt_token_ids=[None]),
    ],
    ids=json.dumps,
)
def test_a_chunk_of_another_shape_is_told_and_what_came_before_is_kept(server, chunk):
    server.chunks = [chat("4", [entry("4", -0.5)]), chunk, END]
    expected = (
        r"does not answer like OpenAI's API .* is this the right address.* is kept \(1 tokens\)"
    )
    with pytest.raises(ServerError, match=expected) as caught:
        connect(server.url).generate(ASK)
    assert caught.value.generation.text == "4"


def test_an_answer_without_a_word_is_told(server):
    server.done = False
    with pytest.raises(
        ServerError, match="with neither text nor an error; is this the right address"
    ):
        connect(server.url).generate(ASK)


def test_a_silent_server_is_given_up(server):
    server.chunks = [HANG]
    with pytest.raises(ServerError, match=r"did not answer within 0.3 s.*timeout="):
        connect(server.url, timeout=0.3).generate(ASK)
    server.chunks = [chat("To"), HANG]
    with pytest.raises(ServerError, match=r"sent nothing for 0.3 s .*kept \(1 tokens\)"):
        connect(server.url, timeout=0.3).generate(ASK)


@pytest.mark.parametrize("chunks", [[HANG], [chat("To"), HANG]])
def test_stop_hangs_up_at_once_also_while_the_server_is_silent(server, chunks):
    server.chunks = chunks
    pangu, stop, done = connect(server.url), threading.Event(), []

    def run():
        generation = pangu.generate(ASK, stop=stop)
        done.append((generation, time.perf_counter()))

    thread = threading.Thread(target=run)
    thread.start()
    assert server.began.wait(10)
    stopped = time.perf_counter()
    stop.set()
    thread.join(10)
    generation, ended = done[0]
    assert generation.finish_reason == "stopped"
    assert generation.text in ("", "To")
    assert ended - stopped < 1
    assert server.gone.wait(5)  # the server noticed: it can stop computing


def test_an_interrupt_of_the_kernel_keeps_what_came(server):
    server.chunks = [chat("To"), HANG]
    pangu = connect(server.url)
    ended = threading.Event()

    def interrupt():
        server.began.wait(10)
        while not ended.wait(
            2
        ):  # one that comes just before a read begins may be seen after it only
            os.kill(os.getpid(), signal.SIGINT)

    # A shell's background job, as this may be, ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt) as interrupted:
            pangu.generate(ASK)
    finally:
        ended.set()
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert interrupted.value.generation.finish_reason == "stopped"
    assert interrupted.value.generation.text in ("", "To")
    assert server.gone.wait(5)


def test_closing_a_stream_hangs_up(server):
    server.chunks = [chat("To"), HANG]
    stream = connect(server.url).stream(ASK)
    assert next(stream).text == "To"
    stream.close()
    assert server.gone.wait(5)
    assert (stream.finish_reason, stream.generation.text) == ("stopped", "To")
