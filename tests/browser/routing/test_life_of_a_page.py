"""The routing view's script in a real browser: life of a page."""

import base64

import numpy as np
import pytest

import workbench as wb
from tests.browser.routing.pages import cells, geometry, page_of, settle
from tests.helpers.made_up import attended_trace, made_up_trace
from workbench.views import AttentionView, RoutingView


def test_a_long_trace_shows_a_window_and_an_overview(watched, tmp_path):
    trace = made_up_trace(layers=2, tokens=900)
    page = watched.open(page_of(RoutingView(trace)), tmp_path)
    first = geometry(page, "canvas.map")
    assert first["from"] == 0
    assert page.locator(".token").count() == first["count"] < 900
    page.locator("canvas.map").focus()
    page.keyboard.press("End")
    settle(page)
    last = geometry(page, "canvas.map")
    assert last["from"] + last["count"] == 900
    assert page.locator(".token").all_text_contents() == trace.pieces[last["from"] :]
    page.locator("canvas.overview").scroll_into_view_if_needed()
    box = page.locator("canvas.overview").bounding_box()
    page.mouse.click(box["x"] + last["left"] + 2, box["y"] + 10)
    assert geometry(page, "canvas.map")["from"] == 0
    page.get_by_label("zoom in").click()
    assert geometry(page, "canvas.map")["count"] < first["count"]


@pytest.mark.parametrize("view", [RoutingView, AttentionView])
def test_a_page_says_that_it_comes_is_there_and_goes(view, watched, tmp_path):
    start, trace = "widget.render(", attended_trace() if view is AttentionView else made_up_trace()
    html = view(trace).to_html().replace(start, "Object.assign(window, { widget, model, listeners }); " + start)  # fmt: skip
    page = watched.open(html, tmp_path)
    said = page.evaluate(
        """() => {
          const said = [], send = (question) => said.push(question);
          const leave = widget.render({ model: { ...model, send }, el: document.createElement("div") });
          listeners["msg:custom"].forEach((call) => call({ kind: "roll" }, []));
          leave();
          return said;
        }"""
    )
    name = said[0]["page"]
    assert said == [
        {"kind": "hello", "page": name}, {"kind": "want"}, {"kind": "here", "page": name},
        {"kind": "bye", "page": name},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("view", "keys"),
    [
        (RoutingView, ["ArrowRight", "ArrowDown"]),
        (AttentionView, ["ArrowUp", "ArrowUp"]),
        (wb.HeadScoresView, ["ArrowRight", "ArrowDown"]),
    ],
)
def test_without_its_kernel_a_view_says_so_and_works_on(view, keys, watched, tmp_path):
    trace = made_up_trace() if view is RoutingView else attended_trace()
    html = view(trace).to_html().replace("widget.render(", "window.model = model; widget.render(")
    page = watched.open(html, tmp_path)
    page.evaluate("model.save_changes = () => { throw new Error('Cannot send'); }; null")
    for key in keys:
        before = page.evaluate("['token', 'layer', 'head'].map((name) => model.get(name)).join()")
        page.locator("canvas[tabindex='0']").last.press(key)
        after = page.evaluate("['token', 'layer', 'head'].map((name) => model.get(name)).join()")
        assert before != after
    assert "is gone: run its cell again" in page.get_by_role("alert").first.text_content()
    assert page.locator(".gone").count() == 1


def test_a_view_without_tokens_fills_as_they_come(trace, moe, watched, tmp_path, monkeypatch):
    view = RoutingView.live(moe, "To be", max_new_tokens=5)
    trace = view.wait(60)
    empty = RoutingView(trace)
    empty.routing.documents[0].pieces, empty.routing.documents[0].parts = [], []
    empty.routing.documents[0].spans, empty.routing.documents[0].prompt_length = [], 0
    empty.routing.documents[0].surprisal_bits = np.empty(0)
    empty.routing.__dict__.pop("_choices", None)
    page = watched.open(page_of(empty), tmp_path)
    page.evaluate("model.set('doing', 'layer 3 of 48'); null")
    told = page.locator(".pw-routing").text_content()
    assert "waiting for the first tokens…layer 3 of 48" in told
    assert page.locator(".token").count() == 0
    sent = []
    monkeypatch.setattr(empty, "send", lambda content, buffers: sent.append((content, buffers)))
    prompt = trace.prompt_length
    names = ("selected_experts", "router_logits", "routing_weights")
    for start, end in [(0, prompt), *((t, t + 1) for t in range(prompt, trace.num_tokens))]:
        part = {name: trace.arrays[name][:, start:end] for name in names}
        empty.append(trace.pieces[start:end], part, "answer" if start else "prompt")

    def tell(content, buffers):
        encoded = [base64.b64encode(buffer).decode() for buffer in buffers]
        page.evaluate(
            "([content, buffers]) => listeners['msg:custom'].forEach((call) => call(content, buffers.map((b) => new DataView(decode(b).buffer))))",
            [content, encoded],
        )

    page.evaluate("window.asked = []; const answer = model.send; model.send = (question) => { asked.push(question.kind); answer(question); }; null")  # fmt: skip
    tell(*sent[1])  # the prompt was missed
    assert page.evaluate("asked") == ["want"]
    for number, (content, buffers) in enumerate(sent):
        tell(content, buffers)
        tell(content, buffers)  # what is here already is not doubled
        page.wait_for_selector(f".pw-routing[data-tokens='{prompt + number}']")
    settle(page)
    assert page.locator(".token").all_text_contents() == trace.pieces
    page.get_by_label("table of load").click()
    shown = [int(row[3]) for row in cells(page, ".panel-load .numbers")]
    assert shown == RoutingView(trace).table("load")["count"].tolist()
    page.get_by_label("phase").select_option("decode")
    settle(page)
    assert page.locator(".token.out").count() == prompt


def test_a_running_view_can_be_stopped(trace, watched, tmp_path):
    page = watched.open(page_of(RoutingView(trace)), tmp_path)
    stop = page.get_by_role("button", name="Stop")
    assert stop.is_hidden()
    page.evaluate("window.sent = []; model.send = (question) => sent.push(question); model.set('running', true)")  # fmt: skip
    stop.click()
    assert page.evaluate("sent.at(-1)") == {"kind": "stop"}


def test_what_may_still_come_is_not_said_to_be_missing(watched, tmp_path):
    page = watched.open(page_of(RoutingView(made_up_trace(router_scale=None))), tmp_path)
    warning = page.locator(".warning:not(.problem)")
    assert warning.text_content() == "This trace has no router_scale."
    page.evaluate("model.set('running', true); null")
    warning.wait_for(state="hidden")
    page.evaluate("model.set('running', false); null")
    warning.wait_for()


def test_a_static_page_says_what_it_does_not_hold(trace, watched, tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.views.routing.messages.PAGE_BYTES", 10)
    file = tmp_path / "routing.html"
    assert RoutingView(trace, token=2, layer=1).to_html(file) is None
    html = file.read_text(encoding="utf-8")
    page = watched.open(html, tmp_path)
    settle(page)
    assert "agree" in page.locator(".counterfactual").text_content()
    page.get_by_label("layer", exact=True).select_option("2")
    settle(page)
    assert "saved page does not contain" in page.locator(".counterfactual").text_content()


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_the_page_follows_light_and_dark(trace, scheme, dark, watched, tmp_path):
    watched.page.emulate_media(color_scheme=scheme)
    page = watched.open(wb.RoutingView(trace, token=2).to_html(), tmp_path)
    settle(page)
    paper = "(getComputedStyle(document.querySelector('.pw-routing')).backgroundColor.match(/[0-9]+/g)).map(Number)"
    ink = paper.replace("backgroundColor", "color")
    assert (sum(page.evaluate(paper)) < sum(page.evaluate(ink))) == dark


def test_text_is_shown_as_text(watched, tmp_path):
    pieces = ["<b>x</b>", "</script>", "<img src=x onerror=alert(1)>", " a", "床"]
    trace = made_up_trace(tokens=5, pieces=pieces)
    page = watched.open(RoutingView({"<i>label</i>": trace, "b": trace}, expert=1).to_html(), tmp_path)  # fmt: skip
    assert page.locator(".token").all_text_contents() == pieces * 2
    assert page.locator(".pw-routing img, .strip i, .strip b").count() == 0
