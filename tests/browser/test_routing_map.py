"""The routing view's map in a browser: its colours, pointer, keys and focus, and a window on a long trace."""

import numpy as np
import pytest

from tests.browser.routing_pages import geometry, page_of, pixel, settle
from tests.helpers.made_up import made_up_trace
from workbench.views import RoutingView
from workbench.views.figures import expert_colours


@pytest.fixture(scope="module")
def trace():
    return made_up_trace(tokens=40)


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
