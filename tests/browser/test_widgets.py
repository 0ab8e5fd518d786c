"""Each widget's script in a real browser, with the page that `to_html` writes."""

import numpy as np
import pytest

import workbench as wb

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
