"""The routing view's script in a real browser: experts and tables."""

import pytest

from tests.browser.routing.pages import beside, cells, geometry, page_of, pixel, settle, share
from tests.helpers.made_up import made_up_trace
from tests.helpers.traces import top_k_trace
from workbench.views import RoutingView


def test_marks_on_the_loads_are_those_of_the_exact_test(watched, tmp_path):
    trace = made_up_trace(tokens=300, bias=1.5)
    view = RoutingView(trace)
    page = watched.open(page_of(view), tmp_path)
    frame = view.table("load")
    assert 0 < frame["beyond"].sum() < len(frame)
    page.get_by_label("table of load").click()
    told = [beside(row.beyond, row.share > row.chance) for row in frame.itertuples()]
    assert {"above", "below", "within"} == set(told)
    assert [row[7] for row in cells(page, ".panel-load .numbers")] == told
    grid = geometry(page, "canvas.load")
    for row in frame.itertuples():
        left = grid["left"] + row.expert * grid["cell"] + row.group * grid["gap"]
        colours = {
            tuple(pixel(page, "canvas.load", left + x, grid["top"] + row.layer * grid["row"] + 5))
            for x in range(6)
        }
        assert (len(colours) == 1) == row.beyond  # hatched or plain
    best = frame[frame["layer"] == 0].sort_values("share", ascending=False)
    ranked = cells(page, ".rank")
    assert [int(row[0]) for row in ranked[:3]] == best["expert"].tolist()[:3]
    assert [row[4] for row in ranked[:3]] == [
        beside(row.beyond, row.share > row.chance) for row in best[:3].itertuples()
    ]


def test_an_expert_is_found_and_its_card_holds_the_tables(trace, watched, tmp_path):
    view = RoutingView(trace)
    page = watched.open(page_of(view), tmp_path)
    page.get_by_label("go to expert").fill("1.7")
    page.keyboard.press("Enter")
    settle(page)
    assert page.evaluate("[model.get('layer'), model.get('expert')]") == [1, 7]
    view.layer, view.expert = 1, 7
    tokens, words, partners = page.locator(".card table").all()
    text = "(table) => [...table.tBodies[0].rows].map((r) => [...r.cells].map((c) => c.textContent))"  # fmt: skip
    frame = view.table("expert").head(8)
    shown = tokens.evaluate(text)
    assert [float(row[0]) for row in shown] == pytest.approx(frame["weight"].tolist(), abs=6e-4)
    assert [row[1] for row in shown] == frame["context"].tolist()
    frame = view.table("words").head(8)
    expected = [[f"“{row.piece}”", f"{row.count} of {row.of}"] for row in frame.itertuples()]
    assert words.evaluate(text) == expected
    frame = view.table("partners").set_index("expert")
    for other, lift, together, beyond in partners.evaluate(text):
        row = frame.loc[int(other)]
        assert float(lift) == pytest.approx(row["lift"], abs=6e-3)
        assert [int(together), beyond] == [
            row["together"], beside(row["beyond"], row["lift"] > 1)
        ]  # fmt: skip
    tokens.locator("button").nth(1).click()
    assert page.evaluate("model.get('token')") == view.table("expert")["token"][1]
    page.get_by_label("go to expert").fill("99")
    page.keyboard.press("Enter")
    page.locator(".problem", has_text="There is no expert 99").wait_for()
    page.get_by_label("find tokens").fill("nothing has these letters")
    page.keyboard.press("Enter")
    for panel in (".rank", ".card", ".panel-load"):
        page.locator(panel, has_text="No tokens match these filters").wait_for()
    page.get_by_label("find tokens").fill("")
    page.keyboard.press("Enter")
    page.get_by_label("find tokens").fill("/[/")
    page.keyboard.press("Enter")
    page.locator(".problem", has_text="not a regular expression").wait_for()
    assert page.evaluate("model.get('search')") == ""
    page.get_by_label("find tokens").fill("be")
    page.keyboard.press("Enter")
    page.locator(".problem").wait_for(state="hidden")
    assert page.evaluate("model.get('search')") == "be"


def test_an_expert_that_no_token_uses_has_no_lists(watched, tmp_path):
    trace = made_up_trace(tokens=9)
    used = set(trace.selected_experts[1].ravel().tolist())
    expert = next(n for n in range(trace.num_experts) if n not in used)
    view = RoutingView(trace, layer=1, expert=expert)
    page = watched.open(page_of(view), tmp_path)
    page.locator(".card", has_text="No token uses it.").wait_for()
    assert page.locator(".card table").count() == 0
    assert page.locator(".card p").count() == 2
    assert view.table("partners").empty
    page.evaluate("model.set('search', 'o'); null")
    page.locator(".card", has_text="No matching token uses it.").wait_for()


def test_a_table_is_scrolled_where_it_ends(trace, watched, tmp_path):
    page = watched.open(page_of(RoutingView(trace)), tmp_path)
    page.get_by_label("table of load").click()
    holder = page.locator(".panel-load .numbers")
    ends = "(node) => [node.getBoundingClientRect().right, node.querySelector('table').getBoundingClientRect().right, node.scrollWidth - node.clientWidth]"
    right, table, hidden = holder.evaluate(ends)
    assert right < table + 40
    assert hidden == 0


def test_columns_of_the_router_are_defined_where_they_stand(trace, watched, tmp_path):
    page = watched.open(page_of(RoutingView(trace, token=4)), tmp_path)
    page.locator(".winners table").wait_for()
    for name, meaning in (("margin", "runner-up of its group"), ("router_scale", "weight = probability")):  # fmt: skip
        assert meaning in page.locator(".winners th span", has_text=name).get_attribute("title")


def test_a_model_without_groups_has_partners_and_loads_too(watched, tmp_path):
    view = RoutingView(top_k_trace(), layer=1, expert=2)
    page = watched.open(page_of(view), tmp_path)
    settle(page)
    frame = view.table("partners").set_index("expert")
    shown = cells(page, ".card table:last-child")
    assert len(shown) == 6
    for other, lift, together, beyond in shown:
        row = frame.loc[int(other)]
        assert float(lift) == pytest.approx(row["lift"], abs=6e-3)
        assert [int(together), beyond] == [
            row["together"], beside(row["beyond"], row["lift"] > 1)
        ]  # fmt: skip
    page.get_by_label("table of load").click()
    counts = {(int(r[0]), int(r[1])): int(r[3]) for r in cells(page, ".panel-load .numbers")}
    for row in view.table("load").itertuples():
        assert counts[row.layer, row.expert] == row.count


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
