"""The playground in Python: history."""

import json
import time

import pytest

from tests.views.playground.playgrounds import begin_and_wait_for_tokens, generate, steps_told
from workbench.errors import WorkbenchError
from workbench.generation.steps import Generation, Step
from workbench.views import Playground


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
    assert play._status["reason"] == f"stop string {stop_string!r} reached"
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
        with pytest.raises(WorkbenchError, match=r"has no pieces|not a branch of it"):
            again.restore(lines[1]["id"])
        assert list(again.branches) == there


def test_a_history_that_is_gone_does_not_part_page_and_tree(play):
    generate(play)
    play.history.path.unlink()
    play.rename(0, "kept")
    assert play.told[-1]["nodes"][0]["name"] == "kept"
    assert "the history could not be updated: " in play.told[-1]["error"]
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


def test_what_is_compared_is_in_the_history(play):
    generate(play)
    play.panel = "compare"
    play.inside.start()
    texts = {label: made.text for label, made in play.inside.wait(60).items()}
    kept = {entry.name: entry.text for entry in play.history}
    assert kept == {"": play.generation.text} | {f"compared: {k}": v for k, v in texts.items()}
    play.restore(play.history[1].id)
    assert play.branches.current.name == f"compared: {play.inside.columns[0]['label']}"


def test_the_history_is_exported_and_its_absence_is_said(play, moe):
    generate(play)
    page, _ = play.answer({"kind": "export", "format": "html"})
    assert page["name"].endswith(".html")
    assert "<!doctype html>" in page["content"].lower()
    lines, _ = play.answer({"kind": "export", "format": "jsonl"})
    assert lines["content"].count("\n") == 1
    without = Playground(moe, history=None)
    assert "keeps no history" in without.answer({"kind": "want"})[0]["missing"]["history"]
