"""The small maps of all heads of the attention view in a real browser."""

from collections import Counter

import numpy as np
import pytest

from tests.browser.attention_pages import geometry, head_place, page_of, settle
from tests.helpers.made_up import attended_trace
from workbench.views import AttentionView
from workbench.views.attention import messages


@pytest.fixture(scope="module")
def trace():
    return attended_trace(tokens=33)


def test_smaller_maps_of_all_heads_make_room_for_the_large_one(watched, tmp_path):
    page = watched.open(page_of(AttentionView(attended_trace(tokens=120))), tmp_path)

    def sides() -> tuple[float, float]:
        settle(page)
        return geometry(page, "canvas.heads")["cell"], geometry(page)["side"]

    cell, side = sides()
    page.get_by_label("smaller maps").click()
    page.get_by_label("smaller maps").click()
    small, large = sides()
    assert small < cell
    assert large > side
    for _ in range(5):
        page.get_by_label("larger maps").click()
    assert sides()[0] > cell
    assert page.locator(".left").bounding_box()["width"] <= 1100 / 2  # its maps are scrolled


def test_a_click_on_a_small_map_shows_its_head_large(trace, watched, tmp_path):
    view = AttentionView(trace)
    page = watched.open(page_of(view), tmp_path)
    page.wait_for_selector(".pw-attention[data-thumbnails='18']")
    page.locator("canvas.heads").click(position=head_place(page, 2, 5))
    page.wait_for_selector(".pw-attention[data-shown='2/5']")
    assert page.evaluate("[model.get('layer'), model.get('head')]") == [2, 5]
    assert geometry(page)["top"] == pytest.approx(trace.attention(2, 5)[:, 1:].max(), abs=1e-4)
    page.locator("canvas.heads").hover(position=head_place(page, 1, 3))
    settle(page)
    assert "Layer 1, head 3 (key–value head 1)" in page.locator(".reading").text_content()


def test_small_maps_are_painted_from_the_weights(trace, watched, tmp_path):
    page = watched.open(page_of(AttentionView(trace)), tmp_path)
    page.wait_for_selector(".pw-attention[data-complete=true]")
    settle(page)
    place, corner = geometry(page, "canvas.heads"), head_place(page, 1, 4)
    side, weights = place["cell"] - 3, trace.attention(1, 4)
    x, y = corner["x"] - side / 2, corner["y"] - side / 2
    script = "([x, y, s]) => [...document.querySelector('canvas.heads').getContext('2d').getImageData(x, y, s, s).data]"
    image = np.array(page.evaluate(script, [x, y, round(side)])).reshape(round(side), round(side), 4)  # fmt: skip
    middle = ((np.arange(33) + 0.5) * side / 33).astype(int)
    dark = 765 - image[np.ix_(middle, middle)][..., :3].astype(int).sum(-1)
    weak, strong = weights[20:, 1:20] < 0.01, weights[20:, 1:20] > 0.3
    assert strong.sum() > 3
    assert dark[20:, 1:20][strong].min() > dark[20:, 1:20][weak].max()


def test_two_displays_of_a_view_ask_for_every_small_map_once_each(trace, watched, tmp_path, monkeypatch):  # fmt: skip
    monkeypatch.setattr(messages, "WORK", 2 * 33 * 33)  # two heads a message
    html = page_of(AttentionView(trace)).replace(
        "widget.render({ model, el:",
        """window.sent = [];
        const { send } = model;
        model.send = (question) => { sent.push(question); send(question); };
        widget.render({ model, el: document.body.appendChild(document.createElement("div")) });
        widget.render({ model, el:""",
    )
    page = watched.open(html, tmp_path)
    for display in page.locator(".pw-attention").all():
        display.locator("xpath=self::*[@data-thumbnails='18'][@data-complete='true']").wait_for()
    page.wait_for_timeout(200)
    asked = page.evaluate("sent.filter((question) => question.kind === 'thumbnails')")
    places = Counter((question["layer"], question["head"]) for question in asked)
    assert set(places) == {(layer, head) for layer in range(3) for head in (0, 2, 4)}
    assert max(places.values()) <= 2


def test_a_pointer_on_a_small_map_names_no_token_while_none_is_selected(trace, watched, tmp_path):
    page = watched.open(page_of(AttentionView(trace, token=-1)), tmp_path)
    page.locator("canvas.heads").hover(position=head_place(page, 1, 3))
    settle(page)
    assert "Layer 1, head 3" in page.locator(".reading").text_content()
    assert "undefined" not in page.locator(".pw-attention").inner_text()
    assert page.locator(".pw-attention").get_attribute("data-focus") == "-1"
