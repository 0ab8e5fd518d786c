"""Static pages of the attention view, and what tests read and do in them."""

import json

import numpy as np

from workbench.views import AttentionView


def page_of(view: AttentionView, **chosen) -> str:
    """The static page, its stand-in model within the test's reach."""
    start = "widget.render("
    html = view.to_html(**chosen)
    assert html.count(start) == 1
    return html.replace(
        start, "Object.assign(window, { model, listeners, decode, widget }); " + start
    )


def settle(page) -> None:
    """Two frames, what was asked in them answered, and drawn."""
    frames = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done))))))"
    page.evaluate(frames)


def geometry(page, selector: str = "canvas.map") -> dict:
    return json.loads(page.locator(selector).get_attribute("data-geometry"))


def pixels(page, selector: str, places: list[dict]) -> np.ndarray:
    """[place, red green blue alpha] of a canvas."""
    script = """([selector, places]) => {
      const canvas = document.querySelector(selector), { width, height } = canvas;
      const all = canvas.getContext("2d").getImageData(0, 0, width, height).data;
      return places.map(({ x, y }) => [...all.slice(4 * (Math.floor(y) * width + Math.floor(x)), 4 * (Math.floor(y) * width + Math.floor(x)) + 4)]);
    }"""
    return np.array(page.evaluate(script, [selector, places]))


def pixel(page, place: dict) -> list[int]:
    return pixels(page, "canvas.map", [place])[0].tolist()


def spots(page, weights: list[tuple[int, int]]) -> list[dict]:
    """Where the middles of some weights, (row, column), are on the large map."""
    place = geometry(page)
    return [
        {
            "x": place["x"] + (column + 0.5 - place["c0"]) / place["columns"] * place["side"],
            "y": place["y"] + (row + 0.5 - place["r0"]) / place["rows"] * place["side"],
        }
        for row, column in weights
    ]


def spot(page, row: int, column: int) -> dict:
    return spots(page, [(row, column)])[0]


def head_place(page, layer: int, head: int) -> dict:
    """Where a head's small map is; layers are all recorded."""
    place = geometry(page, "canvas.heads")
    x = place["label"] + head * place["cell"] + head // place["group"] * place["gap"]
    return {"x": x + place["cell"] / 2, "y": place["top"] + (layer + 0.5) * place["cell"]}


def shown_tables(page) -> list[list[list[str]]]:
    script = "(tables) => tables.map((t) => [...t.tBodies[0].rows].map((r) => [...r.cells].map((c) => c.textContent)))"
    return page.locator(".two table").evaluate_all(script)


def share(text: str) -> float:
    return float(text.removesuffix(" %")) / 100


def closed(page, menu: str) -> list[int]:
    """Entries of a menu that cannot be chosen."""
    script = "(select) => [...select.options].filter((o) => o.disabled).map((o) => Number(o.value))"
    return page.get_by_label(menu, exact=True).evaluate(script)
