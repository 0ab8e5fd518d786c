"""The routing view's script in a real browser: tokens and map."""

import re

import numpy as np
import pytest

from tests.browser.routing.pages import beside, cells, geometry, page_of, pixel, settle, share
from tests.helpers.made_up import made_up_trace, only_choices
from workbench.views import RoutingView
from workbench.views.figures import expert_colours


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
