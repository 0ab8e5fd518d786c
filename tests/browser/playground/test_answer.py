"""The playground's page: the answer, token by token, its colours, and what it looks like."""

import pytest

from tests.browser.playground.pages import HOSTILE, end, step, stream, tell


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


def test_a_branch_says_at_once_what_was_chosen(play):
    stream(play, [step("one"), step(" two", 1, given=True), step(" three", 2)])
    assert play.locator(".legend .given").text_content() == "chosen by you"


def test_tokens_that_were_missed_are_asked_for(play):
    stream(play, [step("one"), step(" two")])
    stream(play, [step(" two"), step(" three")], 1)  # one of them is there already
    assert play.locator(".token").all_text_contents() == ["one", " two", " three"]
    stream(play, [step(" six")], 5)
    assert play.evaluate("sent.at(-1)") == {"kind": "want"}


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
