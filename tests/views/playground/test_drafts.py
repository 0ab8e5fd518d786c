"""The playground in Python: drafts."""

import pytest
from traitlets import TraitError

from tests.views.playground.playgrounds import generate
from workbench.views import Playground


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


def test_what_was_typed_and_not_asked_comes_back_with_its_branch(play):
    play.mode, play.system, play.prompt = "chat", "Be brief.", "Hello"
    generate(play)
    play.branch(1)
    play.wait(60)
    play.system, play.prompt = "Be kind.", "And then?"
    play.show(0)
    assert (play.system, play.prompt) == ("Be brief.", "Hello")
    assert play.told[-1]["text"] == (
        f"What you typed but did not send comes back when you click “{play.branches[1].name}”."
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
        "What you typed but did not send comes back when “prompt 2” is restored."
    )
    assert play.text == "To be"
    play.undo()
    assert play.text == "Third"
    play.restore(play.history[0].id)
    assert "when you click “prompt 2”" in play.told[-1]["text"]
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
