"""The playground in Python: panels."""

import json
import time

import numpy as np
import pytest

import workbench as wb
from tests.helpers.fake_server import chat, entry, fake_server
from tests.views.playground.playgrounds import begin_and_wait_for_tokens, generate, steps_told
from workbench.views import Playground
from workbench.views.playground import engine


def test_closing_closes_the_comparison_inside(play):
    play.max_new_tokens = 400
    play.panel = "compare"
    inside = play.inside
    inside.start()
    play.close()
    assert not inside.running
    assert {g.finish_reason for g in inside.generations.values()} <= {"stopped"}
    assert inside.comm is None


@pytest.mark.parametrize("bound", [2**29, 1000], ids=["recorded", "not recorded"])
def test_routing_that_is_opened_meanwhile_comes_at_the_end(play, monkeypatch, bound):
    monkeypatch.setattr(engine, "RECORD_BYTES", bound)
    begin_and_wait_for_tokens(play, max_new_tokens=60)
    play.panel = "routing"
    assert len(play.wait(60).steps) == 60
    assert play.inside.trace.token_ids.tolist() == list(play.generation.token_ids)


def test_a_panel_with_nothing_to_show_closes(play, monkeypatch):
    monkeypatch.setattr(engine, "RECORD_BYTES", 1000)
    begin_and_wait_for_tokens(play)
    play.panel = "routing"
    play.stop()  # the text would be read once more, which was not wanted then
    play.wait(60)
    assert (play.panel, play.inside) == ("", None)


def test_routing_and_attention_open_at_the_selected_token(play):
    generation = generate(play)
    play.token = 3
    play.panel = "routing"
    play.wait(60)
    place = generation.prompt_length + 3
    assert play.inside.token == place
    assert play.trace.token_ids.tolist() == list(generation.token_ids)
    play.inside.token = place + 1
    assert play.token == 4
    play.token = 2
    assert play.inside.token == place - 1
    play.panel = "attention"
    assert play.inside.token == place - 1
    first = play.inside
    again = generate(play, seed=4)  # the panel follows
    assert (play.panel, play.inside is first, first.comm) == ("attention", False, None)
    assert play.trace.token_ids.tolist() == list(again.token_ids)
    play.prompt, play.mode = "Another", "chat"  # typed and not asked
    play.show(0)
    assert play.told[-1]["text"].startswith("What you typed but did not send comes back")
    assert play.inside.trace.token_ids.tolist() == list(generation.token_ids)
    assert play.generation.token_ids == generation.token_ids
    play.show(1)
    play.branch(2)
    assert play.wait(60).steps[:2] == again.steps[:2]
    play.undo()
    play.remove(1)
    play.remove(0)
    assert (play.panel, play.inside) == ("", None)


def test_what_is_inside_is_closed_once_its_page_has_loaded_it(play):
    generate(play)
    play.branch(2)
    play.wait(60)
    play.answer({"kind": "hello", "page": "one"})
    play.panel = "routing"
    play.wait(60)
    seen = [play.inside]
    for branch in (0, 1, 0):
        play.show(branch)
        seen.append(play.inside)
    assert [view.comm is None for view in seen] == [False] * 4
    for view in [*seen[:2], seen[3]]:
        play.answer({"kind": "loaded", "inside": view.model_id})
    assert [view.comm is None for view in seen] == [True, True, False, False]
    play.show(1)  # what the page has loaded is closed at once
    assert [view.comm is None for view in seen] == [True, True, False, True]
    seen.append(play.inside)
    play.answer({"kind": "bye", "page": "one"})  # and all else with the last page
    assert all(view.comm is None for view in seen)
    assert (play.inside, play.panel) == (None, "")


def test_a_stop_before_the_first_new_token_leaves_the_open_panel_as_it_was(play, monkeypatch):
    root = generate(play)
    play.panel = "attention"
    play.wait(60)
    play.token = 1
    trace, recorded = play.trace, engine.recorded
    monkeypatch.setattr(engine, "recorded", lambda *sizes: play._stop.set() or recorded(*sizes))
    assert generate(play) == root
    assert len(play.branches) == 1
    assert (play.panel, play.token) == ("attention", 1)
    assert play.trace is play.inside.trace is trace
    assert play.inside.token == trace.prompt_length + 1
    monkeypatch.undo()
    generate(play)
    assert play.inside.trace.token_ids.tolist() == list(play.generation.token_ids)


def test_an_older_branch_is_read_once_more_for_what_happened_inside(play):
    first = generate(play)
    recorded = play._stream.trace()
    generate(play, seed=9)
    play.show(0)
    play.panel = "routing"
    play.wait(60)
    assert play.trace.token_ids.tolist() == list(first.token_ids)
    assert play.trace.prompt_length == first.prompt_length
    np.testing.assert_allclose(play.trace.router_logits, recorded.router_logits, atol=1e-3)


def test_a_dense_model_has_attention_and_says_why_no_routing(dense, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    play = Playground(dense, text="To be", max_new_tokens=3)
    missing = play.answer({"kind": "want"})[0]["missing"]
    assert "dense model without experts" in missing["routing"]
    assert "attention" not in missing
    generate(play)
    play.panel = "attention"
    play.wait(60)
    assert play.inside.trace is play.trace


def test_comparing_begins_with_what_is_on_screen(play):
    play.panel = "compare"
    view = play.inside
    assert (view.prompt, view.mode, view.max_new_tokens) == ("To be", "raw", 6)
    assert [column["temperature"] for column in view.columns] == [1.0, 0.0]
    assert view.columns[0]["logit_bias"] == [[play.pangu.tokenizer.eos_token_id, -100.0]]


def test_greedy_settings_are_compared_with_recommended_ones(play):
    play.temperature = 0.0
    first, second = play.compare().columns
    assert (first["label"], first["temperature"]) == ("these settings", 0.0)
    assert (second["label"], second["temperature"]) == ("Pangu Pro MoE", 0.6)
    assert second["logit_bias"] == first["logit_bias"] != []


def test_another_panel_stops_the_comparison_and_keeps_its_texts(play):
    generate(play, max_new_tokens=200)
    play.panel = "compare"
    compared = play.inside
    compared.start()
    while not any(compared._shown.values()):
        time.sleep(0.01)
    play.panel = "history"
    assert not compared.running
    assert {made.finish_reason for made in compared.generations.values()} == {"stopped"}
    assert compared._error == "It was stopped because you left its panel."
    generate(play, max_new_tokens=2)
    play.panel = "compare"
    assert play.inside is compared


def test_the_comparison_is_kept_while_another_panel_is_open(play):
    generate(play, max_new_tokens=2)
    play.panel = "compare"
    first = play.inside
    first.prompt = "Something else"
    first.start()
    texts = {label: generation.text for label, generation in first.wait(60).items()}
    play.panel = "history"
    assert play.inside is None
    play.panel = "compare"
    assert play.inside is first
    assert {label: made.text for label, made in play.inside.generations.items()} == texts
    assert play.inside.prompt == "Something else"
    play.temperature = 0.25
    play._on_message(play, {"kind": "compare"}, [])
    assert play.inside is not first
    assert (play.inside.prompt, play.inside.columns[0]["temperature"]) == ("To be", 0.25)
    assert first.comm is None  # closed
    play.panel = ""
    play.close()
    assert play._comparison.comm is None


def test_a_panel_that_is_asked_for_before_there_is_a_text(play, moe, monkeypatch):
    generate(play)
    again = Playground(moe, panel="routing")
    again.restore(again.history[0].id)
    assert again.inside.trace.token_ids.tolist() == list(again.generation.token_ids)
    generate(again, max_new_tokens=2)
    assert again.panel == "routing"
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with fake_server() as script:
        script.chunks = [chat("To", [entry("To", -0.5)]), chat("", [], finish="stop")]
        remote = Playground(wb.connect(script.url), "Say it.", panel="routing")
        assert generate(remote).text == "To"
        assert remote.panel == ""
        reopened = Playground(remote.pangu, panel="routing")
        reopened.restore(reopened.history[-1].id)
        assert (reopened.panel, reopened.generation.text) == ("", "To")


def test_panels_close_where_reading_a_text_once_more_takes_long(play, monkeypatch):
    assert play.pangu.is_small
    monkeypatch.setitem(play.pangu.__dict__, "is_small", False)
    generate(play)
    generate(play, seed=4)
    play.panel = "routing"
    play.wait(60)
    play.show(0)
    assert (play.panel, play.running) == ("", False)
    play.panel = "routing"
    play.wait(60)
    generate(play, seed=5)
    assert play.panel == "routing"  # it was recorded
    monkeypatch.setattr(engine, "RECORD_BYTES", 0)
    generate(play, seed=6)
    assert (play.panel, play.trace) == ("", None)


def test_a_long_generation_is_not_recorded_in_memory(play, monkeypatch):
    assert engine.recorded(play.pangu, 9 + play.max_new_tokens) == {"record": True}
    assert engine.recorded(play.pangu, 9 + 10**9 + play.max_new_tokens) == {"record": False}
    assert engine.recorded(play.pangu, 10**9 + play.max_new_tokens) == {"record": False}
    monkeypatch.setattr(engine, "RECORD_BYTES", 1000)
    assert engine.recorded(play.pangu, 9 + play.max_new_tokens) == {"record": False}


def test_a_server_streams_and_what_needs_the_inside_is_disabled_with_a_reason(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with fake_server() as script:
        script.models = [{"id": "pangu", "owned_by": "somebody"}]  # no vLLM: no top_k
        script.chunks = [
            chat("To", [entry("To", -0.5, {"To": -0.5, "Be": -1.25})]),
            chat(" be", [entry(" be", -3.0, {" or": -0.25})]),
            chat("", [], finish="stop"),
        ]
        play = Playground(wb.connect(script.url), "Say it.")
        state = play.answer({"kind": "want"})[0]
        assert set(state["missing"]) == {
            "routing", "attention", "text", "memory", "drawn", "entropy", "context",
            "chat_branches", "own_text", "top_k", "min_p", "repetition_penalty",
        }  # fmt: skip
        assert all(why.endswith(".") or why.endswith(")") for why in state["missing"].values())
        assert (play.text, play.top_k, state["context"]) == ("", 0, 0)
        play.told = []
        play.send = lambda content, buffers=None: play.told.append(content)
        play.panel = "routing"
        assert (play.panel, play._error) == ("", play.pangu.missing("routing"))
        assert generate(play).text == "To be"
        assert [step["piece"] for step in steps_told(play)][:2] == ["To", " be"]
        assert steps_told(play)[0]["entropy"] is None
        assert play.told[-1]["status"]["memory_gb"] is None
        json.dumps(play.told, allow_nan=False)
        play._on_message(play, {"kind": "branch", "place": 1, "text": "or"}, [])
        assert "does not send its tokenizer" in play.told[-1]["text"]
        play._on_message(play, {"kind": "bias", "text": "yes", "value": 1}, [])
        assert "Give the token's id" in play.told[-1]["text"]
        again = Playground(wb.connect(script.url))
        entries = again.answer({"kind": "history"})[0]["entries"]
        again.restore(entries[0]["id"])
        assert (again.prompt, again.generation.text) == ("Say it.", "To be")
        script.status = 500
        assert generate(play) is None
        assert "500" in play.told[-1]["error"]
