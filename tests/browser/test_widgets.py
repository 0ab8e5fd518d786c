"""Each widget's script in a real browser, with the page that `to_html` writes."""

from workbench.views._widget import PAGE
from workbench.views.playground import Playground


class Loaded:
    """Stands for a loaded model where only its name is needed."""

    name = "tiny"


def playground_page() -> str:
    """The playground with a stand-in model that keeps what the page sends."""
    page = Playground(Loaded()).to_html()
    send = "send: (question) => setTimeout"
    assert send in page
    assert send in PAGE
    page = page.replace(
        send,
        "send: (question) => (window.sent = window.sent || []).push(question) > 1 || setTimeout",
    )
    return page.replace(
        "widget.render(", "window.model = model; window.listeners = listeners; widget.render("
    )


def deliver(page, message: dict) -> None:
    page.evaluate("(m) => listeners['msg:custom'].forEach((call) => call(m, []))", message)


def step(piece: str, span: str = "answer") -> dict:
    other = {"piece": "<img src=x>", "logprob": -2.0, "kept": False, "chosen": False}
    this = {"piece": piece, "logprob": -0.5, "kept": True, "chosen": True}
    return {
        "kind": "step",
        "piece": piece,
        "text": piece,
        "logprob": -0.5,
        "span": span,
        "alternatives": [this, other],
    }


def test_the_playground_sends_streams_explains_and_stops(watched, tmp_path):
    page = watched.open(playground_page(), tmp_path)
    page.locator("textarea").fill("What is 2 + 2?")
    page.get_by_label("temperature").fill("0.2")
    page.get_by_role("button", name="Generate").click()
    assert page.evaluate("sent.map((m) => m.kind)") == ["want", "generate"]
    assert page.evaluate("[model.get('prompt'), model.get('temperature')]") == [
        "What is 2 + 2?",
        0.2,
    ]
    page.evaluate("model.set('running', true)")
    assert page.get_by_role("button", name="Generate").is_disabled()
    deliver(page, {"kind": "start"})
    for message in (step("2", "thinking"), step(" <i>four</i>")):
        deliver(page, message)
    assert page.locator(".label").all_text_contents() == ["thinking", "answer"]
    page.locator(".step").nth(1).hover()
    shown = page.locator(".popover").text_content()
    assert "60.7 %" in shown
    assert "<img src=x>" in shown
    assert "cut by sampling" in shown
    page.get_by_role("button", name="Stop").click()
    assert page.evaluate("sent.at(-1).kind") == "stop"
    deliver(page, {"kind": "end", "reason": "stopped", "tokens": 2, "seconds": 0.5})
    assert "4.0 a second): stopped" in page.locator(".status").text_content()


def test_the_playground_shows_an_error_and_keeps_the_prompt(watched, tmp_path):
    page = watched.open(playground_page(), tmp_path)
    page.locator("textarea").fill("Hello")
    page.keyboard.press("Control+Enter")
    deliver(page, {"kind": "error", "text": "top_p is 2"})
    assert page.locator(".status.error").text_content() == "top_p is 2"
    assert page.locator("textarea").input_value() == "Hello"
