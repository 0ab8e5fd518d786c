"""The comparison's page, and what it has in common with the playground's."""

import json

import pytest

from tests.browser.playground.pages import HOSTILE, step, tell


def test_columns_stream_and_what_differs_is_marked(compared):
    compared.get_by_label("prompt to compare").fill("What is 3 + 3?")
    compared.get_by_role("button", name="Generate all").click()
    assert compared.evaluate("sent.map((m) => m.kind)") == ["generate"]
    assert compared.evaluate("model.get('prompt')") == "What is 3 + 3?"
    compared.evaluate("model.set('running', true); model.set('doing', 'layer 3 of 48')")
    assert compared.get_by_role("status").text_content() == "generating · layer 3 of 48"
    for label, pieces in {"one": ["a", "b", "c"], "two": ["a", "x", "c"]}.items():
        steps = [step(piece, ord(piece)) for piece in pieces]
        tell(compared, {"kind": "steps", "label": label, "from": 0, "steps": steps, "status": {}})
    assert compared.locator(".column").nth(1).locator(".token.parts").text_content() == "x"
    assert compared.get_by_label("temperature of one").is_disabled()
    compared.keyboard.press("Escape")
    assert compared.evaluate("sent.at(-1)") == {"kind": "stop"}
    compared.evaluate("model.set('running', false)")
    tell(compared, {"kind": "marks", "error": "", "differences": {"one": [], "two": [1]}})
    assert compared.locator(".token.other").all_text_contents() == ["x"]
    assert "differs from token 1" in compared.locator(".column").nth(1).text_content()
    compared.get_by_role("button", name="compare the others with two").click()
    assert compared.evaluate("model.get('reference')") == 1
    assert compared.locator(".column").nth(0).locator(".token.parts").text_content() == "b"
    compared.get_by_role("button", name="add a column").click()
    assert "0 of 1 the same as two" in compared.get_by_role("status").text_content()  # it is empty


def test_text_that_came_late_is_its_own_token_s_in_a_column_too(compared):
    label = compared.evaluate("model.get('columns')[0].label")
    first = [step("12"), step(",", 1, text=""), step(" car", 2, text="")]
    message = {"kind": "steps", "label": label, "from": 0, "steps": first, "status": {}}
    tell(compared, message)
    mended = [step(",", 1, text="", cut=","), step(" car", 2, text="", cut=" car")]
    tell(compared, message | {"from": 1, "steps": mended})
    column = compared.locator(".column").first
    assert column.locator(".token").all_text_contents() == ["12", ",", " car"]
    assert column.locator("s").all_text_contents() == [",", " car"]
    assert column.locator(".token.quiet").count() == 0
    assert (
        column.locator(".token").last.get_attribute("title").endswith("cut off by the stop string")
    )


def test_a_column_that_ends_earlier_says_so_when_all_have_ended(compared):
    compared.evaluate("model.set('running', true)")
    for label, pieces in {"one": "abc", "two": "ab"}.items():
        steps = [step(piece, ord(piece)) for piece in pieces]
        tell(compared, {"kind": "steps", "label": label, "from": 0, "steps": steps, "status": {}})
    second = compared.locator(".column").nth(1)
    assert "the same so far" in second.text_content()
    compared.evaluate("model.set('running', false)")
    tell(compared, {"kind": "marks", "error": "", "differences": {"one": [], "two": []}})
    assert "2 tokens · the same, but ends at token 2" in second.text_content()
    assert "0 of 1 the same as one" in compared.get_by_role("status").text_content()
    compared.get_by_role("button", name="compare the others with two").click()
    assert "differs from token 2" in compared.locator(".column").nth(0).text_content()


def test_tokens_of_other_weights_are_compared_by_what_they_say_on_the_page(compared):
    texts = {"one": [("a", 1), ("<0x0A>", 2), ("b", 3)], "two": [("a", 9), ("\n", 8), ("c", 3)]}
    state = {
        "kind": "state", "models": ["m"], "defaults": {}, "before": 0, "statuses": {}, "error": "",
        "steps": {label: [step(*token) for token in tokens] for label, tokens in texts.items()},
        "weights": {"one": "f00", "two": ""}, "differences": {}, "changed": [],
    }  # fmt: skip
    tell(compared, state)
    second = compared.locator(".column").nth(1)
    assert "differs from token 2" in second.text_content()
    tell(compared, {**state, "weights": {"one": "", "two": ""}})  # two servers
    assert "differs from token 2" in second.text_content()
    tell(compared, {**state, "weights": {"one": "f00", "two": "f00"}})
    assert "differs from token 0" in second.text_content()


def test_a_text_of_earlier_settings_says_so(compared):
    for label in ("one", "two"):
        steps = [step("a")]
        tell(compared, {"kind": "steps", "label": label, "from": 0, "steps": steps, "status": {}})
    marks = {"kind": "marks", "error": "", "differences": {}, "changed": ["two"]}
    said = "settings have changed since"
    tell(compared, marks)
    columns = compared.locator(".column")
    assert [said in text for text in columns.all_text_contents()] == [False, True]
    tell(compared, {**marks, "changed": []})
    assert said not in columns.nth(1).text_content()


def test_columns_are_added_set_named_and_removed(compared):
    compared.get_by_role("button", name="add a column").click()
    warm = compared.evaluate("model.get('columns').map((column) => column.temperature)")
    assert warm == [0.6, 0.0, 0.2]  # it would say the same once more
    compared.get_by_label("label of column 3").fill("<b>hot</b>")
    compared.get_by_label("label of column 3").press("Tab")
    compared.get_by_label("temperature of <b>hot</b>").fill("1.5")
    compared.get_by_label("temperature of <b>hot</b>").press("Tab")
    columns = compared.evaluate("model.get('columns')")
    assert [column["label"] for column in columns] == ["one", "two", "<b>hot</b>"]
    assert columns[2]["temperature"] == 1.5
    compared.get_by_label("label of column 3").fill("one")  # taken
    compared.get_by_label("label of column 3").press("Tab")
    assert compared.get_by_label("label of column 3").input_value() == "<b>hot</b>"
    compared.get_by_role("button", name="remove one").click()
    labels = compared.evaluate("model.get('columns').map((column) => column.label)")
    assert labels == ["two", "<b>hot</b>"]


def test_a_column_keeps_its_text_wherever_it_stands(compared):
    for label in ("one", "two"):
        steps = [step(f"of {label}")]
        message = {"kind": "steps", "label": label, "from": 0, "steps": steps, "status": {"reason": label}}  # fmt: skip
        tell(compared, message)
    compared.get_by_role("button", name="add a column").click()
    compared.get_by_role("button", name="remove one").click()
    said = compared.locator(".said").all_text_contents()
    assert said == ["of two", ""]
    assert "two" in compared.locator(".column").nth(0).text_content()
    compared.evaluate("model.set('columns', [...model.get('columns')].reverse())")
    assert compared.locator(".said").all_text_contents() == ["", "of two"]
    tell(compared, {"kind": "steps", "label": "one", "from": 5, "steps": steps, "status": {}})
    assert compared.evaluate("sent") == []  # it is gone; nothing was missed


def test_a_click_after_an_edit_is_not_lost_and_what_cannot_be_is_put_back(compared):
    first, second = (compared.get_by_label(f"temperature of {name}") for name in ("one", "two"))
    first.fill("1.25")
    second.click()
    compared.keyboard.press("Control+a")
    compared.keyboard.type("0.5")
    compared.keyboard.press("Tab")
    columns = compared.evaluate("model.get('columns')")
    assert [column["temperature"] for column in columns] == [1.25, 0.5]
    first.fill("")
    seed = compared.get_by_label("seed")
    seed.fill("")
    seed.press("Tab")
    assert (first.input_value(), seed.input_value()) == ("1.25", "0")


@pytest.mark.parametrize("view", ["play", "compared"])
def test_a_seed_that_a_page_would_change_is_refused_in_a_sentence(view, request):
    page = request.getfixturevalue(view)
    seed, note = page.get_by_label("seed", exact=True), page.locator(".note")
    for typed in ("9007199254740991", "-9007199254740991"):
        seed.fill(typed)
        seed.press("Tab")
        assert page.evaluate("String(model.get('seed'))") == typed
        assert note.is_hidden()
    for typed in ("9007199254740993", "99999999999999999999999"):
        seed.fill(typed)
        seed.press("Tab")
        assert f"seed {typed}: this page can only handle whole numbers up to" in note.text_content()
        assert page.evaluate("String(model.get('seed'))") == "-9007199254740991"
        assert seed.input_value() == "-9007199254740991"
    seed.fill("1.5")
    seed.press("Tab")
    assert note.text_content() == "seed 1.5: expected a whole number."
    assert page.evaluate("String(model.get('seed'))") == "-9007199254740991"
    seed.fill("7")
    seed.press("Tab")
    assert page.evaluate("model.get('seed')") == 7


@pytest.mark.parametrize("view", ["play", "compared"])
def test_a_kernel_that_has_gone_is_told_of(view, request):
    page = request.getfixturevalue(view)
    page.evaluate("model.send = () => { throw new Error('Cannot send'); }; null")
    page.get_by_role("button", name="Generate").click()
    note = page.locator(".note")
    assert "is gone: run its cell again" in note.text_content()
    page.evaluate("document.querySelector('.note').textContent = ''")
    page.evaluate("model.set('running', true)")  # it had begun
    page.get_by_role("button", name="Stop").click()
    assert "is gone: run its cell again" in note.text_content()


def test_keys_generate_with_what_is_being_typed(compared):
    for label, read in {
        "seed": "model.get('seed')",
        "temperature of two": "model.get('columns')[1].temperature",
    }.items():
        compared.get_by_label(label).click()
        compared.keyboard.press("Control+a")
        compared.keyboard.type("7")
        compared.keyboard.press("Control+Enter")
        assert compared.evaluate("sent.at(-1)") == {"kind": "generate"}
        assert compared.evaluate(read) == 7


def test_a_renamed_column_keeps_its_box_with_click_and_keyboard(compared):
    message = {"kind": "steps", "label": "one", "from": 0, "steps": [step("a")], "status": {}}
    tell(compared, message)
    name = compared.get_by_label("label of column 1")
    name.fill("first")
    other = compared.get_by_role("button", name="compare the others with two").bounding_box()
    compared.mouse.move(other["x"] + 5, other["y"] + 5)
    compared.mouse.down()
    state = {"kind": "state", "models": ["demo"], "before": 0, "steps": {"first": [step("a")]}, "statuses": {}, "weights": {}, "error": "", "differences": {}, "changed": []}  # fmt: skip
    models = compared.evaluate("new Promise((done) => { model.on('msg:custom', (m) => m.kind === 'state' && done(m.models)); model.send({ kind: 'want' }); })")  # fmt: skip
    tell(compared, state | {"models": models})  # what Python answers
    compared.mouse.up()
    assert compared.evaluate("model.get('reference')") == 1
    assert compared.locator(".said").all_text_contents() == ["a", ""]
    assert compared.get_by_label("temperature of first").count() == 1
    for field, typed in ((name, "half a na"), (compared.get_by_label("temperature of two"), "0.7")):
        field.fill(typed)
        tell(compared, state | {"models": models})  # for another page
        assert field.input_value() == typed
    name.fill("again")
    name.press("Tab")
    tell(compared, state | {"models": models, "steps": {"again": [step("b")]}})
    assert compared.locator(".said").all_text_contents() == ["b", ""]
    focused = "document.activeElement.getAttribute('aria-label')"
    assert compared.evaluate(focused) == "compare the others with again"
    compared.get_by_role("button", name="remove two").focus()
    compared.keyboard.press("Enter")
    assert compared.evaluate(focused).startswith("add a column")


def test_hostile_text_is_shown_in_columns_too(compared):
    steps = [step(piece, number) for number, piece in enumerate(HOSTILE[:6])]
    tell(compared, {"kind": "steps", "label": "one", "from": 0, "steps": steps, "status": {}})
    assert compared.locator(".token").all_text_contents() == HOSTILE[:6]
    assert compared.evaluate("window.hurt") is None
    assert json.loads(compared.evaluate("JSON.stringify(sent)")) == []
    assert compared.locator("html").evaluate("(n) => n.scrollWidth - n.clientWidth") <= 0
