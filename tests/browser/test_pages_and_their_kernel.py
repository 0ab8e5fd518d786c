"""What the page of any view tells its kernel, and how it works on without one."""

import pytest

import workbench as wb
from tests.helpers.made_up import attended_trace, made_up_trace
from workbench.views import AttentionView, RoutingView


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
    assert "has gone: run its cell again" in page.get_by_role("alert").first.text_content()
    assert page.locator(".gone").count() == 1
