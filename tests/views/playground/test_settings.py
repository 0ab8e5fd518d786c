"""The playground in Python: settings."""

from dataclasses import replace

import numpy as np
import pytest

import workbench as wb
from tests.views.playground.playgrounds import generate
from workbench.errors import HistoryError
from workbench.views import Playground
from workbench.views.shared.news import News
from workbench.views.shared.words import reason


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


def test_a_text_for_print_shows_prompt_and_answer(play):
    text = generate(play).text
    shown = play.figure().texts[0].get_text()
    assert "To be" in shown
    assert text.replace("$", r"\$") in shown


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
