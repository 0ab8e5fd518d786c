"""The routing view's tokens in a browser: their colours, light and dark, several texts, and texts that look like HTML."""

import numpy as np
import pytest

import workbench as wb
from tests.browser.routing_pages import beside, cells, page_of, settle, share
from tests.helpers.made_up import made_up_trace
from workbench.views import RoutingView


@pytest.fixture(scope="module")
def trace():
    return made_up_trace(tokens=40)


@pytest.mark.parametrize("colour", ["margin", "entropy", "surprisal"])
def test_tokens_are_coloured_in_the_order_of_the_values(trace, colour, watched, tmp_path):
    view = RoutingView(trace, layer=1, group=2, colour=colour)
    page = watched.open(page_of(view), tmp_path)
    settle(page)
    red = page.locator(".token").evaluate_all(
        "(all) => all.map((n) => Number((n.style.background.match(/[0-9]+/) || [NaN])[0]))"
    )
    frame = view.table("tokens")
    values = frame["surprisal_bits" if colour == "surprisal" else colour].to_numpy()
    assert [value is None or np.isnan(value) for value in red] == np.isnan(values).tolist()
    known = ~np.isnan(values)
    order = np.argsort(values[known])
    assert (np.diff(np.array(red, dtype=float)[known][order]) <= 0).all()  # darker, never lighter
    page.get_by_label("table of tokens").click()
    column = {"surprisal": 5, "margin": 7, "entropy": 8}[colour]
    shown = [row[column] for row in cells(page, ".panel-tokens .numbers")]
    for text, value in zip(shown, values, strict=True):
        assert text == "–" if np.isnan(value) else float(text) == pytest.approx(value, abs=6e-3)


def test_traces_stand_side_by_side(trace, watched, tmp_path):
    other = made_up_trace(tokens=9, seed=5)
    view = RoutingView({"poem": trace, "sum": other}, layer=1, expert=4)
    page = watched.open(page_of(view), tmp_path)
    assert page.locator(".strip h5").all_text_contents() == ["poem", "sum"]
    page.locator(".token").nth(40 + 6).click()
    settle(page)
    assert page.evaluate("[model.get('document'), model.get('token')]") == [1, 6]
    view.document, view.token = 1, 6
    assert [int(row[1]) for row in cells(page, ".panel-token")] == view.table()["expert"].tolist()
    domains = [row for row in cells(page, ".card") if row[0] in ("poem", "sum")]
    for texts, row in zip(domains, view.table("domains").itertuples(), strict=True):
        assert texts[0] == row.domain
        assert share(texts[1]) == pytest.approx(row.share, abs=6e-4)
        assert texts[3] == beside(row.beyond, row.share > 1 / 3)
    page.get_by_label("domain").select_option("sum")
    settle(page)
    assert page.locator(".token.out").count() == 40


def test_text_is_shown_as_text(watched, tmp_path):
    pieces = ["<b>x</b>", "</script>", "<img src=x onerror=alert(1)>", " a", "床"]
    trace = made_up_trace(tokens=5, pieces=pieces)
    page = watched.open(RoutingView({"<i>label</i>": trace, "b": trace}, expert=1).to_html(), tmp_path)  # fmt: skip
    assert page.locator(".token").all_text_contents() == pieces * 2
    assert page.locator(".pw-routing img, .strip i, .strip b").count() == 0


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_the_page_follows_light_and_dark(trace, scheme, dark, watched, tmp_path):
    watched.page.emulate_media(color_scheme=scheme)
    page = watched.open(wb.RoutingView(trace, token=2).to_html(), tmp_path)
    settle(page)
    paper = "(getComputedStyle(document.querySelector('.pw-routing')).backgroundColor.match(/[0-9]+/g)).map(Number)"
    ink = paper.replace("backgroundColor", "color")
    assert (sum(page.evaluate(paper)) < sum(page.evaluate(ink))) == dark
