"""The attention view in JupyterLab: scrolling, two views, dark theme, keys, a reopened notebook."""

import json

import pytest

from tests.browser.lab import FINISHED, READY, command, jupyterlab, open_and_run, run_in_new_cell
from tests.helpers.made_up import attended_trace

CODE = [
    "import workbench as wb\n"
    "trace = wb.Trace.load('made-up.trace')\n"
    "first = wb.AttentionView(trace, layer=1, head=2, token=9)\n"
    "first",
    "second = wb.AttentionView(trace, layer=2, head=4)\nsecond",
]
BUSY = """
from pathlib import Path
from time import sleep
while not Path("go").exists():
    sleep(0.05)
print("all ran")
"""
INK = """(view) => {
  const canvas = view.querySelector("canvas.map"), { width, height } = canvas;
  if (!width || !height) return 0;
  const all = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  return all.reduce((sum, value, n) => sum + (n % 4 === 3 && value > 0 ? 1 : 0), 0);
}"""
PAPER = """(view) => getComputedStyle(view).backgroundColor.match(/[0-9]+/g).slice(0, 3)
  .reduce((sum, value) => sum + Number(value), 0)"""


def cell(kind: str, source: str) -> dict:
    extra = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "metadata": {}, "source": source, **extra}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    attended_trace(tokens=40).save(folder / "made-up.trace")
    tall = [cell("markdown", "\n\n".join(["a line"] * 40)) for _ in range(12)]
    cells = [cell("code", CODE[0]), *tall, cell("code", CODE[1]), cell("code", "print('all ran')")]
    both = [CODE[0], "wb.HeadScoresView(trace)", "print('all ran')"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    books = {"views": cells, "keys": both, "busy": [CODE[0], BUSY]}
    for name, content in books.items():
        content = [cell("code", given) if isinstance(given, str) else given for given in content]
        book = {"cells": content, "metadata": kernel, "nbformat": 4, "nbformat_minor": 4}
        (folder / f"{name}.ipynb").write_text(json.dumps(book), encoding="utf-8")
    return folder


def test_a_notebook_of_two_views_scrolls_darkens_and_is_saved(folder, browser, tmp_path):
    with jupyterlab(tmp_path / "home", folder) as url:
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        open_and_run(page, url, "views.ipynb", "all ran")
        first = page.locator(".pw-attention[data-shown='1/2']")
        second = page.locator(".pw-attention[data-shown='2/4']")
        first.scroll_into_view_if_needed(timeout=60_000)
        first.locator("canvas.map").wait_for()
        ink = first.evaluate(INK)
        assert ink > 10_000

        # Keys reach the view and not the notebook.
        first.locator("canvas.map").focus()
        for key in ("ArrowDown", "ArrowDown", "p", "ArrowUp"):
            page.keyboard.press(key)
        page.locator(".pw-attention[data-shown='1/2'][data-token='10']").wait_for()
        assert page.locator(".jp-Notebook.jp-mod-commandMode").count() <= 1
        first.screenshot(path=tmp_path / "light.png")

        # Away and back: two views, each with its own selection.
        second.scroll_into_view_if_needed(timeout=60_000)
        assert second.evaluate(INK) > 10_000
        second.locator(".token").nth(20).click()
        page.locator(".pw-attention[data-shown='2/4'][data-token='20']").wait_for()
        page.evaluate(
            "() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 0; }"
        )
        page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.scrollToItem(0); }")
        first.scroll_into_view_if_needed(timeout=60_000)
        page.wait_for_function(f"({INK})(document.querySelector(\".pw-attention[data-shown='1/2']\")) > 10000")  # fmt: skip
        assert first.get_attribute("data-token") == "10"

        # The dark theme, and half the width: what 200 % leaves.
        page.evaluate("() => { window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' }); }")  # fmt: skip
        page.locator("body[data-jp-theme-light=false]").wait_for(state="attached")
        page.wait_for_function(f"({PAPER})(document.querySelector('.pw-attention')) < 300")
        first.screenshot(path=tmp_path / "dark.png")
        page.set_viewport_size({"width": 650, "height": 450})
        box = first.bounding_box()
        page.wait_for_function("document.querySelector('.pw-attention canvas.map').getBoundingClientRect().width < 620")  # fmt: skip
        assert box["x"] + box["width"] <= 650
        first.screenshot(path=tmp_path / "narrow.png")
        page.set_viewport_size({"width": 1300, "height": 900})
        told = run_in_new_cell(page, "print(first.token, first.pins, second.token, second.layer)")
        assert told == "10 [11] 20 2"

        # Saved: a picture for readers without kernel, and little data; reopened and run: alive again.
        command(page, "docmanager:save")
        page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")
        text = (folder / "views.ipynb").read_text(encoding="utf-8")
        pictures = [
            output["data"]["image/png"]
            for found in json.loads(text)["cells"]
            for output in found.get("outputs", [])
            if "application/vnd.jupyter.widget-view+json" in output.get("data", {})
        ]
        assert len(pictures) == 2
        assert all(picture.startswith("iVBOR") for picture in pictures)
        assert len(text) < 300_000
        open_and_run(page, url, "views.ipynb", "image/png")
        first.scroll_into_view_if_needed(timeout=60_000)
        page.wait_for_function(f"({INK})(document.querySelector(\".pw-attention[data-shown='1/2']\")) > 10000")  # fmt: skip
        page.close()
    assert errors == []


def test_a_view_answers_while_another_cell_runs(folder, browser, tmp_path):
    with jupyterlab(tmp_path / "home", folder) as url:
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.goto(f"{url}/lab/tree/busy.ipynb?reset")
        page.wait_for_function("window.jupyterapp !== undefined", timeout=120_000)
        page.wait_for_function(READY, timeout=120_000)
        command(page, "notebook:run-all-cells")
        try:
            view = page.locator(".pw-attention[data-shown='1/2']")
            view.wait_for(timeout=60_000)
            view.get_by_label("head", exact=True).select_option("4")
            page.locator(".pw-attention[data-shown='1/4']").wait_for(timeout=30_000)
            assert not page.evaluate(FINISHED, "all ran")
        finally:
            (folder / "go").touch()
        page.wait_for_function(FINISHED, arg="all ran", timeout=60_000)
        assert run_in_new_cell(page, "print(first.layer, first.head)") == "1 4"
        page.close()


def test_no_key_in_a_view_is_a_command_of_the_notebook(folder, browser, tmp_path):
    notebook = """() => {
      const { content } = window.jupyterapp.shell.currentWidget;
      return JSON.stringify([content.activeCellIndex, content.mode, content.widgets.map((cell) => cell.model.type)]);
    }"""
    with jupyterlab(tmp_path / "home", folder) as url:
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        open_and_run(page, url, "keys.ipynb", "all ran")
        for kind, controls in ((".pw-attention", 20), (".pw-heads", 12)):
            view = page.locator(f"{kind}[data-ready=true]")
            view.scroll_into_view_if_needed(timeout=60_000)
            view.locator("canvas").first.click()
            before = page.evaluate(notebook)
            assert "command" in before
            focusable = view.locator("select:visible, button:visible, input:visible, [tabindex]:visible")  # fmt: skip
            count = focusable.count()
            assert count >= controls
            for place in range(count):
                focusable.nth(place).focus()
                for key in ("a", "b", "m", "j", "d", "d", "ArrowDown", "ArrowUp"):
                    page.keyboard.press(key)
                told = focusable.nth(place).evaluate("(node) => node.outerHTML.slice(0, 90)")
                assert page.evaluate(notebook) == before, told
        page.close()
