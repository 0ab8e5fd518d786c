"""The large map of the attention view in a real browser: colours, words beside it, zoom, long texts."""

import numpy as np
import pytest

from tests.browser.attention_pages import (
    geometry,
    page_of,
    pixel,
    pixels,
    settle,
    share,
    spot,
    spots,
)
from tests.helpers.made_up import attended_trace
from workbench.views import AttentionView


@pytest.fixture(scope="module")
def trace():
    return attended_trace(tokens=33)


@pytest.mark.parametrize("scale", ["linear", "log", "row"])
def test_the_map_s_colours_are_in_the_order_of_the_weights(trace, scale, watched, tmp_path):
    page = watched.open(page_of(AttentionView(trace, layer=2, head=1, scale=scale)), tmp_path)
    weights = trace.attention(2, 1)
    values = weights[:, 1:] / (
        weights[:, 1:].max(-1, keepdims=True) + 1e-9 if scale == "row" else 1
    )
    places = [(row, column) for row in range(2, 33) for column in range(1, row + 1)]
    colours = pixels(page, "canvas.map", spots(page, places))[:, :3].sum(-1)
    darkness = -colours[np.argsort([values[row, column - 1] for row, column in places])]
    assert (np.diff(darkness) >= 0).all()
    assert len(set(darkness)) > 8
    assert pixel(page, spot(page, 3, 20))[3] == 0  # a token does not attend to a later one


def test_the_first_token_stands_apart_and_its_colours_end_at_one(trace, watched, tmp_path):
    page = watched.open(page_of(AttentionView(trace, layer=0, head=3)), tmp_path)
    place, weights = geometry(page), trace.attention(0, 3)
    assert place["top"] == pytest.approx(weights[:, 1:].max(), abs=1e-4)
    middles = [
        at | {"x": place["label"] + 5} for at in spots(page, [(row, 0) for row in range(33)])
    ]
    strip = pixels(page, "canvas.map", middles)
    order = np.argsort(weights[:, 0])
    assert (np.diff(-strip[order, :3].sum(-1)) >= 0).all()
    assert pixel(page, spot(page, 9, 0))[3] == 0
    page.get_by_label("first token separately").uncheck()
    settle(page)
    assert page.evaluate("model.get('sink')") == 0
    assert geometry(page)["strip"] == 0
    assert geometry(page)["top"] == pytest.approx(weights.max(), abs=1e-4)
    assert pixel(page, spot(page, 9, 0))[3] == 255


def test_the_column_apart_tells_what_all_its_tokens_get(trace, watched, tmp_path):
    page = watched.open(page_of(AttentionView(trace, layer=1, head=2, sink=3)), tmp_path)
    strip = {"x": geometry(page)["label"] + 5}
    for row, tokens in ((20, 3), (1, 2)):
        page.locator("canvas.map").hover(position=spot(page, row, 3) | strip)
        settle(page)
        text = page.locator(".reading").text_content()
        assert f"→ the first {tokens} tokens: " in text
        weight = trace.attention(1, 2)[row, :tokens].sum()
        assert share(text.split(": ")[1].split(";")[0]) == pytest.approx(weight, abs=1e-3)


def test_a_narrow_map_has_room_for_the_words_beside_it(watched, tmp_path):
    trace = attended_trace(layers=1, tokens=1100, heads=1, key_heads=1)
    page = watched.open(page_of(AttentionView(trace, sink=0, pins=[1000])), tmp_path)
    name = page.locator(".pin button:not(.drop)")
    assert name.text_content() == "1000 To"
    assert name.evaluate("(node) => node.scrollWidth <= node.clientWidth")
    inks = "(canvas) => { const { x, y, side, below, profile } = JSON.parse(canvas.dataset.geometry); const over = document.querySelector('canvas.over').getContext('2d').getImageData(0, y + side + below, x - 2, profile).data; return [...Array(x - 2).keys()].filter((left) => [...Array(profile).keys()].some((top) => over[4 * (top * (x - 2) + left) + 3])); }"
    assert min(page.locator("canvas.map").evaluate(inks)) > 1  # the first letter is whole


def test_names_of_stretches_are_written_where_they_fit(watched, tmp_path):
    trace = attended_trace(layers=1, tokens=33)
    trace.meta["spans"] = [
        {"kind": "prompt", "start": 0, "end": 2},
        {"kind": "answer", "start": 2, "end": 33},
    ]
    page = watched.open(page_of(AttentionView(trace)), tmp_path)
    place = geometry(page)
    border = place["x"] + 2 / 33 * place["side"]
    ink = "([x, wide, y]) => document.querySelector('canvas.map').getContext('2d').getImageData(x, 0, wide, y).data.some((part, n) => n % 4 === 3 && part)"
    above = place["y"] - place["band"] - 3
    assert not page.evaluate(ink, [place["x"], border - place["x"] - 1, above])
    assert page.evaluate(ink, [border, 60, above])


@pytest.mark.parametrize(("token", "before", "after"), [(2, True, False), (15, False, True)])
def test_a_profile_without_anything_in_the_part_shown_says_so(
    token, before, after, watched, tmp_path
):
    trace = attended_trace(tokens=33)
    trace.arrays["query"][:] = 0  # attention is even: no bar is low
    page = watched.open(page_of(AttentionView(trace, token=token, zoom=[6, 16, 4, 14])), tmp_path)
    place = geometry(page)
    right, below = place["x"] + place["side"], place["y"] + place["side"] + place["below"]
    middles = place["x"] + place["side"] / 2, place["y"] + place["side"] / 2
    row = middles[0] - 30, below + 20, 60, place["profile"] - 22
    column = right + 6, middles[1] - 30, place["profile"] - 12, 60
    at_the_row = row[0], below + place["profile"] - 4, 60, 3  # where its bars stand
    at_the_column = right + 6, column[1], 3, 60
    ink = "(area) => { const all = document.querySelector('canvas.over').getContext('2d').getImageData(...area).data.filter((_, n) => n % 4 === 3); return all.filter(Boolean).length / all.length; }"
    for area, foot, empty in ((row, at_the_row, before), (column, at_the_column, after)):
        assert page.evaluate(ink, area) > 0
        assert (page.evaluate(ink, foot) == 0) == empty


def test_the_bars_beside_the_map_have_a_name_or_say_that_no_token_follows(trace, watched, tmp_path):
    watched.page.add_init_script("""window.written = new Set();
      const { fillText } = CanvasRenderingContext2D.prototype;
      CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
        written.add(text);
        fillText.call(this, text, ...place);
      };""")
    page = watched.open(page_of(AttentionView(trace)), tmp_path)  # its last token is selected
    assert page.evaluate("[written.has('no later token'), written.has('attended by')]") == [True, False]  # fmt: skip
    page.evaluate("written.clear(); model.set('token', 31)")
    page.wait_for_selector("[data-token='31']")
    assert page.evaluate("[written.has('no later token'), written.has('attended by')]") == [False, True]  # fmt: skip
    top = trace.attention(0, 0)[32, 31]
    highest = [str(text)[4:] for text in page.evaluate("[...written]") if str(text)[:4] == "top "]
    assert any(share(text) == pytest.approx(top, abs=1e-3) for text in highest)


@pytest.mark.parametrize("tokens", [21, 90])
def test_a_zoomed_map_is_as_large_as_the_whole_one(tokens, watched, tmp_path):
    trace = attended_trace(layers=1, tokens=tokens)
    trace.meta["pieces"][8] = "aPieceOfManyLetters"
    page = watched.open(page_of(AttentionView(trace)), tmp_path)
    whole = geometry(page)["side"]
    page.evaluate("model.set('zoom', [6, 15, 2, 11])")
    settle(page)
    place = geometry(page)
    assert place["rows"] == 9
    assert place["side"] >= whole > 300
    assert place["width"] <= page.locator(".stage").bounding_box()["width"]


@pytest.mark.parametrize("blocks", ["max", "mean"])
def test_a_long_text_is_drawn_in_blocks_and_exactly_when_zoomed(blocks, watched, tmp_path):
    trace = attended_trace(layers=1, tokens=1100, heads=2, key_heads=1)
    view = AttentionView(trace, head=1, blocks=blocks, scale="log", token=700)
    page = watched.open(page_of(view), tmp_path)
    weights = trace.attention(0, 1)
    weights[:, 0] = 0
    possible = np.tril(np.ones((1100, 1100), dtype=bool))
    possible[:, 0] = False
    parts = [weights[a : a + 3, b : b + 3] for a in range(0, 1100, 3) for b in range(0, a + 1, 3)]
    counts = [possible[a : a + 3, b : b + 3].sum() for a in range(0, 1100, 3) for b in range(0, a + 1, 3)]  # fmt: skip
    top = max(part.max() if blocks == "max" else part.sum() / max(1, n) for part, n in zip(parts, counts, strict=True))  # fmt: skip
    assert geometry(page)["size"] == 3
    assert geometry(page)["top"] == pytest.approx(top, rel=5e-4)  # it came in half precision
    words = "strongest weight of 3 × 3" if blocks == "max" else "mean of 3 × 3"
    assert words in page.locator(".right").text_content()
    assert page.locator(".pw-attention").get_attribute("data-tile") == "done"
    page.evaluate("model.set('zoom', [600, 760, 500, 700])")
    settle(page)
    assert geometry(page)["size"] == 1
    assert geometry(page)["top"] == pytest.approx(weights[600:760, 500:700].max(), abs=1e-4)
    # Without Python's blocks (the first token is not left out) the page works them out itself.
    page.evaluate("model.set('zoom', []); model.set('sink', 0)")
    page.wait_for_function("JSON.parse(document.querySelector('canvas.map').dataset.geometry).rows === 1100")  # fmt: skip
    page.wait_for_selector(".pw-attention[data-tile=done]")
    settle(page)
    if blocks == "max":
        assert geometry(page)["top"] == pytest.approx(trace.attention(0, 1).max(), abs=1e-4)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_the_picture_that_came_is_the_one_that_the_page_works_out(
    scale, watched, tmp_path, monkeypatch
):
    view = AttentionView(attended_trace(layers=1, tokens=200, heads=2, key_heads=1), scale=scale)
    came = [watched.open(page_of(view), tmp_path)]
    monkeypatch.setattr("workbench.views.attention.messages.EXACT", 200)
    came.append(watched.open(page_of(view), tmp_path))
    script = """(canvas) => { const { x, y, side } = JSON.parse(canvas.dataset.geometry);
      return [...canvas.getContext("2d").getImageData(x, y, side, side).data]; }"""
    one, other = (np.array(page.locator("canvas.map").evaluate(script), int) for page in came)
    assert len(np.unique(one)) > 100
    assert np.abs(one - other).max() <= 4  # a step of the colours: half precision beside single


def test_what_was_shown_stands_in_while_a_zoomed_map_is_worked_out(watched, tmp_path):
    trace = attended_trace(layers=1, tokens=1100, heads=1, key_heads=1)
    page = watched.open(page_of(AttentionView(trace)), tmp_path)
    place = geometry(page)
    middle = {"x": place["x"] + place["side"] / 2, "y": place["y"] + place["side"] * 0.9}
    script = """async () => {
      let time = performance.now();
      performance.now = () => (time += 5); // a slow machine: one row at a time
      model.set("zoom", [600, 800, 100, 300]);
      await new Promise(requestAnimationFrame);
      return document.querySelector(".pw-attention").dataset.tile;
    }"""
    assert page.evaluate(script) == "working"
    assert pixel(page, middle)[3] == 255
    page.wait_for_selector(".pw-attention[data-tile=done]")
    settle(page)
    assert geometry(page)["top"] == pytest.approx(trace.attention(0, 0)[600:800, 100:300].max(), abs=1e-4)  # fmt: skip


def test_the_map_of_the_last_head_stays_while_the_next_one_comes(trace, watched, tmp_path):
    html = page_of(AttentionView(trace, layer=1, head=2))
    assert "PATIENCE = 150" in html
    slow = html.replace("PATIENCE = 150", "PATIENCE = 2000")  # as the machine may be
    page = watched.open(slow, tmp_path)
    page.wait_for_selector(".pw-attention[data-complete=true]")
    ink = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.join()"
    page.evaluate("model.send = (question) => { window.asked = question; }; true")
    before = page.locator("canvas.map").evaluate(ink)
    asked = page.evaluate("async () => { model.set('layer', 2); model.set('head', 4); await null; return asked; }")  # fmt: skip
    assert asked == {"kind": "head", "trace": 0, "layer": 2, "head": 4}  # at once, and once
    page.evaluate("new Promise(requestAnimationFrame)")
    assert page.locator("canvas.map").evaluate(ink) == before
    page.wait_for_selector(".pw-attention[data-shown='']")  # not for long
