"""A routing view in a browser that is not filled yet, or of which something is missing."""

import base64

import numpy as np
import pytest

from tests.browser.routing_pages import cells, page_of, settle
from tests.helpers.made_up import made_up_trace, only_choices
from workbench.views import RoutingView


@pytest.fixture(scope="module")
def trace():
    return made_up_trace(tokens=40)


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


def test_recorded_choices_alone_say_what_is_missing(trace, watched, tmp_path):
    page = watched.open(page_of(RoutingView(only_choices(trace), token=4, expert=5)), tmp_path)
    settle(page)
    warning = page.locator(".warning:not(.problem)").text_content()
    assert warning == (
        "This trace has no router_logits, no routing_weights, no chosen_logprobs, no router_scale: "
        "choices and loads are shown, probabilities, margins and entropy, weights, surprisal are not."
    )
    assert [row[1] for row in cells(page, ".panel-token")] == [str(e) for e in trace.selected_experts[0, 4]]  # fmt: skip
    assert "no router_logits" in page.locator(".counterfactual").text_content()
    users = sum(5 in chosen for chosen in trace.selected_experts[0])
    assert f": {users} of 40 tokens" in page.locator(".card p").text_content()
    page.get_by_label("colour").select_option("entropy")
    settle(page)
    assert "no router_logits" in page.locator(".panel-tokens .row").first.text_content()


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
    assert "saved page does not hold" in page.locator(".counterfactual").text_content()
