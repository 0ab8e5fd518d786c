"""Every measure equals the same measure written as plain loops, on traces of random routing."""

from itertools import pairwise, product

import numpy as np
import pytest

import workbench as wb
from tests.helpers.traces import random_traces
from tests.reference import routing_loops as loops

LENGTHS = [23, 9, 14, 31, 17, 11, 19]
LABELS = list("aabbbac")


@pytest.fixture(scope="module")
def traces():
    return random_traces(3, LENGTHS)


def test_load_counts_every_choice_of_every_trace(traces):
    frame = wb.expert_load(traces).set_index(["layer", "expert"])
    tokens = sum(LENGTHS)
    assert frame.index.is_unique
    for layer in range(3):
        load = loops.loads(traces, layer)
        for expert in range(12):
            row = frame.loc[layer, expert]
            assert row["count"] == load[expert]
            assert row["load_share"] == pytest.approx(load[expert] / (tokens * 4))
            assert row["load_ratio_low"] <= row["load_ratio"] <= row["load_ratio_high"]
    weights = sum(trace.routing_weights[1].astype(float).sum() for trace in traces)
    mine = sum(
        trace.routing_weights[1][trace.selected_experts[1] == 7].astype(float).sum()
        for trace in traces
    )
    assert frame.loc[(1, 7), "weight_share"] == pytest.approx(mine / weights)


def test_balance_measures_and_their_counterfactual(traces):
    frame = wb.load_balance(traces).set_index(["layer", "measure"])
    for layer in range(3):
        load, other = loops.loads(traces, layer), loops.global_loads(traces, layer)
        actual = loops.unevenness([load[expert] for expert in range(12)])
        instead = loops.unevenness([other[expert] for expert in range(12)])
        for name, value in actual.items():
            assert frame.loc[(layer, name), "value"] == pytest.approx(value)
            assert frame.loc[(layer, name), "global_top_k"] == pytest.approx(instead[name])


@pytest.mark.parametrize("devices", [4, 2, 6])
def test_imbalance_scores(traces, devices):
    frame = wb.imbalance_score(traces, batch=4, devices=devices, draws=500)
    frame = frame.set_index(["layer", "routing"])
    for layer in range(3):
        as_routed, instead = [], []
        for trace in traces:
            tokens = range(trace.num_tokens)
            rows = [loops.experts_of(trace, layer, token) for token in tokens]
            as_routed += loops.imbalance(rows, 4, devices, 12)
            rows = [loops.best(loops.probabilities(trace, layer, token), 4) for token in tokens]
            instead += loops.imbalance(rows, 4, devices, 12)
        assert frame.loc[(layer, "grouped"), "batches"] == len(as_routed)
        assert frame.loc[(layer, "grouped"), "mean"] == pytest.approx(np.mean(as_routed))
        assert frame.loc[(layer, "global_top_k"), "mean"] == pytest.approx(np.mean(instead))
        middle = sorted(instead)[(len(instead) - 1) // 2]
        assert frame.loc[(layer, "global_top_k"), "median"] == pytest.approx(middle)


def test_decisions_of_every_token(traces):
    entropy = wb.router_entropy(traces).set_index(["document", "layer", "token"])
    tax = wb.grouping_tax(traces).set_index(["document", "layer", "token"])
    for document, layer in product(range(len(traces)), range(3)):
        for token in range(LENGTHS[document]):
            place, expected = (
                (document, layer, token),
                loops.decision(traces[document], layer, token),
            )
            for name in ("entropy", "group_entropy", "selected_mass", "margin"):
                assert entropy.loc[place, name] == pytest.approx(expected[name])
            assert tax.loc[place, "overlap"] == pytest.approx(expected["overlap"])
            assert tax.loc[place, "mass_lost"] == pytest.approx(expected["mass_lost"])
            mass = expected["selected_mass"] + expected["mass_lost"]
            assert tax.loc[place, "global_mass"] == pytest.approx(mass)


def test_boundaries_and_groups_of_a_token(traces):
    trace = traces[1]
    boundary = wb.boundary_margin(trace).set_index(["layer", "token", "group"])
    groups = wb.group_decisions(trace, 2).set_index(["layer", "token", "group"])
    for layer, token, group in product(range(3), range(9), range(4)):
        values = loops.probabilities(trace, layer, token)
        members = range(group * 3, group * 3 + 3)
        first, second, _ = sorted(members, key=lambda expert: -values[expert])
        row = boundary.loc[layer, token, group]
        assert (row["expert"], row["runner_up"]) == (first, second)
        assert row["margin"] == pytest.approx(values[first] - values[second])
        logits = trace.router_logits[layer, token].astype(float)
        assert row["logit_margin"] == pytest.approx(logits[first] - logits[second])
        if layer == 2:
            row = groups.loc[layer, token, group]
            mine = [values[expert] for expert in members]
            assert row["mass"] == pytest.approx(sum(mine))
            assert row["entropy"] == pytest.approx(loops.entropy(mine) / np.log(3))
            assert row["effective_experts"] == pytest.approx(np.exp(loops.entropy(mine)))
            assert row["margin"] == pytest.approx(values[first] - values[second])


def test_churn_and_shared_share(traces):
    churn = wb.churn(traces).set_index(["document", "layer", "token"])
    shared = wb.shared_share(traces).set_index(["document", "layer", "token"])
    assert len(churn) == 3 * sum(length - 1 for length in LENGTHS)
    for document, trace in enumerate(traces):
        for layer, token in product(range(3), range(trace.num_tokens)):
            if token:
                expected = loops.churn(trace, layer, token)
                assert churn.loc[(document, layer, token), "churn"] == pytest.approx(expected)
            a, b = (
                float(trace.shared_norm[layer, token]),
                float(trace.routed_norm[layer, token]),
            )
            assert shared.loc[(document, layer, token), "shared_share"] == pytest.approx(
                a / (a + b)
            )


def test_the_profile_is_the_mean_over_tokens(traces):
    profile = wb.router_profile(traces).set_index(["layer", "measure"])
    assert len(profile) == 3 * 8
    for layer in range(3):
        found = [
            loops.decision(trace, layer, token)
            for trace in traces
            for token in range(trace.num_tokens)
        ]
        for name in ("entropy", "group_entropy", "selected_mass", "margin", "mass_lost"):
            mean = np.mean([decision[name] for decision in found])
            assert profile.loc[(layer, name), "value"] == pytest.approx(mean)
            row = profile.loc[layer, name]
            assert row["low"] < row["value"] < row["high"]
        mean = np.mean([decision["overlap"] for decision in found])
        assert profile.loc[(layer, "global_overlap"), "value"] == pytest.approx(mean)
        moved = [loops.churn(t, layer, i) for t in traces for i in range(1, t.num_tokens)]
        assert profile.loc[(layer, "churn"), "value"] == pytest.approx(np.mean(moved))


def test_coactivation_and_its_lift(traces):
    frame = wb.expert_coactivation(traces).set_index(["layer", "expert", "partner"])
    tokens = sum(LENGTHS)
    for layer in range(3):
        load, found = loops.loads(traces, layer), loops.pairs(traces, layer)
        for expert, partner in product(range(12), range(12)):
            if expert == partner:
                assert (layer, expert, partner) not in frame.index
                continue
            row = frame.loc[layer, expert, partner]
            if expert // 3 == partner // 3:
                assert not row["possible"]
                assert row[["count", "probability", "lift"]].isna().all()
                continue
            count = found[expert, partner]
            assert row["count"] == count
            assert row["probability"] == pytest.approx(count / tokens)
            assert row["conditional"] == pytest.approx(count / load[expert])
            expected = load[expert] * load[partner] / tokens
            assert row["lift"] == pytest.approx(count / expected)
            assert row["enough"] == (expected >= 5)


@pytest.mark.parametrize("kind", ["weighted", "counted", "top1"])
def test_transitions(traces, kind):
    frame = wb.expert_transitions(traces, kind).set_index(["layer", "expert", "next_expert"])
    assert set(frame["pairs"]) == {kind}
    for layer in range(2):
        found = loops.steps(traces, layer, kind)
        total = sum(found.values())
        for expert, following in product(range(12), range(12)):
            row = frame.loc[layer, expert, following]
            amount = found[expert, following]
            assert row["amount"] == pytest.approx(amount, rel=1e-5)
            out = sum(found[expert, other] for other in range(12))
            into = sum(found[other, following] for other in range(12))
            if out:
                assert row["probability"] == pytest.approx(amount / out, rel=1e-5)
            else:
                assert np.isnan(row["probability"])
            assert row["chance"] == pytest.approx(into / total, rel=1e-5)


def test_domain_specialisation_and_divergence(traces):
    frame = wb.domain_specialisation(traces, LABELS).set_index(["layer", "expert", "domain"])
    divergence = wb.domain_divergence(traces, LABELS, permutations=5).set_index("layer")
    for layer in range(3):
        expected = loops.divergence_bits(traces, LABELS, layer)
        assert divergence.loc[layer, "divergence_bits"] == pytest.approx(expected)
        for expert, domain in product(range(12), "abc"):
            mine = [t for t, label in zip(traces, LABELS, strict=True) if label == domain]
            tokens = sum(trace.num_tokens for trace in mine)
            row = frame.loc[layer, expert, domain]
            count = loops.loads(mine, layer)[expert]
            assert (row["count"], row["tokens"]) == (count, tokens)
            assert row["share"] == pytest.approx(count / tokens)
            assert row["chance"] == pytest.approx(1 / 3)
            assert row["lift"] == pytest.approx(loops.lift(traces, LABELS, layer, expert, domain))
            assert row["enough"] == (tokens / 3 >= 5)


def test_vocabulary_specialisation_and_the_words_of_an_expert(traces):
    seen = np.bincount(np.concatenate([trace.token_ids for trace in traces]))
    minimum = int(np.sort(seen)[1])  # leaves out the rarest
    frame = wb.vocabulary_specialisation(traces, minimum=minimum).set_index(["layer", "expert"])
    for layer, expert in product(range(3), range(12)):
        raw = loops.vocabulary_raw(traces, layer, expert, minimum)
        assert frame.loc[(layer, expert), "raw"] == pytest.approx(raw)
    assert frame["types"].unique().tolist() == [int((seen >= minimum).sum())]
    assert frame["left_out"].iloc[0] == pytest.approx(seen[seen < minimum].sum() / seen.sum())
    words = wb.expert_vocabulary(traces, 1, 5, minimum=minimum).set_index("token_id")
    for kind in np.flatnonzero(seen >= minimum):
        used = sum(
            5 in loops.experts_of(trace, 1, token)
            for trace in traces
            for token in np.flatnonzero(trace.token_ids == kind)
        )
        assert words.loc[kind, "count"] == used
        assert words.loc[kind, "share"] == pytest.approx(used / seen[kind])
        assert words.loc[kind, "piece"] == f"t{kind}"
    assert words["lift"].is_monotonic_decreasing


def test_preference_compares_inside_with_outside(traces):
    def odd(trace):
        return trace.token_ids % 2 == 1

    frame = wb.expert_preference(traces, odd, permutations=20).set_index(["layer", "expert"])
    inside = [odd(trace) for trace in traces]
    outside = [~mask for mask in inside]
    tokens, others = (sum(map(np.sum, masks)) for masks in (inside, outside))
    for layer in range(3):
        mine, other = loops.loads(traces, layer, inside), loops.loads(traces, layer, outside)
        for expert in range(12):
            row = frame.loc[layer, expert]
            assert row["count"] == mine[expert]
            assert row["share"] == pytest.approx(mine[expert] / tokens)
            assert row["share_outside"] == pytest.approx(other[expert] / others)
            ratio = (mine[expert] + 0.5) / (tokens + 1) / ((other[expert] + 0.5) / (others + 1))
            assert row["lift"] == pytest.approx(np.log2(ratio))


def test_agreement_of_two_traces(traces):
    first = traces[0]
    second = random_traces(8, [LENGTHS[0]])[0]
    second.arrays["token_ids"] = first.token_ids
    frame = wb.routing_agreement(first, second).set_index(["layer", "token"])
    for layer, token in product(range(3), range(LENGTHS[0])):
        common = set(loops.experts_of(first, layer, token)) & set(
            loops.experts_of(second, layer, token)
        )
        assert frame.loc[(layer, token), "agreement"] == pytest.approx(len(common) / 4)
        expected = loops.decision(first, layer, token)["smallest_margin"]
        assert frame.loc[(layer, token), "margin"] == pytest.approx(expected)
    assert (wb.routing_agreement(first, first)["agreement"] == 1).all()


def test_group_profile(traces):
    frame = wb.group_profile(traces).set_index(["layer", "group"])
    for layer in range(3):
        load, instead = loops.loads(traces, layer), loops.global_loads(traces, layer)
        for group in range(4):
            members = range(group * 3, group * 3 + 3)
            row = frame.loc[layer, group]
            expected = loops.entropy([load[expert] for expert in members])
            assert row["load_entropy"] == pytest.approx(expected / np.log(3))
            share = sum(instead[expert] for expert in members) / sum(instead.values())
            assert row["global_top_k_share"] == pytest.approx(share)
            mass = [
                sum(loops.probabilities(trace, layer, token)[e] for e in members)
                for trace in traces
                for token in range(trace.num_tokens)
            ]
            assert row["mass"] == pytest.approx(np.mean(mass))


@pytest.mark.parametrize(
    ("where", "chosen"),
    [
        ("prefill", lambda trace, token: token < trace.prompt_length),
        ("decode", lambda trace, token: token >= trace.prompt_length),
        (lambda trace: trace.token_ids == 2, lambda trace, token: trace.token_ids[token] == 2),
    ],
)
def test_where_leaves_the_other_tokens_out_of_every_measure(traces, where, chosen):
    masks = [[bool(chosen(t, token)) for token in range(t.num_tokens)] for t in traces]
    load = wb.expert_load(traces, where=where).set_index(["layer", "expert"])
    for layer in range(3):
        expected = loops.loads(traces, layer, masks)
        for expert in range(12):
            assert load.loc[(layer, expert), "count"] == expected[expert]
    tokens = sum(map(sum, masks))
    assert len(wb.router_entropy(traces, where=where)) == 3 * tokens
    assert len(wb.grouping_tax(traces, where=where)) == 3 * tokens
    assert len(wb.shared_share(traces, where=where)) == 3 * tokens
    assert len(wb.boundary_margin(traces, where=where)) == 3 * tokens * 4
    assert len(wb.routing_agreement(traces[0], traces[0], where)) == 3 * sum(masks[0])
    neighbours = sum(a and b for mask in masks for a, b in pairwise(mask))
    assert len(wb.churn(traces, where=where)) == 3 * neighbours
    pairs = wb.expert_coactivation(traces, where=where)
    assert pairs["count"].sum() == 3 * tokens * 12  # 4 · 3 ordered pairs a token
    steps = wb.expert_transitions(traces, "counted", where=where)
    assert steps["amount"].sum() == 2 * tokens * 16
    profile = wb.router_profile(traces, where=where).set_index(["layer", "measure"])
    assert profile.loc[(0, "entropy"), "tokens"] == tokens
    words = wb.vocabulary_specialisation(traces, where=where, minimum=2)
    assert words["occurrences"].iloc[0] <= tokens


def test_domains_are_compared_two_by_two(traces):
    whole = wb.domain_divergence(traces, LABELS, permutations=20)
    pairs = wb.domain_divergence(traces, LABELS, permutations=20, pairwise=True)
    assert pairs[["domain", "other"]].drop_duplicates().to_numpy().tolist() == [
        ["a", "b"], ["a", "c"], ["b", "c"],
    ]  # fmt: skip
    for domain, other in (("a", "b"), ("b", "c")):
        chosen = [number for number, label in enumerate(LABELS) if label in (domain, other)]
        alone = wb.domain_divergence(
            [traces[n] for n in chosen], [LABELS[n] for n in chosen], permutations=20
        )
        part = pairs.query("domain == @domain and other == @other")
        for name in ("divergence_bits", "shuffled_bits", "p_value", "enough"):
            assert part[name].tolist() == alone[name].tolist()
    # 7 documents in 3, 3 and 1: 7! / (3! 3! 1!) / 2! ways; 3 and 1: 4 ways.
    assert whole["enough"].all()
    assert not pairs.query("other == 'c'")["enough"].any()


def test_lifts_of_pairs_have_an_interval_over_documents(traces):
    frame = wb.expert_coactivation(traces, layer=1).query("possible")
    inside = frame.query("lift_low <= lift <= lift_high")
    assert len(inside) > 0.95 * len(frame)
    assert (frame["lift_high"] > frame["lift_low"]).mean() > 0.95
    few = wb.expert_coactivation(traces[:4], layer=1)
    assert few["lift_low"].isna().all()
    assert wb.expert_coactivation(traces, layer=1).query("not possible")["lift_low"].isna().all()
    same = wb.expert_coactivation([traces[0]] * 6, layer=1).query("possible")
    np.testing.assert_allclose(same["lift_low"], same["lift"])  # documents that do not differ
