"""What the attention view costs in Chromium, each figure beside its budget, and two other tools.

A made-up trace of 34 layers × 32 heads in 8 key–value groups is shown by the widget's own script on
a page whose model answers at once, so that what Python and the page need is timed apart. Frames are
timed without a graphics card. Beside the time that passed stands the time that the page's main thread
spent on a processor (where Linux tells it): on a busy machine the first says little. BertViz and CircuitsVis are installed into a folder of their own, for
this run alone; the scripts that BertViz takes from a CDN come from npm and are served from that
folder. Each draws the same shape at growing lengths until a page takes longer than the limit or is
larger than playwright opens safely.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from bench_routing_view import FLAGS, harnessed, line, spread
from playwright.sync_api import Browser, Error, Page, sync_playwright

from workbench.traces.trace import Trace
from workbench.views import AttentionView
from workbench.views.attention.saved_page import questions
from workbench.views.attention.selection import Selection

LAYERS, HEADS, KEY_HEADS, HEAD_DIM, TOKENS = 34, 32, 8, 128, 512
LONG = {2048: 100, 4096: 1000}  # tokens → milliseconds from a click to the map
PIECES = [" the", " of", "ing", "7", "3", " =", ",", " model", "床"]
TOOLS = ["bertviz==1.4.1", "circuitsvis==1.43.3", "importlib-metadata==8.7.0", "zipp==3.23.0"]
SCRIPTS = ["requirejs@2.3.8", "d3@5.8.0", "jquery@3.5.1"]
LARGEST = 400e6  # bytes of a page that is still opened
MORE = """
window.look = async (layer, head) => {
  await painted();
  const began = performance.now();
  model.set("layer", layer);
  model.set("head", head);
  const root = document.querySelector(".pw-attention");
  while (root.dataset.shown !== `${layer}/${head}`) await new Promise((done) => setTimeout(done));
  return (await painted()) - began;
};
window.browse = async (layers, heads) => {
  // Any head gets the numbers of one that the page holds.
  const held = answers.filter(({ asked }) => asked.kind === "head");
  const buffers = held.map((answer) => answer.buffers.map((b) => new DataView(decode(b).buffer)));
  let next = 0;
  const send = model.send;
  model.send = (question) => {
    if (question.kind !== "head") return send(question);
    const n = next++ % held.length;
    setTimeout(() => listeners["msg:custom"].forEach((call) => call({ ...held[n].content, ...question }, buffers[n])));
  };
  for (let layer = 0; layer < layers; layer++) for (let head = 0; head < heads; head++) await look(layer, head);
};
"""


def made_up_trace(layers: int, tokens: int, seed: int = 0) -> Trace:
    """Queries and keys of no model, in the shape of a 7B."""
    random = np.random.default_rng(seed)
    query = random.standard_normal((layers, tokens, HEADS, HEAD_DIM), dtype=np.float32)
    key = random.standard_normal((layers, tokens, KEY_HEADS, HEAD_DIM), dtype=np.float32)
    third = tokens // 3
    return Trace(
        {
            "token_ids": random.integers(0, 150_000, tokens).astype(np.int32),
            "query": query.astype(np.float16),
            "key": key.astype(np.float16),
        },
        {
            "model_name": "made-up",
            "config": {
                "num_hidden_layers": layers,
                "num_attention_heads": HEADS,
                "num_key_value_heads": KEY_HEADS,
            },
            "num_groups": 0,
            "attention_layers": list(range(layers)),
            "pieces": random.choice(PIECES, tokens).tolist(),
            "special_ids": [],
            "spans": [
                {"kind": kind, "start": n * third, "end": tokens if n == 2 else (n + 1) * third}
                for n, kind in enumerate(["prompt", "thinking", "answer"])
            ],
            "prompt_length": third,
        },
    )


def timed(call, rounds: int = 5) -> tuple[float, float]:
    """Median milliseconds, and the least of processor time."""
    taken, worked = [], []
    for _ in range(rounds):
        began, at_work = time.perf_counter(), time.process_time()
        call()
        taken.append(1000 * (time.perf_counter() - began))
        worked.append(1000 * (time.process_time() - at_work))
    return statistics.median(taken), min(worked)


def renderer() -> psutil.Process:
    """The browser's largest page process."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "--type=renderer" in process.cmdline():
                found.append((process.memory_info().rss, process.pid))
        except psutil.NoSuchProcess:
            continue  # ended in between
    return psutil.Process(max(found)[1])


def at_work(page: Page, script: str, arguments: object = None) -> tuple[object, float]:
    """What a script returns, and the milliseconds of its page's main thread on a processor."""
    pid = renderer().pid
    clock = Path(f"/proc/{pid}/task/{pid}/schedstat")

    def spent() -> float:
        return int(clock.read_text().split()[0]) / 1e6 if clock.exists() else float("nan")

    before = spent()
    result = page.evaluate(script, arguments)
    return result, spent() - before


def sent_at_first(view: AttentionView) -> tuple[int, str, str]:
    """Bytes of the text, one head and all small maps; times of one layer's maps, and of all."""
    total, began, at_first = 0, time.perf_counter(), time.process_time()
    layer, layer_worked = 0.0, 0.0
    for question in questions(Selection.of(view), [(view.layer, view.head)]):
        start, worked = time.perf_counter(), time.process_time()
        content, buffers = view.answer(question)
        if question["kind"] == "thumbnails" and question["layer"] == view.layer:
            layer += time.perf_counter() - start
            layer_worked += time.process_time() - worked
        total += len(json.dumps(content).encode()) + sum(map(len, buffers))
    seconds, all_worked = time.perf_counter() - began, time.process_time() - at_first
    return (
        total,
        f"{1000 * layer:.0f} ms, processor {1000 * layer_worked:.0f} ms",
        f"{seconds:.1f} s, processor {all_worked:.1f} s",
    )


def hovering(page: Page, moves: int) -> None:
    for name, selector in (("map", "canvas.map"), ("text", ".strip")):
        page.locator(selector).scroll_into_view_if_needed()
        runs = [at_work(page, "([s, n]) => hover(s, n)", [selector, moves]) for _ in range(3)]
        (work, intervals), busy = min(runs, key=lambda run: np.quantile(run[0][0], 0.95))
        if not work:
            raise RuntimeError(f"moving over {selector} drew nothing")
        _, high, text = spread(work)
        line(f"hover over {name}: work of a frame", text, "16.7 ms", high < 16.7)
        line(
            f"hover over {name}: processor time of a frame, all of it",
            f"{busy / len(work):.1f} ms",
            "16.7 ms",
            busy / len(work) < 16.7,
        )
        line(f"hover over {name}: from paint to paint", spread(intervals)[2], "60 a second")


def opened(browser: Browser, html: str, folder: Path) -> Page:
    file = folder / "page.html"
    file.write_text(html, encoding="utf-8")
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    page.goto(file.as_uri())
    page.wait_for_function("window.firstPaint !== undefined")
    return page


def ours(browser: Browser, folder: Path, moves: int, browsed: int) -> None:
    print(f"\nattention view, {LAYERS} layers x {HEADS} heads, {TOKENS} tokens")
    view = AttentionView(made_up_trace(LAYERS, TOKENS), layer=17, head=5)
    total, layer, every = sent_at_first(view)
    line("sent at first, all small maps among it", f"{total / 1e6:.2f} MB", "3 MB", total <= 3e6)
    line("Python: small maps of the selected layer", layer, "")
    line("Python: small maps of all layers, streamed", every, "")
    question = {"kind": "head", "trace": 0, "layer": 17, "head": 6}
    middle, worked = timed(lambda: view.answer(question))
    line("Python: one head", f"{middle:.1f} ms, processor {worked:.1f} ms", "")
    page = opened(browser, harnessed(view.to_html(layers=[17]), MORE), folder)
    (_, paint), busy = at_work(page, "firstPaint()")
    line("first paint after the data is there", f"{paint:.0f} ms, processor {busy:.0f} ms", "500 ms", paint < 500)  # fmt: skip
    page.wait_for_selector("[data-complete=true]")
    runs = [at_work(page, "([l, h]) => look(l, h)", [17, head]) for head in range(32) if head != 5]
    looks, busy = zip(*runs, strict=True)
    _, high, text = spread(list(looks))
    line("a head large: from the click to the paint", text, "100 ms with Python", high + middle < 100)  # fmt: skip
    line(
        "a head large: processor time of the page, median", f"{statistics.median(busy):.1f} ms", ""
    )
    hovering(page, moves)
    page.evaluate("browse(3, 32)")
    before = renderer().memory_info().rss
    page.evaluate("([layers, heads]) => browse(layers, heads)", [browsed, HEADS])
    after = renderer().memory_info().rss
    kept = int(page.locator(".pw-attention").get_attribute("data-bytes"))
    text = f"{before / 1e6:.0f}, {after / 1e6:.0f} MB"
    line(
        f"page memory after 96 heads, after {browsed * HEADS}",
        text,
        "bounded",
        after < 1.3 * before,
    )
    line("queries and keys that the page keeps", f"{kept / 1e6:.0f} MB", "48 MB", kept <= 48e6)
    page.close()


def long_text(browser: Browser, folder: Path, moves: int, tokens: int, budget: int) -> None:
    print(f"\nattention view, one head at {tokens} tokens")
    view = AttentionView(made_up_trace(1, tokens), head=5)
    question = {"kind": "head", "trace": 0, "layer": 0, "head": 6}
    middle, worked = timed(lambda: view.answer(question), 3)
    sent = sum(map(len, view.answer(question)[1]))
    html = harnessed(view.to_html(layers=[0], heads=[5, 6, 7, 8, 9, 10]), MORE)
    page = opened(browser, html, folder)
    page.evaluate("firstPaint()")
    page.wait_for_selector("[data-ready=true]")
    runs = [at_work(page, "([l, h]) => look(l, h)", [0, head]) for head in (6, 7, 8, 9, 10)]
    looks, busy = zip(*runs, strict=True)
    line(
        "Python: the head, its totals and blocks", f"{middle:.0f} ms, processor {worked:.0f} ms", ""
    )
    line("sent", f"{sent / 1e6:.2f} MB", "")
    line("page: from the click to the paint", f"{statistics.median(looks):.0f} ms, processor {min(busy):.0f} ms", f"{budget} ms with Python", statistics.median(looks) + middle < budget)  # fmt: skip
    quarter = tokens // 4
    zooms = [[n, n + quarter, n // 2, n // 2 + quarter] for n in range(quarter, 2 * quarter, 32)]
    runs = [page.evaluate("(zoom) => change({ zoom })", zoom)[0] for zoom in zooms]
    line(
        "zoom to another quarter: work of the first frame",
        spread(runs)[2],
        "16.7 ms",
        spread(runs)[0] < 16.7,
    )
    page.evaluate("change({ zoom: [] })")
    hovering(page, moves)
    page.close()


# -- the other tools ----------------------------------------------------------------------------

DRAW = {
    "bertviz": """
import json, sys, time, numpy as np, torch
from bertviz import head_view
layers, heads, tokens, out = *map(int, sys.argv[1:4]), sys.argv[4]
maps = [torch.softmax(torch.randn(1, heads, tokens, tokens).masked_fill(torch.triu(torch.ones(tokens, tokens), 1) > 0, -1e9), -1) for _ in range(layers)]
began = time.perf_counter()
html = head_view(maps, [f"t{n}" for n in range(tokens)], html_action="return").data
for far, near in (("https://cdnjs.cloudflare.com/ajax/libs/require.js/2.3.6/require.min.js", "require.js"), ("https://cdnjs.cloudflare.com/ajax/libs/d3/5.7.0/d3.min", "d3.min"), ("https://cdnjs.cloudflare.com/ajax/libs/jquery/2.0.0/jquery.min", "jquery.min")):
    assert far in html
    html = html.replace(far, near)
open(out, "w").write(html)
print(json.dumps([time.perf_counter() - began, len(html.encode())]))
""",
    "circuitsvis": """
import json, sys, time, torch
from circuitsvis.attention import attention_heads
layers, heads, tokens, out = *map(int, sys.argv[1:4]), sys.argv[4]
maps = torch.softmax(torch.randn(heads, tokens, tokens).masked_fill(torch.triu(torch.ones(tokens, tokens), 1) > 0, -1e9), -1)
began = time.perf_counter()
html = attention_heads(maps, [f"t{n}" for n in range(tokens)]).local_src
open(out, "w").write(html)
print(json.dumps([time.perf_counter() - began, len(html.encode())]))
""",
}
DRAWN = {
    "bertviz": "document.querySelectorAll('svg line, svg rect').length > 100",
    "circuitsvis": "document.querySelectorAll('canvas, img').length > 1",
}
WHAT = {
    "bertviz": f"BertViz head_view, {LAYERS} layers × {HEADS} heads in one page",
    "circuitsvis": f"CircuitsVis attention_heads, 1 layer × {HEADS} heads",
}


def install(folder: Path) -> None:
    """The tools and BertViz's scripts, into this folder only."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    subprocess.run([*pip, *TOOLS], check=True)
    npm = shutil.which("npm")
    if npm is None:
        print("  npm is not installed: BertViz cannot run offline and is left out")
        return
    for package in SCRIPTS:
        subprocess.run([npm, "pack", "--silent", package], cwd=folder, check=True, capture_output=True)  # fmt: skip
    for archive, inside in (("requirejs", "require.js"), ("d3", "dist/d3.min.js"), ("jquery", "dist/jquery.min.js")):  # fmt: skip
        file = next(folder.glob(f"{archive}-*.tgz"))
        shutil.unpack_archive(file, folder / archive)
        shutil.copyfile(folder / archive / "package" / inside, folder / Path(inside).name)


def theirs(browser: Browser, folder: Path, limit: float) -> None:
    install(folder)
    for tool in ("bertviz", "circuitsvis"):
        if tool == "bertviz" and not (folder / "d3.min.js").exists():
            continue
        print(f"\n{WHAT[tool]}")
        for tokens in (16, 32, 64, 128, 256, 512):
            file = folder / f"{tool}.html"
            command = [sys.executable, "-c", DRAW[tool], str(LAYERS), str(HEADS), str(tokens), str(file)]  # fmt: skip
            try:
                result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=4 * limit)  # fmt: skip
            except subprocess.TimeoutExpired:
                line(f"{tokens} tokens", f"Python took over {4 * limit:.0f} s", "")
                break
            if result.returncode:
                line(f"{tokens} tokens", "cannot run", result.stderr.strip().splitlines()[-1])
                break
            seconds, size = json.loads(result.stdout.splitlines()[-1])
            text = f"{size / 1e6:.1f} MB, Python {seconds:.1f} s"
            if size > LARGEST:
                line(f"{tokens} tokens", text, "page not opened")
                break
            page = browser.new_page(viewport={"width": 1100, "height": 900})
            began = time.perf_counter()
            try:
                page.goto(file.as_uri(), timeout=1000 * limit, wait_until="commit")
                page.wait_for_function(DRAWN[tool], timeout=1000 * limit)
                page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")  # fmt: skip
                nodes = page.evaluate("document.querySelectorAll('*').length")
                line(f"{tokens} tokens", text, f"drawn after {time.perf_counter() - began:.1f} s, {nodes} nodes")  # fmt: skip
            except Error as error:
                line(f"{tokens} tokens", text, f"not drawn within {limit:.0f} s ({type(error).__name__})")  # fmt: skip
                break
            finally:
                page.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moves", type=int, default=120)
    parser.add_argument("--limit", type=float, default=30, help="seconds that a page of another tool may take")  # fmt: skip
    parser.add_argument("--browsed", type=int, default=LAYERS, help="layers of which all heads are looked at")  # fmt: skip
    parser.add_argument("--alone", action="store_true", help="without the other tools")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("Chromium is not installed; this benchmark needs it.")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        ours(browser, Path(folder), options.moves, options.browsed)
        for tokens, budget in LONG.items():
            long_text(browser, Path(folder), options.moves, tokens, budget)
        if not options.alone:
            try:
                theirs(browser, Path(folder), options.limit)
            except subprocess.CalledProcessError as error:
                print(f"  BertViz and CircuitsVis could not be installed: {error}")
        browser.close()


if __name__ == "__main__":
    main()
