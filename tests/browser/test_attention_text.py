"""The text and the lists of the attention view in a real browser."""

import pytest

from tests.browser.attention_pages import page_of, settle, share, shown_tables, spot
from tests.helpers.made_up import attended_trace
from workbench.views import AttentionView


@pytest.fixture(scope="module")
def trace():
    return attended_trace(tokens=33)


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
        assert f"token 20, “{trace.pieces[20]}”" in caption
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


def test_text_is_shown_as_text(watched, tmp_path):
    pieces = ["<b>x</b>", "</script>", "<img src=x onerror=alert(1)>", " a", "床"]
    trace = attended_trace(tokens=5, pieces=pieces, special_ids=[])
    page = watched.open(page_of(AttentionView(trace, pins=[2])), tmp_path)
    assert page.locator(".token").all_text_contents() == pieces
    assert page.locator(".pw-attention img").count() == 0
