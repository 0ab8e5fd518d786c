"""JupyterLab itself: notebooks are opened, run and clicked, end to end."""

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.browser.lab import ROOT, command, jupyterlab, new_tokens, open_and_run, run_in_new_cell


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with jupyterlab(tmp_path_factory.mktemp("jupyter"), ROOT / "notebooks") as url:
        yield url


def test_run_all_of_the_first_notebook_gives_three_working_widgets(server, browser, tmp_path):
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    outside = []
    page.on(
        "request",
        lambda r: None if r.url.startswith((server, "data:", "blob:")) else outside.append(r.url),
    )
    started = time.monotonic()
    open_and_run(page, server, "00_start_here.ipynb", "every token used 8 experts")
    routing = page.locator(".pw-routing[data-ready=true]")
    attention = page.locator(".pw-attention[data-ready=true]")
    play = page.locator(".pw-play[data-ready=true]")
    for widget in (routing, attention, play):  # a cell is drawn when it comes on screen
        widget.scroll_into_view_if_needed(timeout=60_000)
    print(f"opened and run in {time.monotonic() - started:.1f} s")

    routing.scroll_into_view_if_needed()
    routing.locator(".token").nth(8).click()
    routing.locator(".caption b", has_text="8").wait_for()
    routing.screenshot(path=tmp_path / "routing.png")
    assert run_in_new_cell(page, "print(routing.token)") == "8"

    attention.scroll_into_view_if_needed()
    attention.get_by_label("head", exact=True).select_option("4")
    page.locator(".pw-attention[data-shown='1/4']").wait_for()
    attention.screenshot(path=tmp_path / "attention.png")
    assert run_in_new_cell(page, "print(attention.layer, attention.head)") == "1 4"

    play.scroll_into_view_if_needed()
    play.get_by_role("button", name="Generate").click()
    page.locator(".pw-play[data-state=eos], .pw-play[data-state=length]").wait_for(timeout=120_000)
    play.locator(".token").nth(0).hover()
    play.locator(".popover td", has_text="chosen").wait_for()
    play.screenshot(path=tmp_path / "playground.png")
    text = run_in_new_cell(page, "print(playground.generation.finish_reason)")
    assert text in ("eos", "length")

    # A model that never ends its turn: on another processor it might at the first token.
    code = "import workbench.generation.stream\nworkbench.generation.stream.end_ids = lambda pangu: set()\nprint('endless')"
    assert run_in_new_cell(page, code) == "endless"
    play.scroll_into_view_if_needed()
    play.get_by_label("mode", exact=True).select_option("raw")
    play.get_by_label("max tokens").fill("1900")
    play.get_by_label("what the model reads").fill("KING.")
    tokens = new_tokens(play)
    play.get_by_role("button", name="Generate").click()
    tokens.nth(4).wait_for(timeout=60_000)
    play.get_by_role("button", name="Stop").click()
    page.locator(".pw-play[data-state=stopped]").wait_for(timeout=60_000)
    assert run_in_new_cell(page, "print(playground.recipe.prompt)") == "KING."
    assert int(run_in_new_cell(page, "print(len(playground.generation.steps))")) < 1900
    page.screenshot(path=tmp_path / "page.png")
    page.close()
    assert errors == []
    assert outside == []


def test_the_routing_notebook_finds_the_expert_that_prefers_digits(server, browser, tmp_path):
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    open_and_run(page, server, "01_expert_routing.ipynb", "routing differs between kinds of text")
    routing = page.locator(".pw-routing[data-ready=true]").first
    routing.scroll_into_view_if_needed(timeout=60_000)
    routing.get_by_role("button", name="all tokens").click()
    routing.locator(".rank p", has_text="all").wait_for()
    routing.get_by_label("kind").select_option("digits")
    routing.locator(".rank p", has_text="digits").wait_for()
    best = routing.locator(".rank tbody tr").first
    assert best.locator("td").nth(4).text_content() == "above"
    expert = best.locator("td").first.text_content()
    best.locator("button").click()
    routing.locator(".card p", has_text="above chance").wait_for()
    routing.screenshot(path=tmp_path / "routing.png")
    code = "print(routing.expert, routing.table('expert')['piece'].str.strip().str.isdigit().all())"
    assert run_in_new_cell(page, code) == f"{expert} True"
    code = "print(live.running, live.routing.num_tokens == live.trace.num_tokens)"
    assert run_in_new_cell(page, code) == "False True"

    code = "import workbench.generation.stream\nworkbench.generation.stream.end_ids = lambda pangu: set()\nprint('endless')"
    assert run_in_new_cell(page, code) == "endless"  # whatever the processor's rounding
    code = "long = wb.RoutingView.live(pangu, 'KING.', max_new_tokens=1900)\nprint('begun')\ndisplay(long)"
    assert run_in_new_cell(page, code) == "begun"
    growing = page.locator(".pw-routing").last
    growing.locator(".token").nth(20).wait_for(timeout=60_000)
    assert run_in_new_cell(page, "print(long.running)") == "True"  # the kernel still answers
    growing = page.locator(".pw-routing").last
    growing.scroll_into_view_if_needed()
    growing.get_by_role("button", name="Stop").click()
    growing.get_by_role("button", name="Stop").wait_for(state="hidden", timeout=60_000)
    tokens = run_in_new_cell(page, "print(long.running, long.wait(60).num_tokens)").split()
    assert tokens[0] == "False"
    assert 0 < int(tokens[1]) < 1900
    assert int(growing.get_attribute("data-tokens")) == int(tokens[1])
    page.close()
    assert errors == []


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until something that matches has the focus."""
    for _ in range(60):
        if page.evaluate("(s) => document.activeElement.matches(s)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{selector} cannot be reached with Tab")


def test_the_routing_view_needs_no_mouse_and_follows_the_dark_theme(server, browser, tmp_path):
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    open_and_run(page, server, "01_expert_routing.ipynb", "routing differs between kinds of text")
    assert run_in_new_cell(page, "routing.search, routing.expert = '', -1; print('reset')") == "reset"  # fmt: skip
    routing = page.locator(".pw-routing[data-ready=true]").first
    routing.scroll_into_view_if_needed(timeout=60_000)
    routing.locator(".rank p", has_text="all").wait_for()

    routing.get_by_label("layer", exact=True).focus()
    tab_to(page, ".pw-routing select[aria-label=kind]")
    page.keyboard.type("dig")
    routing.locator(".rank p", has_text="digits").wait_for()
    tab_to(page, ".pw-routing .rank button")
    best = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    routing.locator(".card p", has_text=f"expert {best} of group").wait_for()
    assert routing.locator(".readout").text_content().endswith(" chance")
    tab_to(page, """.pw-routing button[aria-label="table of the expert's tokens"]""")
    page.keyboard.press("Enter")  # the focus was not lost meanwhile
    tab_to(page, ".pw-routing .card td button[data-token]")
    page.keyboard.press("Enter")
    routing.locator(".token[aria-selected=true]").wait_for()
    token = routing.locator(".token[aria-selected=true]").text_content()
    assert token.strip().isdigit()
    for name in ("the router", "map"):
        tab_to(page, f'.pw-routing button[aria-label="table of {name}"]')
        page.keyboard.press("Enter")
    assert routing.locator(".numbers:visible").count() == 3
    number = "document.querySelector('.panel-token .caption b').textContent"
    before = int(page.evaluate(number))
    routing.locator(".strip").focus()
    page.keyboard.press("ArrowRight")  # JupyterLab would go to the next cell with an arrow
    page.keyboard.press("ArrowUp")
    page.wait_for_function(f"{number} === '{before + 1}'")
    assert routing.get_by_label("layer", exact=True).input_value() == "2"
    page.keyboard.press("ArrowDown")
    code = "print(routing.expert, routing.token >= 0, len(routing.table('router')))"
    assert run_in_new_cell(page, code) == f"{best} True 64"

    routing = page.locator(".pw-routing[data-ready=true]").first
    routing.scroll_into_view_if_needed()
    command(page, "apputils:change-theme", {"theme": "JupyterLab Dark"})
    page.wait_for_function(
        """() => {
          const channels = (name) => getComputedStyle(document.querySelector(".pw-routing"))[name]
            .match(/[0-9.]+/g).slice(0, 3).map(Number);
          return Math.max(...channels("backgroundColor")) < 60 && Math.min(...channels("color")) > 180;
        }"""
    )
    frames = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    page.evaluate(frames)
    page.screenshot(path=tmp_path / "dark.png")
    # Canvases are dark as well, and no wider than what holds them.
    background = """(canvas) => [...canvas.getContext("2d").getImageData(1, 1, 1, 1).data]"""
    for name in ("canvas.map", "canvas.load"):
        assert routing.locator(name).evaluate(background)[3] == 0  # the page's own colour
    wide = "(all) => all.filter((c) => !c.hidden && c.clientWidth > c.closest('section').clientWidth).length"
    assert routing.locator("canvas").evaluate_all(wide) == 0
    rank, load = routing.locator(".rank").bounding_box(), routing.locator("canvas.load").bounding_box()  # fmt: skip
    assert load["x"] + load["width"] <= rank["x"] + 1 or rank["y"] >= load["y"] + load["height"]


def test_the_attention_notebook_links_heads_attention_and_experts(server, browser, tmp_path):
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    open_and_run(page, server, "02_attention_maps.ipynb", "looks at the token before: 2.0")
    heads = page.locator(".pw-heads[data-ready=true]").first
    heads.scroll_into_view_if_needed(timeout=60_000)
    heads.locator("label", has_text="score").first.locator("select").select_option("induction")
    heads.locator(".ranking h4", has_text="induction").wait_for()
    spot = heads.locator(".ranking button").first.text_content()
    heads.locator(".ranking button").first.click()
    heads.locator(".ranking tr[aria-current=true]", has_text=spot).wait_for()
    heads.screenshot(path=tmp_path / "heads.png")
    code = "print(f'{view.layer}.{view.head}', heads.score)"  # another view of the same trace
    assert run_in_new_cell(page, code) == f"{spot} induction"

    explorer = page.locator(".jp-OutputArea-output:has(.pw-routing)").last
    explorer.scroll_into_view_if_needed(timeout=60_000)
    explorer.locator(".pw-attention[data-ready=true] .token").nth(2).click()
    explorer.locator(".pw-routing .token[aria-selected=true]").wait_for()
    explorer.locator(".pw-heads .ranking button").nth(1).click()
    explorer.screenshot(path=tmp_path / "explorer.png")
    code = "print(explorer.token, explorer.routing.token, explorer.routing.layer == explorer.layer)"
    assert run_in_new_cell(page, code) == "2 2 True"
    explorer.get_by_role("button", name="Attention").click()
    explorer.locator(".pw-attention").wait_for(state="hidden")
    page.close()
    assert errors == []
