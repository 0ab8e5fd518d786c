"""A model behind an OpenAI-compatible server, against one on this machine that says what it is told: tokens."""

import math

import pytest

import workbench as wb
from tests.helpers.fake_server import chat, completion, entry
from tests.server.answers import ASK, END, plain
from workbench.errors import GenerationError
from workbench.server.remote import connect


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
