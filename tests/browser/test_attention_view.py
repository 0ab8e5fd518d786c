"""The attention view's script in a real browser: numbers, hovering, keys, zoom, growth, long texts."""

import base64
import json
from collections import Counter

import numpy as np
import pytest

from tests.helpers.made_up import attended_trace
from workbench.views import AttentionView
from workbench.views.attention import view as attention_view


@pytest.fixture(scope="module")
def trace():
    return attended_trace(tokens=33)


def page_of(view: AttentionView, **chosen) -> str:
    """The static page, its stand-in model within the test's reach."""
    start = "widget.render("
    html = view.to_html(**chosen)
    assert html.count(start) == 1
    return html.replace(
        start, "Object.assign(window, { model, listeners, decode, widget }); " + start
    )


def settle(page) -> None:
    """Two frames, what was asked in them answered, and drawn."""
    frames = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done))))))"
    page.evaluate(frames)


def geometry(page, selector: str = "canvas.map") -> dict:
    return json.loads(page.locator(selector).get_attribute("data-geometry"))


def pixels(page, selector: str, places: list[dict]) -> np.ndarray:
    """[place, red green blue alpha] of a canvas."""
    script = """([selector, places]) => {
      const canvas = document.querySelector(selector), { width, height } = canvas;
      const all = canvas.getContext("2d").getImageData(0, 0, width, height).data;
      return places.map(({ x, y }) => [...all.slice(4 * (Math.floor(y) * width + Math.floor(x)), 4 * (Math.floor(y) * width + Math.floor(x)) + 4)]);
    }"""
    return np.array(page.evaluate(script, [selector, places]))


def pixel(page, place: dict) -> list[int]:
    return pixels(page, "canvas.map", [place])[0].tolist()


def spots(page, weights: list[tuple[int, int]]) -> list[dict]:
    """Where the middles of some weights, (row, column), are on the large map."""
    place = geometry(page)
    return [
        {
            "x": place["x"] + (column + 0.5 - place["c0"]) / place["columns"] * place["side"],
            "y": place["y"] + (row + 0.5 - place["r0"]) / place["rows"] * place["side"],
        }
        for row, column in weights
    ]


def spot(page, row: int, column: int) -> dict:
    return spots(page, [(row, column)])[0]


def shown_tables(page) -> list[list[list[str]]]:
    script = "(tables) => tables.map((t) => [...t.tBodies[0].rows].map((r) => [...r.cells].map((c) => c.textContent)))"
    return page.locator(".two table").evaluate_all(script)


def share(text: str) -> float:
    return float(text.removesuffix(" %")) / 100


def head_place(page, layer: int, head: int) -> dict:
    """Where a head's small map is; layers are all recorded."""
    place = geometry(page, "canvas.heads")
    x = place["label"] + head * place["cell"] + head // place["group"] * place["gap"]
    return {"x": x + place["cell"] / 2, "y": place["top"] + (layer + 0.5) * place["cell"]}


def test_the_lists_hold_the_tables_of_the_view(trace, watched, tmp_path):
    view = AttentionView(trace, layer=1, head=4, token=20)
    page = watched.open(page_of(view), tmp_path)
    for shown, panel in zip(shown_tables(page), ("row", "column"), strict=True):
        assert len(shown) == 8
        assert all(texts[1].strip() for texts in shown)  # spaces and new lines are seen
        for texts, row in zip(shown, view.table(panel).itertuples(), strict=False):
            piece = row.piece.replace(" ", "␣").replace("\n", "⏎")
            assert [int(texts[0]), texts[1]] == [row.token, piece]
            assert share(texts[2]) == pytest.approx(row.weight, abs=1e-3)
            assert share(texts[3]) == pytest.approx(row.uniform, abs=1e-3)


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
    page.get_by_label("first token apart").uncheck()
    settle(page)
    assert page.evaluate("model.get('sink')") == 0
    assert geometry(page)["strip"] == 0
    assert geometry(page)["top"] == pytest.approx(weights.max(), abs=1e-4)
    assert pixel(page, spot(page, 9, 0))[3] == 255


def test_hovering_shades_the_text_before_and_after_and_a_click_keeps(trace, watched, tmp_path):
    page = watched.open(page_of(AttentionView(trace, layer=1, head=2, token=-1)), tmp_path)
    assert "No token is selected" in page.locator(".two").text_content()
    page.locator(".token").nth(12).hover()
    settle(page)
    shades = page.locator(".token").evaluate_all("(all) => all.map((n) => (n.style.background.match(/[0-9]+/g) || [255, 255, 255]).map(Number))")  # fmt: skip
    weights = trace.attention(1, 2)
    before, after = weights[12, 1:13], weights[13:, 12]
    strongest = 1 + int(before.argmax())
    assert min(range(1, 13), key=lambda token: sum(shades[token])) == strongest
    assert shades[strongest][2] > shades[strongest][0]  # blue
    strongest = 13 + int(after.argmax())
    assert min(range(13, 33), key=lambda token: sum(shades[token])) == strongest
    assert shades[strongest][0] > shades[strongest][2]  # orange
    assert page.evaluate("model.get('token')") == -1
    page.locator("canvas.map").hover(position=spot(page, 20, 9))
    settle(page)
    assert page.locator(".token.hover").all_text_contents() == [trace.pieces[20]]
    text = page.locator(".reading").text_content()
    assert share(text.split(": ")[1].split(";")[0]) == pytest.approx(weights[20, 9], abs=1e-3)
    page.locator("canvas.map").click(position=spot(page, 20, 9))
    page.mouse.move(2, 2)
    settle(page)
    assert page.evaluate("model.get('token')") == 20
    assert page.locator(".token[aria-selected=true]").all_text_contents() == [trace.pieces[20]]


def test_the_text_and_the_lists_say_which_token_they_are_of(trace, watched, tmp_path):
    page = watched.open(page_of(AttentionView(trace, token=20, head=2)), tmp_path)
    note = page.locator(".note")
    assert f"selected token 20, “{trace.pieces[20]}”: blue" in note.text_content()
    page.locator(".token").nth(12).hover()
    page.wait_for_selector("[data-focus='12']")
    settle(page)
    assert f"hovered token 12, “{trace.pieces[12]}”: blue" in note.text_content()
    for caption in page.locator(".two caption").all_text_contents():
        assert caption.startswith(f"Selected token 20, “{trace.pieces[20]}”, ")
    assert "heads 0 to 2 share key–value head 0 · token 12" in page.locator(".reading").text_content()  # fmt: skip


def test_frames_of_tokens_cover_no_letter(trace, watched, tmp_path):
    page = watched.open(page_of(AttentionView(trace, token=20)), tmp_path)
    page.locator(".token").nth(12).hover()
    page.locator(".token.hover").wait_for()
    sizes = """(node) => { const style = getComputedStyle(node), size = (name) => parseFloat(style[name]);
      return [size("outlineWidth"), size("outlineOffset"), size("paddingLeft"), size("paddingRight")]; }"""  # fmt: skip
    for frame in (".token.hover", ".token[aria-selected=true]"):
        width, offset, left, right = page.locator(frame).evaluate(sizes)
        assert width >= 2
        assert width + offset <= min(left, right)  # what lies over its neighbours
        assert -offset <= min(left, right)  # over itself


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


def test_a_pointer_on_a_small_map_names_no_token_while_none_is_selected(trace, watched, tmp_path):
    page = watched.open(page_of(AttentionView(trace, token=-1)), tmp_path)
    page.locator("canvas.heads").hover(position=head_place(page, 1, 3))
    settle(page)
    assert "Layer 1, head 3" in page.locator(".reading").text_content()
    assert "undefined" not in page.locator(".pw-attention").inner_text()
    assert page.locator(".pw-attention").get_attribute("data-focus") == "-1"


def test_several_tokens_are_pinned_and_let_go(trace, watched, tmp_path):
    page = watched.open(page_of(AttentionView(trace, token=5)), tmp_path)
    page.get_by_role("button", name="pin token 5").click()
    page.locator(".token").nth(18).click(modifiers=["Shift"])
    page.locator("canvas.map").click(position=spot(page, 30, 3), modifiers=["Shift"])
    settle(page)
    assert page.evaluate("model.get('pins')") == [5, 18, 30]
    assert page.locator(".pin canvas").count() == 3
    assert page.locator(".token.pinned").count() == 3
    assert page.evaluate("model.get('token')") == 5
    page.get_by_label("unpin token 18").click()
    settle(page)
    assert page.evaluate("model.get('pins')") == [5, 30]


def test_a_dragged_rectangle_zooms_and_escape_shows_the_whole(trace, watched, tmp_path):
    page = watched.open(page_of(AttentionView(trace, layer=1, head=1)), tmp_path)
    box = page.locator("canvas.map").bounding_box()
    start, end = spot(page, 12, 4), spot(page, 21, 15)
    page.mouse.move(box["x"] + start["x"], box["y"] + start["y"])
    page.mouse.down()
    page.mouse.move(box["x"] + end["x"], box["y"] + end["y"], steps=3)
    page.mouse.up()
    settle(page)
    assert page.evaluate("model.get('zoom')") == [12, 22, 4, 16]
    assert geometry(page)["top"] == pytest.approx(
        trace.attention(1, 1)[12:22, 4:16].max(), abs=1e-4
    )
    assert "rows 12 to 21 attend to columns 4 to 15" in page.locator(".right").text_content()
    page.locator("canvas.map").focus()
    page.keyboard.press("Escape")
    settle(page)
    assert page.evaluate("model.get('zoom')") == []
    assert geometry(page)["rows"] == 33


def test_escape_ends_a_drag_and_nothing_else(trace, watched, tmp_path):
    page = watched.open(page_of(AttentionView(trace, token=7)), tmp_path)
    box = page.locator("canvas.map").bounding_box()
    for zoom in ([], [4, 30, 2, 25]):
        page.evaluate("(zoom) => model.set('zoom', zoom)", zoom)
        settle(page)
        start, end = spot(page, 12, 4), spot(page, 21, 15)
        page.mouse.move(box["x"] + start["x"], box["y"] + start["y"])
        page.mouse.down()
        page.mouse.move(box["x"] + end["x"], box["y"] + end["y"], steps=3)
        page.keyboard.press("Escape")
        page.mouse.up()
        assert page.evaluate("[model.get('token'), model.get('zoom')]") == [7, zoom]


def test_keys_keep_the_selected_row_in_the_part_that_is_shown(trace, watched, tmp_path):
    page = watched.open(page_of(AttentionView(trace, token=21, zoom=[12, 22, 4, 16])), tmp_path)
    page.locator("canvas.map").focus()
    for key, token, rows in (
        ("ArrowDown", 22, [13, 23]),
        ("ArrowUp", 21, [13, 23]),
        ("Home", 0, [0, 10]),
        ("End", 32, [23, 33]),
    ):
        page.keyboard.press(key)
        settle(page)
        assert page.evaluate("[model.get('token'), model.get('zoom')]") == [token, [*rows, 4, 16]]
        assert [geometry(page)["r0"], geometry(page)["rows"]] == [rows[0], 10]


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


def test_smaller_maps_of_all_heads_make_room_for_the_large_one(watched, tmp_path):
    page = watched.open(page_of(AttentionView(attended_trace(tokens=120))), tmp_path)

    def sides() -> tuple[float, float]:
        settle(page)
        return geometry(page, "canvas.heads")["cell"], geometry(page)["side"]

    cell, side = sides()
    page.get_by_label("smaller maps").click()
    page.get_by_label("smaller maps").click()
    small, large = sides()
    assert small < cell
    assert large > side
    for _ in range(5):
        page.get_by_label("larger maps").click()
    assert sides()[0] > cell
    assert page.locator(".left").bounding_box()["width"] <= 1100 / 2  # its maps are scrolled


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


def test_everything_can_be_done_with_the_keyboard(trace, watched, tmp_path):
    page = watched.open(page_of(AttentionView(trace, token=3)), tmp_path)
    names = []
    for _ in range(13):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.ariaLabel || document.activeElement.labels?.[0]?.textContent || document.activeElement.textContent"))  # fmt: skip
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none"  # what has the focus is seen
    order = ["layer", "head", "colours", "blocks show", "first token apart", "minus", "smaller maps", "larger maps", "all heads", "pin token 3", "attention of one head", "tokens"]  # fmt: skip
    for expected, name in zip(order, names, strict=False):
        assert name.strip().startswith(expected)
    page.locator("canvas.heads").focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    assert page.evaluate("[model.get('layer'), model.get('head')]") == [1, 2]
    page.locator("canvas.map").focus()
    for key in ("ArrowDown", "ArrowRight", "p", "+", "End"):
        page.keyboard.press(key)
    settle(page)
    assert page.evaluate("[model.get('token'), model.get('pins'), model.get('zoom').length]") == [32, [5], 4]  # fmt: skip
    assert "token 32" in page.locator("[aria-live=polite]").text_content()
    page.keyboard.press("-")
    page.keyboard.press("Home")
    page.keyboard.press("Escape")
    settle(page)
    assert page.evaluate("[model.get('token'), model.get('zoom')]") == [-1, []]


def test_a_button_that_was_used_keeps_the_focus(trace, watched, tmp_path):
    page = watched.open(page_of(AttentionView(trace, token=20, pins=[4, 9])), tmp_path)

    def used(locator) -> None:
        locator.focus()
        page.keyboard.press("Enter")
        settle(page)

    for table in (0, 1):
        line = ".two > :nth-child({}) button >> nth=2"
        used(page.locator(line.format(table + 1)))
        assert page.evaluate("model.get('token')") != 20
        focused = page.evaluate("document.activeElement.textContent")
        assert page.locator(line.format(table + 1)).text_content() == focused
        page.evaluate("model.set('token', 20)")
        settle(page)
    used(page.locator(".pin button:not(.drop)").first)
    assert page.evaluate("[model.get('token'), document.activeElement.textContent]") == [4, f"4 {trace.pieces[4].replace(' ', '␣')}"]  # fmt: skip
    used(page.get_by_label("unpin token 4"))
    assert page.evaluate("document.activeElement.ariaLabel") == "unpin token 9"
    page.keyboard.press("Enter")
    settle(page)
    assert page.evaluate("[model.get('pins'), document.activeElement.className]") == [[], "map"]


def test_a_click_on_a_small_map_shows_its_head_large(trace, watched, tmp_path):
    view = AttentionView(trace)
    page = watched.open(page_of(view), tmp_path)
    page.wait_for_selector(".pw-attention[data-thumbnails='18']")
    page.locator("canvas.heads").click(position=head_place(page, 2, 5))
    page.wait_for_selector(".pw-attention[data-shown='2/5']")
    assert page.evaluate("[model.get('layer'), model.get('head')]") == [2, 5]
    assert geometry(page)["top"] == pytest.approx(trace.attention(2, 5)[:, 1:].max(), abs=1e-4)
    page.locator("canvas.heads").hover(position=head_place(page, 1, 3))
    settle(page)
    assert "Layer 1, head 3 (key–value head 1)" in page.locator(".reading").text_content()


def test_small_maps_are_painted_from_the_weights(trace, watched, tmp_path):
    page = watched.open(page_of(AttentionView(trace)), tmp_path)
    page.wait_for_selector(".pw-attention[data-complete=true]")
    settle(page)
    place, corner = geometry(page, "canvas.heads"), head_place(page, 1, 4)
    side, weights = place["cell"] - 3, trace.attention(1, 4)
    x, y = corner["x"] - side / 2, corner["y"] - side / 2
    script = "([x, y, s]) => [...document.querySelector('canvas.heads').getContext('2d').getImageData(x, y, s, s).data]"
    image = np.array(page.evaluate(script, [x, y, round(side)])).reshape(round(side), round(side), 4)  # fmt: skip
    middle = ((np.arange(33) + 0.5) * side / 33).astype(int)
    dark = 765 - image[np.ix_(middle, middle)][..., :3].astype(int).sum(-1)
    weak, strong = weights[20:, 1:20] < 0.01, weights[20:, 1:20] > 0.3
    assert strong.sum() > 3
    assert dark[20:, 1:20][strong].min() > dark[20:, 1:20][weak].max()


def test_two_displays_of_a_view_ask_for_every_small_map_once_each(trace, watched, tmp_path, monkeypatch):  # fmt: skip
    monkeypatch.setattr(attention_view, "WORK", 2 * 33 * 33)  # two heads a message
    html = page_of(AttentionView(trace)).replace(
        "widget.render({ model, el:",
        """window.sent = [];
        const { send } = model;
        model.send = (question) => { sent.push(question); send(question); };
        widget.render({ model, el: document.body.appendChild(document.createElement("div")) });
        widget.render({ model, el:""",
    )
    page = watched.open(html, tmp_path)
    for display in page.locator(".pw-attention").all():
        display.locator("xpath=self::*[@data-thumbnails='18'][@data-complete='true']").wait_for()
    page.wait_for_timeout(200)
    asked = page.evaluate("sent.filter((question) => question.kind === 'thumbnails')")
    places = Counter((question["layer"], question["head"]) for question in asked)
    assert set(places) == {(layer, head) for layer in range(3) for head in (0, 2, 4)}
    assert max(places.values()) <= 2


def test_two_heads_are_compared_as_a_signed_difference(trace, watched, tmp_path):
    view = AttentionView(trace, layer=1, head=2, token=18)
    page = watched.open(page_of(view), tmp_path)
    page.get_by_role("combobox", name="minus").select_option("head")
    page.get_by_label("layer of the subtracted head").select_option("2")
    page.get_by_label("subtracted head", exact=True).select_option("4")
    settle(page)
    difference = trace.attention(1, 2) - trace.attention(2, 4)
    assert geometry(page)["top"] == pytest.approx(np.abs(difference[:, 1:]).max(), abs=1e-4)
    for sign in (1, -1):
        row, column = np.unravel_index((sign * difference[:, 1:]).argmax(), (33, 32))
        red, _, blue, alpha = pixel(page, spot(page, row, column + 1))
        assert alpha == 255
        assert np.sign(red - blue) == sign  # orange above zero, blue below
    view.compare, view.other_layer, view.other_head = "head", 2, 4
    for texts, row in zip(shown_tables(page)[0], view.table().itertuples(), strict=False):
        assert int(texts[0]) == row.token
        shown = [share(text.replace("+", "")) for text in texts[2:5]]
        assert shown == pytest.approx([row.weight, row.other_weight, row.difference], abs=1e-3)


def test_a_head_minus_itself_says_so(trace, watched, tmp_path):
    page = watched.open(page_of(AttentionView(trace)), tmp_path)
    page.get_by_role("combobox", name="minus").select_option("head")
    settle(page)
    assert geometry(page)["top"] > 0  # it is another head's to begin with
    assert page.locator(".problem").first.is_hidden()
    page.get_by_label("subtracted head", exact=True).select_option("0")
    page.get_by_text("This is a head minus itself").wait_for()


def test_a_token_without_a_difference_says_so(trace, watched, tmp_path):
    other = attended_trace(tokens=33, noise=0.1)
    other.arrays["token_ids"][28:] += 100
    view = AttentionView(trace, other=other)
    assert view.token == 27
    page = watched.open(page_of(view), tmp_path)
    said = "no difference: the other trace has other tokens"
    assert said not in page.locator(".pw-attention").text_content()
    page.evaluate("model.set('token', 30)")
    settle(page)
    assert page.locator(".note", has_text=said).count() == 1
    assert page.locator(".two").text_content() == f"Token 30, “{trace.pieces[30]}”: {said}."
    assert "±" not in page.locator(".pw-attention").text_content()
    page.locator("canvas.map").hover(position=spot(page, 29, 9))
    settle(page)
    assert page.locator(".reading").text_content().endswith(said)


def test_two_precisions_are_compared_as_far_as_their_tokens_agree(trace, watched, tmp_path):
    other = attended_trace(tokens=33, noise=0.1)
    other.arrays["token_ids"][28:] += 100
    view = AttentionView(trace, other=other, layer=2, head=5, token=10)
    assert view.compare == "trace"
    page = watched.open(page_of(view), tmp_path)
    page.wait_for_selector(".pw-attention[data-complete=true]")
    difference = (trace.attention(2, 5) - other.attention(2, 5))[:28]
    assert geometry(page)["top"] == pytest.approx(np.abs(difference[:, 1:]).max(), abs=1e-4)
    assert "first 28 tokens are the same" in page.locator(".problem").first.text_content()
    assert pixel(page, spot(page, 30, 12))[3] == 0


@pytest.mark.parametrize("blocks", ["max", "mean"])
def test_a_block_of_rows_with_and_without_a_difference_shows_those_with(blocks, watched, tmp_path):
    sizes = {"layers": 1, "tokens": 1100, "heads": 1, "key_heads": 1}
    trace, other = attended_trace(**sizes), attended_trace(**sizes, noise=0.2)
    other.arrays["token_ids"][1001:] += 100  # within the block of rows 999 to 1,001
    page = watched.open(page_of(AttentionView(trace, other, blocks=blocks)), tmp_path)
    page.wait_for_selector(".pw-attention[data-tile=done]")
    settle(page)
    assert geometry(page)["size"] == 3
    left = geometry(page)["label"] + 5
    for row, there in ((998, True), (1000, True), (1004, False)):
        shown = spot(page, row, 400)
        for place in (shown, shown | {"x": left}):
            assert (pixel(page, place)[3] > 100) == there


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
    monkeypatch.setattr("workbench.views.attention.view.EXACT", 200)
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


def test_a_saved_page_holds_the_chosen_heads_and_says_what_it_lacks(trace, watched, tmp_path):
    file = tmp_path / "attention.html"
    view = AttentionView(trace, layer=1, head=2, token=9)
    small = view.to_html(layers=[1], heads=[2, 3])
    assert view.to_html(file, layers=[1], heads=[2, 3]) is None  # a cell would print it
    assert file.read_text(encoding="utf-8") == small
    assert len(small) < len(view.to_html())
    watched.page.context.set_offline(True)
    page = watched.open(page_of(view, layers=[1], heads=[2, 3]), tmp_path)
    page.locator(".token").nth(20).hover()
    settle(page)
    assert f"token 20, “{trace.pieces[20]}”" in page.locator(".reading").text_content()
    page.get_by_label("head", exact=True).select_option("3")
    page.wait_for_selector(".pw-attention[data-shown='1/3']")
    page.locator("canvas.heads").focus()
    page.keyboard.press("ArrowRight")  # goes everywhere
    page.locator(".absent", has_text="does not hold layer 1, head 4").wait_for()
    assert page.locator(".pw-attention").get_attribute("data-thumbnails") == "18"
    note = page.locator(".left > .small")
    assert "saved" not in note.text_content()
    page.get_by_label("blocks show").select_option("mean")
    note.and_(page.locator(".problem")).wait_for()
    assert "holds no small maps for these settings" in note.text_content()
    assert "without the first token" in note.text_content()  # of those that are still shown
    page.get_by_label("blocks show").select_option("max")
    note.and_(page.locator(":not(.problem)")).wait_for()


@pytest.mark.parametrize("tokens", [33, 1100])
def test_a_saved_page_shows_its_heads_with_and_without_the_first_token(tokens, watched, tmp_path):
    trace = attended_trace(layers=1, tokens=tokens, heads=2, key_heads=1)
    page = watched.open(page_of(AttentionView(trace), heads="all"), tmp_path)
    page.get_by_label("first token apart").uncheck()
    page.get_by_label("head", exact=True).select_option("1")
    page.wait_for_selector(".pw-attention[data-shown='0/1'][data-tile=done]")
    settle(page)
    assert geometry(page)["top"] == pytest.approx(trace.attention(0, 1).max(), abs=1e-4)


def test_a_saved_page_opens_on_a_head_that_it_holds(trace, watched, tmp_path):
    view = AttentionView(trace, layer=1, head=2, compare="head", other_layer=0, other_head=1)
    page = watched.open(page_of(view, layers=[0, 1], heads=[4, 5]), tmp_path)
    page.wait_for_selector(".pw-attention[data-shown='1/4']")  # of the same layer
    difference = trace.attention(1, 4) - trace.attention(0, 1)
    assert geometry(page)["top"] == pytest.approx(np.abs(difference[:, 1:]).max(), abs=1e-4)
    assert (view.layer, view.head) == (1, 2)
    assert closed(page, "subtracted head") == [0, 2, 3]
    page.evaluate("model.set('other_head', 3)")
    page.locator(".absent", has_text="does not hold layer 0, head 3").wait_for()


def closed(page, menu: str) -> list[int]:
    """Entries of a menu that cannot be chosen."""
    script = "(select) => [...select.options].filter((o) => o.disabled).map((o) => Number(o.value))"
    return page.get_by_label(menu, exact=True).evaluate(script)


def test_a_saved_page_shows_which_heads_can_be_opened(trace, watched, tmp_path):
    view = AttentionView(trace, layer=1, head=2)
    strongest = "([x, y, size]) => { const image = document.querySelector('canvas.heads').getContext('2d').getImageData(x, y, size, size).data; return Math.min(...image.filter((_, n) => n % 4 === 0)); }"

    def red(head: int) -> int:
        """The least red of a small map: how dark its strongest weight is."""
        place = head_place(page, 1, head)
        return page.evaluate(strongest, [place["x"] - 12, place["y"] - 12, 24])

    page = watched.open(page_of(view), tmp_path)
    page.wait_for_selector("[data-complete=true]")
    settle(page)
    dark = [red(head) for head in range(6)]
    assert closed(page, "layer") == closed(page, "head") == []
    assert "faded" not in page.locator(".left > .small").text_content()
    page = watched.open(page_of(view, layers=[1], heads=[2, 3]), tmp_path)
    page.wait_for_selector("[data-complete=true]")
    settle(page)
    pale = [red(head) for head in range(6)]
    assert [one - other > 50 for one, other in zip(pale, dark, strict=True)] == [
        True, True, False, False, True, True,
    ]  # fmt: skip
    assert "holds no large map of the faded ones" in page.locator(".left > .small").text_content()
    assert closed(page, "layer") == [0, 2]
    assert closed(page, "head") == [0, 1, 4, 5]
    page.locator("canvas.heads").hover(position=head_place(page, 1, 4))
    settle(page)
    assert "does not hold its large map" in page.locator(".reading").text_content()
    page.locator("canvas.heads").click(position=head_place(page, 1, 4))
    page.locator(".absent").wait_for()
    settle(page)
    place, stage = geometry(page), page.locator(".stage").bounding_box()
    note = page.locator(".absent").bounding_box()
    assert note["x"] > stage["x"] + place["x"]  # beside the words of the rows, on paper
    assert note["x"] + note["width"] < stage["x"] + place["x"] + place["side"]
    assert note["y"] > stage["y"] + place["y"]
    paper = "(node) => getComputedStyle(node).backgroundColor"
    assert page.locator(".absent").evaluate(paper) == page.locator(".pw-attention").evaluate(paper)


def test_precisions_of_one_model_are_named(watched, tmp_path):
    one, other = (
        attended_trace(noise=noise, receipt={"bits": bits}) for noise, bits in ((0, 4), (0.1, 16))
    )
    page = watched.open(page_of(AttentionView(one, other)), tmp_path)
    assert page.locator(".title").text_content() == "What made-up in 4 bit attends to"
    menu = page.get_by_role("combobox", name="minus")
    assert menu.locator("option:checked").text_content() == "made-up in 16 bit"
    assert "− the same head of made-up in 16 bit" in page.locator(".right h4").text_content()
    widths = "(select) => { const wide = select.clientWidth; select.style.maxWidth = 'none'; return [wide, select.clientWidth]; }"
    shown, needed = menu.evaluate(widths)
    assert shown == needed


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


def test_text_is_shown_as_text(watched, tmp_path):
    pieces = ["<b>x</b>", "</script>", "<img src=x onerror=alert(1)>", " a", "床"]
    trace = attended_trace(tokens=5, pieces=pieces, special_ids=[])
    page = watched.open(page_of(AttentionView(trace, pins=[2])), tmp_path)
    assert page.locator(".token").all_text_contents() == pieces
    assert page.locator(".pw-attention img").count() == 0
