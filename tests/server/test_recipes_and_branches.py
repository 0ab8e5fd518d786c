"""A model behind an OpenAI-compatible server, against one on this machine that says what it is told: recipes and branches."""

import json

import pytest

import workbench as wb
from tests.helpers.fake_server import chat, completion, entry
from tests.server.answers import ASK, END, KEY, plain
from workbench.errors import GenerationError
from workbench.generation.recipe import Recipe
from workbench.server.remote import connect


def named_by_id(text: str, name: str, other: str) -> dict:
    """A chunk of a completion of a server that names tokens only by their ids."""
    tops = [{name: -0.5, other: -2.0}]
    logprobs = {"tokens": [name], "token_logprobs": [-0.5], "top_logprobs": tops}
    return completion(text, logprobs)


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
    with pytest.raises(GenerationError, match="branch in raw text instead"):
        connect(server.url).generate(ASK, begun=whole.begun(1))


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
    with pytest.raises(GenerationError, match="token 11 was not received"):
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
