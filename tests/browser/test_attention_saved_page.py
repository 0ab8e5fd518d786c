"""Pages of the attention view without a kernel: what they hold, and what they say of the rest."""

import numpy as np
import pytest

from tests.browser.attention_pages import closed, geometry, head_place, page_of, settle
from tests.helpers.made_up import attended_trace
from workbench.views import AttentionView


@pytest.fixture(scope="module")
def trace():
    return attended_trace(tokens=33)


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
    page.locator(".absent", has_text="does not contain layer 1, head 4").wait_for()
    assert page.locator(".pw-attention").get_attribute("data-thumbnails") == "18"
    note = page.locator(".left > .small")
    assert "saved" not in note.text_content()
    page.get_by_label("blocks show").select_option("mean")
    note.and_(page.locator(".problem")).wait_for()
    assert "has no small maps for these settings" in note.text_content()
    assert "without the first token" in note.text_content()  # of those that are still shown
    page.get_by_label("blocks show").select_option("max")
    note.and_(page.locator(":not(.problem)")).wait_for()


@pytest.mark.parametrize("tokens", [33, 1100])
def test_a_saved_page_shows_its_heads_with_and_without_the_first_token(tokens, watched, tmp_path):
    trace = attended_trace(layers=1, tokens=tokens, heads=2, key_heads=1)
    page = watched.open(page_of(AttentionView(trace), heads="all"), tmp_path)
    page.get_by_label("first token separately").uncheck()
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
    page.locator(".absent", has_text="does not contain layer 0, head 3").wait_for()


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
    assert (
        "faded heads cannot be enlarged on this page"
        in page.locator(".left > .small").text_content()
    )
    assert closed(page, "layer") == [0, 2]
    assert closed(page, "head") == [0, 1, 4, 5]
    page.locator("canvas.heads").hover(position=head_place(page, 1, 4))
    settle(page)
    assert "cannot be enlarged on this page" in page.locator(".reading").text_content()
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
