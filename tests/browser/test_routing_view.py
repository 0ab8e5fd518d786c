"""The routing view's script in a real browser: every panel, hovering, keys, filters, growth."""

import base64
import json
import re

import numpy as np
import pytest

import workbench as wb
from tests.helpers.made_up import NAMED, SEARCHES, attended_trace, made_up_trace, only_choices
from tests.helpers.traces import top_k_trace
from workbench.views import AttentionView, RoutingView
from workbench.views.figures import expert_colours


@pytest.fixture(scope="module")
def trace():
    return made_up_trace(tokens=40)


def page_of(view: RoutingView) -> str:
    """The static page, its stand-in model within the test's reach."""
    start = "widget.render("
    html = view.to_html()
    assert html.count(start) == 1
    return html.replace(start, "Object.assign(window, { model, listeners, decode }); " + start)


def cells(page, selector: str) -> list[list[str]]:
    """The texts of a table's body."""
    script = "(rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"
    return page.locator(f"{selector} tbody tr").evaluate_all(script)


def beside(beyond: bool, above: bool) -> str:
    """Where a number lies beside what chance gives, as the page says it."""
    return ("above" if above else "below") if beyond else "within"


def geometry(page, selector: str) -> dict:
    return json.loads(page.locator(selector).get_attribute("data-geometry"))


def pixel(page, selector: str, x: float, y: float) -> list[int]:
    script = "([s, x, y]) => [...document.querySelector(s).getContext('2d').getImageData(x, y, 1, 1).data]"
    return page.evaluate(script, [selector, x, y])


def settle(page) -> None:
    """Two frames, and what was asked in them answered and drawn."""
    frames = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    page.evaluate(frames)
    page.wait_for_timeout(150)
    page.evaluate(frames)


def share(text: str) -> float:
    return float(text.removesuffix(" %")) / 100


def test_the_map_shows_the_experts_that_were_used(trace, watched, tmp_path):
    page = watched.open(RoutingView(trace).to_html(), tmp_path)
    place = geometry(page, "canvas.map")
    colours = expert_colours(12, 4) * 255
    for layer, token, slot in np.ndindex(trace.selected_experts.shape):
        x = place["left"] + (token + 0.5) * place["cell"] - place["cell"] // 2 + 2
        y = layer * (4 * place["row"] + place["gap"]) + slot * place["row"] + 1
        shown = pixel(page, "canvas.map", int(x), int(y))
        expected = colours[trace.selected_experts[layer, token, slot]]
        np.testing.assert_allclose(shown[:3], expected, atol=3)


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


def test_arrow_keys_move_token_layer_and_expert(trace, watched, tmp_path):
    page = watched.open(page_of(RoutingView(trace, token=3)), tmp_path)
    page.locator("canvas.map").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    settle(page)
    assert page.locator(".token[aria-selected=true]").all_text_contents() == [trace.pieces[5]]
    assert page.get_by_label("layer", exact=True).input_value() == "1"
    assert "token 5 " in page.locator("[aria-live=polite]").text_content()
    page.keyboard.press("End")
    assert page.evaluate("model.get('token')") == 39
    page.locator("canvas.load").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    assert page.evaluate("[model.get('layer'), model.get('expert')]") == [0, 1]
    page.keyboard.press("Escape")
    assert page.evaluate("[model.get('token'), model.get('expert')]") == [-1, -1]


def test_hovering_shows_in_all_panels_and_a_click_keeps(trace, watched, tmp_path):
    page = watched.open(page_of(RoutingView(trace)), tmp_path)
    place = geometry(page, "canvas.map")
    token, layer, slot = 7, 2, 1
    spot = {
        "x": place["left"] + (token + 0.5) * place["cell"],
        "y": layer * (4 * place["row"] + place["gap"]) + (slot + 0.5) * place["row"],
    }
    page.locator("canvas.map").hover(position=spot)
    settle(page)
    expert = trace.selected_experts[layer, token, slot]
    assert page.locator(".token.hover").all_text_contents() == [trace.pieces[token]]
    users = [trace.pieces[t] for t in range(40) if trace.selected_experts[layer, t, slot] == expert]
    assert page.locator(".token.user").all_text_contents() == users
    assert page.locator(".caption b").text_content() == "7"
    assert f"Layer 2, expert {expert} of group 1: {len(users)} of 40" in page.locator(".card p").text_content()  # fmt: skip
    assert page.evaluate("[model.get('token'), model.get('expert')]") == [-1, -1]
    page.locator("canvas.map").click(position=spot)
    page.mouse.move(2, 2)
    settle(page)
    assert page.evaluate("[model.get('token'), model.get('layer'), model.get('expert')]") == [7, 2, expert]  # fmt: skip
    assert page.locator(".token.hover").count() == 0
    assert page.locator(".caption b").text_content() == "7"
    grid = geometry(page, "canvas.load")
    page.locator("canvas.load").hover(
        position={"x": grid["left"] + 4.5 * grid["cell"] + grid["gap"], "y": grid["top"] + 3}
    )
    settle(page)
    assert "Layer 0, expert 4 " in page.locator(".card p").text_content()


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
        page.locator(panel, has_text="No token passes these filters").wait_for()
    page.get_by_label("find tokens").fill("")
    page.keyboard.press("Enter")
    page.get_by_label("find tokens").fill("/[/")
    page.keyboard.press("Enter")
    page.locator(".problem", has_text="no regular expression").wait_for()
    assert page.evaluate("model.get('search')") == ""
    page.get_by_label("find tokens").fill("be")
    page.keyboard.press("Enter")
    page.locator(".problem").wait_for(state="hidden")
    assert page.evaluate("model.get('search')") == "be"


def test_fields_say_that_they_wait_for_enter(trace, watched, tmp_path):
    page = watched.open(page_of(RoutingView(trace)), tmp_path)
    assert "then Enter" in page.get_by_label("find tokens").get_attribute("placeholder")
    assert page.get_by_label("go to expert").get_attribute("title").startswith("Enter ")


@pytest.mark.parametrize(("tokens", "search"), [(1, ""), (9, "or")])
def test_one_token_is_not_many(tokens, search, watched, tmp_path):
    view = RoutingView(made_up_trace(tokens=tokens), expert=2, search=search)
    page = watched.open(page_of(view), tmp_path)
    settle(page)
    page.locator("canvas.load").hover(position={"x": 90, "y": 30})
    settle(page)
    said = page.locator(".pw-routing").text_content()
    assert len(re.findall(r"\b1 token\b", said)) >= 4
    assert not re.search(r"\b1 tokens", said)


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
    page.locator(".problem", has_text="no regular expression").wait_for()
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
    page.locator(".card", has_text="No token that passes the filters uses it.").wait_for()


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
    for name, meaning in (("margin", "best loser of its group"), ("router_scale", "weight = probability")):  # fmt: skip
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


def test_a_chosen_button_keeps_the_focus_and_the_strip_follows_the_keys(watched, tmp_path):
    page = watched.open(page_of(RoutingView(made_up_trace(layers=2, tokens=400))), tmp_path)
    button = page.locator(".rank button").nth(2)
    button.focus()
    name = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("Enter")
    settle(page)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == name
    assert page.evaluate("document.activeElement.dataset.lmSuppressShortcuts") == "true"
    page.locator(".strip").focus()
    page.keyboard.press("End")
    settle(page)
    inside = """() => {
      const strip = document.querySelector(".strip").getBoundingClientRect();
      const token = document.querySelector(".token[aria-selected=true]").getBoundingClientRect();
      return token.top >= strip.top && token.bottom <= strip.bottom;
    }"""
    assert page.evaluate(inside)


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


def test_recorded_choices_alone_say_what_is_missing(trace, watched, tmp_path):
    page = watched.open(page_of(RoutingView(only_choices(trace), token=4, expert=5)), tmp_path)
    settle(page)
    warning = page.locator(".warning:not(.problem)").text_content()
    assert warning == (
        "This trace has no router_logits, no routing_weights, no chosen_logprobs, no router_scale: "
        "choices and loads are shown, probabilities, margins and entropy, weights, surprisal are not."
    )
    assert [row[1] for row in cells(page, ".panel-token")] == [str(e) for e in trace.selected_experts[0, 4]]  # fmt: skip
    assert "no router_logits" in page.locator(".counterfactual").text_content()
    users = sum(5 in chosen for chosen in trace.selected_experts[0])
    assert f": {users} of 40 tokens" in page.locator(".card p").text_content()
    page.get_by_label("colour").select_option("entropy")
    settle(page)
    assert "no router_logits" in page.locator(".panel-tokens .row").first.text_content()


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


def test_a_long_trace_shows_a_window_and_an_overview(watched, tmp_path):
    trace = made_up_trace(layers=2, tokens=900)
    page = watched.open(page_of(RoutingView(trace)), tmp_path)
    first = geometry(page, "canvas.map")
    assert first["from"] == 0
    assert page.locator(".token").count() == first["count"] < 900
    page.locator("canvas.map").focus()
    page.keyboard.press("End")
    settle(page)
    last = geometry(page, "canvas.map")
    assert last["from"] + last["count"] == 900
    assert page.locator(".token").all_text_contents() == trace.pieces[last["from"] :]
    page.locator("canvas.overview").scroll_into_view_if_needed()
    box = page.locator("canvas.overview").bounding_box()
    page.mouse.click(box["x"] + last["left"] + 2, box["y"] + 10)
    assert geometry(page, "canvas.map")["from"] == 0
    page.get_by_label("zoom in").click()
    assert geometry(page, "canvas.map")["count"] < first["count"]


@pytest.mark.parametrize("view", [RoutingView, AttentionView])
def test_a_page_says_that_it_comes_is_there_and_goes(view, watched, tmp_path):
    start, trace = "widget.render(", attended_trace() if view is AttentionView else made_up_trace()
    html = view(trace).to_html().replace(start, "Object.assign(window, { widget, model, listeners }); " + start)  # fmt: skip
    page = watched.open(html, tmp_path)
    said = page.evaluate(
        """() => {
          const said = [], send = (question) => said.push(question);
          const leave = widget.render({ model: { ...model, send }, el: document.createElement("div") });
          listeners["msg:custom"].forEach((call) => call({ kind: "roll" }, []));
          leave();
          return said;
        }"""
    )
    name = said[0]["page"]
    assert said == [
        {"kind": "hello", "page": name}, {"kind": "want"}, {"kind": "here", "page": name},
        {"kind": "bye", "page": name},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("view", "keys"),
    [
        (RoutingView, ["ArrowRight", "ArrowDown"]),
        (AttentionView, ["ArrowUp", "ArrowUp"]),
        (wb.HeadScoresView, ["ArrowRight", "ArrowDown"]),
    ],
)
def test_without_its_kernel_a_view_says_so_and_works_on(view, keys, watched, tmp_path):
    trace = made_up_trace() if view is RoutingView else attended_trace()
    html = view(trace).to_html().replace("widget.render(", "window.model = model; widget.render(")
    page = watched.open(html, tmp_path)
    page.evaluate("model.save_changes = () => { throw new Error('Cannot send'); }; null")
    for key in keys:
        before = page.evaluate("['token', 'layer', 'head'].map((name) => model.get(name)).join()")
        page.locator("canvas[tabindex='0']").last.press(key)
        after = page.evaluate("['token', 'layer', 'head'].map((name) => model.get(name)).join()")
        assert before != after
    assert "has gone: run its cell again" in page.get_by_role("alert").first.text_content()
    assert page.locator(".gone").count() == 1


def test_a_view_without_tokens_fills_as_they_come(trace, moe, watched, tmp_path, monkeypatch):
    view = RoutingView.live(moe, "To be", max_new_tokens=5)
    trace = view.wait(60)
    empty = RoutingView(trace)
    empty.routing.documents[0].pieces, empty.routing.documents[0].parts = [], []
    empty.routing.documents[0].spans, empty.routing.documents[0].prompt_length = [], 0
    empty.routing.documents[0].surprisal_bits = np.empty(0)
    empty.routing.__dict__.pop("_choices", None)
    page = watched.open(page_of(empty), tmp_path)
    page.evaluate("model.set('doing', 'layer 3 of 48'); null")
    told = page.locator(".pw-routing").text_content()
    assert "waiting for the first tokens…layer 3 of 48" in told
    assert page.locator(".token").count() == 0
    sent = []
    monkeypatch.setattr(empty, "send", lambda content, buffers: sent.append((content, buffers)))
    prompt = trace.prompt_length
    names = ("selected_experts", "router_logits", "routing_weights")
    for start, end in [(0, prompt), *((t, t + 1) for t in range(prompt, trace.num_tokens))]:
        part = {name: trace.arrays[name][:, start:end] for name in names}
        empty.append(trace.pieces[start:end], part, "answer" if start else "prompt")

    def tell(content, buffers):
        encoded = [base64.b64encode(buffer).decode() for buffer in buffers]
        page.evaluate(
            "([content, buffers]) => listeners['msg:custom'].forEach((call) => call(content, buffers.map((b) => new DataView(decode(b).buffer))))",
            [content, encoded],
        )

    page.evaluate("window.asked = []; const answer = model.send; model.send = (question) => { asked.push(question.kind); answer(question); }; null")  # fmt: skip
    tell(*sent[1])  # the prompt was missed
    assert page.evaluate("asked") == ["want"]
    for number, (content, buffers) in enumerate(sent):
        tell(content, buffers)
        tell(content, buffers)  # what is here already is not doubled
        page.wait_for_selector(f".pw-routing[data-tokens='{prompt + number}']")
    settle(page)
    assert page.locator(".token").all_text_contents() == trace.pieces
    page.get_by_label("table of load").click()
    shown = [int(row[3]) for row in cells(page, ".panel-load .numbers")]
    assert shown == RoutingView(trace).table("load")["count"].tolist()
    page.get_by_label("phase").select_option("decode")
    settle(page)
    assert page.locator(".token.out").count() == prompt


def test_a_running_view_can_be_stopped(trace, watched, tmp_path):
    page = watched.open(page_of(RoutingView(trace)), tmp_path)
    stop = page.get_by_role("button", name="Stop")
    assert stop.is_hidden()
    page.evaluate("window.sent = []; model.send = (question) => sent.push(question); model.set('running', true)")  # fmt: skip
    stop.click()
    assert page.evaluate("sent.at(-1)") == {"kind": "stop"}


def test_what_may_still_come_is_not_said_to_be_missing(watched, tmp_path):
    page = watched.open(page_of(RoutingView(made_up_trace(router_scale=None))), tmp_path)
    warning = page.locator(".warning:not(.problem)")
    assert warning.text_content() == "This trace has no router_scale."
    page.evaluate("model.set('running', true); null")
    warning.wait_for(state="hidden")
    page.evaluate("model.set('running', false); null")
    warning.wait_for()


def test_a_static_page_says_what_it_does_not_hold(trace, watched, tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.views.routing.messages.PAGE_BYTES", 10)
    file = tmp_path / "routing.html"
    assert RoutingView(trace, token=2, layer=1).to_html(file) is None
    html = file.read_text(encoding="utf-8")
    page = watched.open(html, tmp_path)
    settle(page)
    assert "agree" in page.locator(".counterfactual").text_content()
    page.get_by_label("layer", exact=True).select_option("2")
    settle(page)
    assert "saved page does not hold" in page.locator(".counterfactual").text_content()


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_the_page_follows_light_and_dark(trace, scheme, dark, watched, tmp_path):
    watched.page.emulate_media(color_scheme=scheme)
    page = watched.open(wb.RoutingView(trace, token=2).to_html(), tmp_path)
    settle(page)
    paper = "(getComputedStyle(document.querySelector('.pw-routing')).backgroundColor.match(/[0-9]+/g)).map(Number)"
    ink = paper.replace("backgroundColor", "color")
    assert (sum(page.evaluate(paper)) < sum(page.evaluate(ink))) == dark


def test_text_is_shown_as_text(watched, tmp_path):
    pieces = ["<b>x</b>", "</script>", "<img src=x onerror=alert(1)>", " a", "床"]
    trace = made_up_trace(tokens=5, pieces=pieces)
    page = watched.open(RoutingView({"<i>label</i>": trace, "b": trace}, expert=1).to_html(), tmp_path)  # fmt: skip
    assert page.locator(".token").all_text_contents() == pieces * 2
    assert page.locator(".pw-routing img, .strip i, .strip b").count() == 0
