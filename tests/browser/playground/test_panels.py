"""The playground's page: what is open below the answer."""

import re

from tests.browser.playground.pages import end, page_of, step, stream, tell
from workbench.views import Playground
from workbench.views.shared.scripts import VIEWS


def test_panels_say_that_they_wait_for_a_text(play):
    for name in ("Routing", "Attention", "Copy as Python"):
        assert play.get_by_role("button", name=name).is_disabled()
        assert "generate one first" in play.get_by_role("button", name=name).get_attribute("title")
    stream(play, [step("four")])
    end(play)
    assert play.get_by_role("button", name="Routing").get_attribute("title") == ""


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


def test_what_cannot_be_had_is_disabled_and_says_why(dense, watched, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = watched.open(page_of(Playground(dense, history=None)), tmp_path)
    assert page.get_by_role("button", name="Routing").is_disabled()
    assert page.get_by_role("button", name="History").is_disabled()
    assert "dense model without experts" in page.locator(".panels").text_content()
    assert "keeps no history" in page.locator(".panels").text_content()


def test_python_is_shown_to_select_where_the_clipboard_is_closed(play):
    stream(play, [step("four")])
    end(play)
    play.get_by_role("button", name="Copy as Python").click()
    assert play.evaluate("sent.at(-1)") == {"kind": "python"}
    tell(play, {"kind": "python", "code": "print('<b>')\n", "note": "checks"})
    box = play.get_by_label("Python code that reproduces this text")
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


def test_a_widget_whose_panel_was_left_may_be_closed(play):
    play.evaluate("model.set('inside', 'anywidget:late')")
    assert play.evaluate("sent.at(-1)") == {"kind": "loaded", "inside": "late"}


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
