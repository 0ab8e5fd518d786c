"""A model behind an OpenAI-compatible server, against one on this machine that says what it is told."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import workbench as wb
from tests.helpers.fake_server import BREAK, GARBAGE, HANG, chat, completion, entry, fake_server
from workbench.errors import GenerationError, ServerError
from workbench.generation.recipe import Recipe
from workbench.server.remote import connect

ASK = [{"role": "user", "content": "What is 2 + 2?"}]
KEY = "sk-secret-4711-abcdefgh"
END = chat("", [], finish="stop")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with fake_server() as script:
        yield script


def plain(script):
    """The server no longer says that it is vLLM."""
    script.models = [{"id": "pangu", "owned_by": "somebody"}]


def test_the_tokens_of_a_chat_come_with_text_ids_and_alternatives(server):
    server.chunks = [
        chat(),
        chat("To", [entry("To", -0.5, {"To": -0.5, "Be": -1.25})], token_ids=[11]),
        chat(" be", [entry(" be", -3.0, {" or": -0.25})], token_ids=[12]),
        chat("", [entry("[unused10]", -0.1)], finish="stop", token_ids=[45892]),
    ]
    generation = connect(server.url).generate(ASK)
    assert generation.text == generation.answer == "To be"
    assert generation.finish_reason == "eos"
    assert [step.token_id for step in generation.steps] == [11, 12, 45892]
    assert [step.text for step in generation.steps] == ["To", " be", ""]
    first, second, _ = generation.steps
    assert [(other.piece, other.logprob) for other in first.alternatives] == [
        ("To", -0.5),
        ("Be", -1.25),
    ]
    assert first.alternatives[0].token_id == 11
    assert [other.piece for other in second.alternatives] == [" or", " be"]  # the chosen one too
    assert math.isnan(second.entropy_bits)
    assert second.seconds > 0
    body = server.requests[-1]["body"]
    assert server.requests[-1]["path"] == "/v1/chat/completions"
    assert body["messages"] == ASK
    assert (body["logprobs"], body["top_logprobs"], body["max_tokens"]) == (True, 10, 128)
    assert (body["temperature"], body["top_p"], body["seed"]) == (0.6, 0.95, 0)
    assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (50, 0, 1)


def test_the_tokens_of_a_completion_come_with_alternatives(server):
    plain(server)
    logprobs = {
        "tokens": ["床", "前"],
        "token_logprobs": [-0.25, -9999.0],
        "top_logprobs": [{"床": -0.25, "举": -2.0}, {"头": -0.5}],
        "text_offset": [0, 1],
    }
    server.chunks = [completion("床前", logprobs), completion("", None, finish="length")]
    generation = connect(server.url).generate("静夜思", 2, wb.Sampling.greedy(top_k=0))
    assert [(step.text, step.logprob) for step in generation.steps] == [
        ("床", -0.25),
        ("前", -math.inf),
    ]
    assert [other.piece for other in generation.steps[0].alternatives] == ["床", "举"]
    assert generation.finish_reason == "length"
    body = server.requests[-1]["body"]
    assert server.requests[-1]["path"] == "/v1/completions"
    assert (body["prompt"], body["temperature"], body["logprobs"]) == ("静夜思", 0, 10)
    assert not {"top_k", "min_p", "repetition_penalty", "return_token_ids"} & body.keys()


def test_a_character_in_several_tokens_is_shown_when_it_is_whole(server):
    plain(server)
    first, second = "床".encode()[:2], "床".encode()[2:]
    server.chunks = [
        chat("", [entry("\ufffd", -1.0, content=first)]),
        chat("床", [entry("\ufffd", -2.0, content=second)]),
        END,
    ]
    steps = connect(server.url).generate(ASK).steps
    assert [step.text for step in steps] == ["", "床"]
    assert [step.piece for step in steps] == ["<0xE5><0xBA>", "<0x8A>"]


def test_several_tokens_in_one_chunk_get_their_own_text(server):
    plain(server)
    entries = [entry("2", -0.1), entry(" +", -0.2), entry(" 2", -0.3)]
    server.chunks = [chat("2 + 2", entries), END]
    assert [step.text for step in connect(server.url).generate(ASK).steps] == ["2", " +", " 2"]
    server.chunks = [chat("so it is", entries), END]  # names that do not fit the text
    steps = connect(server.url).generate(ASK).steps
    assert "".join(step.text for step in steps) == "so it is"


def test_tokens_named_by_id_are_understood(server):
    server.chunks = [
        chat(
            "To",
            [entry("token_id:11", -0.5, {"token_id:11": -0.5, "token_id:12": -1.0}, content=b"To")],
        ),
        chat(
            " be",
            [
                entry(
                    "token_id:12", -0.5, {"token_id:12": -0.5, "token_id:11": -1.0}, content=b" be"
                )
            ],
        ),
        END,
    ]
    steps = connect(server.url).generate(ASK).steps
    assert [(step.token_id, step.piece) for step in steps] == [(11, "To"), (12, " be")]
    assert [(o.token_id, o.piece) for o in steps[0].alternatives] == [
        (11, "To"),
        (12, "token_id:12"),
    ]
    assert [o.piece for o in steps[1].alternatives] == [" be", "To"]  # both are known by now


def test_a_server_without_ids_gets_the_same_stand_ins_in_every_session(server):
    plain(server)
    server.chunks = [chat("a", [entry("a", -1.0, {"b": -2.0})]), chat("b", [entry("b", -1.0)]), END]
    first, again = (connect(server.url).generate(ASK).steps for _ in range(2))
    assert first[0].token_id == again[0].token_id < 0
    assert first[0].alternatives[0].token_id != first[0].alternatives[1].token_id
    assert first[1].token_id == next(o.token_id for o in first[0].alternatives if o.piece == "b")


def test_a_server_without_log_probabilities_still_streams(server):
    plain(server)
    server.chunks = [chat("two "), chat("words"), chat("", None, finish="stop")]
    generation = connect(server.url).generate(ASK)
    assert generation.text == "two words"
    assert all(math.isnan(step.logprob) and step.alternatives == () for step in generation.steps)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thinking_is_told_from_the_answer_by_the_servers_own_fields(server, field):
    chunk = chat("", [entry("Hm", -0.1)])
    chunk["choices"][0]["delta"] = {field: "Hm"}
    server.chunks = [chunk, chat("4", [entry("4", -0.1)]), END]
    generation = connect(server.url).generate(ASK)
    assert (generation.thinking, generation.answer) == ("Hm", "4")


def test_thinking_is_told_from_the_answer_by_its_special_tokens(server):
    server.chunks = [
        chat("[unused16]", [entry("[unused16]", -0.1)]),
        chat("Hm", [entry("Hm", -0.1)]),
        chat("[unused17] 4", [entry("[unused17]", -0.1), entry(" 4", -0.1)]),
        END,
    ]
    generation = connect(server.url).generate(ASK)
    assert (generation.thinking, generation.answer, generation.text) == ("Hm", "4", "Hm 4")
    assert [step.span for step in generation.steps] == ["thinking"] * 3 + ["answer"]


def test_text_that_only_spells_a_special_token_is_text(server):
    plain(server)
    entries = [entry("[un", -0.1), entry("used16]", -0.1)]
    server.chunks = [chat("[unused16]", entries), END]
    generation = connect(server.url).generate(ASK)
    assert generation.text == "[unused16]"
    assert {step.span for step in generation.steps} == {"answer"}


@pytest.mark.parametrize(
    ("finish", "stop_reason", "stops", "expected"),
    [
        ("stop", None, (), "eos"),
        ("stop", "\n\n", ("\n\n",), "stop_string"),
        ("stop", 45892, (), "eos"),
        ("length", None, (), "length"),
        ("content_filter", None, (), "content_filter"),
    ],
)
def test_the_reason_of_the_end_is_the_servers(server, finish, stop_reason, stops, expected):
    server.chunks = [chat("4"), chat("", None, finish=finish, stop_reason=stop_reason)]
    generation = connect(server.url).generate(ASK, stop_strings=stops)
    assert generation.finish_reason == expected
    assert server.requests[-1]["body"].get("stop") == (list(stops) or None)


def test_a_server_that_does_not_tell_which_stop_it_was_is_not_guessed_for(server):
    plain(server)
    server.chunks = [chat("4"), chat("", None, finish="stop")]
    assert connect(server.url).generate(ASK, stop_strings="\n").finish_reason == "stop"


# -- settings -----------------------------------------------------------------------------------


def test_a_setting_that_the_server_cannot_take_is_refused_and_named(server):
    plain(server)
    pangu = connect(server.url)
    settings = wb.Sampling(top_k=40, min_p=0.1, repetition_penalty=1.2, seed=2**63)
    with pytest.raises(GenerationError) as refused:
        pangu.generate(ASK, sampling=settings)
    for part in ("top_k=40", "min_p=0.1", "repetition_penalty=1.2", "extensions=True", "seed="):
        assert part in str(refused.value)
    assert server.requests == []
    server.chunks = [END]
    connect(server.url, extensions=True).generate(ASK, sampling=wb.Sampling(top_k=40, min_p=0.1))
    assert server.requests[-1]["body"]["top_k"] == 40
    assert server.requests[-1]["body"]["min_p"] == 0.1


def test_settings_that_are_off_are_sent_to_vllm_too(server):
    server.chunks = [END]  # left out, it would take them from the checkpoint's generation config
    connect(server.url).generate(ASK, sampling=wb.Sampling(1.0, 1.0, 0, logit_bias={45892: -100}))
    body = server.requests[-1]["body"]
    assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (-1, 0, 1)
    assert body["logit_bias"] == {"45892": -100}
    with pytest.raises(GenerationError, match="-100 to 100"):
        connect(server.url).generate(ASK, sampling=wb.Sampling(logit_bias={3: -200}))


def test_thinking_is_asked_for_as_pangu_expects_it(server):
    server.chunks = [END]
    connect(server.url).generate(ASK, thinking="fast")
    assert server.requests[-1]["body"]["messages"][-1]["content"] == "What is 2 + 2? /no_think"


def test_what_is_missing_is_said_in_a_sentence(server):
    pangu = connect(server.url)
    for feature in ("routing", "attention", "trace", "memory", "template", "entropy"):
        assert len(pangu.missing(feature).split()) > 8
    assert (
        pangu.missing("top_k") == pangu.missing("context") == pangu.missing("chat_branches") == ""
    )
    plain(server)
    assert "extensions=True" in connect(server.url).missing("top_k")
    with pytest.raises(GenerationError, match=r"no feature 'routes'; there are .*routing"):
        pangu.missing("routes")
    with pytest.raises(GenerationError, match="cannot be recorded"):
        pangu.stream(ASK, record=True)


def test_a_branch_goes_on_from_another_token(server):
    server.chunks = [
        chat("To", [entry("To", -0.5, {"To": -0.5, "Be": -1.25})], token_ids=[11]),
        chat(" be", [entry(" be", -0.5)], token_ids=[12]),
        END,
    ]
    pangu = connect(server.url)
    whole = pangu.generate(ASK)
    other = whole.steps[0].alternatives[1]
    server.chunks = [chat(" it", [entry(" it", -0.5)], token_ids=[13]), END]
    branch = pangu.generate(ASK, begun=whole.begun(0, other.token_id))
    assert branch.text == "Be it"
    body = server.requests[-1]["body"]
    assert body["messages"][-1] == {"role": "assistant", "content": "Be"}
    assert body["continue_final_message"] is True
    assert body["add_generation_prompt"] is False
    server.chunks = [completion(" it", finish="stop")]
    assert pangu.generate("Say:", begun=whole.begun(1)).text == "To it"
    assert server.requests[-1]["body"]["prompt"] == "Say:To"
    plain(server)
    with pytest.raises(GenerationError, match="raw text can be branched"):
        connect(server.url).generate(ASK, begun=whole.begun(1))


# -- trouble ------------------------------------------------------------------------------------


def test_a_port_where_nobody_listens_is_told():
    with fake_server() as gone:
        url = gone.url
    with pytest.raises(ServerError, match=r"cannot be reached: .*refused.*Is the server running"):
        connect(url)


def test_an_unknown_model_is_told_with_those_there_are(server):
    server.models = [{"id": "pangu-7b"}, {"id": "pangu-72b"}]
    with pytest.raises(
        ServerError, match="several models: pass model=, one of 'pangu-7b', 'pangu-72b'"
    ):
        connect(server.url)
    with pytest.raises(ServerError, match="has no model 'pangu'; it has 'pangu-7b', 'pangu-72b'"):
        connect(server.url, "pangu")
    assert connect(server.url, "pangu-72b").name == "pangu-72b"


@pytest.mark.parametrize("status", [404, 500])
def test_a_server_that_cannot_list_its_models_is_believed(server, status):
    server.status, server.error = status, {"error": {"message": "Not Found"}}
    assert connect(server.url, "pangu").name == "pangu"
    with pytest.raises(ServerError, match=f"HTTP {status}"):
        connect(server.url)
    server.status, server.models = 200, []
    with pytest.raises(ServerError, match="lists no models"):
        connect(server.url)


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


def test_a_web_page_is_no_server(server):
    server.models = "not a list"
    with pytest.raises(ServerError, match="not OpenAI's interface"):
        connect(server.url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("localhost:8000", "no address"),
        ("ftp://x/v1", "no address"),
        ("http://me:pw@x/v1", "user name"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(url, expected):
    with pytest.raises(ServerError, match=expected) as refused:
        connect(url)
    assert "pw" not in str(refused.value)


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (BREAK, "broke in the middle"),
        (GARBAGE, "not OpenAI's interface"),
        (
            {"error": {"message": "CUDA out of memory", "code": 500}},
            "broke off with an error: CUDA out",
        ),
        (None, "without saying that it was finished"),
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
    expected = r"is not OpenAI's interface .* is this the right address.* is kept \(1 tokens\)"
    with pytest.raises(ServerError, match=expected) as caught:
        connect(server.url).generate(ASK)
    assert caught.value.generation.text == "4"


def test_an_answer_without_a_word_is_told(server):
    server.done = False
    with pytest.raises(ServerError, match="without a word; is this the right address"):
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


# -- the key ------------------------------------------------------------------------------------


@pytest.fixture
def locked(monkeypatch):
    with fake_server(key=KEY) as script:
        monkeypatch.setenv("PANGU_TEST_KEY", KEY)
        yield script


def test_the_key_of_the_environment_opens_the_server(locked, monkeypatch):
    locked.chunks = [chat("4"), END]
    pangu = connect(locked.url, api_key_env="PANGU_TEST_KEY")
    assert pangu.generate(ASK).text == "4"
    assert locked.requests[-1]["authorization"] == f"Bearer {KEY}"
    monkeypatch.delenv("PANGU_TEST_KEY")
    with pytest.raises(ServerError, match=r"wants a key, and none was sent .*set PANGU_TEST_KEY"):
        pangu.generate(ASK)


def test_the_key_is_nowhere_to_be_seen(locked, monkeypatch, tmp_path):
    locked.chunks = [chat("4", [entry("4", -0.5)]), END]
    pangu = connect(locked.url, api_key_env="PANGU_TEST_KEY")
    generation = pangu.generate(ASK)
    stream = pangu.stream(ASK)
    history = wb.History(tmp_path / "history.jsonl")
    history.add(generation)
    shown = [repr(pangu), str(vars(pangu)), repr(stream), repr(generation), history.to_html()]
    shown += [json.dumps(generation.recipe.as_dict()), history.path.read_text(encoding="utf-8")]
    shown += [generation.to_python()]
    locked.key = "another"
    with pytest.raises(ServerError, match="does not accept the key it got") as refused:
        pangu.generate(ASK)
    assert "[key]" in str(refused.value)  # the server had repeated it
    shown += [str(refused.value), repr(refused.value), everything_in_a_traceback(refused)]
    locked.key, locked.status = None, 429
    locked.error = {"error": {"message": f"too many requests of {KEY}"}}
    with pytest.raises(ServerError) as limited:
        pangu.generate(ASK)
    shown += [str(limited.value), everything_in_a_traceback(limited)]
    for text in shown:
        assert KEY not in text


def everything_in_a_traceback(raised) -> str:
    """What a notebook shows with %xmode Verbose: every frame with its variables."""
    from IPython.core.ultratb import VerboseTB

    return VerboseTB(theme_name="nocolor").text(raised.type, raised.value, raised.tb)


def test_a_key_in_the_place_of_its_variable_is_refused_without_repeating_it():
    with pytest.raises(ServerError, match="never the key itself") as refused:
        connect("http://localhost:1/v1", api_key_env="hf_abcdefgh")
    assert "abcdefgh" not in str(refused.value)


def test_a_key_that_would_travel_in_the_open_is_told(monkeypatch):
    monkeypatch.setenv("PANGU_TEST_KEY", KEY)
    with (
        pytest.warns(UserWarning, match="goes to host.invalid unencrypted") as warned,
        pytest.raises(ServerError, match="cannot be reached"),
    ):
        connect("http://host.invalid:9/v1", api_key_env="PANGU_TEST_KEY")
    assert KEY not in str(warned[0].message)


def test_a_saved_notebook_does_not_hold_the_key(locked, tmp_path):
    import nbformat
    from nbclient import NotebookClient

    locked.chunks = [chat("4", [entry("4", -0.5)]), END]
    cells = [
        f"import workbench as wb\npangu = wb.connect({locked.url!r}, api_key_env='PANGU_TEST_KEY')",
        "pangu",
        "generation = pangu.generate([{'role': 'user', 'content': '2 + 2'}])\nprint(generation)",
        "wb.History('h.jsonl').add(generation)",
        "vars(pangu)",
        "%xmode Verbose\nimport os\npangu.generate([])",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(
        notebook, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    saved = nbformat.writes(notebook)
    assert "RemotePangu" in saved
    assert "the conversation is empty" in saved or "the prompt is empty" in saved
    assert KEY not in saved


def test_a_server_is_used_without_torch():
    code = "import sys, workbench.server.remote, workbench.prompts.history, workbench.prompts.presets, workbench.prompts.prompt_matrix\n"
    code += "print(sorted({'torch', 'transformers', 'openai'} & sys.modules.keys()))"
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


def test_copied_python_asks_the_same_server_again(server, capsys):
    server.chunks = [chat("4", [entry("4", -0.5)]), END]
    generation = connect(server.url).generate(ASK, sampling=wb.Sampling(seed=7))
    first = server.requests[-1]
    cell = generation.to_python()
    exec(cell, {})
    assert server.requests[-1] == first
    assert capsys.readouterr().out == "4\n"
    server.chunks = [chat("5", [entry("5", -0.5)]), END]
    exec(cell, {})
    assert "The text differs" in capsys.readouterr().out


def test_copied_python_connects_as_the_text_was_made(locked):
    locked.models = [{"id": "pangu", "owned_by": "somebody"}]
    locked.chunks = [chat("4", [entry("4", -0.5)]), END]
    pangu = connect(locked.url, api_key_env="PANGU_TEST_KEY", timeout=7, extensions=True)
    generation = pangu.generate(ASK, sampling=wb.Sampling(top_k=20))
    first = locked.requests[-1]
    kept = Recipe.from_dict(json.loads(json.dumps(generation.recipe.as_dict())))
    again = {}
    exec(kept.to_python(), again)
    assert locked.requests[-1] == first
    made = again["pangu"]
    assert (made.api_key_env, made.timeout, made.extensions) == ("PANGU_TEST_KEY", 7, True)
    assert KEY not in kept.to_python()


def test_a_recipe_tells_only_what_is_no_default_of_connect(server):
    server.chunks = [chat("4", [entry("4", -0.5)]), END]
    assert connect(server.url).generate(ASK).recipe.connection == {}
    plain = connect(server.url, api_key_env=None, extensions=False)
    recipe = plain.generate(ASK, sampling=wb.Sampling(top_k=0)).recipe
    assert recipe.connection == {"api_key_env": None, "extensions": False}
    older = recipe.as_dict()
    del older["connection"]  # of a history that was written before
    assert Recipe.from_dict(older).connection == {}


def test_the_copied_python_of_a_branch_asks_the_same_in_another_session(server):
    server.chunks = [
        chat("[unused16]", [entry("[unused16]", -0.1)], token_ids=[21]),
        chat("Hm", [entry("Hm", -0.5, {"Hm": -0.5, " well": -1.25})], token_ids=[11]),
        END,
    ]
    pangu = connect(server.url)
    whole = pangu.generate(ASK)
    other = whole.steps[1].alternatives[1]
    server.chunks = [chat(" so", [entry(" so", -0.5)], token_ids=[13]), END]
    branch = pangu.generate(ASK, begun=whole.begun(1, other.token_id))
    asked = server.requests[-1]["body"]
    assert asked["messages"][-1]["content"] == "[unused16] well"
    assert [step.span for step in branch.steps] == ["thinking"] * 3  # it goes on thinking
    cell = Recipe.from_dict(json.loads(json.dumps(branch.recipe.as_dict()))).to_python(branch.text)
    assert "begun=['[unused16]', ' well']" in cell
    again = {}
    exec(cell, again)  # it connects anew, and knows no token
    assert server.requests[-1]["body"] == asked
    assert again["generation"].text == branch.text == " well so"
    assert [step.span for step in again["generation"].steps] == ["thinking"] * 3


def test_a_branch_of_what_the_history_kept_keeps_markers_and_bytes(server, tmp_path):
    snow, wrong = "雪".encode(), b"other"  # another token has the second one's id by now
    server.chunks = [
        chat("[unused16]", [entry("[unused16]", -0.1)], token_ids=[21]),
        chat("", [entry("x", -0.1, content=snow[:2])], token_ids=[22]),
        chat("雪", [entry("x", -0.1, content=snow[2:])], token_ids=[23]),
        chat("[unused17]", [entry("[unused17]", -0.1)], token_ids=[24]),
        chat("Hm", [entry("Hm", -0.5)], token_ids=[11]),
        END,
    ]
    history = wb.History(tmp_path / "h.jsonl")
    history.add(connect(server.url).generate(ASK))
    server.chunks = [chat("other", [entry("other", -0.1, content=wrong)], token_ids=[22]), END]
    pangu = connect(server.url)
    pangu.generate(ASK)
    branch = pangu.generate(ASK, begun=history[0].generation().begun(4))
    assert server.requests[-1]["body"]["messages"][-1]["content"] == "[unused16]雪[unused17]"
    assert (branch.thinking, branch.answer) == ("雪", "other")


def test_a_token_that_has_only_a_number_is_refused(server):
    server.chunks = [
        chat("To", [entry("token_id:11", -0.5, {"token_id:12": -1.0}, content=b"To")]),
        END,
    ]
    pangu = connect(server.url)
    whole = pangu.generate(ASK)
    with pytest.raises(GenerationError, match="only by its id, 'token_id:12'"):
        pangu.generate(ASK, begun=whole.begun(0, 12))


def named_by_id(text: str, name: str, other: str) -> dict:
    """A chunk of a completion of a server that names tokens only by their ids."""
    tops = [{name: -0.5, other: -2.0}]
    logprobs = {"tokens": [name], "token_logprobs": [-0.5], "top_logprobs": tops}
    return completion(text, logprobs)


@pytest.mark.parametrize("engine", ["vllm", "somebody"])
def test_the_name_of_an_id_is_never_sent_as_a_text(server, engine):
    server.models = [{"id": "pangu", "owned_by": engine}]
    ids = [{"token_ids": [token]} if engine == "vllm" else {} for token in (11, 12)]
    server.chunks = [
        named_by_id("To", "token_id:11", "token_id:99"),
        named_by_id(" be", "token_id:12", "token_id:99"),
        completion("", finish="stop"),
    ]
    for chunk, more in zip(server.chunks, ids, strict=False):
        chunk["choices"][0] |= more
    pangu = connect(server.url)
    whole = pangu.generate("Say", 4)
    assert whole.text == "To be"
    asked = len(server.requests)
    for begun in (whole.begun(1), whole.begun(1, 99), ["token_id:11"], [whole.steps[0]]):
        with pytest.raises(GenerationError, match=r"only by its id, 'token_id:\d+'"):
            pangu.generate("Say", 4, begun=begun)
    with pytest.raises(GenerationError, match="token 11 never came"):
        pangu.generate("Say", 4, begun=[11])
    assert len(server.requests) == asked


def test_what_a_chat_told_of_an_id_is_sent_in_the_place_of_its_name(server):
    pangu = connect(server.url)
    server.chunks = [chat("To", [entry("token_id:11", -0.5, content=b"To")]), END]
    pangu.generate(ASK)
    server.chunks = [completion(" be", finish="stop")]
    for begun in (["token_id:11"], [11]):
        branch = pangu.generate("Say ", 4, begun=begun)
        assert server.requests[-1]["body"]["prompt"] == "Say To"
        assert branch.text == "To be"
        assert branch.recipe.begun == ("To",)  # another session does not know the id
