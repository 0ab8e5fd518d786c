"""The playground in JupyterLab: watched, stopped, branched, looked into, compared, reopened."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.lab import READY, command, jupyterlab, new_tokens, open_and_run, run_in_new_cell

CELLS = [
    "import workbench as wb\n\npangu = wb.load('demo', bits=4)\nprint('loaded')",
    "playground = wb.Playground(pangu, 'Add 38 and 54.', max_new_tokens=8)\nplayground",
    "print('shown')",
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    cell = {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": []}
    cells = [{**cell, "id": f"cell-{n}", "source": source} for n, source in enumerate(CELLS)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}  # fmt: skip
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (folder / "play.ipynb").write_text(json.dumps(notebook))
    (tmp_path / "home").mkdir()
    with jupyterlab(tmp_path / "home", folder) as url:
        yield url


def test_a_generation_is_watched_stopped_branched_compared_and_reopened(server, browser, tmp_path):
    page = browser.new_page(viewport={"width": 1300, "height": 1300})
    errors, outside = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "request",
        lambda r: None if r.url.startswith((server, "data:", "blob:")) else outside.append(r.url),
    )
    open_and_run(page, server, "play.ipynb", "shown")
    play = page.locator(".pw-play[data-ready=true]")
    play.scroll_into_view_if_needed(timeout=60_000)

    def state(name: str, timeout: int = 60_000) -> None:
        page.locator(f".pw-play[data-state={name}]").wait_for(timeout=timeout)

    # Watched and stopped: a model that never ends its turn, whatever the processor's rounding.
    ends = "playground.logit_bias = [(pangu.tokenizer.eos_token_id, -100.0)]\nplayground.max_new_tokens = 1900\nprint('endless')"
    assert run_in_new_cell(page, ends) == "endless"
    play.scroll_into_view_if_needed()
    play.get_by_label("prompt", exact=True).fill("Add 38 and 55.")
    play.get_by_label("prompt", exact=True).press("Control+Enter")
    play.locator(".token").nth(20).wait_for(timeout=60_000)
    assert "tokens/s" in play.locator(".status").text_content()
    assert play.get_by_role("button", name="Generate").is_disabled()
    page.screenshot(path=tmp_path / "streaming.png")
    assert run_in_new_cell(page, "print(playground.running, playground.prompt)") == "True Add 38 and 55."  # fmt: skip
    play.scroll_into_view_if_needed()
    play.get_by_role("button", name="Stop", exact=True).click()
    state("stopped")
    shown = int(play.get_attribute("data-tokens"))
    code = "print(len(playground.generation.steps), playground.generation.finish_reason)"
    assert run_in_new_cell(page, code) == f"{shown} stopped"
    assert 20 < shown < 1900

    # Enter is a new line where one can be, and takes what is typed elsewhere.
    area = play.get_by_label("prompt", exact=True)
    area.fill("")
    page.keyboard.type("line one")
    page.keyboard.press("Enter")
    page.keyboard.type("line two")
    assert area.input_value() == "line one\nline two"
    area.fill("Add 38 and 55.")
    play.get_by_role("button", name="more settings").click()
    bias = play.get_by_label("token to bias")
    bias.fill("7")
    bias.press("Enter")
    play.locator(".chip", has_text="id 7").wait_for()
    expect(bias).to_have_value("")
    play.get_by_role("button", name="no bias for").last.click()
    play.get_by_role("button", name="fewer settings").click()

    # No key in it is a command of the notebook.
    cells = "() => { const { content } = window.jupyterapp.shell.currentWidget; return [content.mode, content.widgets.length]; }"
    before = page.evaluate(cells)
    assert before[0] == "command"
    play.get_by_role("button", name="Generate").focus()
    for key in ("d", "d", "b"):
        page.keyboard.press(key)
    assert page.evaluate(cells) == before

    # The kernel's interrupt stops it while no cell runs, and leaves the kernel alive.
    play.scroll_into_view_if_needed()
    tokens = new_tokens(play)
    play.get_by_role("button", name="Generate").click()
    tokens.nth(8).wait_for(timeout=60_000)
    command(page, "notebook:interrupt-kernel")
    state("stopped")

    # Branched: from the fourth token, with what stands second.
    assert run_in_new_cell(page, "playground.max_new_tokens = 6\nprint('short')") == "short"
    play.scroll_into_view_if_needed()
    before = play.locator(".tree li").count()
    play.locator(".token").nth(3).click()
    other = play.locator(".popover td button:not(:disabled)").first
    piece = other.text_content()
    other.click()
    state("length")
    assert play.locator(".tree li").count() == before + 1
    assert int(play.get_attribute("data-tokens")) == 4 + 6
    code = "b = playground.branches.current\nprint(b.at, b.generation.steps[3].piece)"
    at, *said = run_in_new_cell(page, code).split(" ", 1)
    assert at == "3"
    assert said[0].strip() == piece.strip("“”").strip()
    play.scroll_into_view_if_needed()
    page.screenshot(path=tmp_path / "branched.png")

    # Inside: routing and attention of the same token.
    play.locator(".token").nth(4).click()
    page.keyboard.press("Escape")
    play.get_by_role("button", name="Routing").click()
    play.locator(".pw-routing[data-ready=true]").wait_for(timeout=60_000)
    code = "print(playground.inside.token - playground.trace.prompt_length)"
    assert run_in_new_cell(page, code) == "4"
    play.scroll_into_view_if_needed()
    play.locator(".pw-routing .token[aria-selected=true]").wait_for()
    play.screenshot(path=tmp_path / "routing.png")

    # Quick clicks through branches: no widget is closed before the page has loaded it.
    names = play.locator(".tree .name")
    assert names.count() == 3
    names.first.click()
    expect(names.first).to_have_attribute("aria-current", "true", timeout=60_000)
    for place in [*[1, 0] * 8, 2]:  # the last of them is seen only at the end
        names.nth(place).click()
    expect(names.nth(2)).to_have_attribute("aria-current", "true", timeout=60_000)
    play.locator(".pw-routing[data-ready=true]").wait_for(timeout=60_000)
    code = "import time\nwhile playground._loading or playground.inside is None:\n    time.sleep(0.05)\n"
    code += (
        "print(playground.inside.trace.token_ids.tolist() == list(playground.generation.token_ids))"
    )
    assert run_in_new_cell(page, code) == "True"  # and all others are closed
    play.scroll_into_view_if_needed()
    play.get_by_role("button", name="Attention").click()
    play.locator(".pw-attention[data-ready=true]").wait_for(timeout=60_000)
    whole = play.locator(".pw-attention").bounding_box()["width"]
    assert play.locator(".pw-attention .bar").first.bounding_box()["width"] > 0.9 * whole
    play.screenshot(path=tmp_path / "attention.png")

    # Compared with greedy, and as Python.
    play.get_by_role("button", name="Compare", exact=True).click()
    compare = play.locator(".pw-compare[data-ready=true]")
    compare.wait_for(timeout=60_000)
    compare.get_by_role("button", name="Generate all").click()
    play.locator(".pw-compare[data-state=ended]").wait_for(timeout=60_000)
    assert compare.locator(".column").count() == 2
    assert run_in_new_cell(page, "print(len(playground.inside.table()))") == "2"
    play.scroll_into_view_if_needed()
    play.screenshot(path=tmp_path / "compare.png")
    play.get_by_role("button", name="Copy as Python").click()
    code = play.get_by_label("Python code that reproduces this text")
    code.wait_for()
    copied = code.input_value()
    text = run_in_new_cell(page, "print(repr(playground.generation.text))")
    assert f"expected = {text}" in copied
    assert run_in_new_cell(page, copied + "\nprint('the same')").endswith("the same")

    # Reopened: the kernel is new, the history is there.
    page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.wait_for_function(READY, timeout=120_000)
    play.scroll_into_view_if_needed()
    play.get_by_role("button", name="Generate").click()
    play.locator(".note", has_text="this view's kernel is gone").wait_for()
    page.locator(".jp-CodeCell").first.click()
    open_and_run(page, server, "play.ipynb", "shown")
    play = page.locator(".pw-play[data-ready=true]")
    play.scroll_into_view_if_needed(timeout=60_000)
    assert play.locator(".token").count() == 0
    play.get_by_role("button", name="History").click()
    play.locator(".panel tbody tr").nth(2).wait_for()
    assert play.locator(".panel tbody tr").count() == 5  # with two of the comparison
    play.locator(".panel tbody button").nth(2).click()
    play.locator(".token").nth(9).wait_for()
    assert play.locator(".tree li").count() == 2  # the branch and what it leaves
    play.screenshot(path=tmp_path / "restored.png")
    assert run_in_new_cell(page, "print(repr(playground.generation.text))") == text
    assert run_in_new_cell(page, "print(playground.prompt, playground.max_new_tokens)") == "Add 38 and 55. 6"  # fmt: skip
    page.close()
    assert errors == []
    assert outside == []
