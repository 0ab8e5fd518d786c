"""Differences of heads and of traces in the attention view, in a real browser."""

import numpy as np
import pytest

from tests.browser.attention_pages import (
    geometry,
    page_of,
    pixel,
    settle,
    share,
    shown_tables,
    spot,
)
from tests.helpers.made_up import attended_trace
from workbench.views import AttentionView


@pytest.fixture(scope="module")
def trace():
    return attended_trace(tokens=33)


def test_two_heads_are_compared_as_a_signed_difference(trace, watched, tmp_path):
    view = AttentionView(trace, layer=1, head=2, token=18)
    page = watched.open(page_of(view), tmp_path)
    page.get_by_role("combobox", name="subtract").select_option("head")
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
    page.get_by_role("combobox", name="subtract").select_option("head")
    settle(page)
    assert geometry(page)["top"] > 0  # it is another head's to begin with
    assert page.locator(".problem").first.is_hidden()
    page.get_by_label("subtracted head", exact=True).select_option("0")
    page.get_by_text("This subtracts a head from itself").wait_for()


def test_a_token_without_a_difference_says_so(trace, watched, tmp_path):
    other = attended_trace(tokens=33, noise=0.1)
    other.arrays["token_ids"][28:] += 100
    view = AttentionView(trace, other=other)
    assert view.token == 27
    page = watched.open(page_of(view), tmp_path)
    said = "not compared: the other trace has different tokens"
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


def test_precisions_of_one_model_are_named(watched, tmp_path):
    one, other = (
        attended_trace(noise=noise, receipt={"bits": bits}) for noise, bits in ((0, 4), (0.1, 16))
    )
    page = watched.open(page_of(AttentionView(one, other)), tmp_path)
    assert page.locator(".title").text_content() == "Attention of made-up in 4 bit"
    menu = page.get_by_role("combobox", name="subtract")
    assert menu.locator("option:checked").text_content() == "made-up in 16 bit"
    assert "− the same head of made-up in 16 bit" in page.locator(".right h4").text_content()
    widths = "(select) => { const wide = select.clientWidth; select.style.maxWidth = 'none'; return [wide, select.clientWidth]; }"
    shown, needed = menu.evaluate(widths)
    assert shown == needed
