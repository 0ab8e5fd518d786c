"""A prompt matrix in JupyterLab: watched, stopped, rated, gone on with after a kernel restart."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.lab import READY, jupyterlab, open_and_run, run_in_new_cell

CELLS = [
    "import workbench as wb\n\npangu = wb.load('demo', bits=4)\nprint('loaded')",
    "matrix = wb.PromptMatrix('Add {{a}} and {{b}}.', {'a': ['38', '7'], 'b': ['54']},\n"
    "    settings={'greedy': wb.Sampling.greedy(), 'warm': wb.Sampling(1.0), 'hot': wb.Sampling(1.5)},\n"
    "    models=pangu, path='matrix.jsonl', max_new_tokens=40)\n"
    "view = wb.PromptMatrixView(matrix)\nview",
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
    (folder / "matrix.ipynb").write_text(json.dumps(notebook))
    (tmp_path / "home").mkdir()
    with jupyterlab(tmp_path / "home", folder) as url:
        yield url


def test_a_matrix_is_watched_rated_and_gone_on_with_after_a_restart(server, browser, tmp_path):
    page = browser.new_page(viewport={"width": 1200, "height": 1000})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    open_and_run(page, server, "matrix.ipynb", "shown")
    grid = page.locator(".pw-matrix[data-ready=true]")
    grid.scroll_into_view_if_needed(timeout=60_000)
    grid.get_by_role("button", name="Run 6 cells").click()
    page.locator(".pw-matrix .cell[data-state=done]").nth(1).wait_for(timeout=60_000)
    grid.get_by_role("button", name="Stop").click()
    page.locator(".pw-matrix[data-state=open]").wait_for(timeout=60_000)
    finished = grid.locator(".cell[data-state=done]")
    count = finished.count()
    assert 2 <= count < 6
    texts = finished.locator(".said").all_text_contents()
    finished.first.get_by_role("radio", name="4 of 5").click()
    page.wait_for_function(
        "document.querySelector('.pw-matrix thead').textContent.includes('★ 4.0')"
    )
    finished.first.click()
    grid.locator(".detail .token").first.wait_for()
    assert run_in_new_cell(page, "print(view.cell, matrix.table()['rating'].sum())") == "0 4"

    page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.wait_for_function(READY, timeout=120_000)
    page.locator(".jp-CodeCell").first.click()
    open_and_run(page, server, "matrix.ipynb", "shown")
    grid.scroll_into_view_if_needed(timeout=60_000)
    assert grid.locator(".cell[data-state=done] .said").all_text_contents() == texts
    grid.get_by_role("button", name=f"Run the {6 - count} missing cells").click()
    page.locator(".pw-matrix[data-state=done]").wait_for(timeout=60_000)
    page.screenshot(path=tmp_path / "matrix.png")
    whole = "print(matrix.table()['state'].eq('done').all(), len(open('matrix.jsonl').readlines()))"
    assert run_in_new_cell(page, whole) == "True 7"  # six cells and a rating: none ran twice
    page.close()
    assert errors == []
