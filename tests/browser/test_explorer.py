"""Linked views in one page without a kernel, and without a network (the fixture watches)."""

import pytest

import workbench as wb
from workbench.wording import titled

TEXT = "To be, or not to be: <b>床前</b> $x$"
READY = (
    "[...document.querySelectorAll('main > section > *')].every((n) => n.dataset.ready === 'true')"
)
EXPOSE = ("for (const part of parts) widgets", "window.parts = parts; for (const part of parts) widgets")  # fmt: skip


def selected(page, name: str) -> list:
    """The trait of every panel, in their order; None for one that has no such trait."""
    return page.evaluate("(name) => parts.map((part) => part.model.get(name) ?? null)", name)


def opened(watched, html: str, tmp_path):
    assert EXPOSE[0] in html
    page = watched.open(html.replace(*EXPOSE), tmp_path)
    page.wait_for_function(READY)
    return page


def test_panels_of_the_explorer_share_one_selection(moe, watched, tmp_path):
    trace = moe.trace(TEXT, max_new_tokens=3)
    file = tmp_path / "explorer.html"
    explorer = wb.Explorer(trace, token=2, layer=1, head=3)
    assert explorer.to_html(file) is None
    html = file.read_text(encoding="utf-8")
    page = opened(watched, html, tmp_path)
    assert page.locator("nav button").all_text_contents() == ["Heads", "Attention", "Routing"]
    assert selected(page, "token") == [None, 2, 2]
    page.locator(".pw-routing .token").nth(7).click()
    assert selected(page, "token") == [None, 7, 7]
    page.locator(".pw-heads .ranking button").first.click()
    layer, head = map(int, page.locator(".pw-heads .ranking button").first.text_content().split("."))  # fmt: skip
    assert selected(page, "layer") == [layer] * 3
    assert selected(page, "head") == [head, head, None]
    page.evaluate("parts[1].model.set('layer', 0)")
    assert selected(page, "layer") == [0, 0, 0]
    page.locator(".pw-attention .token").nth(4).click()
    assert selected(page, "token") == [None, 4, 4]
    page.evaluate("parts[2].model.set('token', -1)")
    assert selected(page, "token")[2] == -1
    assert titled(trace.model_name) in page.locator("header").text_content()


def test_a_panel_can_be_hidden_and_shown_by_key(moe, watched, tmp_path):
    page = opened(watched, wb.Explorer(moe.trace(TEXT)).to_html(), tmp_path)
    button = page.get_by_role("button", name="Attention", exact=True)
    button.focus()
    page.keyboard.press("Enter")
    assert page.locator(".pw-attention").is_hidden()
    assert button.get_attribute("aria-pressed") == "false"
    page.keyboard.press("Enter")
    assert page.locator(".pw-attention").is_visible()


def test_a_page_says_what_the_trace_does_not_have(moe, dense, watched, tmp_path):
    page = opened(watched, wb.Explorer(dense.trace(TEXT)).to_html(), tmp_path)
    assert page.locator("nav button").all_text_contents() == ["Heads", "Attention"]
    assert "is a dense model without experts" in page.locator("header").text_content()
    page = opened(watched, wb.Explorer(moe.trace(TEXT, attention=None)).to_html(), tmp_path)
    assert page.locator("nav button").all_text_contents() == ["Routing"]
    assert "attention=None" in page.locator("header").text_content()


def test_two_linked_views_of_one_kind_make_a_page_and_layers_that_differ_stay(moe, watched, tmp_path):  # fmt: skip
    trace = moe.trace(TEXT)
    part = wb.AttentionView(moe.trace(TEXT, attention=[1]))
    linked = wb.link(wb.HeadScoresView(trace), part, wb.HeadScoresView(trace))
    page = opened(watched, linked.to_html(), tmp_path)
    titles = page.locator("nav button").all_text_contents()
    assert titles == ["HeadScoresView", "AttentionView", "HeadScoresView 3"]
    page.evaluate("parts[0].model.set('layer', 2)")
    assert selected(page, "layer") == [2, 1, 2]  # only layer 1 was recorded in the second trace
    page.evaluate("parts[2].model.set('layer', 1)")
    assert selected(page, "layer") == [1, 1, 1]


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_the_page_follows_light_and_dark(moe, scheme, dark, watched, tmp_path):
    watched.page.emulate_media(color_scheme=scheme)
    page = opened(watched, wb.Explorer(moe.trace("To be")).to_html(), tmp_path)
    for place in ("body", ".pw-heads", ".pw-routing"):
        paper = f"(getComputedStyle(document.querySelector('{place}')).backgroundColor.match(/[0-9]+/g)).map(Number)"
        ink = paper.replace("backgroundColor", "color")
        assert (sum(page.evaluate(paper)) < sum(page.evaluate(ink))) == dark


def test_a_page_of_chosen_heads_is_small_and_opens_on_one_of_them(moe, watched, tmp_path):
    explorer = wb.Explorer(moe.trace(TEXT), layer=1, head=3)
    small = explorer.to_html(layers=[2], heads=[3, 4])
    assert len(small) < len(explorer.to_html())
    assert small.count('"asked": {"kind": "head"') == 2
    page = opened(watched, small, tmp_path)
    assert selected(page, "layer") == [2, 2, 2]
    assert selected(page, "head") == [3, 3, None]
    assert (explorer.layer, explorer.head) == (1, 3)
    page.locator(".pw-attention[data-shown='2/3']").wait_for()
    page.evaluate("parts[0].model.set('head', 5)")
    page.locator(".absent", has_text="does not contain layer 2, head 5").wait_for()


def test_titles_are_shown_as_text(moe, watched, tmp_path):
    trace = moe.trace("To be")
    routing, attention = wb.RoutingView(trace), wb.AttentionView(trace)
    titles = {"a </title><img src=x onerror=alert(1)>": routing, "x & y": attention}
    page = opened(watched, wb.link(routing, attention).to_html(titles=titles), tmp_path)
    assert page.title() == " · ".join(titles)
    assert page.locator("nav button").all_text_contents() == list(titles)
