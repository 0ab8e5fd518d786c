"""The attention view as a whole in a real browser: growth, messages, memory, colours, narrow pages."""

import base64

import numpy as np
import pytest

from tests.browser.attention_pages import geometry, page_of, pixel, settle, spot
from tests.helpers.made_up import attended_trace
from workbench.views import AttentionView


@pytest.fixture(scope="module")
def trace():
    return attended_trace(tokens=33)


def test_a_view_grows_while_the_model_generates(moe, watched, tmp_path, monkeypatch):
    live = AttentionView.live(moe, "To be", max_new_tokens=5)
    trace = live.wait(60)
    assert live.recorded.num_tokens == trace.num_tokens
    empty = AttentionView(trace, layer=1, head=3, token=-1)
    empty.recorded.pieces, empty.recorded.spans, empty.recorded._parts = [], [], []
    page = watched.open(page_of(empty), tmp_path)
    assert "waiting for the first tokens" in page.locator(".pw-attention").text_content()
    sent = []
    monkeypatch.setattr(empty, "send", lambda content, buffers: sent.append((content, buffers)))
    prompt = trace.prompt_length
    for start, end in [(0, prompt), *((t, t + 1) for t in range(prompt, trace.num_tokens))]:
        part = {name: trace.arrays[name][:, start:end] for name in ("query", "key")}
        empty.append(trace.pieces[start:end], part, "answer" if start else "prompt")
    for number, (content, buffers) in enumerate(sent):
        encoded = [base64.b64encode(buffer).decode() for buffer in buffers]
        page.evaluate(
            "([content, buffers]) => listeners['msg:custom'].forEach((call) => call(content, buffers.map((b) => new DataView(decode(b).buffer))))",
            [content, encoded],
        )
        page.wait_for_selector(f".pw-attention[data-tokens='{prompt + number}']")
        settle(page)
        size = prompt + number
        weights = trace.attention(1, 3)[:size, 1:size]
        assert geometry(page)["top"] == pytest.approx(weights.max(), abs=1e-4)
    assert page.locator(".token").all_text_contents() == trace.pieces
    np.testing.assert_allclose(empty.recorded.rows(1, 3, np.arange(size)), trace.attention(1, 3), atol=1e-6)  # fmt: skip


def test_a_page_takes_no_tokens_twice_and_asks_when_it_missed_some(trace, watched, tmp_path):
    page = watched.open(page_of(AttentionView(trace)), tmp_path)
    page.wait_for_selector(".pw-attention[data-complete=true]")
    page.evaluate("window.sent = []; model.send = (question) => { sent.push(question); }; true")
    more = {"kind": "more", "pieces": [" x"], "span": "answer", "turns": [], "layer": 0, "head": 0, "half": True}  # fmt: skip
    script = "(content) => listeners['msg:custom'].forEach((call) => call(content, [4, 4, 4].map((n) => new DataView(new ArrayBuffer(n)))))"
    page.evaluate(script, more | {"start": 32})  # the page knows it already
    assert page.locator(".token").count() == 33
    assert page.evaluate("sent") == []
    page.evaluate(script, more | {"start": 34})  # one is missing
    assert page.locator(".token").count() == 33
    assert page.evaluate("sent") == [{"kind": "want"}]


def test_a_running_view_says_what_it_does_and_can_be_stopped(trace, watched, tmp_path):
    page = watched.open(page_of(AttentionView(trace)), tmp_path)
    stop = page.get_by_role("button", name="Stop")
    assert stop.is_hidden()
    page.evaluate("window.sent = []; model.send = (question) => sent.push(question); model.set('running', true)")  # fmt: skip
    page.evaluate("model.set('doing', 'layer 3 of 48')")
    assert page.get_by_text("layer 3 of 48").is_visible()
    stop.click()
    assert page.evaluate("sent.at(-1)") == {"kind": "stop"}
    page.evaluate("model.set('doing', '')")
    assert page.get_by_text("layer 3 of 48").count() == 0


def test_heads_in_memory_are_bounded(watched, tmp_path):
    trace = attended_trace(layers=2, tokens=300, heads=6, key_heads=1, head_dim=64)
    html = page_of(AttentionView(trace), layers="all").replace("KEPT = 48e6", "KEPT = 5e5")
    page = watched.open(html, tmp_path)
    for layer in range(2):
        for head in range(6):
            page.evaluate("([l, h]) => { model.set('layer', l); model.set('head', h); }", [layer, head])  # fmt: skip
            page.wait_for_selector(f".pw-attention[data-shown='{layer}/{head}']")
    kept = page.locator(".pw-attention")
    assert int(kept.get_attribute("data-bytes")) <= 5e5
    assert 1 <= int(kept.get_attribute("data-heads")) < 12
    page.evaluate("model.set('layer', 0); model.set('head', 0)")
    page.wait_for_selector(".pw-attention[data-shown='0/0']")


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_the_page_follows_light_and_dark(trace, scheme, dark, watched, tmp_path):
    watched.page.emulate_media(color_scheme=scheme)
    page = watched.open(page_of(AttentionView(trace, layer=1)), tmp_path)
    paper = "(getComputedStyle(document.querySelector('.pw-attention')).backgroundColor.match(/[0-9]+/g)).map(Number)"
    assert (sum(page.evaluate(paper)) < 300) == dark
    weights = trace.attention(1, 0)[:, 1:]
    strong, weak = (
        pixel(page, spot(page, flat // 32, flat % 32 + 1))
        for flat in (weights.argmax(), 32 * 30 + int(weights[30, :30].argmin()))
    )
    assert (sum(strong[:3]) > sum(weak[:3])) == dark


def test_at_twice_the_size_nothing_is_cut_off(trace, watched, tmp_path):
    watched.page.set_viewport_size({"width": 550, "height": 400})  # 1,100 × 800 at 200 %
    page = watched.open(page_of(AttentionView(trace, pins=[4])), tmp_path)
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 550
    right = page.locator("canvas.map").bounding_box()
    assert right["x"] + right["width"] <= 550
    assert right["width"] > 300
