"""The playground in Python: what it asks, keeps, tells the page, and gives back."""

import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from traitlets import TraitError

import workbench as wb
from tests.helpers.fake_server import chat, entry, fake_server
from workbench.errors import GenerationError, HistoryError, WorkbenchError, is_out_of_memory
from workbench.generation.steps import Generation, Step
from workbench.generation.stream import Stream
from workbench.generation.turn import cell_ended
from workbench.views import Playground
from workbench.views.playground import engine
from workbench.views.shared.news import News
from workbench.views.shared.words import reason


@pytest.fixture
def play(moe, tmp_path, monkeypatch):
    """A raw text, never ended by the model itself, few tokens."""
    monkeypatch.chdir(tmp_path)
    view = Playground(moe, text="To be", temperature=1.0, max_new_tokens=6, seed=3)
    view.logit_bias = [(moe.tokenizer.eos_token_id, -100.0)]
    view.told = []
    view.send = lambda content, buffers=None: view.told.append(content)
    return view


def generate(view, **settings):
    for name, value in settings.items():
        setattr(view, name, value)
    view.start()
    return view.wait(60)


def steps_told(view) -> list[dict]:
    """The tokens that a page would hold, put together from what it was told."""
    held = []
    for message in view.told:
        if message["kind"] == "state":
            held = list(message["steps"])
        elif message["kind"] == "steps":
            assert message["from"] <= len(held)
            held[message["from"] :] = message["steps"]
    return held


def test_a_generation_is_what_the_model_generates_from_code(play, moe):
    ours = generate(play)
    expected = moe.generate("To be", 6, play.sampling)
    assert ours.token_ids == expected.token_ids
    assert [step["id"] for step in steps_told(play)] == [step.token_id for step in expected.steps]
    assert list(play.table()["piece"]) == [step.piece for step in expected.steps]
    assert play.recipe == expected.recipe
    last = play.told[-1]
    assert (last["kind"], last["status"]["finish"]) == ("tree", "length")


def test_it_stops_before_the_next_token_and_no_second_one_begins_meanwhile(play):
    four = threading.Event()
    tell = play.send

    def hear(content, buffers=None):
        tell(content)
        if len(steps_told(play)) > 3:
            four.set()

    play.send = hear
    play.max_new_tokens = 400
    play.start()
    assert four.wait(60)
    with pytest.raises(GenerationError, match="is running"):
        play.start()
    with pytest.raises(GenerationError, match="is running"):
        play.branch(1)
    play._on_message(play, {"kind": "generate"}, [])  # a click that comes too late
    assert play.generation is None
    play.stop()
    generation = play.wait(60)
    assert not play.running
    assert generation.finish_reason == "stopped"
    assert len(steps_told(play)) == len(generation.steps) < 400
    assert [m["kind"] for m in play.told].count("tree") == 1


def test_an_interrupt_while_waiting_stops_it(play, monkeypatch):
    begun = threading.Event()
    monkeypatch.setattr(
        play, "send", lambda content, _=None: content["kind"] == "steps" and begun.set()
    )
    play.max_new_tokens = 400
    play.start()
    assert begun.wait(60)
    thread, join = play._thread, play._thread.join

    def interrupted(timeout=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        play.wait()
    join(60)
    assert play.branches.current.generation.finish_reason == "stopped"


def test_the_page_is_told_at_most_thirty_times_a_second(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("workbench.views.shared.generating.time.perf_counter", lambda: now[0])
    sent = []
    news = News(lambda start, steps, status: sent.append((now[0], start, len(steps))))
    for number in range(1000):  # a thousand tokens a second, for a second
        now[0] = number / 1000
        news.add({"id": number}, dict)
    news.flush({})
    assert len(sent) <= 31
    assert sent[0] == (0.0, 0, 1)  # the first token at once
    assert sum(count for _, _, count in sent) == 1000
    assert [start for _, start, _ in sent] == list(np.cumsum([0, *(c for _, _, c in sent[:-1])]))
    assert news.speed == pytest.approx(1000, rel=0.01)


def test_the_text_that_the_model_reads_follows_the_conversation(moe, play):
    play.mode = "chat"
    play.system, play.prompt = "Be brief.", "床前 [unused10]?"
    play.turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho"},
        {"role": "user", "content": "床前 [unused10]?"},
    ]
    assert play.conversation == messages
    assert play.text == moe.tokenizer.render_chat(messages)
    play.thinking = "fast"
    assert play.text.count("/no_think") == 1
    ids = moe.encode(messages, "fast")
    assert play.told[-1] == {"kind": "count", "count": len(ids), "special": ["[unused10]"]}
    assert generate(play).token_ids[: len(ids)] == tuple(ids)


def test_an_edit_of_the_text_switches_to_raw_and_back_to_the_conversation(play):
    play.mode, play.prompt = "chat", "Hello"
    templated = play.text
    play.text = templated + "Well,"
    assert play.mode == "raw"
    assert generate(play).recipe.prompt == templated + "Well,"
    play.mode = "chat"
    assert play.text == templated
    assert play.prompt == "Hello"


def test_going_on_makes_the_answer_a_part_of_what_is_asked(play):
    play.mode, play.prompt = "chat", "Hello"
    answer = generate(play).answer
    play.follow_up()
    assert play.turns == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": answer},
    ]
    assert play.prompt == ""


def test_going_on_is_from_what_was_asked_and_not_from_what_is_typed_since(play):
    play.mode, play.system, play.prompt = "chat", "Be brief.", "Hello"
    answer = generate(play).answer
    play.system, play.prompt = "Be long.", "And next?"
    play.follow_up()
    assert play.conversation == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": "And next?"},
    ]


@pytest.mark.parametrize("thought", ["[unused16]Hm", "[unused16]Hm[unused17]"])
def test_thinking_without_an_answer_is_no_turn_to_go_on_from(play, moe, thought):
    play.mode, play.prompt, play.max_new_tokens = "chat", "Hello", 1
    play.logit_bias = [(moe.tokenizer.eos_token_id, 100.0)]
    generate(play)
    play.branch(0, thought)
    assert play.wait(60).answer == ""
    asked = play.conversation
    play._on_message(play, {"kind": "follow_up"}, [])
    said = play.told[-1]["text"]
    assert "all thinking, without an answer" in said
    assert "the model ended its turn there" in said
    assert play.conversation == asked


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("length", "with more of them"),
        ("context", "context is full"),
        ("stop_string", "the stop string 'zz' came. Take it out"),
        ("stopped", "let it end"),
        ("abort", "it ended with 'abort'"),
    ],
)
def test_why_there_is_only_thinking_is_said_with_what_to_do(reason, said, play):
    thought = (Step(1, "hm", "hm", -0.5, (), "thinking"),)
    stop_string = "zz" if reason == "stop_string" else None
    recipe = generate(play, mode="chat", prompt="Hello").recipe
    play.branches.add(Generation((1,), 0, thought, reason, stop_string, recipe=recipe))
    with pytest.raises(GenerationError, match=said) as caught:
        play.follow_up()
    assert reason == "length" or "max tokens" not in str(caught.value)


def test_a_branch_has_as_many_new_tokens_after_a_restart_as_before(play, moe):
    generate(play)
    play.branch(2)
    play.wait(60)
    again = Playground(moe)
    again.restore(again.history[-1].id)
    assert again._status["tokens"] == play._status["tokens"] == 6
    assert len(again.generation.steps) == 8


def test_going_on_in_raw_text_keeps_special_tokens(play, moe):
    end = moe.tokenizer.eos_token_id
    play.logit_bias = [(moe.tokenizer.thinking_end_id, 100.0)]
    generation = generate(play, text="To be", max_new_tokens=2)
    play.branch(1, end)
    ended = play.wait(60)
    assert ended.finish_reason == "eos"
    play.text = "something else"
    play.follow_up()
    assert play.text == "To be[unused17]" + moe.tokenizer.pieces([end])[0]
    assert moe.encode(play.text) == list(ended.token_ids)
    assert generation.text == ""
    cut = moe.tokenizer.encode("龘", add_bos=False)[-2]  # inside a character
    play.logit_bias = [(cut, 100.0)]
    assert generate(play, text="To be", max_new_tokens=1).text == "\ufffd"
    play.follow_up()
    assert play.text == "To be"


def test_a_branch_is_a_fresh_run_of_its_text(play, moe):
    root = generate(play)
    other = root.steps[2].alternatives[1].token_id
    if other == root.steps[2].token_id:
        other = root.steps[2].alternatives[0].token_id
    play._on_message(play, {"kind": "branch", "place": 2, "token": other}, [])
    branch = play.wait(60)
    assert [s.token_id for s in branch.steps[:3]] == [*(s.token_id for s in root.steps[:2]), other]
    begun = [step.token_id for step in branch.steps[:3]]
    fresh = moe.generate("To be", 6, play.sampling, begun=begun)
    assert branch.token_ids == fresh.token_ids
    assert [step["id"] for step in steps_told(play)] == [step.token_id for step in branch.steps]
    assert [step["given"] for step in steps_told(play)] == [False] * 2 + [True] + [False] * 6
    assert play.branches.current.parent == 0
    assert [node["depth"] for node in play.told[-1]["nodes"]] == [0, 1]


def test_a_branch_keeps_the_prompt_of_its_answer_and_going_to_it_shows_that(play):
    play.mode, play.prompt = "chat", "Hello"
    root = generate(play)
    play.text = "something else"  # raw, and not generated
    play.branch(1)
    branch = play.wait(60)
    assert branch.recipe.prompt_ids == root.recipe.prompt_ids
    assert play.branches.current.parent == 0
    play.show(0)
    assert (play.mode, play.prompt) == ("chat", "Hello")


def test_a_branch_may_go_on_with_a_text_or_draw_again(play, moe):
    root = generate(play)
    play.branch(1, " not")
    play.wait(60)
    given = moe.tokenizer.encode(" not", add_bos=False, starts_text=False)
    ids = [step.token_id for step in play.generation.steps]
    assert ids[: 1 + len(given)] == [root.steps[0].token_id, *given]
    play.show(0)
    play.seed = 8
    play.branch(0)
    again = play.wait(60)
    assert again.token_ids == moe.generate("To be", 6, play.sampling).token_ids
    assert not any(step["given"] for step in steps_told(play))  # it was drawn
    play.show(1)
    chosen = [step["given"] for step in steps_told(play)]
    assert chosen == [1 <= place < 1 + len(given) for place in range(len(ids))]
    play.show(2)
    assert not any(step["given"] for step in steps_told(play))
    with pytest.raises(GenerationError, match="no token 99; the answer has tokens 0 to 5"):
        play.branch(99)


@pytest.mark.parametrize("text", ["7", "<x>", " not", "  two"])
def test_a_branch_goes_on_with_exactly_the_text_that_was_given(play, moe, text):
    play.logit_bias = [*play.logit_bias, (moe.tokenizer.bos_token_id, -100.0)]
    space = moe.tokenizer.pieces(range(len(moe.tokenizer))).index(" ")
    root = generate(play)
    play.branch(2, space)
    spaced = play.wait(60)
    play.branch(3, text)  # after a lone space
    shared = "".join(step.text for step in root.steps[:2]) + " "
    assert spaced.text.startswith(shared)
    assert play.wait(60).text.startswith(shared + text)
    play.branch(3, moe.tokenizer.thinking_start_id)  # after a special token a text starts anew
    play.wait(60)
    play.branch(4, text)
    assert play.wait(60).text.startswith(shared + text)


def test_branches_are_shown_named_removed_and_undone(play):
    first, second = generate(play).text, generate(play, seed=9).text
    assert first != second
    play._on_message(play, {"kind": "show", "node": 0}, [])
    assert play.generation.text == first
    assert "".join(step["text"] for step in steps_told(play)) == first
    play._on_message(play, {"kind": "rename", "node": 1, "name": "the other"}, [])
    assert play.branches[1].name == "the other"
    play._on_message(play, {"kind": "remove", "node": 0}, [])
    assert play.generation.text == second
    play._on_message(play, {"kind": "undo"}, [])
    assert len(play.branches) == 2
    play._on_message(play, {"kind": "redo"}, [])
    assert len(play.branches) == 1


def test_what_is_undone_takes_back_what_was_asked_too(play):
    generate(play)
    generate(play, text="King")
    play.undo()
    assert (play.text, play.generation.recipe.prompt) == ("To be", "To be")
    play.redo()
    assert (play.text, play.generation.recipe.prompt) == ("King", "King")


def test_renaming_and_removing_others_leaves_open_what_is_open(play):
    generate(play)
    generate(play, seed=9)
    play.panel = "routing"
    play.wait(60)
    inside, play.token = play.inside, 2
    play._on_message(play, {"kind": "rename", "node": 1, "name": "mine"}, [])
    play._on_message(play, {"kind": "remove", "node": 0}, [])
    play._on_message(play, {"kind": "undo"}, [])
    assert (play.inside, play.panel, play.token) == (inside, "routing", 2)
    assert [node["name"] for node in play.told[-1]["nodes"]] == ["prompt 1", "mine"]
    play._on_message(play, {"kind": "remove", "node": 1}, [])  # the one on screen
    assert (play.panel, play.token) == ("routing", -1)
    assert play.inside.trace.token_ids.tolist() == list(play.generation.token_ids)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text": ""}, "empty"),
        ({"top_p": 3.0}, "top-p (top_p) is 3.0"),
        ({"seed": 2**70}, "seed is"),
        ({"max_new_tokens": 0}, "max tokens (max_new_tokens) is 0"),
        ({"text": "be " * 600}, "context is 512; shorten it"),
    ],
)
def test_what_is_wrong_is_said_and_the_answer_on_screen_stays(settings, message, play):
    before = generate(play)
    assert generate(play, **settings) is None
    assert message in play.told[-1]["error"]
    assert play.generation == before
    assert message in play.answer({"kind": "want"})[0]["error"]


@pytest.mark.parametrize(
    "done",
    [
        {"kind": "save_preset", "name": "mine"},
        {"kind": "rename", "node": 0, "name": "mine"},
        {"kind": "remove", "node": 1},
        {"kind": "undo"},
        {"kind": "show", "node": 0},
        {"kind": "follow_up"},
        {"kind": "bias", "text": "7", "value": 1},
        {"kind": "export", "format": "html"},
        {"panel": "compare"},
        {"top_p": 0.5},
    ],
    ids=str,
)
def test_what_was_wrong_is_no_longer_said_after_something_else_was_done(done, play):
    generate(play)
    generate(play)
    assert generate(play, top_k=-1) is None
    play.top_k = 0
    play._error = "an error from before"
    play._on_message(play, {"kind": "save_preset", "name": "greedy"}, [])
    assert "choose another name" in play.told[-1]["text"]
    if "kind" in done:
        play._on_message(play, done, [])
    else:
        play.set_trait(*next(iter(done.items())))
    said = [m for m in play.told if m["kind"] in ("note", "tree", "state")][-1]
    assert said.get("error", said.get("text")) in ("", "This text was made with top-k 50.")
    assert play.answer({"kind": "want"})[0]["error"] == ""


def test_memory_that_runs_out_is_a_message_with_a_way_out(play, monkeypatch):
    kept = generate(play)
    assert play._prefixes.nbytes > 0

    def full(*_args, **_settings):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")

    monkeypatch.setattr(type(play.pangu), "stream", full)
    assert generate(play) is None
    assert "Memory ran out" in play.told[-1]["error"]
    assert "shorter prompt" in play.told[-1]["error"]
    assert play._prefixes.nbytes == 0
    assert play.generation == kept
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_memory_that_runs_out_in_the_middle_gives_back_and_keeps_what_came(play, monkeypatch):
    generate(play)
    assert play._prefixes.nbytes > 0
    run, passes = Stream._run, []

    def full(self, count):
        passes.append(count)
        if len(passes) == 4:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return run(self, count)

    monkeypatch.setattr(Stream, "_run", full)
    assert generate(play, text="Or not") is None
    assert "memory is full after" in play.told[-1]["error"]
    assert play._prefixes.nbytes == 0
    assert len(play.branches.current.generation.steps) == 3


def test_closing_stops_and_gives_back_what_was_held(play):
    generate(play)
    play.panel = "attention"
    play.wait(60)
    assert play.trace is not None
    play.panel = ""
    generate(play)
    begun = threading.Event()
    play.send = lambda content, buffers=None: content["kind"] == "steps" and begun.set()
    play.max_new_tokens = 400
    play.start()
    assert begun.wait(60)
    play.close()
    assert not play.running
    assert play.branches.current.generation.finish_reason == "stopped"
    assert play._prefixes.nbytes == 0
    assert play.trace is play._stream is None
    with pytest.raises(GenerationError, match="this view is closed; make a new one"):
        play.start()
    assert not play.running


def test_the_last_page_that_goes_stops_and_gives_back(play, monkeypatch):
    """`first` was loaded anew as `third`, and never says that it goes; `second` is there."""
    monkeypatch.setattr("workbench.views.shared.generating.ROLL_SECONDS", 0)
    for kind, page in [
        ("hello", "first"), ("hello", "second"), ("here", "first"), ("here", "second"),
        ("hello", "third"), ("here", "second"), ("here", "third"), ("bye", "third"),
    ]:  # fmt: skip
        play._on_message(play, {"kind": kind, "page": page}, [])
    assert [told["kind"] for told in play.told].count("roll") == 3
    generate(play)
    assert play._prefixes.nbytes > 0
    play._on_message(play, {"kind": "bye", "page": "second"}, [])
    assert play._prefixes.nbytes == 0
    assert play.generation.steps


def begin_and_wait_for_tokens(play, **settings):
    """Start an endless generation; return when its first tokens are there."""
    begun, tell = threading.Event(), play.send

    def hear(content, buffers=None):
        tell(content)
        if content["kind"] == "steps":
            begun.set()

    play.send = hear
    for name, value in {"max_new_tokens": 400, **settings}.items():
        setattr(play, name, value)
    play.start()
    assert begun.wait(60)


def test_the_last_page_that_goes_while_it_generates_gives_back_too(play):
    play._on_message(play, {"kind": "hello", "page": "one"}, [])
    begin_and_wait_for_tokens(play)
    play._on_message(play, {"kind": "bye", "page": "one"}, [])
    assert play.wait(60).finish_reason == "stopped"
    assert play._prefixes.nbytes == 0
    play._on_message(play, {"kind": "hello", "page": "one"}, [])  # again: caches are kept again
    generate(play, max_new_tokens=2)
    assert play._prefixes.nbytes > 0


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
    assert play.told[-1]["text"].startswith("What was typed and not asked comes back")
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


def test_a_conversation_that_ends_with_the_assistant_s_turn_is_not_asked(play):
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    assert generate(play, mode="chat", prompt="", turns=turns) is None
    assert "the last turn is the assistant's" in play.told[-1]["error"]
    view = play.compare()
    view.start()
    view.wait(60)
    assert "the last turn is the assistant's" in view._error
    assert view.generations == {}
    assert generate(play, turns=turns[:1]).recipe.prompt == tuple(turns[:1])
    assert generate(play, turns=turns, prompt="And?") is not None


def test_a_full_context_is_said_in_the_words_of_what_was_asked(play):
    kept = generate(play)
    assert reason(replace(kept, finish_reason="context")).endswith("shorten the text")
    kept = generate(play, mode="chat", prompt="Hi")
    assert "shorten the conversation" in reason(replace(kept, finish_reason="context"))


def test_a_preset_sets_how_tokens_are_drawn_and_own_ones_are_kept(play, moe):
    play.preset = "greedy"
    assert play.temperature == 0
    assert play.seed == 3  # a preset says how to draw, not with which numbers
    play.temperature = 0.7
    assert play.preset == ""
    play.min_p = 0.2
    play._on_message(play, {"kind": "save_preset", "name": "mine"}, [])
    assert play.preset == "mine"
    again = Playground(moe, preset="mine")
    assert (again.temperature, again.min_p) == (0.7, 0.2)
    play._on_message(play, {"kind": "save_preset", "name": "greedy"}, [])
    assert "choose another name" in play.told[-1]["text"]
    assert Playground(moe, preset="mine", min_p=0.1).min_p == 0.1
    with pytest.raises(HistoryError, match="no preset 'cold'"):
        play.preset = "cold"
    assert play.preset == "mine"


def test_the_preset_is_the_one_whose_settings_are_on_screen(play, moe):
    assert play.preset == ""
    assert Playground(moe).preset == "Pangu Pro MoE"
    assert Playground(moe, preset="greedy", top_k=7).preset == ""
    play.temperature, play.top_p, play.top_k, play.logit_bias = 1.0, 0.8, 0, []
    assert play.preset == "openPangu Embedded"
    play.seed = 9
    assert play.preset == "openPangu Embedded"
    play.top_p = 3.0  # no setting at all
    assert play.preset == ""
    play.top_p = 1.0
    assert play.preset == "as trained"
    play.preset = ""  # they are still its settings
    assert play.preset == "as trained"
    play.save_preset("mine")  # the same: the chosen one counts
    assert play.preset == "mine"
    play.seed, play.top_k = 1, 3
    assert play.preset == ""
    play.preset = "greedy"
    assert (play.preset, play.temperature, play.top_k) == ("greedy", 0.0, 50)


def test_a_bias_is_given_by_text_or_id(play, moe):
    ids = moe.tokenizer.special_tokens
    play.logit_bias = []
    play._on_message(play, {"kind": "bias", "text": "[unused16]", "value": -100}, [])
    play._on_message(play, {"kind": "bias", "text": "7", "value": 2.5}, [])
    assert play.logit_bias == [[ids["[unused16]"], -100], [7, 2.5]]
    assert [m["bias"] for m in play.told if m["kind"] == "bias"][-1][0] == [
        ids["[unused16]"],
        "[unused16]",
        -100,
    ]
    play._on_message(play, {"kind": "bias", "text": "unbelievable", "value": 1}, [])
    assert "tokens (" in play.told[-1]["text"]
    play._on_message(play, {"kind": "bias", "text": "999999", "value": 1}, [])
    assert "there is no token 999999" in play.told[-1]["text"]


def test_a_bias_on_a_piece_is_given_in_quotes_or_with_its_space(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    play = Playground(wb.load("demo", bits=16, device="cpu"), history=None)
    play.told = []
    play.send = lambda content, buffers=None: play.told.append(content)
    pieces = play.pangu.tokenizer.pieces(range(len(play.pangu.tokenizer)))
    digit = pieces.index("7")
    word = next(n for n, piece in enumerate(pieces) if piece[0] == " " and piece[1:].isalpha())
    for text, token in {'"7"': digit, "“7”": digit, "7": 7, pieces[word]: word}.items():
        play.logit_bias = []
        play._on_message(play, {"kind": "bias", "text": text, "value": 1}, [])
        assert play.logit_bias == [[token, 1]]
        assert play._bias() == [[token, pieces[token], 1]]
    play._on_message(play, {"kind": "bias", "text": '"[unused16]"', "value": 1}, [])
    assert "tokens (" in play.told[-1]["text"]  # in quotes it is no special token
    play._on_message(play, {"kind": "bias", "text": '"7 7 7"', "value": 1}, [])
    assert f"tokens ({digit} '7', " in play.told[-1]["text"]  # and gets no space


def test_the_copied_python_reproduces_the_text(play, moe, monkeypatch, capsys):
    play.mode, play.prompt, play.stop_strings = "chat", "To be?", ["zz"]
    generation = generate(play)
    content, _ = play.answer({"kind": "python"})
    monkeypatch.setattr(wb, "load", lambda *_args, **_settings: moe, raising=False)
    exec(content["code"], {})
    assert capsys.readouterr().out == f"{generation}\n"


def test_the_history_panel_tells_thinking_apart_and_the_time_of_this_machine(play, monkeypatch):
    begun = Step(1, "hm", "hm", -0.5, (), "thinking"), Step(2, "72", "72", -0.5, (), "answer")
    play.history.add(Generation((), 0, begun, "eos"))
    written = play.history.path.read_text()
    line = {**json.loads(written), "time": "2026-11-24T23:30:05+00:00"}
    play.history.path.write_text(json.dumps(line) + "\n")
    monkeypatch.setenv("TZ", "UTC-5:30")  # east of Greenwich, in POSIX's signs
    time.tzset()
    try:
        entry = play.answer({"kind": "history"})[0]["entries"][0]
        line["time"] = "yesterday"
        play.history.path.write_text(json.dumps(line) + "\n")
        other = play.answer({"kind": "history"})[0]["entries"][0]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert (entry["when"], other["when"]) == ("2026-11-25 05:00:05", "yesterday")
    assert (entry["thinking"], entry["answer"]) == ("hm", "72")


def test_the_history_brings_prompt_settings_and_text_back_in_a_new_playground(play, moe):
    play.mode, play.system, play.prompt = "chat", "Be brief.", "Hello"
    play.turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    kept = generate(play, thinking="fast", top_k=7, stop_strings=["zz\n"])
    asked, sampling = play.conversation, play.sampling
    again = Playground(moe)  # as after a restart of the kernel
    told = again.answer({"kind": "history"})[0]
    assert len(told["entries"]) == 1
    assert "Hello" in told["entries"][0]["prompt"]
    again._on_message(again, {"kind": "restore", "entry": told["entries"][0]["id"]}, [])
    assert again.conversation == asked
    assert again.sampling == sampling
    assert (again.thinking, again.stop_strings) == ("fast", ["zz\n"])
    assert again.generation.token_ids == kept.token_ids
    assert again.generation.text == kept.text
    assert [s.logprob for s in again.generation.steps] == pytest.approx(
        [s.logprob for s in kept.steps], abs=1e-5
    )
    best = [other.token_id for other in kept.steps[2].alternatives[:5]]
    assert [other.token_id for other in again.generation.steps[2].alternatives] == best
    again.branch(2, kept.steps[2].alternatives[-1].token_id)
    assert again.wait(60).steps[:2] == again.branches[0].generation.steps[:2]


def test_in_the_end_every_token_shows_its_own_text_and_what_a_stop_string_cut_off(play, moe):
    whole = generate(play, max_new_tokens=30)
    texts = [step.text for step in whole.steps]
    place = next(
        n for n in range(3, 29) if texts[n] and texts[n + 1]
        and texts[n][-1] + texts[n + 1][0] not in "".join(texts[: n + 1])
    )  # fmt: skip
    stop_string = texts[place][-1] + texts[place + 1][0]
    cut = generate(play, stop_strings=["not there", stop_string])
    assert cut.finish_reason == "stop_string"
    expected = [(step.text, step.cut) for step in cut.steps]
    assert expected[place:] == [(texts[place][:-1], texts[place][-1]), ("", texts[place + 1])]
    assert [(step["text"], step["cut"]) for step in steps_told(play)] == expected
    assert play._status["reason"] == f"the stop string {stop_string!r} came"
    again = Playground(moe)
    again.restore(again.history[-1].id)
    shown = again.answer({"kind": "want"})[0]
    assert [(step["text"], step["cut"]) for step in shown["steps"]] == expected
    assert shown["status"]["reason"] == play._status["reason"]
    play.stop_strings = []
    play.branch(place + 1)
    freed = play.wait(60)
    assert "".join(step.cut for step in freed.steps) == ""
    assert [step["text"] for step in steps_told(play)] == [step.text for step in freed.steps]


def test_the_history_brings_the_tree_back_with_its_names(play, moe):
    generate(play)
    play.branch(2, "me")
    play.wait(60)
    play.rename(1, "the better")
    play.branch(4, "us")
    play.wait(60)
    play.show(0)
    play.branch(1)
    play.wait(60)
    play.rename(0, "wrong")
    play.undo()
    generate(play, text="Not to")
    shapes = [(b.parent, b.at, b.generation.token_ids) for b in play.branches]
    names = [branch.name for branch in play.branches]
    again = Playground(moe)  # as after a restart of the kernel
    again.send = lambda content, buffers=None: None
    generate(again, text="Or else", max_new_tokens=2)
    ids = [entry.id for entry in again.history]
    again.restore(ids[2])
    assert [(b.parent, b.at, b.generation.token_ids) for b in again.branches][1:] == [
        (None if parent is None else parent + 1, at, tokens) for parent, at, tokens in shapes[:4]
    ]
    assert [branch.name for branch in again.branches][1:] == names[:4]
    assert (again.branches.current.id, again.text) == (3, "To be")
    assert [node["depth"] for node in again.answer({"kind": "want"})[0]["nodes"]] == [0, 0, 1, 1, 2]
    again.restore(ids[0])
    assert (len(again.branches), again.branches.current.id) == (5, 1)  # it was there
    again.undo()
    assert len(again.branches) == 1
    again.restore(ids[0])
    assert len(again.branches) == 5
    again.branch(2, "go")  # goes on in the tree of the history
    again.wait(60)
    assert [entry.id for entry in again.history.tree(ids[1])] == [*ids[:4], again.history[-1].id]
    assert again.history[-1].parent == ids[0]


@pytest.mark.parametrize("harm", ["tokens", "ids", "parent", "loop"])
def test_a_tree_with_a_line_that_somebody_changed_comes_back_without_it(harm, play, moe):
    generate(play)
    play.branch(2, "me")
    play.wait(60)
    play.branch(4, "us")
    kept = play.wait(60)
    lines = [json.loads(line) for line in play.history.path.read_text().splitlines()]
    if harm == "tokens":
        del lines[1]["tokens"]["pieces"]
    elif harm == "ids":
        lines[1]["tokens"]["ids"][0] += 1
    else:
        lines[1]["parent"] = {"parent": "nobody", "loop": lines[2]["id"]}[harm]
    play.history.path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    again = Playground(moe)
    again.restore(lines[2]["id"])
    assert again.generation.text == kept.text
    parents = [(branch.parent, branch.at) for branch in again.branches]
    assert parents == {
        "tokens": [(None, 0), (None, 0)],
        "ids": [(None, 0), (None, 0)],
    }.get(harm, [(None, 0), (0, 4)])
    if harm in ("tokens", "ids"):
        there = list(again.branches)
        with pytest.raises(WorkbenchError, match=r"has no pieces|no branch of it"):
            again.restore(lines[1]["id"])
        assert list(again.branches) == there


def test_what_was_typed_and_not_asked_comes_back_with_its_branch(play):
    play.mode, play.system, play.prompt = "chat", "Be brief.", "Hello"
    generate(play)
    play.branch(1)
    play.wait(60)
    play.system, play.prompt = "Be kind.", "And then?"
    play.show(0)
    assert (play.system, play.prompt) == ("Be brief.", "Hello")
    assert play.told[-1]["text"] == (
        f"What was typed and not asked comes back with a click on “{play.branches[1].name}”."
    )
    play.show(1)
    assert (play.system, play.prompt) == ("Be kind.", "And then?")
    play.show(1)  # the one on screen changes between what was asked and what was typed
    assert (play.system, play.prompt) == ("Be brief.", "Hello")
    play.show(1)
    assert (play.system, play.prompt) == ("Be kind.", "And then?")
    play.restore(play.history[0].id)
    assert play.prompt == "Hello"
    play.show(1)
    assert play.prompt == "And then?"
    play.undo()  # the branch goes, and comes again
    assert play.prompt == "Hello"
    play.redo()
    assert play.prompt == "And then?"


def test_raw_text_comes_back_with_the_raw_mode(play):
    play.prompt = "Hello"
    play.mode = "chat"
    assert "Hello" in play.text
    assert play.text != "To be"
    play.mode = "raw"
    assert play.text == "To be"
    play.mode = "chat"
    play.text += "It "  # an edit of what the model reads
    edited = play.text
    assert play.mode == "raw"
    play.mode = "chat"
    assert play.text != edited
    play.mode = "raw"
    assert play.text == edited
    with play.hold_trait_notifications():
        play.mode = "chat"
    with play.hold_trait_notifications():
        play.mode, play.text = "raw", "another"
    assert (play.mode, play.text) == ("raw", "another")


def test_raw_text_that_nobody_typed_does_not_come_back(play, moe):
    looked = Playground(moe, prompt="A question", history=None)
    looked.mode = "raw"  # only to look
    looked.mode = "chat"
    looked.prompt = "Another one"
    looked.mode = "raw"
    assert "Another one" in looked.text

    generate(play, text="ONE")
    play.mode, play.prompt = "chat", "Hello"
    generate(play)
    chat = play.text
    play.show(0)
    assert (play.mode, play.text) == ("raw", "ONE")
    play.show(1)
    play.mode = "raw"
    assert play.text == chat

    generate(play, text=chat)  # a raw text that is what the template gives
    play.text = "Foo"
    play.mode = "chat"
    play.show(2)
    assert (play.mode, play.text) == ("raw", chat)


def test_raw_text_waits_through_other_texts_and_errors(play):
    generate(play, text="ONE")
    play.text = "Foo"
    play.mode = "chat"
    play.prompt = "Hello"
    generate(play)
    play.show(0)
    assert play.text == "ONE"
    play.mode = "chat"
    with pytest.raises(TraitError):
        play._put({"mode": "other"})
    play.mode = "raw"
    assert play.text == "Foo"


def test_several_clicks_that_come_as_one_are_taken_in_order(play):
    play.mode, play.prompt = "chat", "Hello"
    play.set_state({"text": "typed", "mode": "chat"})  # an edit, and back to the conversation
    assert (play.mode, "Hello" in play.text) == ("chat", True)
    play.mode = "raw"
    assert play.text == "typed"
    generate(play)
    play.mode = "chat"
    play.set_state({"prompt": "Another", "mode": "raw"})
    assert (play.mode, "Another" in play.text) == ("raw", True)


def test_a_note_on_what_was_typed_is_true(play):
    generate(play)
    generate(play, text="Second")
    play.text = "Third"
    play.remove(1)
    assert play.told[-1]["text"] == (
        "What was typed and not asked comes back when “prompt 2” is there again."
    )
    assert play.text == "To be"
    play.undo()
    assert play.text == "Third"
    play.restore(play.history[0].id)
    assert "with a click on “prompt 2”" in play.told[-1]["text"]
    play.show(1)
    play.show(1)
    play.told.clear()
    play.show(0)  # nothing was typed
    assert [told for told in play.told if told["kind"] == "note" and told["text"]] == []
    play.mode, play.prompt, play.turns = "chat", "", [{"role": "user", "content": "Hi"}]
    generate(play)
    play.told.clear()
    play.show(0)
    assert [told for told in play.told if told["kind"] == "note" and told["text"]] == []
    assert list(play._drafts) == [1]  # of before


def test_a_history_that_is_gone_does_not_part_page_and_tree(play):
    generate(play)
    play.history.path.unlink()
    play.rename(0, "kept")
    assert play.told[-1]["nodes"][0]["name"] == "kept"
    assert "the history is not: " in play.told[-1]["error"]
    play.undo()
    assert play.told[-1]["nodes"][0]["name"] == "prompt 1"


def test_a_tree_comes_back_without_what_was_removed_unless_that_is_asked_for(play, moe):
    generate(play)
    for place in (1, 2, 4):
        play.show(0)
        play.branch(place)
        play.wait(60)
    play.branch(5)  # of the third
    play.wait(60)
    root, one, two, three, leaf = (entry.id for entry in play.history)
    play.remove(1)
    play.remove(2)
    play.undo()
    play.remove(3)  # and the one that leaves it
    generate(play, text="Not to")
    play.undo()
    play.undo()
    play.redo()
    kept = [(root, False), (one, True), (two, False), (three, True), (leaf, True)]
    assert [(entry.id, entry.removed) for entry in play.history][:5] == kept
    assert play.history[5].removed  # it was undone
    again = Playground(moe)  # as after a restart of the kernel
    again.send = lambda content, buffers=None: None
    again.restore(root)
    assert [branch.at for branch in again.branches] == [0, 2]
    assert again.branches.current.id == 0
    again.undo()  # it leaves the screen, and stays in the history as it was
    assert not again.branches
    assert [(entry.id, entry.removed) for entry in play.history][:5] == kept
    again.restore(leaf)  # its own click brings it back, and what it leaves
    assert [branch.at for branch in again.branches] == [0, 2, 4, 5]
    assert [entry.removed for entry in play.history][:5] == [False, True, False, False, False]
    again.undo()
    assert [(entry.id, entry.removed) for entry in play.history][:5] == kept
    again.redo()
    again.remove(again.branches.current.id)
    assert [entry.id for entry in again.history.tree(root)] == [root, two, three]


def test_a_prompt_that_was_removed_comes_back_under_its_name(play):
    generate(play)
    generate(play, text="Not to")
    play.remove(1)
    play.restore(play.history[1].id)
    assert [branch.name for branch in play.branches] == ["prompt 1", "prompt 2"]


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
    assert compared._error == "It was stopped when its panel was left."
    generate(play, max_new_tokens=2)
    play.panel = "compare"
    assert play.inside is compared


def test_a_page_that_has_not_answered_the_roll_yet_is_there(play, monkeypatch):
    for kind, page in [("hello", "first"), ("hello", "second"), ("bye", "second")]:
        play._on_message(play, {"kind": kind, "page": page}, [])
    assert not play._left
    play._on_message(play, {"kind": "here", "page": "first"}, [])
    play._on_message(play, {"kind": "bye", "page": "first"}, [])
    assert play._left
    monkeypatch.setattr("workbench.views.shared.generating.ROLL_SECONDS", 0.2)
    begin_and_wait_for_tokens(play)
    for kind, page in [("hello", "first"), ("hello", "first anew"), ("bye", "first anew")]:
        play._on_message(play, {"kind": kind, "page": page}, [])
    assert play.running
    assert not play._left
    assert play.wait(60).finish_reason == "stopped"  # the first never answered


def test_a_preset_a_bias_and_the_history_wait_for_no_generation(play):
    begin_and_wait_for_tokens(play)
    try:
        for question in (
            {"kind": "bias", "text": "7", "value": -1.0},
            {"kind": "save_preset", "name": "mine"},
        ):
            done = play.answer(question)[0]
            assert (done["kind"], done["asked"]) == ("done", question["kind"])
            assert done["text"] in question.values()
        assert play.answer({"kind": "history"})[0]["kind"] == "history"
        assert play.answer({"kind": "bias", "text": "two words", "value": 0.0})[0]["bad"]
        assert play.running
    finally:
        play.stop()
    play.wait(60)
    assert [7, -1.0] in play.logit_bias
    assert "mine" in play.presets.names()


def test_a_branch_that_is_shown_says_which_settings_it_has(play):
    generate(play, temperature=0.5)
    generate(play, temperature=1.5, max_new_tokens=3, stop_strings=["zz"])
    play.show(0)
    assert play.told[-1]["made"] == (
        "This text was made with temperature 0.5, max tokens 6, other stop strings."
    )
    play.logit_bias = []
    assert play._made().endswith("max tokens 6, another logit bias, other stop strings.")
    assert play.told[-1] == {"kind": "note", "text": "", "bad": False}  # settings are changed


def test_what_is_compared_is_in_the_history(play):
    generate(play)
    play.panel = "compare"
    play.inside.start()
    texts = {label: made.text for label, made in play.inside.wait(60).items()}
    kept = {entry.name: entry.text for entry in play.history}
    assert kept == {"": play.generation.text} | {f"compared: {k}": v for k, v in texts.items()}
    play.restore(play.history[1].id)
    assert play.branches.current.name == f"compared: {play.inside.columns[0]['label']}"


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


def test_a_server_that_takes_less_is_asked_for_less(play, moe, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    generate(play)
    with fake_server() as script:
        script.models = [{"id": "pangu", "owned_by": "somebody"}]  # no vLLM: no top_k
        script.chunks = [chat("To", [entry("To", -0.5)]), chat("", [], finish="stop")]
        remote = wb.connect(script.url)
        view = Playground(remote, "Say it.")
        view.told = []
        view.send = lambda content, buffers=None: view.told.append(content)
        assert (view.preset, view.top_k) == ("Pangu Pro MoE", 0)
        for name in ("greedy", "Pangu Pro MoE"):
            view.preset = name
            assert (view.preset, view.top_k) == (name, 0)
            assert view.told[-1]["text"] == "This server does not take top_k: off here."
            assert generate(view).text == "To"
        view.restore(view.history[0].id)  # made with a loaded model
        assert (view.top_k, view.mode) == (0, "raw")
        assert remote.generate("Say it.", sampling=wb.Sampling.greedy()).text == "To"
        with pytest.raises(GenerationError, match="top_k=50 cannot be sent"):
            remote.generate("Say it.", sampling=wb.Sampling())
        compared = wb.ComparisonView({"here": moe, "there": remote}, "Say it.", max_new_tokens=2)
        assert [column["top_k"] for column in compared.columns] == [50, 0]
        alone = wb.ComparisonView(remote, "Say it.")
        alone.start()
        assert {made.text for made in alone.wait(60).values()} == {"To"}
        matrix = wb.PromptMatrix("Say {{word}}", {"word": ["it"]}, models=remote)
        matrix.run()
        assert matrix.table()["text"].tolist() == ["To"]


def test_a_text_that_was_made_otherwise_says_so_and_is_read_anew(play, moe, tiny_moe):
    kept = generate(play)
    play._show_current()
    assert play.told[-1]["made"] == ""
    other = wb.load(tiny_moe, bits=8, device="cpu")
    again = Playground(other)
    again.restore(again.history[0].id)
    said = again.answer({"kind": "want"})[0]["made"]
    assert said.startswith("This text was made with 16 bit: from the same prompt")
    again.told = []
    again.send = lambda content, buffers=None: again.told.append(content)
    again.branch(3, kept.steps[3].token_id)
    branch = again.wait(60)
    assert [step["logprob"] for step in steps_told(again)] == list(again.table()["logprob"])
    assert [step["given"] for step in steps_told(again)][:5] == [False] * 3 + [True, False]
    assert branch.steps[:4] == other.generate("To be", 1, again.sampling, begun=[
        step.token_id for step in kept.steps[:4]
    ]).steps[:4]  # what is told of them is this model's  # fmt: skip


@pytest.mark.parametrize("end", ["stop", "stop string", "memory"])
def test_a_branch_that_ends_before_its_place_leaves_what_was_on_screen(
    end, play, tiny_moe, monkeypatch
):
    kept = generate(play)
    again = Playground(wb.load(tiny_moe, bits=8, device="cpu"))
    again.restore(again.history[0].id)
    assert again.generation.text == kept.text
    released = []
    monkeypatch.setattr(again, "_release", lambda: released.append(True))
    plain = Stream._give

    def give(stream, step):
        if len(stream.generation.steps) == 2:
            if end == "memory":
                raise MemoryError
            again._stop.set()
        plain(stream, step)

    if end == "stop string":
        again.stop_strings = [kept.steps[0].text]
    else:
        monkeypatch.setattr(Stream, "_give", give)
    again.branch(5)
    again.wait(60)
    assert again.generation.text == kept.text
    assert len(again.branches) == 1
    said = {"stop": "", "stop string": "holds the stop string", "memory": "memory is full"}[end]
    assert said in again._error
    assert bool(again._error) == bool(said)
    assert bool(released) == (end == "memory")


def test_tokens_of_another_vocabulary_are_not_gone_on_with(play, moe, tmp_path):
    generate(play)
    lines = play.history.path.read_text()
    entry = json.loads(lines)
    entry["recipe"] |= {"fingerprint": "other", "checkpoint": "another model"}
    entry["tokens"]["pieces"][1] = "something else"
    play.history.path.write_text(json.dumps(entry) + "\n")
    again = Playground(moe)
    again.restore(again.history[0].id)
    assert "made with another model" in again.answer({"kind": "want"})[0]["made"]
    with pytest.raises(GenerationError, match="are those of another model"):
        again.branch(2)
    again.send = lambda content, buffers=None: None
    again.panel = "routing"
    again.wait(60)
    assert "are those of another model" in again._error
    assert (again.panel, again.trace) == ("", None)


def test_a_servers_text_is_not_taken_for_a_models_own(play, moe, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with fake_server() as script:
        script.chunks = [chat("To", [entry("To", -0.5)]), chat("", [], finish="stop")]
        remote = Playground(wb.connect(script.url), "Say it.")
        generate(remote)
        assert remote.answer({"kind": "want"})[0]["made"] == ""
        play.restore(play.history[0].id)
        assert f"made with pangu on {script.url}" in play.told[-1]["made"]
        with pytest.raises(GenerationError, match="are those of pangu"):
            play.branch(0)


def test_the_history_is_exported_and_its_absence_is_said(play, moe):
    generate(play)
    page, _ = play.answer({"kind": "export", "format": "html"})
    assert page["name"].endswith(".html")
    assert "<!doctype html>" in page["content"].lower()
    lines, _ = play.answer({"kind": "export", "format": "jsonl"})
    assert lines["content"].count("\n") == 1
    without = Playground(moe, history=None)
    assert "keeps no history" in without.answer({"kind": "want"})[0]["missing"]["history"]


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


def test_a_text_for_print_shows_prompt_and_answer(play):
    text = generate(play).text
    shown = play.figure().texts[0].get_text()
    assert "To be" in shown
    assert text.replace("$", r"\$") in shown


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


def test_the_kernels_interrupt_stops_every_widget_that_is_alive(moe, monkeypatch):
    class Kernel:
        saved_sigint_handler = signal.SIG_IGN

    class Shell:
        kernel = Kernel()

    monkeypatch.setattr("workbench.views.shared.generating.get_ipython", Shell)
    one, two = Playground(moe, history=None), Playground(moe, history=None)
    handler = Shell.kernel.saved_sigint_handler
    assert set(handler.views) == {one, two}  # one handler, not a chain of them
    clicked = elsewhere(lambda: Playground(moe, history=None))
    assert clicked in handler.views
    handler(signal.SIGINT, None)
    assert one._stop.is_set()
    assert two._stop.is_set()
    Shell.kernel.saved_sigint_handler = lambda *_: heard.append(True)  # somebody else's
    heard = []
    Playground(moe, history=None)
    Shell.kernel.saved_sigint_handler(signal.SIGINT, None)
    assert heard == [True]


def test_a_damaged_file_of_presets_is_said_and_costs_nothing_else(moe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pangu-presets.json").write_text('{"mine": {"temp')
    view = Playground(moe, prompt="To be", mode="raw", text="To be", max_new_tokens=2)
    content, _ = view.answer({"kind": "want"})
    assert "pangu-presets.json" in content["error"]
    assert "greedy" in content["presets"]
    assert view.preset == "Pangu Pro MoE"
    view.preset = "greedy"
    assert (view.temperature, view.preset) == (0.0, "greedy")
    view.temperature = 0.25
    assert view.preset == ""
    view.start()
    assert len(view.wait(60).steps) > 0
    assert (tmp_path / "pangu-presets.json").read_text() == '{"mine": {"temp'


def test_a_text_stopped_before_its_first_token_leaves_the_branch_before_it_on_screen(moe):
    view = Playground(moe, mode="raw", text="To be", max_new_tokens=3)
    view.start()
    before = view.wait(60)
    view._begin(lambda: (view.stop(), view._generate("To be", "slow")))
    view._thread.join(60)
    assert view.generation == before
    assert len(view._shown) == len(before.steps)


def test_a_stream_that_a_cell_left_unfinished_is_not_in_the_way(moe):
    unfinished = moe.stream([1, 45, 99, 7], 6)
    next(unfinished)
    view = Playground(moe, mode="raw", text="To be", max_new_tokens=2)
    view.start()
    assert len(view.wait(60).steps) > 0
    assert len(list(unfinished)) > 0  # and it can go on


def elsewhere(work):
    """What a function gives in another thread: there JupyterLab's clicks are heard."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(60)


def several(kind, moe):
    """A view of several short texts."""
    if kind == "comparison":
        return wb.ComparisonView(moe, "To be", mode="raw", max_new_tokens=2)
    matrix = wb.PromptMatrix("To {{a}}", {"a": ["be"]}, ["greedy"], moe, max_new_tokens=2)
    return wb.PromptMatrixView(matrix)


def test_a_click_waits_for_the_cell_and_not_for_what_it_left_unfinished(moe):
    unfinished = moe.stream([1, 45, 99, 7], 6)
    next(unfinished)
    view = Playground(moe, mode="raw", text="To be", max_new_tokens=2)
    content, _ = elsewhere(lambda: view.answer({"kind": "generate"}))
    assert content["bad"]
    assert "generating already, in the thread 'MainThread'" in content["text"]
    cell_ended()
    assert elsewhere(lambda: view.answer({"kind": "generate"})) is None
    assert len(view.wait(60).steps) > 0
    assert len(list(unfinished)) > 0  # and it can go on


@pytest.mark.parametrize("kind", ["matrix", "comparison"])
def test_a_click_beside_a_generating_cell_says_why_nothing_happens(kind, moe):
    unfinished = moe.stream([1, 45, 99, 7], 6)
    next(unfinished)
    view = several(kind, moe)
    told = []
    view.send = lambda content, buffers=None: told.append(content)
    elsewhere(lambda: view.answer({"kind": "run" if kind == "matrix" else "generate"}))
    assert "generating already" in told[-1]["error"]
    assert not view.running


def test_only_one_of_two_that_begin_at_once_does(play):
    gate, begun = threading.Event(), []

    def begin(_):
        try:
            play._begin(lambda: gate.wait(60))
            begun.append(True)
        except GenerationError:
            begun.append(False)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(begin, range(8)))
    gate.set()
    play._thread.join(60)
    assert sorted(begun) == [False] * 7 + [True]


@pytest.mark.parametrize("kind", ["routing", "attention", "matrix", "comparison"])
def test_a_stream_that_a_cell_left_unfinished_is_in_no_view_s_way(kind, moe):
    unfinished = moe.stream([1, 45, 99, 7], 6)
    next(unfinished)
    if kind == "matrix":
        view = several(kind, moe)
        view.start()
        assert view.wait(60)["error"].tolist() == [""]
    elif kind == "comparison":
        view = several(kind, moe)
        view.start()
        assert view.wait(60) is not None
    else:
        view = (wb.RoutingView if kind == "routing" else wb.AttentionView).live(moe, "To be", 2)
        assert view.wait(60) is not None
    assert len(list(unfinished)) > 0
