"""JupyterLab in a browser: a server of its own, and what one does in a notebook."""

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

from playwright.sync_api import Locator, Page

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
def jupyterlab(home: Path, notebooks: Path) -> Iterator[str]:
    """The address of a server that shows a folder of notebooks, its own files in `home`."""
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
        try:
            yield url
        finally:
            process.terminate()
            process.wait(30)


def command(page: Page, name: str, arguments: dict | None = None) -> None:
    script = "([name, given]) => { window.jupyterapp.commands.execute(name, given); }"
    page.evaluate(script, [name, arguments or {}])


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


def new_tokens(view: Locator) -> Locator:
    """Tokens that come from now on: those on screen belong to an earlier text."""
    mark = "tokens => tokens.forEach(token => { token.dataset.earlier = true; })"
    view.locator(".token").evaluate_all(mark)
    return view.locator(".token:not([data-earlier])")
