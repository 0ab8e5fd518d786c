"""Static pages of the routing view, and what tests read and do in them."""

import json

from workbench.views import RoutingView


def page_of(view: RoutingView) -> str:
    """The static page, its stand-in model within the test's reach."""
    start = "widget.render("
    html = view.to_html()
    assert html.count(start) == 1
    return html.replace(start, "Object.assign(window, { model, listeners, decode }); " + start)


def cells(page, selector: str) -> list[list[str]]:
    """The texts of a table's body."""
    script = "(rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"
    return page.locator(f"{selector} tbody tr").evaluate_all(script)


def beside(beyond: bool, above: bool) -> str:
    """Where a number lies beside what chance gives, as the page says it."""
    return ("above" if above else "below") if beyond else "within"


def geometry(page, selector: str) -> dict:
    return json.loads(page.locator(selector).get_attribute("data-geometry"))


def pixel(page, selector: str, x: float, y: float) -> list[int]:
    script = "([s, x, y]) => [...document.querySelector(s).getContext('2d').getImageData(x, y, 1, 1).data]"
    return page.evaluate(script, [selector, x, y])


def settle(page) -> None:
    """Two frames, and what was asked in them answered and drawn."""
    frames = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    page.evaluate(frames)
    page.wait_for_timeout(150)
    page.evaluate(frames)


def share(text: str) -> float:
    return float(text.removesuffix(" %")) / 100
