"""The routing view's script in a real browser: search and filters."""

import pytest

from tests.browser.routing.pages import beside, cells, page_of, settle, share
from tests.helpers.made_up import NAMED, SEARCHES, made_up_trace
from workbench.views import RoutingView


@pytest.mark.parametrize("compare", ["uniform", "others"])
def test_filters_recount_the_loads(trace, compare, watched, tmp_path):
    view = RoutingView(trace, layer=1)
    page = watched.open(page_of(view), tmp_path)
    page.get_by_label("span").select_option("prompt")
    page.get_by_label("kind").select_option("words")
    page.get_by_label("compare with").select_option(compare)
    settle(page)
    assert page.get_by_label("find tokens").input_value() == "/[A-Za-z]{2,}/"
    view.span, view.search, view.compare = "prompt", "/[A-Za-z]{2,}/", compare
    assert 0 < view.kept.sum() < 20
    page.get_by_label("table of load").click()
    shown = {(int(row[0]), int(row[1])): row for row in cells(page, ".panel-load .numbers")}
    for row in view.table("load").itertuples():
        texts = shown[row.layer, row.expert]
        assert [int(texts[2]), int(texts[3])] == [row.group, row.count]
        assert share(texts[4]) == pytest.approx(row.share, abs=6e-4)
        assert float(texts[5]) == pytest.approx(row.load_ratio, abs=6e-3)
        assert share(texts[6]) == pytest.approx(row.others_share, abs=6e-4)
        assert texts[7] == beside(row.beyond, row.share > row.others_share)
    out = page.locator(".token").evaluate_all("(all) => all.map((n) => n.classList.contains('out'))")  # fmt: skip
    assert out == (~view.kept).tolist()
    page.get_by_role("button", name="all tokens").click()
    settle(page)
    assert page.locator(".token.out").count() == 0


def test_a_search_looks_at_names_only_when_it_asks_for_them(watched, tmp_path):
    view = RoutingView(made_up_trace(tokens=len(NAMED), pieces=NAMED))
    page = watched.open(page_of(view), tmp_path)
    kinds = {"words": 0, "digits": 6, "spaces and new lines": 7, "special": 12}
    for kind, place in kinds.items():
        page.get_by_label("kind").select_option(kind)
        settle(page)
        assert page.locator(".token:not(.out)").all_text_contents() == SEARCHES[place][1], kind
    for search, found in SEARCHES:
        page.get_by_label("find tokens").fill(search)
        page.keyboard.press("Enter")
        settle(page)
        assert page.locator(".token:not(.out)").all_text_contents() == found, search


def test_fields_say_that_they_wait_for_enter(trace, watched, tmp_path):
    page = watched.open(page_of(RoutingView(trace)), tmp_path)
    assert "then Enter" in page.get_by_label("find tokens").get_attribute("placeholder")
    assert page.get_by_label("go to expert").get_attribute("title").startswith("Press Enter ")


def test_a_redraw_leaves_what_is_being_typed(trace, watched, tmp_path):
    page = watched.open(page_of(RoutingView(trace)), tmp_path)
    settle(page)
    field = page.get_by_label("find tokens")
    for text in ("to be", "/[/"):
        field.fill(text)
        page.evaluate("model.set('span', model.get('span') === 'all' ? 'prompt' : 'all'); null")
        settle(page)
        assert field.input_value() == text
        assert page.evaluate("model.get('search')") == ""
    page.keyboard.press("Enter")
    page.locator(".problem", has_text="not a regular expression").wait_for()
    page.get_by_role("button", name="all tokens").click()
    page.locator(".problem").wait_for(state="hidden")
    assert field.input_value() == ""
    page.evaluate("model.set('search', 'be'); null")
    settle(page)
    assert field.input_value() == "be"


def test_what_waits_in_a_field_fits_into_it(trace, watched, tmp_path):
    page = watched.open(page_of(RoutingView(trace)), tmp_path)
    for name in ("find tokens", "go to expert"):
        field = page.get_by_label(name)
        field.fill(field.get_attribute("placeholder"))
        assert field.evaluate("(node) => node.scrollWidth <= node.clientWidth")
