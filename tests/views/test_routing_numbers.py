"""The routing view's numbers are those of the measures, on grouped and on plain routing."""

import numpy as np
import pytest

import workbench as wb
from tests.helpers.traces import handmade, top_k_trace
from workbench.views import RoutingView


def grouped_trace(tokens=70, seed=4) -> wb.Trace:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(2, tokens, 12)) + random.normal(size=(2, 1, 12))
    return handmade(logits, 4, token_ids=random.integers(9, size=tokens))


@pytest.fixture(scope="module", params=[grouped_trace, top_k_trace])
def trace(request):
    return request.param()


def test_loads_are_those_of_expert_load(trace):
    mine = RoutingView(trace).table("load")
    measure = wb.expert_load(trace)
    assert (mine["count"] == measure["count"]).all()
    np.testing.assert_allclose(mine["load_ratio"], measure["load_ratio"])
    np.testing.assert_allclose(mine["share"], measure["load_share"] * trace.num_experts_per_tok)


def test_decisions_are_those_of_the_router_measures(trace):
    view = RoutingView(trace, layer=1)
    entropy = wb.router_entropy(trace).query("layer == 1")
    np.testing.assert_allclose(view.table("tokens")["entropy"], entropy["entropy"])
    margin = view.table("token").groupby(["token", view.table("token")["expert"] // (trace.num_experts // trace.num_groups)])["margin"].min()  # fmt: skip
    np.testing.assert_allclose(margin, wb.boundary_margin(trace, layer=1)["margin"])
    np.testing.assert_allclose(margin.groupby(level=0).mean(), entropy["margin"])
    overlap = view.table("token").groupby("token")["in_global_top"].mean()
    np.testing.assert_allclose(overlap, wb.grouping_tax(trace).query("layer == 1")["overlap"])


def test_partners_are_those_of_expert_coactivation(trace):
    view = RoutingView(trace, layer=1, expert=2)
    mine = view.table("partners").set_index("expert")
    measure = wb.expert_coactivation(trace, layer=1).query("expert == 2 and possible and count == count")  # fmt: skip
    measure = measure.set_index("partner")
    assert len(mine) > 5
    np.testing.assert_allclose(mine["together"], measure.loc[mine.index, "count"])
    np.testing.assert_allclose(mine["expected"], measure.loc[mine.index, "expected"])
    np.testing.assert_allclose(mine["lift"], measure.loc[mine.index, "lift"])


def test_domains_and_words_are_those_of_the_specialisation_measures():
    parts = [grouped_trace(seed=8), grouped_trace(50, seed=9)]
    view = RoutingView({"a": parts[0], "b": parts[1]}, layer=1, expert=5)
    measure = wb.domain_specialisation(parts, ["a", "b"]).query("layer == 1 and expert == 5")
    np.testing.assert_allclose(view.table("domains")["share"], measure["share"])
    view = RoutingView(parts[0], layer=1, expert=5)
    words = view.table("words").set_index("piece")
    measure = wb.expert_vocabulary(parts[0], 1, 5, minimum=2, top=None).set_index("piece")
    both = words.index.intersection(measure.index)
    assert len(both) > 3
    np.testing.assert_allclose(words.loc[both, "share"], measure.loc[both, "share"])


def test_the_router_table_holds_every_expert_before_a_token(trace):
    view = RoutingView(trace, layer=1, token=3)
    frame = view.table("router")
    np.testing.assert_allclose(frame["probability"], trace.router_probabilities(1)[3])
    assert frame.index[frame["winner"]].tolist() == sorted(trace.selected_experts[1, 3])
    assert frame["in_global_top"].sum() == trace.num_experts_per_tok
    with pytest.raises(wb.TraceError, match="'router' needs a token"):
        RoutingView(trace).table("router")
