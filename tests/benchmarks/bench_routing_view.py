"""What the routing view costs in Chromium, each figure beside its budget.

A made-up trace of 48 layers, 64 experts in 8 groups and 4,096 tokens is shown by the widget's own
script on a page whose model answers at once, so that nothing but the page's work is timed. Times
are medians and 95 % quantiles without a graphics card, of hovering the best of three runs, because
other work on the machine only ever adds time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

from workbench.traces.trace import Trace
from workbench.views import RoutingView

LAYERS, TOKENS, EXPERTS, GROUPS = 48, 4096, 64, 8
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
RECOUNT = 'if (has("all", "filter")) recount();'
TIMED = """if (has("all", "filter")) {
  const began = performance.now();
  recount();
  (window.recounts ||= []).push(performance.now() - began);
}"""
HARNESS = """
window.callbacks = [];
const plainFrame = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = (call) => plainFrame((time) => {
  const began = performance.now();
  call(time);
  document.body.offsetHeight;  // style and layout belong to the frame
  window.callbacks.push(performance.now() - began);
});
const painted = () => new Promise((done) => plainFrame(() => {
  const channel = new MessageChannel();
  channel.port1.onmessage = () => done(performance.now());
  channel.port2.postMessage(0);
}));
const ready = new Map(answers.map(({ asked, content, buffers }) =>
  [JSON.stringify(asked), [content, buffers.map((b) => new DataView(decode(b).buffer))]]));
const tell = (question) => {
  const found = ready.get(JSON.stringify(question)) || [{ kind: "absent", asked: question }, []];
  (listeners["msg:custom"] || []).forEach((call) => call(...found));
};
model.send = (question) => { if (question.kind !== "want") setTimeout(() => tell(question)); };
widget.render({ model, el: document.getElementById("view") });
window.firstPaint = async () => {
  await painted();
  const began = performance.now();
  tell({ kind: "want" });
  const script = performance.now() - began;
  return [script, (await painted()) - began];
};
window.change = async (values) => {
  await painted();
  window.callbacks = [];
  const began = performance.now();
  for (const [name, value] of Object.entries(values)) model.set(name, value);
  const end = await painted();
  return [Math.max(...window.callbacks), end - began];
};
window.hover = async (selector, moves) => {
  const box = document.querySelector(selector).getBoundingClientRect();
  window.callbacks = [];
  const intervals = [];
  let last = await painted();
  for (let move = 0; move < moves; move++) {
    const x = box.left + box.width * (0.1 + (0.85 * ((move * 37) % moves)) / moves);
    const y = box.top + box.height * (0.05 + (0.6 * ((move * 17) % moves)) / moves);
    const target = document.elementFromPoint(x, y);
    target.dispatchEvent(new PointerEvent("pointermove", { clientX: x, clientY: y, bubbles: true }));
    const now = await painted();
    intervals.push(now - last);
    last = now;
  }
  return [window.callbacks, intervals];
};
"""


def made_up_trace(seed: int = 0) -> Trace:
    """Skewed routing without a model: every expert has its own liking in every layer."""
    random = np.random.default_rng(seed)
    logits = random.standard_normal((LAYERS, TOKENS, EXPERTS)).astype(np.float16)
    logits += random.standard_normal((LAYERS, 1, EXPERTS)).astype(np.float16)
    size = EXPERTS // GROUPS
    within = logits.reshape(LAYERS, TOKENS, GROUPS, size).argmax(-1)
    chosen = (within + np.arange(GROUPS) * size).astype(np.uint8)
    words = np.array([" the", " of", "ing", "7", "3", " =", ",", " model", "床"])
    third = TOKENS // 3
    return Trace(
        {
            "token_ids": random.integers(0, 150_000, TOKENS).astype(np.int32),
            "router_logits": logits,
            "selected_experts": chosen,
            "routing_weights": random.random((LAYERS, TOKENS, GROUPS), dtype=np.float32),
            "chosen_logprobs": -random.exponential(2, TOKENS).astype(np.float32),
        },
        {
            "model_name": "made-up",
            "config": {"num_hidden_layers": LAYERS, "num_experts": EXPERTS},
            "num_groups": GROUPS,
            "router_scale": random.random((LAYERS, EXPERTS)).tolist(),
            "pieces": random.choice(words, TOKENS).tolist(),
            "spans": [
                {"kind": kind, "start": n * third, "end": TOKENS if n == 2 else (n + 1) * third}
                for n, kind in enumerate(["prompt", "thinking", "answer"])
            ],
            "prompt_length": third,
        },
    )


def harnessed(html: str, more: str = "") -> str:
    """A static page with the harness, and more, in place of its own start."""
    start = 'widget.render({ model, el: document.getElementById("view") });'
    made = "const { model, listeners } = standIn("
    kept = "const { model, listeners, answers } = ((values, answers) => ({ ...standIn(values, answers), answers }))("  # fmt: skip
    if html.count(start) != 1 or html.count(made) != 1:
        raise RuntimeError("the static page does not start its widget as expected")
    return html.replace(made, kept).replace(start, HARNESS + more)


def line(what: str, value: str, budget: str, good: bool | None = None) -> None:
    """One row of the report."""
    verdict = "" if good is None else ("within" if good else "BEYOND")
    print(f"  {what:<58} {value:>26}   {budget:<22} {verdict}")


def spread(values: list[float]) -> tuple[float, float, str]:
    """Median, 95 % quantile, and both as text."""
    middle, high = statistics.median(values), float(np.quantile(values, 0.95))
    return middle, high, f"{middle:.1f} ms, 95 % {high:.1f} ms"


def measure(page: Page, rounds: int, moves: int) -> None:
    """Everything that happens after the data is there."""
    script, paint = page.evaluate("firstPaint()")
    page.wait_for_selector("[data-ready=true]")
    line("first paint after the data is there", f"{paint:.0f} ms (script {script:.0f} ms)", "300 ms", paint < 300)  # fmt: skip
    page.wait_for_timeout(500)
    filters = [{"span": "answer"}, {"span": "all", "search": "/[0-9]/"}, {"search": "", "phase": "decode"}, {"phase": "all"}, {"compare": "others", "span": "thinking"}, {"compare": "uniform", "span": "all"}]  # fmt: skip
    works, totals = [], []
    for _ in range(rounds):
        for values in filters:
            work, total = page.evaluate("(values) => change(values)", values)
            works.append(work)
            totals.append(total)
    counted = page.evaluate("recounts")
    if len(counted) < len(works):
        raise RuntimeError("a changed filter counted nothing")
    middle, _, text = spread(counted[-len(works) :])
    line("changed filter: recount", text, "20 ms", middle < 20)
    line("changed filter: recount and redraw of all panels", spread(works)[2], "")
    line("changed filter: until it is painted", spread(totals)[2], "")
    page.evaluate("change({ layer: 3, expert: 17 })")
    page.wait_for_timeout(300)
    for name, selector in (("map", "canvas.map"), ("load", "canvas.load"), ("tokens", ".strip")):
        page.locator(selector).scroll_into_view_if_needed()
        runs = [page.evaluate("([s, n]) => hover(s, n)", [selector, moves]) for _ in range(3)]
        work, intervals = min(runs, key=lambda run: np.quantile(run[0], 0.95))
        if not work:
            raise RuntimeError(f"moving over {selector} drew nothing")
        _, high, text = spread(work)
        line(
            f"hover over {name}: work of a frame ({len(work)} frames)", text, "16.7 ms", high < 16.7
        )
        line(f"hover over {name}: from paint to paint", spread(intervals)[2], "60 a second")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--moves", type=int, default=200)
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("Chromium is not installed; this benchmark needs it.")
    view = RoutingView(made_up_trace())
    content, buffers = view.answer({"kind": "want"})
    sent = len(json.dumps(content).encode()) + sum(map(len, buffers))
    print(f"\nrouting view, {LAYERS} layers x {EXPERTS} experts x {TOKENS} tokens, in Chromium")
    line("sent at first", f"{sent / 1e6:.2f} MB", "2 MB", sent <= 2e6)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "page.html"
        html = harnessed(view.to_html())
        if html.count(RECOUNT) != 1:
            raise RuntimeError("the widget's script does not recount where expected")
        file.write_text(html.replace(RECOUNT, TIMED), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(file.as_uri())
        page.wait_for_function("window.firstPaint !== undefined")
        measure(page, options.rounds, options.moves)
        browser.close()
    if errors:
        raise SystemExit("\n".join(errors))


if __name__ == "__main__":
    main()
