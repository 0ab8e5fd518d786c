"""What pointer and keyboard do in the attention view, in a real browser."""

import pytest

from tests.browser.attention_pages import geometry, page_of, settle, spot
from tests.helpers.made_up import attended_trace
from workbench.views import AttentionView


@pytest.fixture(scope="module")
def trace():
    return attended_trace(tokens=33)


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


def test_everything_can_be_done_with_the_keyboard(trace, watched, tmp_path):
    page = watched.open(page_of(AttentionView(trace, token=3)), tmp_path)
    names = []
    for _ in range(13):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.ariaLabel || document.activeElement.labels?.[0]?.textContent || document.activeElement.textContent"))  # fmt: skip
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none"  # what has the focus is seen
    order = ["layer", "head", "colours", "blocks show", "first token separately", "subtract", "smaller maps", "larger maps", "all heads", "pin token 3", "attention of one head", "tokens"]  # fmt: skip
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
