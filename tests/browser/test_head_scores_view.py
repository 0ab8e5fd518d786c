"""The heads view in a browser: its map and tables against the DataFrame, its keys and its colours."""

import numpy as np
import pytest

import workbench as wb
from tests.helpers.attention_traces import attending_to, random_trace
from workbench.views import HeadScoresView

EXPOSE = "window.model = model; widget.render("


def page_of(view) -> str:
    return view.to_html().replace("widget.render(", EXPOSE)


@pytest.fixture(scope="module")
def trace():
    ids = [0, 7, 3, 9, 4, 1, 8, 2, 6, 5] * 2
    heads = [
        lambda query, key: key == query - 1,
        lambda query, key: key == 0,
        lambda query, key: key <= query,
        lambda query, key: key == query,
    ]
    return attending_to(heads, ids)


def cells(page, selector: str) -> list[list[str]]:
    script = "(table) => [...table.tBodies[0].rows].map((r) => [...r.cells].map((c) => c.textContent))"  # fmt: skip
    return page.locator(f"{selector} table").evaluate(script)


def selection(page) -> list:
    return page.evaluate("[model.get('layer'), model.get('head')]")


def test_ranking_card_and_table_hold_the_frame(trace, watched, tmp_path):
    view = HeadScoresView(trace, head=1, score="previous_token")
    page = watched.open(page_of(view), tmp_path)
    for texts, row in zip(cells(page, ".ranking"), view.table().itertuples(), strict=True):
        assert texts[1] == f"{row.layer}.{row.head}"
        assert float(texts[2]) == pytest.approx(row.previous_token, abs=6e-4)
        assert float(texts[3]) == pytest.approx(row.previous_token_chance, abs=6e-4)
        assert texts[4] == (row.tags.replace("_", " ") or "–")
    head = view.scores.loc[1]
    for name, texts in zip(view.measures, cells(page, ".card"), strict=True):
        is_tagged = name in head["tags"].split(", ")
        assert texts[0] == name.replace("_", " ") + (" ●" if is_tagged else "")
        assert float(texts[1]) == pytest.approx(head[name], abs=0.06)
        if name in view.patterns:
            assert float(texts[3]) == pytest.approx(head[f"{name}_chance"], abs=6e-4)
    assert "mean over 19 query tokens" in page.locator(".meaning").text_content()
    said = page.locator(".meaning").text_content()
    assert "tagged if its score covers at least 50 % of the distance from chance to 1" in said
    assert "at least 10 query tokens" in said
    page.evaluate("model.set('score', 'induction')")
    assert "and lies above every shuffled text" in page.locator(".meaning").text_content()
    page.get_by_role("button", name="table", exact=True).click()
    page.get_by_role("button", name="mean distance").click()
    shown = cells(page, ".numbers")
    order = view.scores.sort_values("mean_distance", ascending=False, kind="stable")
    assert [int(row[1]) for row in shown] == order["head"].tolist()
    page.get_by_role("button", name="mean distance").click()
    assert [int(row[1]) for row in cells(page, ".numbers")] == order["head"].tolist()[::-1]


def test_the_ranking_from_chance_to_1_is_the_table(watched, tmp_path):
    trace = random_trace(4, 30, layers=3, heads=6)
    scores = wb.head_scores(trace)
    scores["local_chance"] = np.linspace(0, 0.9, 18)  # another order than that of the scores
    view = HeadScoresView(trace, scores, score="local", relative=True)
    page = watched.open(page_of(view), tmp_path)
    shown, table = cells(page, ".ranking"), view.table()
    assert not table["local"].is_monotonic_decreasing
    assert len(shown) == 10
    for texts, row in zip(shown, table.itertuples(), strict=False):
        assert texts[1] == f"{row.layer}.{row.head}"
        numbers = [row.local, row.local_chance, row.above_chance]
        assert [float(text) for text in texts[2:5]] == pytest.approx(numbers, abs=6e-4)
    page.get_by_label("relative to chance").uncheck()
    view.relative = False
    shown = cells(page, ".ranking")
    assert len(shown) == 10
    for texts, row in zip(shown, view.table().itertuples(), strict=False):
        assert [texts[1], len(texts)] == [f"{row.layer}.{row.head}", 5]


def test_too_few_query_tokens_are_why_no_head_is_tagged(watched, tmp_path):
    near = attending_to([lambda query, key: key >= query - 3], list(range(12)))
    view = HeadScoresView(near, score="local")
    page = watched.open(page_of(view), tmp_path)
    assert view.scores["local"].item() == 1
    assert "too few query tokens to tag (4; 10 are needed)" in page.locator(".ranking h4").text_content()  # fmt: skip
    page.get_by_label("tagged only").check()
    assert page.locator(".ranking p").text_content() == "No head is tagged."
    page.evaluate("model.set('score', 'previous_token')")  # of 11 query tokens
    assert "0 of 1 tagged" in page.locator(".ranking h4").text_content()


def test_a_darker_cell_is_a_higher_score(watched, tmp_path):
    trace = random_trace(4, 30, layers=3, heads=6)
    view = HeadScoresView(trace, score="own_token", layer=2, head=5)
    page = watched.open(page_of(view), tmp_path)
    pixel = """([x, y]) => [...document.querySelector('canvas').getContext('2d')
      .getImageData(x, y, 1, 1).data].slice(0, 3).reduce((a, b) => a + b)"""
    values, lights = [], []
    for row in view.scores.itertuples():
        if (row.layer, row.head) != (2, 5):  # outlined
            x = 46 + row.head * 46 + row.head // 3 * 5 + 3
            values.append(row.own_token)
            lights.append(page.evaluate(pixel, [x, 22 + row.layer * 26 + 20]))
    order = np.argsort(values)
    assert (np.diff(np.array(lights)[order]) <= 0).all()
    assert len(set(lights)) > 10


def test_click_and_keys_select_a_head(watched, tmp_path):
    trace = random_trace(4, 30, layers=3, heads=6)
    page = watched.open(page_of(HeadScoresView(trace)), tmp_path)
    box = page.locator("canvas").bounding_box()
    page.mouse.click(box["x"] + 46 + 4 * 46 + 5 + 20, box["y"] + 22 + 26 + 10)
    assert selection(page) == [1, 4]
    assert page.locator(".card h4").text_content().startswith("Layer 1, head 4")
    page.locator("canvas").focus()
    for key, expected in [("ArrowRight", [1, 5]), ("ArrowRight", [1, 5]), ("ArrowDown", [2, 5]), ("Home", [2, 0]), ("ArrowUp", [1, 0])]:  # fmt: skip
        page.keyboard.press(key)
        assert selection(page) == expected
    row = page.locator(".ranking tr[aria-current=true]")
    page.locator(".ranking button").nth(2).click()
    spot = page.locator(".ranking button").nth(2).text_content()
    assert selection(page) == [int(part) for part in spot.split(".")]
    assert row.locator("button").text_content() == spot


def test_a_click_anywhere_in_a_row_selects_its_head(trace, watched, tmp_path):
    view = HeadScoresView(trace)
    page = watched.open(page_of(view), tmp_path)
    page.get_by_role("button", name="table", exact=True).click()
    for place, column in ((2, 0), (1, 4), (0, 2)):
        spot = cells(page, ".ranking")[place][1]
        page.locator(f".ranking tbody tr:nth-child({place + 1}) td").nth(column).click()
        assert selection(page) == [int(part) for part in spot.split(".")]
    layer, head = cells(page, ".numbers")[3][:2]
    page.locator(".numbers tbody tr:nth-child(4) td").nth(6).click()
    assert selection(page) == [int(layer), int(head)]


def test_the_ranking_is_as_narrow_as_its_place(watched, tmp_path):
    trace = random_trace(1, 30)
    scores = wb.head_scores(trace)
    scores["tags"] = "previous_token, first_token, local, uniform"
    page = watched.open(page_of(HeadScoresView(trace, scores)), tmp_path)
    page.set_viewport_size({"width": 820, "height": 800})
    page.wait_for_function("document.querySelector('.pw-heads').clientWidth < 820")
    wide, shown = page.locator(".ranking .list").evaluate("(n) => [n.scrollWidth, n.clientWidth]")
    assert wide == shown


def test_a_button_that_was_used_keeps_the_focus(trace, watched, tmp_path):
    page = watched.open(page_of(HeadScoresView(trace)), tmp_path)
    page.get_by_role("button", name="table", exact=True).click()
    for selector in (".ranking button", ".numbers td button", ".numbers th button"):
        page.locator(selector).nth(2).focus()
        page.keyboard.press("Enter")
        assert page.locator(selector).nth(2).evaluate("(node) => node === document.activeElement")
    page.locator(".ranking button").nth(2).focus()
    page.evaluate("model.set('score', 'same_token'); model.set('tagged_only', true)")
    assert page.locator(".ranking button").count() == 0
    assert page.evaluate("document.activeElement.tagName") == "CANVAS"


def test_another_display_leaves_the_controls_in_place(trace, watched, tmp_path):
    html = page_of(HeadScoresView(trace)).replace(EXPOSE, "window.widget = widget; " + EXPOSE)
    page = watched.open(html, tmp_path)
    page.locator("select").first.focus()
    page.evaluate("widget.render({ model, el: document.body.appendChild(document.createElement('div')) }); true")  # fmt: skip
    page.wait_for_function("document.querySelectorAll('[data-ready=true]').length === 2")
    assert page.locator("select").first.evaluate("(node) => node === document.activeElement")


def test_sorted_rows_and_columns_put_the_best_first(watched, tmp_path):
    trace = random_trace(7, 30, layers=3, heads=6, attention_layers=[0, 2, 5])
    trace.meta["config"]["num_hidden_layers"] = 6
    view = HeadScoresView(trace, score="first_token", layer=2, head=1)
    page = watched.open(page_of(view), tmp_path)
    for name in ("layers", "heads"):
        page.locator("label", has_text=name).locator("select").select_option("score")
    box = page.locator("canvas").bounding_box()
    page.mouse.click(box["x"] + 46 + 20, box["y"] + 22 + 10)
    best = view.table().iloc[0]
    assert selection(page) == [best["layer"], best["head"]]
    page.mouse.click(box["x"] + 46 + 5 * 46 + 20, box["y"] + 22 + 26 + 10)
    layers = view.scores.groupby("layer")["first_token"].max().sort_values(ascending=False)
    second = view.scores[view.scores["layer"] == layers.index[1]]
    assert selection(page) == [layers.index[1], second.loc[second["first_token"].idxmin(), "head"]]


def test_only_tagged_heads_and_the_way_from_chance(trace, watched, tmp_path):
    page = watched.open(page_of(HeadScoresView(trace, score="first_token")), tmp_path)
    assert len(cells(page, ".ranking")) == 4
    assert "1 of 4 tagged" in page.locator(".ranking h4").text_content()
    page.get_by_label("tagged only").check()
    assert [row[1] for row in cells(page, ".ranking")] == ["0.1"]
    page.get_by_label("tagged only").uncheck()
    page.get_by_label("relative to chance").check()
    assert page.evaluate("model.get('relative')")
    order = [row[1] for row in cells(page, ".ranking")]
    assert order[0] == "0.1"
    page.locator("label", has_text="score").first.locator("select").select_option("entropy_bits")
    assert page.get_by_label("tagged only").is_disabled()
    assert cells(page, ".ranking")[0][1] == "0.2"


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_the_page_follows_light_and_dark(trace, scheme, dark, watched, tmp_path):
    watched.page.emulate_media(color_scheme=scheme)
    page = watched.open(wb.HeadScoresView(trace).to_html(), tmp_path)
    paper = "(getComputedStyle(document.querySelector('.pw-heads')).backgroundColor.match(/[0-9]+/g)).map(Number)"
    ink = paper.replace("backgroundColor", "color")
    assert (sum(page.evaluate(paper)) < sum(page.evaluate(ink))) == dark


def test_text_is_shown_as_text(watched, tmp_path):
    trace = random_trace(4, 30)
    trace.meta["model_name"] = "<img src=x>"
    scores = wb.head_scores(trace, {"<b>mine</b>": lambda query, key: key == query - 2})
    page = watched.open(HeadScoresView(trace, scores, score="<b>mine</b>").to_html(), tmp_path)
    assert page.locator(".pw-heads img, .pw-heads h4 b").count() == 0
    assert "<img src=x>" in page.locator(".title").text_content()
