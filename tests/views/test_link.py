"""Linked views in Python: who follows whom, what is refused, and the page of one trace."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import workbench as wb
from tests.helpers.attention_traces import random_trace
from tests.helpers.made_up import made_up_trace
from workbench.errors import TraceError
from workbench.views import routing_heatmap
from workbench.wording import titled

TEXT = "To be, or not to be"


@pytest.fixture(scope="module")
def trace(moe):
    return moe.trace(TEXT, attention=[1, 2])


def test_a_selection_in_one_view_is_the_selection_of_all(trace):
    routing, attention = wb.RoutingView(trace, layer=2, token=3), wb.AttentionView(trace)
    heads = wb.HeadScoresView(trace)
    linked = wb.link(routing, attention, heads)
    assert (attention.layer, heads.layer, attention.token) == (2, 2, 3)  # as the first view
    attention.token = 5
    assert routing.token == 5
    heads.head = 4
    assert attention.head == 4
    routing.layer = 1
    assert (attention.layer, heads.layer) == (1, 1)
    assert repr(linked) == "Link(RoutingView, AttentionView, HeadScoresView: token, layer, head)"


def test_what_a_view_does_not_have_leaves_it_where_it_is(trace):
    routing, attention = wb.RoutingView(trace, layer=1), wb.AttentionView(trace, token=4)
    wb.link(routing, attention)
    assert routing.token == 4  # nothing was selected in the first
    routing.layer = 0  # no attention was recorded there
    assert attention.layer == 1
    routing.layer = 2
    assert attention.layer == 2


def test_an_unlinked_view_goes_its_own_way(trace):
    routing, attention = wb.RoutingView(trace, token=2), wb.AttentionView(trace)
    linked = wb.link(routing, attention)
    linked.unlink()
    routing.token = 6
    assert attention.token == 2
    linked.unlink()
    assert repr(linked) == "Link(RoutingView, AttentionView: unlinked)"


def test_views_of_the_same_text_and_model_can_be_linked_and_others_cannot(moe, dense, trace):
    view = wb.AttentionView(trace)
    wb.link(view, wb.RoutingView(moe.trace(TEXT)))
    for other in (dense.trace(TEXT), moe.trace("Another text")):
        with pytest.raises(TraceError, match=r"tokens of .* and HeadScoresView shows .* one trace"):
            wb.link(view, wb.HeadScoresView(other))
    another = moe.trace("Another text", attention=[1, 2])
    both = wb.HeadScoresView([trace, another])
    wb.link(both, view)
    with pytest.raises(TraceError, match=r"AttentionView shows .* and AttentionView shows"):
        wb.link(both, view, wb.AttentionView(another))


def test_what_cannot_be_linked_is_refused(moe, trace):
    view = wb.RoutingView(trace)
    with pytest.raises(TraceError, match="1 views; expected at least two"):
        wb.link(view)
    with pytest.raises(TraceError, match="a Playground cannot be linked"):
        wb.link(view, wb.Playground(moe))
    with pytest.raises(TraceError, match="a Trace cannot be linked"):
        wb.link(view, trace)
    with pytest.raises(TraceError, match="shows 2 texts"):
        wb.link(wb.RoutingView([made_up_trace(), made_up_trace()]), view)
    live = wb.RoutingView.live(moe, "To be", max_new_tokens=3)
    live.trace = None
    with pytest.raises(TraceError, match="not finished"):
        wb.link(live, view)
    live.stop()
    live.wait(60)


def test_the_explorer_holds_what_the_trace_has(moe, dense):
    whole = wb.Explorer(moe.trace(TEXT), token=3, layer=2, head=5)
    assert list(whole.panels) == ["Heads", "Attention", "Routing"]
    assert whole.missing == []
    assert (whole.routing.token, whole.attention.token, whole.routing.layer) == (3, 3, 2)
    assert (whole.heads.head, whole.attention.head) == (5, 5)
    whole.heads.head = 1
    whole.routing.token = 4
    assert (whole.token, whole.layer, whole.head, whole.attention.token) == (4, 2, 1, 4)
    without = wb.Explorer(dense.trace(TEXT))
    assert list(without.panels) == ["Heads", "Attention"]
    assert without.missing == [
        f"No routing: {titled(dense.name)} is a dense model without experts."
    ]
    blind = wb.Explorer(moe.trace(TEXT, attention=None), token=1)
    assert list(blind.panels) == ["Routing"]
    assert "attention=None" in blind.missing[0]
    assert (blind.routing.token, blind.heads) == (1, None)
    assert isinstance(blind.figure(), Figure)
    with pytest.raises(TraceError, match="nothing to explore"):
        wb.Explorer(dense.trace(TEXT, attention=None))


def test_the_explorer_counts_one_token(moe):
    one = wb.Explorer(moe.trace([moe.tokenizer.bos_token_id], attention=None))
    assert ", 1 token ·" in one._said.value


def test_pages_and_figures_call_a_folder_by_its_last_part(moe, dense):
    for model in (moe, dense):
        trace = model.trace(TEXT)
        trace.meta["model_name"] = "/a/private/folder/small"
        explorer = wb.Explorer(trace)
        page = explorer.to_html(layers=[0], heads=[0])
        assert "small" in page
        assert "private" not in page
        assert explorer._said.value.startswith("small, ")
        assert "Attention of small, layer" in explorer.attention.figure().get_suptitle()
        assert "of small\n" in explorer.heads.figure().axes[0].get_title()
        if trace.is_moe:
            assert "Experts of small: " in routing_heatmap(trace).axes[0].get_title()


def test_the_explorer_hides_panels_and_tells_the_selection(moe):
    explorer = wb.Explorer(moe.trace("a <b> $x$"), layer=1)
    buttons, said = explorer.children[0].children[0].children[:-1], explorer._said
    assert [button.description for button in buttons] == ["Heads", "Attention", "Routing"]
    buttons[1].value = False
    assert explorer.attention.layout.display == "none"
    assert [button.button_style for button in buttons] == ["primary", "", "primary"]
    buttons[1].value = True
    assert explorer.attention.layout.display is None
    assert buttons[1].button_style == "primary"
    explorer.token = 0
    assert "token 0 “&lt;s&gt;”, layer 1, head 0" in said.value


def test_the_explorer_refuses_what_is_not_there(moe):
    trace = moe.trace(TEXT)
    with pytest.raises(TraceError, match="token 99 is out of range; expected -1 to "):
        wb.Explorer(trace, token=99)
    with pytest.raises(TypeError, match="no setting 'expert'"):
        wb.Explorer(trace, expert=3)


def test_the_explorer_brings_a_picture_for_readers_without_kernel(moe):
    bundle = wb.Explorer(moe.trace(TEXT))._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert data["image/png"].startswith("iVBOR")
    assert "application/vnd.jupyter.widget-view+json" in data


def values_of(page):
    """Traits that each part of a page begins with."""
    shown = json.loads(re.search(r"^const PAGE = (.*);$", page, re.MULTILINE)[1])
    return [part["values"] for part in shown["parts"]]


def test_chosen_heads_need_an_attention_view(moe, trace):
    linked = wb.link(wb.HeadScoresView(trace), wb.RoutingView(trace))
    with pytest.raises(TraceError, match="an AttentionView of the page contains; there is none"):
        linked.to_html(layers=[1])
    with pytest.raises(TraceError, match="layer 7 is not recorded"):
        wb.Explorer(trace, layer=1).to_html(layers=[7])
    apart = wb.link(wb.RoutingView(trace, layer=1), wb.AttentionView(trace, layer=1))
    apart.unlink()
    values = values_of(apart.to_html(layers=[2]))
    assert [part["layer"] == 1 for part in values] == [True, False]


def test_a_page_of_views_with_other_layers_holds_what_each_has(moe, trace):
    early, late = wb.AttentionView(moe.trace(TEXT, attention=[0, 1])), wb.AttentionView(trace)
    linked = wb.link(early, late)
    asked = '{"kind": "head", "trace": 0, "layer": %d, "head": 0}'
    for layers, held in (([0], {0: 1, 1: 1}), ([0, 2], {0: 1, 2: 1}), ([1], {1: 2})):
        page = linked.to_html(layers=(layer for layer in layers), heads=[0])
        assert {n: page.count(asked % n) for n in range(3) if asked % n in page} == held
    late.head = 0
    page = linked.to_html(layers=[0], heads=(head for head in [3]))
    opened = [(part["layer"] == 0, part["head"] == 3) for part in values_of(page)]
    assert opened == [(True, True), (False, False)]  # the other one has layer 0 not at all
    with pytest.raises(TraceError, match="layer 7 is not recorded"):
        linked.to_html(layers=[0, 7])


# -- the head scores view ---------------------------------------------------------------------------


def test_the_head_scores_view_shows_the_frame_it_was_given():
    trace = random_trace(1, 20)
    scores = wb.head_scores(trace, {"odd": lambda query, key: (query - key) % 2 == 1})
    view = wb.HeadScoresView(trace, scores, score="odd")
    table = view.table()
    assert list(table) == ["layer", "head", "kv_head", "odd", "odd_chance", "tags"]
    pd.testing.assert_series_equal(
        table["odd"], scores["odd"].sort_values(ascending=False, ignore_index=True)
    )
    image = view.figure().axes[0].collections[0].get_array()
    np.testing.assert_allclose(image, scores["odd"].to_numpy().reshape(2, 6))
    view.score, view.tagged_only = "local", True
    assert len(view.table()) == scores["tags"].str.contains("local").sum()
    with pytest.raises(TraceError, match="no score 'odder'"):
        view.score = "odder"
    with pytest.raises(TraceError, match="no head 6"):
        view.head = 6


def test_the_ranking_goes_by_what_the_colours_tell():
    trace = random_trace(1, 20)
    scores = wb.head_scores(trace)
    scores["local_chance"] = np.linspace(0, 0.9, 12)
    view = wb.HeadScoresView(trace, scores, score="local", relative=True)
    above = (scores["local"] - scores["local_chance"]) / (1 - scores["local_chance"])
    order = above.sort_values(ascending=False)
    table = view.table()
    np.testing.assert_allclose(table["above_chance"], order)
    np.testing.assert_allclose(table["local"], scores["local"][order.index])
    axes, bar = view.figure().axes
    np.testing.assert_allclose(axes.collections[0].get_array().ravel(), above)
    assert bar.get_ylabel() == "local, from chance to 1"
    view.score = "mean_distance"  # without a chance level
    table = view.table()
    assert "above_chance" not in table
    assert table["mean_distance"].is_monotonic_decreasing


def test_the_figure_of_heads_says_what_its_marks_are():
    view = wb.HeadScoresView(random_trace(1, 20), layer=1, head=4)
    for score, words in (("local", "; dot: tagged"), ("mean_distance", "")):
        view.score = score
        axes, bar = view.figure().axes
        title = f"{score.replace('_', ' ')} of handmade\nframe: layer 1, head 4{words}"
        assert axes.get_title() == title
        assert bar.get_ylabel() == score.replace("_", " ")
        (frame,) = axes.patches
        assert frame.get_bbox().bounds == (4, 1, 1, 1)


def test_scores_of_other_heads_are_refused():
    trace = random_trace(1, 20)
    scores = wb.head_scores(trace)
    for wrong in (scores.head(3), scores.sort_values("local"), wb.head_scores(trace, long=True)):
        with pytest.raises(TraceError, match="not of this trace's heads"):
            wb.HeadScoresView(trace, wrong)
    for other in (random_trace(1, 21), [trace, random_trace(2, 20)]):
        scores = wb.head_scores(other)
        for view in (wb.HeadScoresView, wb.Explorer):
            with pytest.raises(TraceError, match="another text or another model"):
                view(trace, scores)
        assert wb.HeadScoresView(other, scores).scores is scores
        scores.attrs = {}  # as from a file: nothing is known
        wb.HeadScoresView(trace, scores)
