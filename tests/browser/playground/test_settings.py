"""The playground's page: settings, stop strings, the logit bias, presets."""

from tests.browser.playground.pages import tell


def test_every_setting_has_a_control_with_a_label(play):
    play.get_by_role("button", name="more settings").click()
    for label, name, value in [
        ("temperature", "temperature", 0.3),
        ("top-p", "top_p", 0.5),
        ("top-k", "top_k", 7),
        ("min-p", "min_p", 0.05),
        ("repetition penalty", "repetition_penalty", 1.2),
        ("max tokens", "max_new_tokens", 33),
        ("seed", "seed", 12),
    ]:
        play.get_by_label(label, exact=True).fill(str(value))
        play.get_by_label(label, exact=True).press("Tab")
        assert play.evaluate("(name) => model.get(name)", name) == value
    play.get_by_label("stop strings").fill("END\n\\n\\n")
    play.get_by_label("stop strings").press("Tab")
    assert play.evaluate("model.get('stop_strings')") == ["END", "\n\n"]
    play.get_by_label("token to bias").fill("yes")
    play.get_by_label("value added").fill("-7")
    play.get_by_label("value added").press("Enter")
    assert play.evaluate("sent.at(-1)") == {"kind": "bias", "text": "yes", "value": -7}
    play.evaluate("model.set('logit_bias', [[5, -7], [6, 1]])")
    tell(play, {"kind": "bias", "bias": [[5, "yes", -7], [6, "\n", 1]]})
    assert play.locator(".chip .piece").all_text_contents() == ["“yes”", "“\\n”"]
    assert play.locator(".chip").first.text_content() == "“yes” id 5 -7×"
    tell(
        play, {"kind": "bias", "bias": [[5, "yes", -7], [6, "\n", 1], [123, None, 1]]}
    )  # a server's
    assert play.locator(".chip").nth(2).text_content() == "id 123 +1×"
    play.get_by_label("no bias for yes").click()
    assert play.evaluate("model.get('logit_bias')") == [[6, 1]]
    play.get_by_label("preset", exact=True).select_option("greedy")
    assert play.evaluate("model.get('preset')") == "greedy"
    play.get_by_label("name of your preset").fill("mine")
    play.get_by_label("name of your preset").press("Enter")
    assert play.evaluate("sent.at(-1)") == {"kind": "save_preset", "name": "mine"}
    unnamed = "(nodes) => nodes.filter((n) => !n.getAttribute('aria-label') && !n.textContent && !n.closest('label')).length"
    assert play.locator("button, input, select, textarea").evaluate_all(unnamed) == 0


def test_settings_that_are_folded_away_and_not_usual_are_named(play):
    toggle = play.get_by_role("button", name="more settings")
    assert toggle.text_content() == "more settings ▸"
    play.evaluate("model.set('stop_strings', ['x']); model.set('logit_bias', [[5, 1], [6, 1]])")
    assert toggle.text_content() == "more settings ▸ 1 stop string, 2 logit biases"
    play.evaluate("model.set('preset', ''); model.set('top_p', 0.5); model.set('logit_bias', [])")
    assert toggle.text_content() == "more settings ▸ top-p 0.5, 1 stop string"
    play.evaluate("model.set('preset', 'mine')")  # its name says so
    assert toggle.text_content() == "more settings ▸ 1 stop string"
    toggle.click()
    assert play.get_by_role("button", name="fewer settings").text_content() == "fewer settings ▾"


def test_a_redraw_leaves_what_is_being_typed(play):
    state = play.evaluate("new Promise((done) => { model.on('msg:custom', (m) => m.kind === 'state' && done(m)); model.send({ kind: 'want' }); })")  # fmt: skip
    play.get_by_role("button", name="more settings").click()
    for label, typed in {"temperature": "0.91", "stop strings, one a line": "a\nb"}.items():
        play.get_by_label(label).fill(typed)
        tell(play, state)
        assert play.get_by_label(label).input_value() == typed
        play.get_by_label(label).press("Tab")
    assert play.evaluate("[model.get('temperature'), model.get('stop_strings')]") == [0.91, ["a", "b"]]  # fmt: skip
    play.evaluate("model.set('temperature', 0.3); model.set('stop_strings', ['c'])")
    assert play.get_by_label("temperature").input_value() == "0.3"
    assert play.get_by_label("stop strings, one a line").input_value() == "c"


def test_a_bias_and_a_preset_stay_typed_until_they_are_taken(play):
    play.get_by_role("button", name="more settings").click()
    fields = {"bias": play.get_by_label("token to bias"), "save_preset": play.get_by_label("name of your preset")}  # fmt: skip
    for kind, field in fields.items():
        field.fill("two words")
        field.press("Enter")
        assert play.evaluate("sent.at(-1).kind") == kind
        tell(play, {"kind": "note", "text": "give its id", "bad": True})
        assert field.input_value() == "two words"
        tell(play, {"kind": "done", "asked": kind, "text": "two"})  # typed and sent before
        assert field.input_value() == "two words"
        tell(play, {"kind": "done", "asked": kind, "text": "two words"})
        assert field.input_value() == ""
