"""JupyterLab itself: the first notebook is opened, run and clicked, end to end."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]
QUIET = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}
READY = """() => {
  const panel = window.jupyterapp.shell.currentWidget;
  const session = panel && panel.sessionContext;
  return Boolean(session && session.isReady && session.session && session.session.kernel
    && session.session.kernel.status === "idle" && session.session.kernel.connectionStatus === "connected");
}"""

# Asked of the notebook's model: cells that are off screen have no output in the page.
FINISHED = """(words) => {
  const cells = [...window.jupyterapp.shell.currentWidget.content.model.cells];
  return cells.some((cell) => cell.type === "code"
    && JSON.stringify(cell.outputs.toJSON()).includes(words));
}"""


@contextmanager
def serving(home: Path, notebooks: Path) -> Iterator[str]:
    """The address of a JupyterLab of its own."""
    (home / "settings").mkdir(parents=True)
    (home / "settings" / "overrides.json").write_text(json.dumps(QUIET))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1"]
    command += [f"--port={port}", "--allow-root", "--IdentityProvider.token="]
    command += ["--ServerApp.disable_check_xsrf=True", "--expose-app-in-browser"]
    command += [f"--LabApp.app_settings_dir={home / 'settings'}"]
    command += [f"--ServerApp.root_dir={notebooks}"]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{url}/api", timeout=5).close()
                break
            except (urllib.error.URLError, OSError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((home / "log").read_text()[-3000:]) from error
                time.sleep(0.2)
        yield url
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("jupyter"), ROOT / "notebooks") as url:
        yield url


def command(page: Page, name: str) -> None:
    page.evaluate("(name) => { window.jupyterapp.commands.execute(name); }", name)


def open_and_run(page: Page, url: str, notebook: str, last_words: str) -> None:
    page.goto(f"{url}/lab/tree/{notebook}?reset")
    page.wait_for_function("window.jupyterapp !== undefined", timeout=120_000)
    page.wait_for_function(READY, timeout=120_000)
    command(page, "notebook:run-all-cells")
    page.wait_for_function(FINISHED, arg=last_words, timeout=240_000)


def run_in_new_cell(page: Page, code: str) -> str:
    """Insert a cell at the end, run it, and return what it prints."""
    page.evaluate(
        """(code) => {
          const panel = window.jupyterapp.shell.currentWidget;
          panel.content.activeCellIndex = panel.content.widgets.length - 1;
          window.jupyterapp.commands.execute("notebook:insert-cell-below").then(() => {
            panel.content.activeCell.model.sharedModel.setSource(code);
            window.jupyterapp.commands.execute("notebook:run-cell");
          });
        }""",
        code,
    )
    output = page.locator(".jp-CodeCell").last.locator(".jp-OutputArea-output pre").first
    output.wait_for(timeout=60_000)
    return output.text_content().strip()


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
    play.locator(".step").nth(2).hover()
    play.locator(".popover td", has_text="chosen").wait_for()
    play.screenshot(path=tmp_path / "playground.png")
    text = run_in_new_cell(page, "print(playground.generation.finish_reason)")
    assert text in ("eos", "length")

    # A model that never ends its turn: on another processor it might at the first token.
    code = "import workbench.generation\nworkbench.generation.end_ids = lambda pangu: set()\nprint('endless')"
    assert run_in_new_cell(page, code) == "endless"
    play.scroll_into_view_if_needed()
    play.get_by_label("mode").select_option("raw")
    play.get_by_label("tokens").fill("1900")
    play.locator("textarea").fill("KING.")
    play.get_by_role("button", name="Generate").click()
    page.locator(".pw-play[data-state=running] .step").nth(4).wait_for(timeout=60_000)
    play.get_by_role("button", name="Stop").click()
    page.locator(".pw-play[data-state=stopped]").wait_for(timeout=60_000)
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
    assert best.locator("td").nth(4).text_content() == "yes"
    expert = best.locator("td").first.text_content()
    best.locator("button").click()
    routing.locator(".card .beyond", has_text="beyond chance").wait_for()
    routing.screenshot(path=tmp_path / "routing.png")
    code = "print(routing.expert, routing.table('expert')['piece'].str.strip().str.isdigit().all())"
    assert run_in_new_cell(page, code) == f"{expert} True"
    code = "print(live.running, live.routing.num_tokens == live.trace.num_tokens)"
    assert run_in_new_cell(page, code) == "False True"

    code = "import workbench.generation\nworkbench.generation.end_ids = lambda pangu: set()\nprint('endless')"
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
    assert 20 < int(tokens[1]) < 1900
    assert int(growing.get_attribute("data-tokens")) == int(tokens[1])
    page.close()
    assert errors == []


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
