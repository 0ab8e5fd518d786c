"""The playground's and the comparison's scripts in a real browser, with a stand-in for the kernel."""

import json
import re

import pytest

from tests.helpers.fake_server import fake_server
from workbench import connect
from workbench.views import ComparisonView, Playground
from workbench.views.shared.scripts import VIEWS

HOSTILE = [
    "<script>window.hurt = 1</script>",
    "<img src=x onerror='window.hurt = 1'>",
    "&amp;<b>bold</b>",
    " مرحبا بالعالم",
    "\u202eright to left",
    "a" * 10_000,
    "\ud83d",  # half of a surrogate pair
    "\ufffd\ufffd",
    "\x00\x1b[31m",
    "{{7*7}} ${7*7}",
    "]]>-->",
]


def page_of(view) -> str:
    """The static page; what it sends is kept, and what it is told comes from the test."""
    start, send = "widget.render(", "send: (question) => setTimeout"
    html = view.to_html()
    assert html.count(start) == html.count(send) == 1
    html = html.replace(send, "send: (question) => window.sent.push(question) && setTimeout")
    return html.replace(
        start, "window.sent = []; Object.assign(window, { model, listeners }); " + start
    )


@pytest.fixture
def play(moe, tmp_path, monkeypatch, watched):
    """An open page of a playground with a prompt and nothing generated yet."""
    monkeypatch.chdir(tmp_path)
    page = watched.open(page_of(Playground(moe, "What is 2 + 2?")), tmp_path)
    page.evaluate("sent.length = 0")
    return page


def tell(page, message: dict) -> None:
    page.evaluate("(m) => listeners['msg:custom'].forEach((call) => call(m, []))", message)


def step(
    piece: str, number: int = 0, span: str = "answer", text: str | None = None, **more
) -> dict:
    """A token as Python tells of it, with two alternatives: one is kept, one was cut."""
    others = [
        [number, piece, -0.5, -0.2, True],
        [900, " other", -1.5, -1.7, True],
        [901, "<img src=x>", -3.0, None, False],
    ]
    return {
        "id": number,
        "piece": piece,
        "text": piece if text is None else text,
        "logprob": -0.5,
        "entropy": 1.25,
        "span": span,
        "cut": "",
        "given": False,
        "others": others,
    } | more


def stream(page, steps: list[dict], start: int = 0, **status) -> None:
    status = {"tokens": start + len(steps), "speed": 12.34, "used": 40, "memory_gb": 1.5} | status
    tell(page, {"kind": "steps", "from": start, "steps": steps, "status": status})


def end(page, **more) -> None:
    """The generation has ended and is the second of two branches."""
    nodes = [
        {"id": 0, "name": "prompt 1", "at": None, "depth": 0, "preview": "four"},
        {"id": 1, "name": "other at 1", "at": 1, "depth": 1, "preview": " other"},
    ]
    status = {"tokens": 2, "used": 40, "seconds": 2.0, "reason": "max tokens reached", "finish": "length"}  # fmt: skip
    message = {"kind": "tree", "nodes": nodes, "current": 1, "undo": True, "redo": False, "status": status, "error": ""}  # fmt: skip
    page.evaluate("model.set('running', false)")
    tell(page, message | more)


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
    assert "2.0 s with reading the prompt" in play.locator(".status").text_content()
    assert "max tokens reached" in play.locator(".status").text_content()
    assert play.locator(".pw-play").get_attribute("data-state") == "length"


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
    play.get_by_label("what is added").fill("-7")
    play.get_by_label("what is added").press("Enter")
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
    play.get_by_label("name of a preset").fill("mine")
    play.get_by_label("name of a preset").press("Enter")
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


@pytest.mark.parametrize("width", [1100, 620])
def test_what_is_below_the_status_stays_in_its_place(width, play):
    play.set_viewport_size({"width": width, "height": 900})
    places = "() => document.querySelector('.pw-play .output').getBoundingClientRect().top"
    before = play.evaluate(places)
    play.evaluate("model.set('running', true)")
    stream(play, [step(f" word{n}", n) for n in range(60)])
    while_running = play.evaluate(places)
    status = {"tokens": 128, "speed": 12.34, "used": 340, "seconds": 12.5, "memory_gb": 1.5, "reason": "the stop string ', carry' came", "finish": "stop_string"}  # fmt: skip
    end(play, status=status)
    assert "', carry' came" in play.locator(".status").text_content()
    assert [while_running, play.evaluate(places)] == [before, before]


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
    assert "An edit here switches to raw text" in play.locator(".reads").text_content()
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
    fields = {"bias": play.get_by_label("token to bias"), "save_preset": play.get_by_label("name of a preset")}  # fmt: skip
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


def test_a_special_token_s_name_in_the_conversation_is_said_to_be_plain_text(play):
    note = play.locator(".spelled")
    assert note.is_hidden()
    tell(play, {"kind": "count", "count": 9, "special": ["[unused10]"]})
    assert "“[unused10]” in the conversation is read as plain characters" in note.text_content()
    assert "edited (raw text), it is the special token" in note.text_content()
    assert "9 tokens" in play.locator(".reads").text_content()
    tell(play, {"kind": "count", "count": 9, "special": ["<s>", "[unused10]"]})
    assert "“<s>”, “[unused10]” in the conversation are read as" in note.text_content()
    play.evaluate("model.set('mode', 'raw')")
    assert note.is_hidden()
    play.evaluate("model.set('mode', 'chat')")
    assert note.is_visible()
    tell(play, {"kind": "count", "count": 9, "special": []})
    assert note.is_hidden()


def test_hovering_shows_alternatives_before_and_after_the_filters_and_a_click_branches(play):
    stream(play, [step("four", 7), step(" five", 8)])
    end(play)
    play.locator(".token").nth(1).hover()
    shown = play.locator(".popover")
    assert "“ five” 60.7 %" in shown.text_content()
    assert "entropy 1.25 bits" in shown.text_content()
    rows = shown.locator("tbody tr").evaluate_all("(rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))")  # fmt: skip
    assert rows[0] == ["“ five”", "60.7 %", "81.9 %", "", "chosen"]
    assert rows[1] == ["“ other”", "22.3 %", "18.3 %", "", ""]
    assert rows[2] == ["“<img src=x>”", "5.0 %", "cut", "", ""]
    assert shown.get_by_role("button", name="five").is_disabled()
    shown.get_by_role("button", name="“ other”").click()
    assert play.evaluate("sent.at(-1)") == {"kind": "branch", "place": 1, "token": 900}
    assert shown.is_hidden()
    play.locator(".token").nth(0).click()
    assert play.evaluate("model.get('token')") == 0
    shown.get_by_label("text to go on with").fill("<i>six</i>")
    shown.get_by_role("button", name="branch", exact=True).click()
    assert play.evaluate("sent.at(-1)") == {"kind": "branch", "place": 0, "text": "<i>six</i>"}


def test_the_keyboard_moves_through_tokens_opens_alternatives_and_branches(play):
    stream(play, [step("four", 7), step(" five", 8), step(" six", 9)])
    end(play)
    play.locator(".said").focus()
    for _ in range(2):
        play.keyboard.press("ArrowRight")
    assert play.evaluate("document.activeElement.textContent") == " five"
    assert "“ five”" in play.locator(".popover").text_content()
    play.keyboard.press("Enter")
    assert play.evaluate("model.get('token')") == 1
    assert play.evaluate("document.activeElement.textContent") == "“ other”"
    play.keyboard.press("ArrowDown")
    assert play.evaluate("document.activeElement.textContent") == "“<img src=x>”"
    play.keyboard.press("Escape")
    assert play.locator(".popover").is_hidden()
    assert play.evaluate("document.activeElement.textContent") == " five"
    play.keyboard.press("Enter")
    play.keyboard.press("Enter")
    assert play.evaluate("sent.at(-1)") == {"kind": "branch", "place": 1, "token": 900}


def test_while_it_generates_nothing_can_be_branched(play):
    play.evaluate("model.set('running', true)")
    stream(play, [step("four", 7), step(" five", 8)])
    play.locator(".token").first.hover()
    assert "stop the generation" in play.locator(".popover").text_content()
    assert play.locator(".popover td button:not(:disabled)").count() == 0
    for name in ("Routing", "Attention", "Copy as Python"):
        assert play.get_by_role("button", name=name).is_disabled() is (name != "none")


def test_hostile_text_is_shown_and_never_interpreted(play):
    stream(play, [step(piece, number) for number, piece in enumerate(HOSTILE)])
    end(play, nodes=[{"id": 0, "name": HOSTILE[0], "at": None, "depth": 0, "preview": HOSTILE[1]}])
    shown = play.locator(".token").all_text_contents()
    assert [text for text in shown if "\ud83d" not in text and "\ufffd" not in text] == [
        piece for piece in HOSTILE if "\ud83d" not in piece and "\ufffd" not in piece
    ]
    for place in (0, 1, 4):
        play.locator(".token").nth(place).hover()
        play.locator(".popover", has_text="token").wait_for()
    assert "\\u202eright to left" in play.locator(".popover").text_content()
    tell(play, {"kind": "note", "text": HOSTILE[1], "bad": True})
    entry = {"id": "x", "when": "now", "prompt": HOSTILE[0], "thinking": HOSTILE[2], "answer": HOSTILE[1], "settings": ""}  # fmt: skip
    play.evaluate("model.set('panel', 'history')")
    tell(play, {"kind": "history", "entries": [entry], "file": HOSTILE[2], "note": HOSTILE[1]})
    assert play.locator(".panel td").all_text_contents()[2:4] == [HOSTILE[2], HOSTILE[1]]
    assert play.locator(".pw-play script, .pw-play img, .pw-play b b").count() == 0
    assert play.evaluate("window.hurt") is None
    wide = "(node) => node.scrollWidth - node.clientWidth"
    assert play.locator(".output").evaluate(wide) <= 0
    assert play.locator("html").evaluate(wide) <= 0


def test_colours_have_a_legend_and_lines_and_can_be_changed(play):
    logprobs = [-0.01, -0.5, -1.2, -2.5, -5.0]
    steps = [step("a", n, logprob=value, entropy=n / 2) for n, value in enumerate(logprobs)]
    stream(play, steps)
    end(play)
    classes = "(nodes) => nodes.map((node) => [...node.classList].find((name) => /^c\\d$/.test(name)) || '')"
    assert play.locator(".token").evaluate_all(classes) == ["", "c1", "c2", "c3", "c4"]
    assert play.locator(".legend span").all_text_contents()[1:3] == ["50–90 %", "20–50 %"]
    line = "(node) => getComputedStyle(node).borderBottomStyle + getComputedStyle(node).borderBottomWidth"
    lines = play.locator(".token").evaluate_all(f"(nodes) => nodes.map({line})")
    assert len(set(lines)) == 5  # colour is not the only carrier
    play.get_by_label("colour").select_option("entropy")
    assert play.locator(".token").evaluate_all(classes) == ["", "c1", "c2", "c2", "c3"]
    play.get_by_label("colour").select_option("none")
    assert play.locator(".token").evaluate_all(classes) == [""] * 5


def test_thinking_folds_and_special_tokens_are_small(play):
    tokens = [step("[unused16]", 1, "thinking", ""), step("hm", 2, "thinking"), step("[unused17]", 3, "thinking", ""), step("four", 4)]  # fmt: skip
    stream(play, tokens)
    end(play)
    assert play.locator(".token.quiet").all_text_contents() == ["[unused16]", "[unused17]"]
    play.get_by_label("fold thinking").check()
    assert play.evaluate("model.get('folded')") is True
    visible = "(nodes) => nodes.filter((node) => node.offsetParent).map((node) => node.textContent)"
    assert play.locator(".token").evaluate_all(visible) == ["four"]
    play.get_by_role("button", name="thinking, 3 tokens").click()
    assert len(play.locator(".token").evaluate_all(visible)) == 4


def test_text_that_came_late_is_its_own_token_s_in_the_end_and_what_was_cut_off_looks_so(play):
    play.evaluate("model.set('running', true)")
    stream(play, [step("12"), step(",", 1, text=""), step(" wr", 2, text=", wr"), step(",", 3, text=""), step(" car", 4, text="")])  # fmt: skip
    assert play.locator(".token").all_text_contents() == ["12", ",", ", wr", ",", " car"]
    mended = [step(",", 1), step(" wr", 2), step(",", 3, text="", cut=","), step(" car", 4, text="", cut=" car")]  # fmt: skip
    stream(play, mended, 1)
    end(play)
    assert play.locator(".token").all_text_contents() == ["12", ",", " wr", ",", " car"]
    assert play.locator(".token.quiet").count() == 0
    assert play.locator(".said s").all_text_contents() == [",", " car"]
    assert play.locator(".legend s").text_content() == "cut off by the stop string"
    assert "line-through" in play.locator(".said s").first.evaluate("s => getComputedStyle(s).textDecorationLine")  # fmt: skip
    stream(play, [step("12"), step(";", 1)])
    assert play.locator(".token").all_text_contents() == ["12", ";", " wr", ",", " car"]


def test_branches_are_gone_to_named_removed_and_undone(play):
    stream(play, [step("four"), step(" other")])
    end(play)
    assert play.locator(".tree .name").all_text_contents() == ["prompt 1 four", "other at 1 other"]
    assert play.locator(".tree li.current .name").text_content() == "other at 1 other"
    play.locator(".tree .name").first.click()
    assert play.evaluate("sent.at(-1)") == {"kind": "show", "node": 0}
    play.get_by_label("rename other at 1").click()
    play.get_by_label("name of the branch").fill("second thoughts")
    play.keyboard.press("Enter")
    assert play.evaluate("sent.at(-1)") == {"kind": "rename", "node": 1, "name": "second thoughts"}
    play.get_by_label("remove prompt 1").click()
    assert play.evaluate("sent.at(-1)") == {"kind": "remove", "node": 0}
    play.get_by_role("button", name="undo").click()
    assert play.evaluate("sent.at(-1)") == {"kind": "undo"}
    assert play.get_by_role("button", name="redo").is_disabled()


def test_the_tree_shows_how_a_text_begins_and_hovering_tells_more(play):
    preview = "<b>床前明月光</b>\n\u202e" + "x" * 47
    end(play, nodes=[{"id": 0, "name": "prompt 1", "at": None, "depth": 0, "preview": preview}])
    begins = play.locator(".tree .name .begins")
    assert begins.text_content() == "<b>床前明月光</b>  " + "x" * 10 + "…"
    assert preview in play.locator(".tree .name").get_attribute("title")
    play.get_by_label("rename prompt 1").click()
    assert play.get_by_label("name of the branch").input_value() == "prompt 1"


def test_a_server_s_token_without_an_id_shows_none(play):
    stream(play, [step("four", -79640041497810), step(" five", 8)])
    end(play)
    play.locator(".token").nth(0).click()
    assert "token 0" in play.locator(".popover").text_content()
    assert "id" not in play.locator(".popover .small").first.text_content()
    play.locator(".token").nth(1).click()
    assert "token 1, id 8" in play.locator(".popover").text_content()


def test_panels_say_that_they_wait_for_a_text(play):
    for name in ("Routing", "Attention", "Copy as Python"):
        assert play.get_by_role("button", name=name).is_disabled()
        assert "generate one first" in play.get_by_role("button", name=name).get_attribute("title")
    stream(play, [step("four")])
    end(play)
    assert play.get_by_role("button", name="Routing").get_attribute("title") == ""


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


def test_tokens_that_were_missed_are_asked_for(play):
    stream(play, [step("one"), step(" two")])
    stream(play, [step(" two"), step(" three")], 1)  # one of them is there already
    assert play.locator(".token").all_text_contents() == ["one", " two", " three"]
    stream(play, [step(" six")], 5)
    assert play.evaluate("sent.at(-1)") == {"kind": "want"}


def test_python_is_shown_to_select_where_the_clipboard_is_closed(play):
    stream(play, [step("four")])
    end(play)
    play.get_by_role("button", name="Copy as Python").click()
    assert play.evaluate("sent.at(-1)") == {"kind": "python"}
    tell(play, {"kind": "python", "code": "print('<b>')\n", "note": "checks"})
    box = play.get_by_label("Python that makes this text again")
    assert box.input_value() == "print('<b>')\n"
    play.evaluate("document.execCommand = () => false")
    play.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    play.get_by_role("button", name="copy the code").click()
    play.locator(".panel", has_text="press Ctrl+C").wait_for()
    assert box.evaluate("(node) => node.selectionEnd - node.selectionStart") == len(
        "print('<b>')\n"
    )


def test_the_history_restores_and_exports(play):
    play.get_by_role("button", name="History").click()
    assert play.evaluate("sent.at(-1)") == {"kind": "history"}
    entry = {"id": "ab", "when": "2026-11-24 10:00", "prompt": "Hi", "thinking": "Hm", "answer": "Ho", "settings": "", "branch": "better"}  # fmt: skip
    tell(play, {"kind": "history", "entries": [entry], "note": "1 generation"})
    columns = dict(zip(*(play.locator(f".panel {cell}").all_text_contents() for cell in ("th", "td")), strict=True))  # fmt: skip
    assert (columns["thinking"], columns["answer"]) == ("Hm", "Ho")
    assert columns["when"] == "2026-11-24 10:00better"
    play.get_by_role("button", name="restore prompt, settings and text").click()
    assert play.evaluate("sent.at(-1)") == {"kind": "restore", "entry": "ab"}
    play.get_by_role("button", name="export HTML").click()
    assert play.evaluate("sent.at(-1)") == {"kind": "export", "format": "html"}
    with play.expect_download() as download:
        tell(play, {"kind": "file", "name": "h-export.html", "content": "<p>Hi</p>"})
    assert download.value.suggested_filename == "h-export.html"
    assert download.value.path().read_text() == "<p>Hi</p>"


def test_panels_that_open_while_it_generates(play):
    stream(play, [step("a")])
    play.evaluate("model.set('running', true)")
    play.get_by_role("button", name="Copy as Python").click()
    assert "as soon as the model has finished" in play.locator(".panel").text_content()
    assert play.evaluate("sent.filter((m) => m.kind === 'python').length") == 0
    play.get_by_role("button", name="History").click()
    assert play.evaluate("sent.at(-1)") == {"kind": "history"}
    tell(play, {"kind": "history", "entries": [], "note": "0 generations"})
    assert "0 generations" in play.locator(".panel").text_content()
    play.get_by_role("button", name="Copy as Python").click()
    assert "0 generations" not in play.locator(".panel").text_content()
    end(play)
    assert play.evaluate("sent.at(-1)") == {"kind": "python"}


def test_a_click_on_a_branch_that_ends_a_rename_is_not_lost(play):
    stream(play, [step("a"), step("b")])
    end(play)
    play.get_by_role("button", name="rename other at 1").click()
    play.keyboard.type("better")
    other = play.locator(".tree .name").first
    box = other.bounding_box()
    play.mouse.move(box["x"] + 5, box["y"] + box["height"] / 2)
    play.mouse.down()
    assert play.evaluate("sent.at(-1)") == {"kind": "rename", "node": 1, "name": "better"}
    nodes = [
        {"id": 0, "name": "prompt 1", "at": None, "depth": 0, "preview": "four"},
        {"id": 1, "name": "better", "at": 1, "depth": 1, "preview": " other"},
    ]
    end(play, nodes=nodes)
    play.mouse.up()
    assert play.evaluate("sent.at(-1)") == {"kind": "show", "node": 0}
    assert play.locator(".tree .name").all_text_contents() == ["prompt 1 four", "better other"]
    play.get_by_role("button", name="rename better").click()
    play.keyboard.type("best")
    end(play, nodes=nodes[:1], current=0)  # removed from elsewhere
    assert play.evaluate("sent.at(-1)") == {"kind": "show", "node": 0}


def test_what_cannot_be_had_is_disabled_and_says_why(dense, watched, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = watched.open(page_of(Playground(dense, history=None)), tmp_path)
    assert page.get_by_role("button", name="Routing").is_disabled()
    assert page.get_by_role("button", name="History").is_disabled()
    assert "dense model without experts" in page.locator(".panels").text_content()
    assert "keeps no history" in page.locator(".panels").text_content()


def test_the_styles_of_what_is_drawn_here_are_not_for_the_widgets_inside():
    """Their scripts use some of the same names of classes: those are styled alike on purpose."""

    alike = {"row", "push", "title", "soft", "small", "spoken", "note", "field", "legend"}
    styles = (VIEWS / "playground" / "view.css").read_text(encoding="utf-8")
    anywhere = set(re.findall(r"\.pw-play \.([a-z]+)", styles)) - alike
    for name in ("attention", "routing", "comparison"):
        files = (VIEWS / name).glob("*.js")
        code = "".join(file.read_text(encoding="utf-8") for file in files)
        classes = {word for text in re.findall(r'element\("\w+", [`"]([^`"]+)', code) for word in text.split()}  # fmt: skip
        assert len(classes) > 5
        assert not anywhere & classes, name


def test_a_widget_whose_panel_was_left_may_be_closed(play):
    play.evaluate("model.set('inside', 'anywidget:late')")
    assert play.evaluate("sent.at(-1)") == {"kind": "loaded", "inside": "late"}


def test_what_is_continued_has_its_name(play):
    assert play.get_by_role("button", name="Continue the conversation").count() == 1
    play.evaluate("model.set('mode', 'raw')")
    assert play.get_by_role("button", name="Continue the text").count() == 1


def test_what_a_server_does_not_tell_has_no_bar_and_no_colour(watched, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with fake_server() as server:
        remote = Playground(connect(server.url), "Hi", history=None)
        page = watched.open(page_of(remote), tmp_path)
    assert page.get_by_label("colour", exact=True).locator("option").evaluate_all(
        "(options) => options.filter((option) => option.disabled).map((option) => option.value)"
    ) == ["entropy"]
    unknown = [[7, "one", None, None, True], [8, "two", None, None, True]]
    stream(page, [step("one", 7, logprob=None, entropy=None, others=unknown)])
    page.locator(".token").click()
    widths = "(bars) => bars.map((bar) => bar.getBoundingClientRect().width)"
    assert page.locator(".popover .share > *").evaluate_all(widths) == [0, 0, 0, 0]


def test_a_branch_says_at_once_what_was_chosen(play):
    stream(play, [step("one"), step(" two", 1, given=True), step(" three", 2)])
    assert play.locator(".legend .given").text_content() == "chosen by you"


def test_the_alternatives_stay_beside_their_token_when_the_page_is_made_narrow(play):
    stream(play, [step(f" word{n}", n) for n in range(14)])
    end(play)
    play.locator(".token").nth(12).click()
    play.set_viewport_size({"width": 420, "height": 800})
    inside = (
        """(node) => node.getBoundingClientRect().right <= document.documentElement.clientWidth"""
    )
    play.wait_for_function(f"({inside})(document.querySelector('.popover'))")


def test_a_token_without_alternatives_offers_a_text_of_ones_own(play):
    stream(play, [step("one", others=[])])
    end(play)
    play.locator(".token").click()
    assert "were not kept" in play.locator(".popover").text_content()
    assert "Choose one" not in play.locator(".popover").text_content()
    play.get_by_label("text to go on with").fill("two")
    play.get_by_label("text to go on with").press("Enter")
    assert play.evaluate("sent.at(-1)") == {"kind": "branch", "place": 0, "text": "two"}


def test_what_comes_later_and_where_a_text_is_from_is_said(play):
    stream(play, [step("one")])
    play.evaluate("model.set('running', true)")
    play.get_by_role("button", name="Routing").click()
    assert "opens as soon as" in play.locator(".panel").text_content()
    end(play, made="This text was made with another model.")
    assert play.get_by_role("alert").text_content() == "This text was made with another model."
    assert play.locator(".note.bad").count() == 0
    end(play, made="", error="")
    assert play.get_by_role("alert").count() == 0


@pytest.mark.parametrize("width", [900, 450, 380])  # 450: 900 pixels at 200 %
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(play, tmp_path, width, scheme):
    play.emulate_media(color_scheme=scheme)
    play.set_viewport_size({"width": width, "height": 900})
    play.get_by_role("button", name="more settings").click()
    stream(play, [step(f" word{n}", n, logprob=-n / 5) for n in range(60)])
    end(play)
    play.locator(".token").nth(5).click()
    play.screenshot(path=tmp_path / f"{width}-{scheme}.png", full_page=True)
    assert play.locator("html").evaluate("(node) => node.scrollWidth - node.clientWidth") <= 0
    outside = """(nodes) => nodes.filter((node) => node.offsetParent
      && node.getBoundingClientRect().right > document.documentElement.clientWidth + 1).length"""
    assert play.locator("button, input, select, textarea").evaluate_all(outside) == 0
    contrast = """(node) => {
      const part = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
      const light = (rgb) => rgb.map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)).reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
      const ink = light(part(getComputedStyle(node).color)), paper = light(part(getComputedStyle(node.closest(".pw-play")).backgroundColor));
      return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    }"""
    for selector in (".said", ".soft", ".status", ".title"):
        assert play.locator(selector).first.evaluate(contrast) >= 4.5, selector


# -- the comparison ---------------------------------------------------------------------------------


@pytest.mark.parametrize("alive", [False, True])
def test_a_kernel_that_does_not_answer_is_told_of(alive, play):
    play.evaluate("model.send = () => {}; null")
    play.clock.install()
    play.get_by_role("button", name="Generate").click()
    if alive:
        play.evaluate("model.set('running', true); model.set('running', false)")
    play.clock.run_for(6000)
    assert play.get_by_text("The kernel does not answer").is_visible() != alive


@pytest.fixture
def compared(moe, watched, tmp_path):
    view = ComparisonView(moe, "What is 2 + 2?", {"one": {}, "two": {"temperature": 0.0}})
    page = watched.open(page_of(view), tmp_path)
    page.evaluate("sent.length = 0")
    return page


def test_columns_stream_and_what_differs_is_marked(compared):
    compared.get_by_label("prompt to compare").fill("What is 3 + 3?")
    compared.get_by_role("button", name="Generate all").click()
    assert compared.evaluate("sent.map((m) => m.kind)") == ["generate"]
    assert compared.evaluate("model.get('prompt')") == "What is 3 + 3?"
    compared.evaluate("model.set('running', true); model.set('doing', 'layer 3 of 48')")
    assert compared.get_by_role("status").text_content() == "generating · layer 3 of 48"
    for label, pieces in {"one": ["a", "b", "c"], "two": ["a", "x", "c"]}.items():
        steps = [step(piece, ord(piece)) for piece in pieces]
        tell(compared, {"kind": "steps", "label": label, "from": 0, "steps": steps, "status": {}})
    assert compared.locator(".column").nth(1).locator(".token.parts").text_content() == "x"
    assert compared.get_by_label("temperature of one").is_disabled()
    compared.keyboard.press("Escape")
    assert compared.evaluate("sent.at(-1)") == {"kind": "stop"}
    compared.evaluate("model.set('running', false)")
    tell(compared, {"kind": "marks", "error": "", "differences": {"one": [], "two": [1]}})
    assert compared.locator(".token.other").all_text_contents() == ["x"]
    assert "differs from token 1 on" in compared.locator(".column").nth(1).text_content()
    compared.get_by_role("button", name="compare the others with two").click()
    assert compared.evaluate("model.get('reference')") == 1
    assert compared.locator(".column").nth(0).locator(".token.parts").text_content() == "b"
    compared.get_by_role("button", name="add a column").click()
    assert "0 of 1 the same as two" in compared.get_by_role("status").text_content()  # it is empty


def test_text_that_came_late_is_its_own_token_s_in_a_column_too(compared):
    label = compared.evaluate("model.get('columns')[0].label")
    first = [step("12"), step(",", 1, text=""), step(" car", 2, text="")]
    message = {"kind": "steps", "label": label, "from": 0, "steps": first, "status": {}}
    tell(compared, message)
    mended = [step(",", 1, text="", cut=","), step(" car", 2, text="", cut=" car")]
    tell(compared, message | {"from": 1, "steps": mended})
    column = compared.locator(".column").first
    assert column.locator(".token").all_text_contents() == ["12", ",", " car"]
    assert column.locator("s").all_text_contents() == [",", " car"]
    assert column.locator(".token.quiet").count() == 0
    assert (
        column.locator(".token").last.get_attribute("title").endswith("cut off by the stop string")
    )


def test_a_column_that_ends_earlier_says_so_when_all_have_ended(compared):
    compared.evaluate("model.set('running', true)")
    for label, pieces in {"one": "abc", "two": "ab"}.items():
        steps = [step(piece, ord(piece)) for piece in pieces]
        tell(compared, {"kind": "steps", "label": label, "from": 0, "steps": steps, "status": {}})
    second = compared.locator(".column").nth(1)
    assert "the same so far" in second.text_content()
    compared.evaluate("model.set('running', false)")
    tell(compared, {"kind": "marks", "error": "", "differences": {"one": [], "two": []}})
    assert "2 tokens · the same, and ends earlier, at token 2" in second.text_content()
    assert "0 of 1 the same as one" in compared.get_by_role("status").text_content()
    compared.get_by_role("button", name="compare the others with two").click()
    assert "differs from token 2 on" in compared.locator(".column").nth(0).text_content()


def test_tokens_of_other_weights_are_compared_by_what_they_say_on_the_page(compared):
    texts = {"one": [("a", 1), ("<0x0A>", 2), ("b", 3)], "two": [("a", 9), ("\n", 8), ("c", 3)]}
    state = {
        "kind": "state", "models": ["m"], "defaults": {}, "before": 0, "statuses": {}, "error": "",
        "steps": {label: [step(*token) for token in tokens] for label, tokens in texts.items()},
        "weights": {"one": "f00", "two": ""}, "differences": {}, "changed": [],
    }  # fmt: skip
    tell(compared, state)
    second = compared.locator(".column").nth(1)
    assert "differs from token 2 on" in second.text_content()
    tell(compared, {**state, "weights": {"one": "", "two": ""}})  # two servers
    assert "differs from token 2 on" in second.text_content()
    tell(compared, {**state, "weights": {"one": "f00", "two": "f00"}})
    assert "differs from token 0 on" in second.text_content()


def test_a_text_of_earlier_settings_says_so(compared):
    for label in ("one", "two"):
        steps = [step("a")]
        tell(compared, {"kind": "steps", "label": label, "from": 0, "steps": steps, "status": {}})
    marks = {"kind": "marks", "error": "", "differences": {}, "changed": ["two"]}
    said = "settings changed since this text"
    tell(compared, marks)
    columns = compared.locator(".column")
    assert [said in text for text in columns.all_text_contents()] == [False, True]
    tell(compared, {**marks, "changed": []})
    assert said not in columns.nth(1).text_content()


def test_columns_are_added_set_named_and_removed(compared):
    compared.get_by_role("button", name="add a column").click()
    warm = compared.evaluate("model.get('columns').map((column) => column.temperature)")
    assert warm == [0.6, 0.0, 0.2]  # it would say the same once more
    compared.get_by_label("label of column 3").fill("<b>hot</b>")
    compared.get_by_label("label of column 3").press("Tab")
    compared.get_by_label("temperature of <b>hot</b>").fill("1.5")
    compared.get_by_label("temperature of <b>hot</b>").press("Tab")
    columns = compared.evaluate("model.get('columns')")
    assert [column["label"] for column in columns] == ["one", "two", "<b>hot</b>"]
    assert columns[2]["temperature"] == 1.5
    compared.get_by_label("label of column 3").fill("one")  # taken
    compared.get_by_label("label of column 3").press("Tab")
    assert compared.get_by_label("label of column 3").input_value() == "<b>hot</b>"
    compared.get_by_role("button", name="remove one").click()
    labels = compared.evaluate("model.get('columns').map((column) => column.label)")
    assert labels == ["two", "<b>hot</b>"]


def test_a_column_keeps_its_text_wherever_it_stands(compared):
    for label in ("one", "two"):
        steps = [step(f"of {label}")]
        message = {"kind": "steps", "label": label, "from": 0, "steps": steps, "status": {"reason": label}}  # fmt: skip
        tell(compared, message)
    compared.get_by_role("button", name="add a column").click()
    compared.get_by_role("button", name="remove one").click()
    said = compared.locator(".said").all_text_contents()
    assert said == ["of two", ""]
    assert "two" in compared.locator(".column").nth(0).text_content()
    compared.evaluate("model.set('columns', [...model.get('columns')].reverse())")
    assert compared.locator(".said").all_text_contents() == ["", "of two"]
    tell(compared, {"kind": "steps", "label": "one", "from": 5, "steps": steps, "status": {}})
    assert compared.evaluate("sent") == []  # it is gone; nothing was missed


def test_a_click_after_an_edit_is_not_lost_and_what_cannot_be_is_put_back(compared):
    first, second = (compared.get_by_label(f"temperature of {name}") for name in ("one", "two"))
    first.fill("1.25")
    second.click()
    compared.keyboard.press("Control+a")
    compared.keyboard.type("0.5")
    compared.keyboard.press("Tab")
    columns = compared.evaluate("model.get('columns')")
    assert [column["temperature"] for column in columns] == [1.25, 0.5]
    first.fill("")
    seed = compared.get_by_label("seed")
    seed.fill("")
    seed.press("Tab")
    assert (first.input_value(), seed.input_value()) == ("1.25", "0")


@pytest.mark.parametrize("view", ["play", "compared"])
def test_a_seed_that_a_page_would_change_is_refused_in_a_sentence(view, request):
    page = request.getfixturevalue(view)
    seed, note = page.get_by_label("seed", exact=True), page.locator(".note")
    for typed in ("9007199254740991", "-9007199254740991"):
        seed.fill(typed)
        seed.press("Tab")
        assert page.evaluate("String(model.get('seed'))") == typed
        assert note.is_hidden()
    for typed in ("9007199254740993", "99999999999999999999999"):
        seed.fill(typed)
        seed.press("Tab")
        assert f"seed {typed}: a page knows whole numbers up to" in note.text_content()
        assert page.evaluate("String(model.get('seed'))") == "-9007199254740991"
        assert seed.input_value() == "-9007199254740991"
    seed.fill("1.5")
    seed.press("Tab")
    assert note.text_content() == "seed 1.5: expected a whole number."
    assert page.evaluate("String(model.get('seed'))") == "-9007199254740991"
    seed.fill("7")
    seed.press("Tab")
    assert page.evaluate("model.get('seed')") == 7


@pytest.mark.parametrize("view", ["play", "compared"])
def test_a_kernel_that_has_gone_is_told_of(view, request):
    page = request.getfixturevalue(view)
    page.evaluate("model.send = () => { throw new Error('Cannot send'); }; null")
    page.get_by_role("button", name="Generate").click()
    note = page.locator(".note")
    assert "has gone: run its cell again" in note.text_content()
    page.evaluate("document.querySelector('.note').textContent = ''")
    page.evaluate("model.set('running', true)")  # it had begun
    page.get_by_role("button", name="Stop").click()
    assert "has gone: run its cell again" in note.text_content()


def test_keys_generate_with_what_is_being_typed(compared):
    for label, read in {
        "seed": "model.get('seed')",
        "temperature of two": "model.get('columns')[1].temperature",
    }.items():
        compared.get_by_label(label).click()
        compared.keyboard.press("Control+a")
        compared.keyboard.type("7")
        compared.keyboard.press("Control+Enter")
        assert compared.evaluate("sent.at(-1)") == {"kind": "generate"}
        assert compared.evaluate(read) == 7


def test_a_renamed_column_keeps_its_box_with_click_and_keyboard(compared):
    message = {"kind": "steps", "label": "one", "from": 0, "steps": [step("a")], "status": {}}
    tell(compared, message)
    name = compared.get_by_label("label of column 1")
    name.fill("first")
    other = compared.get_by_role("button", name="compare the others with two").bounding_box()
    compared.mouse.move(other["x"] + 5, other["y"] + 5)
    compared.mouse.down()
    state = {"kind": "state", "models": ["demo"], "before": 0, "steps": {"first": [step("a")]}, "statuses": {}, "weights": {}, "error": "", "differences": {}, "changed": []}  # fmt: skip
    models = compared.evaluate("new Promise((done) => { model.on('msg:custom', (m) => m.kind === 'state' && done(m.models)); model.send({ kind: 'want' }); })")  # fmt: skip
    tell(compared, state | {"models": models})  # what Python answers
    compared.mouse.up()
    assert compared.evaluate("model.get('reference')") == 1
    assert compared.locator(".said").all_text_contents() == ["a", ""]
    assert compared.get_by_label("temperature of first").count() == 1
    for field, typed in ((name, "half a na"), (compared.get_by_label("temperature of two"), "0.7")):
        field.fill(typed)
        tell(compared, state | {"models": models})  # for another page
        assert field.input_value() == typed
    name.fill("again")
    name.press("Tab")
    tell(compared, state | {"models": models, "steps": {"again": [step("b")]}})
    assert compared.locator(".said").all_text_contents() == ["b", ""]
    focused = "document.activeElement.getAttribute('aria-label')"
    assert compared.evaluate(focused) == "compare the others with again"
    compared.get_by_role("button", name="remove two").focus()
    compared.keyboard.press("Enter")
    assert compared.evaluate(focused).startswith("add a column")


def test_hostile_text_is_shown_in_columns_too(compared):
    steps = [step(piece, number) for number, piece in enumerate(HOSTILE[:6])]
    tell(compared, {"kind": "steps", "label": "one", "from": 0, "steps": steps, "status": {}})
    assert compared.locator(".token").all_text_contents() == HOSTILE[:6]
    assert compared.evaluate("window.hurt") is None
    assert json.loads(compared.evaluate("JSON.stringify(sent)")) == []
    assert compared.locator("html").evaluate("(n) => n.scrollWidth - n.clientWidth") <= 0
