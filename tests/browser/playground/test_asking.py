"""The playground's page: a prompt is written and sent, and what is said of it."""

import pytest

from tests.browser.playground.pages import end, step, stream, tell


def test_a_prompt_is_sent_with_its_settings_and_the_answer_streams(play):
    play.get_by_label("prompt", exact=True).fill("What is 3 + 3?")
    play.get_by_label("temperature").fill("0.2")
    play.get_by_label("max tokens").fill("9")
    play.get_by_label("max tokens").press("Tab")
    play.get_by_label("thinking", exact=True).select_option("fast")
    play.get_by_role("button", name="Generate").click()
    assert play.evaluate("sent.map((m) => m.kind)") == ["generate"]
    names = ["prompt", "temperature", "max_new_tokens", "thinking"]
    values = play.evaluate("(names) => names.map((name) => model.get(name))", names)
    assert values == ["What is 3 + 3?", 0.2, 9, "fast"]
    play.evaluate("model.set('running', true)")
    assert play.get_by_role("button", name="Generate").is_disabled()
    stream(play, [step("3", span="thinking"), step("?", span="thinking")])
    stream(play, [step(" six")], 2)
    assert play.locator(".token").all_text_contents() == ["3", "?", " six"]
    assert play.locator(".stretch").all_text_contents() == ["thinking, 2 tokens ▾3?", " six"]
    status = play.locator(".told").text_content()
    for words in ("3 new tokens", "12.3 tokens/s", "memory 1.50 GB", "context 40 of 512"):
        assert words in status
    play.keyboard.press("Control+Enter")  # a second one does not begin
    play.locator(".said").focus()
    play.keyboard.press("Escape")
    play.get_by_role("button", name="Stop").click()
    assert play.evaluate("sent.map((m) => m.kind)") == ["generate", "stop", "stop"]
    end(play)
    assert "2.0 s including the prompt" in play.locator(".status").text_content()
    assert "max tokens reached" in play.locator(".status").text_content()
    assert play.locator(".pw-play").get_attribute("data-state") == "length"


def test_the_conversation_and_the_text_that_is_read_are_edited(play):
    play.evaluate("""() => {
      model.set("turns", [{ role: "user", content: "Hi" }, { role: "assistant", content: "Ho" }]);
    }""")
    play.get_by_label("turn 2", exact=True).fill("Hello")
    play.get_by_label("turn 2", exact=True).press("Tab")
    assert play.evaluate("model.get('turns')[1]") == {"role": "assistant", "content": "Hello"}
    play.get_by_label("role of turn 1").select_option("tool")
    play.get_by_label("remove turn 2").click()
    assert play.evaluate("model.get('turns')") == [{"role": "tool", "content": "Hi"}]
    play.get_by_role("button", name="add an earlier turn").click()
    assert play.evaluate("model.get('turns').length") == 2
    play.get_by_label("system prompt").fill("Be brief.")
    play.get_by_label("system prompt").press("Tab")
    assert play.evaluate("model.get('system')") == "Be brief."
    text = play.get_by_label("what the model reads")
    assert "What is 2 + 2?" in text.input_value()
    assert "Editing here switches to raw text" in play.locator(".reads").text_content()
    text.fill("KING.")
    text.press("Tab")
    assert play.evaluate("model.get('text')") == "KING."
    play.evaluate("model.set('mode', 'raw')")  # what Python answers
    assert not play.get_by_label("prompt", exact=True).is_visible()
    play.get_by_role("button", name="back to the conversation").click()
    assert play.evaluate("model.get('mode')") == "chat"
    assert play.get_by_label("prompt", exact=True).is_visible()


def test_a_click_right_after_typing_is_not_lost(play):
    play.get_by_label("prompt", exact=True).click()
    play.keyboard.type(" Really?")
    play.get_by_role("button", name="add an earlier turn").click()
    assert play.evaluate("model.get('turns').length") == 1
    assert play.evaluate("model.get('prompt')") == "What is 2 + 2? Really?"
    play.evaluate("model.set('mode', 'raw')")
    play.get_by_label("what the model reads").click()
    play.keyboard.type("KING.")
    play.get_by_role("button", name="back to the conversation").click()
    assert play.evaluate("model.get('mode')") == "chat"


def test_a_special_token_s_name_in_the_conversation_is_said_to_be_plain_text(play):
    note = play.locator(".spelled")
    assert note.is_hidden()
    tell(play, {"kind": "count", "count": 9, "special": ["[unused10]"]})
    assert "“[unused10]” in the conversation is read as plain text" in note.text_content()
    assert "(after an edit here) it becomes the special token" in note.text_content()
    assert "9 tokens" in play.locator(".reads").text_content()
    tell(play, {"kind": "count", "count": 9, "special": ["<s>", "[unused10]"]})
    assert "“<s>”, “[unused10]” in the conversation are read as" in note.text_content()
    play.evaluate("model.set('mode', 'raw')")
    assert note.is_hidden()
    play.evaluate("model.set('mode', 'chat')")
    assert note.is_visible()
    tell(play, {"kind": "count", "count": 9, "special": []})
    assert note.is_hidden()


def test_what_is_continued_has_its_name(play):
    assert play.get_by_role("button", name="Continue the conversation").count() == 1
    play.evaluate("model.set('mode', 'raw')")
    assert play.get_by_role("button", name="Continue the text").count() == 1


def test_an_error_is_shown_and_the_prompt_stays(play):
    play.get_by_label("prompt", exact=True).fill("Hello")
    play.keyboard.press("Control+Enter")
    assert play.evaluate("sent.at(-1).kind") == "generate"
    end(play, error="top_p is 2.0; expected more than 0 and at most 1.", status={})
    assert play.locator(".note.bad").text_content().startswith("top_p is 2.0")
    assert play.get_by_label("prompt", exact=True).input_value() == "Hello"
    assert play.locator(".pw-play").get_attribute("data-state") == "error"
    tell(play, {"kind": "note", "text": "", "bad": False})  # something else was done
    assert play.locator(".note").is_hidden()
    assert play.locator(".pw-play").get_attribute("data-state") == ""


@pytest.mark.parametrize("alive", [False, True])
def test_a_kernel_that_does_not_answer_is_told_of(alive, play):
    play.evaluate("model.send = () => {}; null")
    play.clock.install()
    play.get_by_role("button", name="Generate").click()
    if alive:
        play.evaluate("model.set('running', true); model.set('running', false)")
    play.clock.run_for(6000)
    assert play.get_by_text("The kernel does not answer").is_visible() != alive
