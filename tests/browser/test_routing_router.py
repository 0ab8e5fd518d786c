"""A token's router in a browser, and the tables of everything, beside the numbers of Python."""

import pytest

from tests.browser.routing_pages import cells, page_of, settle, share
from tests.helpers.made_up import made_up_trace
from workbench.views import RoutingView


@pytest.fixture(scope="module")
def trace():
    return made_up_trace(tokens=40)


def test_a_click_on_a_token_shows_its_router(trace, watched, tmp_path):
    view = RoutingView(trace)
    page = watched.open(page_of(view), tmp_path)
    assert page.locator(".token").all_text_contents() == trace.pieces
    page.locator(".token").nth(5).click()
    page.get_by_label("layer", exact=True).select_option("2")
    settle(page)
    assert page.evaluate("[model.get('token'), model.get('layer')]") == [5, 2]
    assert page.locator(".caption b").text_content() == "5"
    view.token, view.layer = 5, 2
    rows = cells(page, ".panel-token")
    assert len(rows) == 4
    for texts, row in zip(rows, view.table().itertuples(), strict=True):
        assert [int(texts[0]), int(texts[1])] == [row.group, row.expert]
        assert share(texts[2]) == pytest.approx(row.probability, abs=6e-5)
        assert float(texts[3]) == pytest.approx(row.margin, abs=6e-5)
        assert float(texts[4]) == pytest.approx(row.router_scale, abs=6e-4)
        assert float(texts[5]) == pytest.approx(row.weight, abs=6e-5)
        assert texts[6] == ("yes" if row.in_global_top else "no")
    agree = int(view.table()["in_global_top"].sum())
    assert f"{agree} of 4 agree" in page.locator(".counterfactual").text_content()
    page.locator(".winners button").nth(2).click()
    assert page.evaluate("model.get('expert')") == trace.selected_experts[2, 5, 2]


def test_columns_of_the_router_are_defined_where_they_stand(trace, watched, tmp_path):
    page = watched.open(page_of(RoutingView(trace, token=4)), tmp_path)
    page.locator(".winners table").wait_for()
    for name, meaning in (("margin", "best loser of its group"), ("router_scale", "weight = probability")):  # fmt: skip
        assert meaning in page.locator(".winners th span", has_text=name).get_attribute("title")


def test_the_router_and_the_expert_have_tables_of_everything(trace, watched, tmp_path):
    view = RoutingView(trace, token=4, layer=2, expert=7)
    page = watched.open(page_of(view), tmp_path)
    settle(page)
    page.get_by_label("table of the router").click()
    shown = cells(page, ".panel-token .numbers")
    for texts, row in zip(shown, view.table("router").itertuples(), strict=True):
        assert [int(texts[0]), int(texts[1])] == [row.group, row.expert]
        assert share(texts[2]) == pytest.approx(row.probability, abs=6e-5)
        assert float(texts[3]) == pytest.approx(row.router_scale, abs=6e-4)
        assert texts[4:] == ["yes" if value else "no" for value in (row.winner, row.in_global_top)]
    page.get_by_label("table of the expert").click()
    shown = cells(page, ".panel-expert .numbers")
    for texts, row in zip(shown, view.table("expert").itertuples(), strict=True):
        assert [int(texts[1]), texts[2]] == [row.token, row.piece]
        assert float(texts[3]) == pytest.approx(row.weight, abs=6e-5)
