"""Chance levels: closed forms, enumeration, the paper's figure, and nulls near zero."""

from itertools import combinations, product

import numpy as np
import pytest

import workbench as wb
from tests.helpers.traces import random_traces, routed, uniform_chosen
from workbench.analysis import statistics


@pytest.fixture(scope="module")
def independent():
    """Twelve documents whose routing is uniform and knows nothing of token or layer."""
    random = np.random.default_rng(11)
    return [
        routed(uniform_chosen(random, 2, 150, 12, 4), 12, random.integers(8, size=150))
        for _ in range(12)
    ]


def test_the_paper_s_figure_of_plain_top_8_comes_out():
    frame = wb.uniform_imbalance()
    mean = (frame["score"] * frame["probability"]).sum()
    assert mean == pytest.approx(0.670, abs=0.005)
    top = frame.loc[frame["probability"].idxmax()]
    assert top["score"] in (0.5625, 0.625, 0.6875)
    at_mode = frame.loc[frame["score"] == 0.625, "probability"].item()
    assert at_mode == pytest.approx(0.126, abs=0.01)
    inside = frame["score"].between(0.375, 1.0)
    assert frame.loc[inside, "probability"].sum() == pytest.approx(0.93, abs=0.01)
    assert frame["probability"].sum() == pytest.approx(1)


@pytest.mark.parametrize(("experts", "groups", "slots", "tokens"), [(4, 2, 2, 3), (5, 1, 2, 2)])
def test_unused_experts_by_chance_equal_an_enumeration(experts, groups, slots, tokens):
    size = experts // groups
    of_group = list(combinations(range(size), slots // groups))
    choices = [
        {group * size + member for group, part in enumerate(parts) for member in part}
        for parts in product(of_group, repeat=groups)
    ]
    found = np.zeros(experts + 1)
    for text in product(choices, repeat=tokens):
        found[experts - len(set().union(*text))] += 1
    chance = statistics.unused_by_chance(experts, groups, slots, tokens)
    np.testing.assert_allclose(chance, found / found.sum(), atol=1e-12)
    mean = (np.arange(experts + 1) * chance).sum() / experts
    assert mean == pytest.approx((1 - slots / experts) ** tokens)


def test_overlap_of_two_choices_by_chance_equals_an_enumeration():
    choices = [{a, 3 + b} for a, b in product(range(3), range(3))]
    found = np.zeros(3)
    for first, second in product(choices, choices):
        found[len(first & second)] += 1
    np.testing.assert_allclose(statistics.overlap_by_chance(6, 2, 2), found / found.sum())


def test_uniform_routing_meets_its_chance_levels(independent):
    profile = wb.router_profile(independent).set_index(["layer", "measure"])
    for layer in range(2):
        row = profile.loc[layer, "churn"]
        assert row["low"] - 0.01 < row["chance"] < row["high"] + 0.01
    assert wb.expert_load(independent)["load_ratio"].between(0.85, 1.15).all()
    balance = wb.load_balance(independent).set_index(["layer", "measure"])
    for measure in ("gini", "variation", "max_violation"):
        assert balance.loc[(0, measure), "value"] < 1.3 * balance.loc[(0, measure), "chance_95"]
        assert balance.loc[(0, measure), "value"] > 0.5 * balance.loc[(0, measure), "chance"]


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_loads_by_chance_are_as_uneven_as_those_of_tokens_drawn_one_by_one(groups):
    experts, slots, tokens, draws = 64, 8, 256, 400
    claimed = statistics.variation(statistics.uniform_loads(experts, groups, slots, tokens, draws))
    size = experts // groups
    chosen = statistics.uniform_choices(size, slots // groups, (draws, tokens, groups), seed=1)
    chosen = chosen + size * np.arange(groups)[:, None]
    loads = np.stack([np.bincount(part.ravel(), minlength=experts) for part in chosen])
    drawn = statistics.variation(loads)
    assert claimed.mean() == pytest.approx(drawn.mean(), rel=0.02)
    assert np.quantile(claimed, 0.95) == pytest.approx(np.quantile(drawn, 0.95), rel=0.03)


def test_the_global_choice_of_unordered_experts_overlaps_by_its_chance_level():
    traces = random_traces(0, [400, 300], layers=1, experts=64, groups=8)
    tax = wb.grouping_tax(traces)
    assert tax["overlap_by_chance"].unique() == pytest.approx([0.679], abs=0.001)
    assert tax["overlap"].mean() == pytest.approx(0.679, abs=0.015)
    assert (tax["mass_lost"] >= -1e-12).all()


def test_domains_drawn_at_random_show_no_divergence_and_no_lift(independent):
    labels = list("abc" * 4)
    divergence = wb.domain_divergence(independent, labels)
    assert (divergence["p_value"] > 0.02).all()
    assert (divergence["divergence_bits"] < 2 * divergence["shuffled_bits"]).all()
    lift = wb.domain_specialisation(independent[:], labels)["lift"]
    assert lift.abs().max() < 0.3
    assert abs(lift.mean()) < 0.01


def test_intervals_of_shares_hold_the_truth_about_as_often_as_they_say():
    random = np.random.default_rng(5)
    traces = [routed(uniform_chosen(random, 3, 60, 24, 4), 24) for _ in range(40)]
    frame = wb.domain_specialisation(traces, ["a"] * 20 + ["b"] * 20)
    inside = (frame["share_low"] <= 1 / 6) & (frame["share_high"] >= 1 / 6)
    assert 0.85 < inside.mean() < 0.99
    around = (frame["lift_low"] <= 0) & (frame["lift_high"] >= 0)
    assert 0.85 < around.mean() < 0.99


def test_a_domain_of_few_documents_has_no_interval_and_takes_none_from_another(independent):
    frame = wb.domain_specialisation(independent, list("aaaaaaaaaabb"))
    few = frame["domain"] == "b"
    assert frame.loc[few, "share_low"].isna().all()
    assert (frame.loc[~few, "share_low"] < frame.loc[~few, "share_high"]).all()
    assert frame["lift_low"].isna().all()  # a lift compares with every domain


def test_experts_that_know_no_tokens_are_not_specialised(independent):
    frame = wb.vocabulary_specialisation(independent)
    assert frame["specialisation"].abs().max() < 0.01
    assert (frame["raw"] > 0.3).all()  # the load share, a third: raw alone would look like much


def test_the_shuffled_value_is_the_mean_of_shuffles():
    trace = random_traces(4, [60], layers=1, types=4)[0]
    expected = wb.vocabulary_specialisation(trace, minimum=2)["shuffled"]
    random = np.random.default_rng(0)
    found = []
    for _ in range(1500):
        trace.arrays["token_ids"] = random.permutation(trace.token_ids)
        found.append(wb.vocabulary_specialisation(trace, minimum=2)["raw"])
    np.testing.assert_allclose(np.mean(found, axis=0), expected, atol=0.003)


def test_an_expert_of_one_word_is_specialised():
    ids = np.arange(60) % 3
    chosen = np.stack([ids, np.full(60, 3)], -1)[None]  # the word decides in the first group
    frame = wb.vocabulary_specialisation(routed(chosen, 6, ids)).set_index("expert")
    assert frame.loc[[0, 1, 2], "raw"].tolist() == [1, 1, 1]
    assert frame.loc[0, "specialisation"] > 0.6
    assert frame.loc[3, "specialisation"] == pytest.approx(0, abs=1e-12)  # used by every token
    assert np.isnan(frame.loc[4, "specialisation"])
    words = wb.expert_vocabulary(routed(chosen, 6, ids), 0, 1)
    assert words["piece"][0] == "t1"
    assert words["share"].tolist() == [1, 0, 0]


def test_independent_groups_have_a_lift_of_one(independent):
    pairs = wb.expert_coactivation(independent).dropna()
    assert pairs["lift"].mean() == pytest.approx(1, abs=0.01)
    assert pairs["lift"].std() < 0.1
    steps = wb.expert_transitions(independent, "counted")
    assert steps["lift"].mean() == pytest.approx(1, abs=0.01)
    assert steps["lift"].std() < 0.1


def test_experts_that_always_go_together_have_a_lift_of_three():
    member = np.random.default_rng(6).integers(3, size=(2, 90, 1))
    chosen = np.concatenate([member, member + 3], -1)
    pairs = wb.expert_coactivation(routed(chosen, 6)).set_index(["layer", "expert", "partner"])
    for layer, first in product(range(2), range(3)):
        row = pairs.loc[layer, first, first + 3]
        assert row["conditional"] == 1
        assert row["lift"] == pytest.approx(90 / row["count"])
        assert pairs.loc[(layer, first, 3 + (first + 1) % 3), "count"] == 0


def test_a_random_kind_of_token_is_preferred_by_no_expert_beyond_chance(independent):
    random = np.random.default_rng(7)
    beyond = 0
    for _ in range(6):
        masks = {id(trace): random.random(150) < 0.2 for trace in independent}
        frame = wb.expert_preference(
            independent, lambda trace, masks=masks: masks[id(trace)], permutations=100
        )
        beyond += frame.groupby("layer")["beyond_chance"].any().sum()
    assert beyond <= 3  # 12 looks, one in twenty expected


def test_a_kind_of_token_with_its_own_expert_is_found():
    ids = np.random.default_rng(8).integers(5, size=400)
    random = np.random.default_rng(9)
    chosen = uniform_chosen(random, 2, 400, 12, 4)
    chosen[1, ids == 2, 2] = 7
    trace = routed(chosen, 12, ids)
    frame = wb.expert_preference(trace, lambda trace: trace.token_ids == 2)
    found = frame[frame["beyond_chance"] & frame["enough"]]
    assert found[["layer", "expert"]].to_numpy().tolist() == [[1, 7]]
    assert found["share"].item() == 1


def test_measures_of_inequality_have_their_textbook_values():
    even, one = np.ones(5), np.array([0, 0, 0, 0, 10.0])
    assert statistics.gini(even) == pytest.approx(0)
    assert statistics.gini(one) == pytest.approx(0.8)
    assert statistics.variation(one) == pytest.approx(2)
    assert statistics.violation(one) == pytest.approx(4)
    assert statistics.gini(np.array([1.0, 3.0])) == pytest.approx(0.25)


def test_documents_are_drawn_within_their_own_domain():
    label = np.array(list("aabbbbbba"))
    weights = statistics.resample(label, draws=40, seed=1)
    assert weights.shape == (40, 9)
    assert (weights[:, label == "a"].sum(1) == 3).all()
    assert (weights[:, label == "b"].sum(1) == 6).all()
    assert (weights.max(1) > 1).any()  # with replacement
