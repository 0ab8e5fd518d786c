"""Each widget's script in a real browser, with the page that `to_html` writes."""

import numpy as np
import pytest

import workbench as wb
from workbench.views._widget import PAGE
from workbench.views.playground import Playground

TEXT = "To be, or not to be: <b>床前</b> $x$"


@pytest.fixture(scope="module")
def trace(moe):
    return moe.trace(TEXT, max_new_tokens=4)


def pixel(page, x: float, y: float) -> list[int]:
    """The canvas' own pixel at a place given in canvas units."""
    script = "([x, y]) => [...document.querySelector('canvas').getContext('2d').getImageData(x, y, 1, 1).data]"
    return page.evaluate(script, [x, y])


def test_the_attention_map_and_its_table_show_the_trace(trace, watched, tmp_path):
    view = wb.AttentionView(trace, layer=1, head=4, token=9, hide_first=False)
    page = watched.open(view.to_html(), tmp_path)
    weights = trace.attention(1, 4)
    for row, cells in zip(view.table().itertuples(), page.locator("tr").all()[1:], strict=False):
        number, piece, percent = cells.locator("td").all_text_contents()
        assert (int(number), piece) == (row.token, row.piece)
        assert float(percent.split()[0]) / 100 == pytest.approx(row.weight, abs=1e-4)
    for row, column in [(9, 2), (9, 9), (4, 0), (7, 6)]:
        alpha = 255 * (0.06 + 0.94 * np.sqrt(weights[row, column] / weights.max()))
        assert pixel(page, column, row)[3] == pytest.approx(alpha, abs=2)
    assert pixel(page, 9, 2)[3] == 0


def test_the_attention_selection_follows_token_and_checkbox(trace, watched, tmp_path):
    page = watched.open(wb.AttentionView(trace, layer=1, head=4, token=9).to_html(), tmp_path)
    assert pixel(page, 0, 9)[3] == round(255 * 0.06)
    page.locator("input[type=checkbox]").uncheck()
    assert pixel(page, 0, 9)[3] > round(255 * 0.06)
    page.locator(".token").nth(4).click()
    assert page.locator(".reading").text_content().startswith("Token 4 ")
    page.locator("canvas").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator(".token[aria-selected=true]").all_text_contents() == [trace.pieces[5]]


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
