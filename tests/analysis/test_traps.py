"""One test for each way in which published routing statistics have gone wrong."""

from itertools import combinations

import numpy as np
import pytest

import workbench as wb
from tests.helpers.traces import handmade, routed, uniform_chosen
from workbench.errors import TraceError


def test_all_28_pairs_of_eight_experts_are_counted_and_not_the_7_of_neighbouring_ranks():
    chosen = uniform_chosen(np.random.default_rng(0), 2, 13, 64, 8)
    frame = wb.expert_coactivation(routed(chosen, 64))
    per_layer = frame[frame["expert"] < frame["partner"]].groupby("layer")["count"].sum()
    assert per_layer.tolist() == [13 * 28, 13 * 28]
    one = wb.expert_coactivation(routed(chosen[:, :1], 64), layer=1)
    used = one.loc[one["count"] == 1, ["expert", "partner"]]
    assert {tuple(sorted(row)) for row in used.to_numpy().tolist()} == set(
        combinations(chosen[1, 0].tolist(), 2)
    )


def test_transitions_pair_all_ranks_and_not_equal_ones_only():
    chosen = uniform_chosen(np.random.default_rng(1), 3, 11, 64, 8)
    frame = wb.expert_transitions(routed(chosen, 64), "counted")
    assert frame.groupby("layer")["amount"].sum().tolist() == [11 * 64, 11 * 64]
    one = wb.expert_transitions(routed(chosen[:, :1], 64), "weighted", layer=0)
    seen = one.loc[one["amount"] > 0, ["expert", "next_expert"]].to_numpy().tolist()
    assert sorted(map(tuple, seen)) == [(a, b) for a in chosen[0, 0] for b in chosen[1, 0]]
    assert one["pairs"].unique().tolist() == ["weighted"]


def test_words_seen_once_do_not_make_an_expert_specialised():
    random = np.random.default_rng(2)
    once = routed(uniform_chosen(random, 1, 90, 12, 4), 12, np.arange(1000, 1090))
    with pytest.raises(TraceError, match="no token occurs 10 times"):
        wb.vocabulary_specialisation(once)
    with pytest.raises(TraceError, match="expected 2 or more"):
        wb.vocabulary_specialisation(once, minimum=1)
    often = routed(uniform_chosen(random, 1, 300, 12, 4), 12, random.integers(10, size=300))
    alone, both = (wb.vocabulary_specialisation(traces) for traces in ([often], [often, once]))
    np.testing.assert_allclose(both["raw"], alone["raw"])
    assert both["left_out"].iloc[0] == pytest.approx(90 / 390)
    assert both["specialisation"].abs().max() < 0.05


def test_an_expert_number_is_never_added_over_layers():
    chosen = np.zeros((2, 20, 2), dtype=int)
    chosen[..., 1] = 3
    chosen[0, :, 0], chosen[1, :, 0] = 1, 2  # expert 1 in layer 0, another in layer 1
    traces = [routed(chosen, 6)] * 6
    for frame in (
        wb.expert_load(traces),
        wb.vocabulary_specialisation([routed(chosen, 6, np.zeros(20))]),
    ):
        table = frame.set_index(["layer", "expert"])["count"]
        assert table.index.is_unique
        assert table[0, 1] > 0 == table[1, 1]
        assert table[1, 2] > 0 == table[0, 2]
    # a preference in one layer and its opposite in the next must not cancel
    other = chosen.copy()
    other[0, :, 0], other[1, :, 0] = 2, 1
    domains = wb.domain_specialisation([*traces, *[routed(other, 6)] * 6], list("a" * 6 + "b" * 6))
    lift = domains.set_index(["layer", "expert", "domain"])["lift"]
    assert lift[0, 1, "a"] > 0.9
    assert lift[1, 1, "a"] < -2


def test_few_tokens_leave_experts_unused_that_are_not_dead():
    random = np.random.default_rng(3)
    few = [routed(uniform_chosen(random, 1, 8, 64, 8), 64) for _ in range(30)]
    frames = [wb.never_used(trace) for trace in few]
    assert np.mean([frame["unused_share"] for frame in frames]) == pytest.approx(0.344, abs=0.02)
    assert frames[0]["unused_share_by_chance"][0] == pytest.approx((7 / 8) ** 8)
    assert not any(frame["enough"].any() for frame in frames)
    assert np.mean([frame["p_value"] > 0.05 for frame in frames]) > 0.85
    assert not wb.expert_load(few[0])["enough"].any()
    many = uniform_chosen(random, 1, 400, 64, 8)
    many[many == 13] = 12  # one expert that is really never used
    dead = wb.never_used(routed(many, 64))
    assert dead["unused"].tolist() == [1]
    assert dead["enough"].all()
    assert dead["p_value"][0] < 1e-6


def test_equal_group_loads_are_by_construction_and_no_finding():
    skewed = np.tile([0, 8, 16], (1, 48, 1))  # always the same expert of each of 3 groups
    trace = routed(skewed, 24)
    assert not {"count", "load_share", "load_ratio"} & set(wb.group_profile(trace).columns)
    frame = wb.imbalance_score(trace, draws=200).set_index("routing")
    assert frame.loc["grouped", "mean"] == 0
    assert frame["by_construction"].to_dict() == {
        "grouped": True,
        "global_top_k": False,
        "uniform": False,
    }
    assert frame.loc["uniform", "mean"] > 0.2
    # what can be a finding shows: a third of the experts carries all
    balance = wb.load_balance(trace).set_index("measure")
    assert balance.loc["effective_experts", "value"] == pytest.approx(3)
    assert balance.loc["max_violation", "value"] > balance.loc["max_violation", "chance_95"]


def test_experts_of_one_group_are_impossible_together_and_not_rare():
    frame = wb.expert_coactivation(
        routed(uniform_chosen(np.random.default_rng(4), 1, 50, 12, 4), 12)
    )
    same = frame["group"] == frame["partner_group"]
    assert frame.loc[same, ["count", "probability", "lift"]].isna().all(axis=None)
    assert not frame.loc[same, "possible"].any()
    assert not frame.loc[same, "enough"].any()
    assert frame.loc[~same, "lift"].notna().all()


def test_a_token_s_entropy_and_a_layer_s_load_entropy_are_two_numbers():
    logits = np.zeros((1, 60, 6))
    logits[0, np.arange(60), np.arange(60) % 3] = 40  # certain, and evenly spread in group 0
    logits[0, :, 3:] -= 40
    logits[0, np.arange(60), 3 + np.arange(60) % 3] += 5
    trace = handmade(logits, 2)
    assert wb.router_entropy(trace)["entropy"].max() < 1e-9
    balance = wb.load_balance(trace).set_index("measure")
    assert balance.loc["load_entropy", "value"] == pytest.approx(1)


def test_intervals_are_over_documents_and_not_over_tokens():
    a, b = np.tile([0, 3], (1, 500, 1)), np.tile([1, 4], (1, 500, 1))
    divided = wb.expert_load([routed(chosen, 6) for chosen in (a, b) * 4])
    row = divided.set_index("expert").loc[0]
    assert row["load_ratio_high"] - row["load_ratio_low"] > 1  # 4,000 tokens, yet 8 documents
    same = wb.expert_load([routed(a, 6)] * 8).set_index("expert").loc[0]
    assert same["load_ratio_low"] == same["load_ratio_high"] == pytest.approx(3)
    assert wb.expert_load([routed(a, 6)] * 4)["load_ratio_low"].isna().all()
